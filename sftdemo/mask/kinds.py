"""Say what each token of a row stands for: whose text it is, or what the template or the tokenizer has added."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..data.messages import Message
from ..data.templates import TEMPLATE
from .encoding import Span, TextEncoder
from .row import Row

COMPLETION, WRITTEN, EOS, SPECIAL, PROMPT = "completion", "written", "eos", "special", "prompt"
_ROLES = {"system", "user", "assistant", "tool"}  # a template may take others, such as "developer"


def kinds_of(row: Row, spans: list[Span], encoder: TextEncoder) -> tuple[str, ...]:
    """Return the kind of each token of a row, whose `spans` these are, as in `labels.TokenizedExample`. A token with
    any of the user's text has the kind of that text, even if it begins with a space of the template."""
    if row.example.tokens:
        return _kinds_of_tokens(row, encoder)
    ids = row.input_ids
    roles = _roles_in_chat(row, spans) if row.whole.chat else _roles(row)
    kinds: list[str] = []
    for index, (begin, end) in zip(ids, spans, strict=True):
        if index in encoder.special_ids:
            kinds.append(SPECIAL)
        elif begin == end and kinds:  # a later token of a character
            kinds.append(kinds[-1])
        else:
            kinds.append(next((role for role in roles[begin:end] if role != TEMPLATE), TEMPLATE))
    for begin, end in row.answers:
        for position in range(begin, end):
            kinds[position] = WRITTEN if kinds[position] in (TEMPLATE, SPECIAL) else COMPLETION
        if row.stop_id is not None:
            kinds[end - 1] = EOS
    if row.stop_id is not None:
        kinds[-1] = EOS
    return tuple(kinds)


def _kinds_of_tokens(row: Row, encoder: TextEncoder) -> tuple[str, ...]:
    """Return the kinds of a row that came tokenised, which are known from its ids and labels alone."""
    ids = row.input_ids
    kinds = [PROMPT] * len(ids)
    for begin, end in row.answers:
        kinds[begin:end] = [COMPLETION] * (end - begin)
    kinds = [SPECIAL if index in encoder.special_ids else kind for index, kind in zip(ids, kinds, strict=True)]
    for _, end in row.answers:
        if ids[end - 1] in row.end_ids:
            kinds[end - 1] = EOS
    return tuple(kinds)


def _roles(row: Row) -> list[str]:
    """Return the role of each character of a row in a text template."""
    return [segment.role for segment in row.whole.segments for _ in segment.text]


def _roles_in_chat(row: Row, spans: list[Span]) -> list[str]:
    """Return the role of each character of a row in a chat template, found by searching the contents one after the
    other. A content that the template rewrites stays the template's."""
    text, position = row.text, 0
    begins = iter([spans[begin][0] if begin < len(spans) else len(text) for begin, _ in row.answers])
    roles = [TEMPLATE] * len(text)
    for content, role in _contents(row):
        if role == COMPLETION:
            position = max(position, next(begins, position))
        place = _find(content.strip(), text, position)
        if place is not None:
            begin, position = place
            roles[begin:position] = [role] * (position - begin)
    return roles


def _contents(row: Row) -> Iterator[tuple[str, str]]:
    example = row.example
    if not example.messages:
        yield from ((example.instruction, "instruction"), (example.input, "input"), (example.completion, COMPLETION))
        return
    trained = iter(row.turns)
    coming: Message | None = next(trained, None)
    for message in (*example.messages, *([example.answer] if example.answer else [])):
        if message is coming:
            yield message.text, COMPLETION
            coming = next(trained, None)
        else:
            yield message.text, message.role if message.role in _ROLES else PROMPT


def _find(content: str, text: str, begin: int) -> tuple[int, int] | None:
    """Return where a content stands in the text, preferably as words of their own: "a" is not in "<|im_start|>"."""
    if not content:
        return None
    words = re.compile(rf"(?<!\w){re.escape(content)}(?!\w)").search(text, begin)
    if words:
        return words.span()
    place = text.find(content, begin)
    return (place, place + len(content)) if place >= 0 else None
