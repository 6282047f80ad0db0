"""Find a mask that begins early or late, in rows that came tokenised, by what stands before an answer.

Nothing is guessed: a row is told of only if the very ids of a known template stand around the place where its labels
begin. The templates known are the one that was chosen and the model's own chat template.
"""

# a chat template may be a dict of them
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, cast

from ..data.chat_style import chat_style
from ..data.templates import Template
from .encoding import Span, TextEncoder, encoder_for

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ids = tuple[int, ...]
_LEAST = 2  # tokens of a template that count as its own: one alone may be anybody's


class PromptEnds:
    """What the known templates write before an answer (`headers`) and before an example (`opening`), as ids."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, template: Template):
        self._encoder = encoder_for(tokenizer)
        headers, self.opening = _known(tokenizer, _chat_template(tokenizer), template)
        self.headers = tuple(header for header in headers if len(header) >= _LEAST)

    def notes(self, ids: Sequence[int], answers: Iterable[Span], ends: frozenset[int]) -> list[tuple[str, str]]:
        """Return what is wrong with where the labels of a row begin, once for each check."""
        found: dict[str, str] = {}
        for begin, end in answers:
            if early := self._early(ids, begin, end):
                words = f"{early} {'token' if early == 1 else 'tokens'} of the prompt, from position {begin} on"
                found.setdefault("mask_early", words)
            elif self._is_late(ids, begin):
                found.setdefault(
                    "mask_late", f"{self._encoder.with_special.id_to_token(ids[begin - 1])!r} at {begin - 1}"
                )
            if self._is_joined(ids, begin, end, ends):
                found.setdefault("examples_joined", f"another begins at position {end}")
        return list(found.items())

    def _early(self, ids: Sequence[int], begin: int, end: int) -> int:
        """Return how many trained tokens at the beginning of an answer are still the prompt's end; 0 for none."""
        for header in self.headers:
            for many in range(1, min(len(header), end - begin - 1) + 1):
                if _stands(header, ids, begin + many - len(header)):
                    return many
        return 0

    def _is_late(self, ids: Sequence[int], begin: int) -> bool:
        """Whether one token with a text of its own stands between the prompt's end and what is trained."""
        if begin < 1 or not self._has_text(ids[begin - 1]):
            return False
        return any(_stands(header, ids, begin - 1 - len(header)) for header in self.headers)

    def _has_text(self, index: int) -> bool:
        return bool(self._encoder.with_special.decode([index], skip_special_tokens=True).strip())

    def _is_joined(self, ids: Sequence[int], begin: int, end: int, ends: frozenset[int]) -> bool:
        """Whether another example of the template begins right after the trained end of an answer."""
        opening = self.opening
        if len(opening) < _LEAST or not begin < end or ids[end - 1] not in ends:
            return False
        return _stands(opening, ids, end)


def _stands(part: Ids, ids: Sequence[int], place: int) -> bool:
    return place >= 0 and tuple(ids[place : place + len(part)]) == part


def _chat_template(tokenizer: PreTrainedTokenizerBase) -> str:
    return cast("str | None", tokenizer.chat_template) or ""


@lru_cache(maxsize=32)
def _known(tokenizer: PreTrainedTokenizerBase, chat_template: str, template: Template) -> tuple[tuple[Ids, ...], Ids]:
    """`chat_template` is there for the cache: a tokenizer may be given another one."""
    encoder = encoder_for(tokenizer)
    texts = [chat_style(tokenizer).opening] if chat_template else []
    own = template.own_text
    texts += [_last_line(own[-1])] if template.text else []
    return tuple(_ids(encoder, text) for text in dict.fromkeys(texts)), _ids(encoder, own[0] if template.text else "")


def _last_line(text: str) -> str:
    """Return the last line that is not blank, with what follows it, so that no token reaches into it from before."""
    body = text.rstrip()
    return text[body.rfind("\n") + 1 :] if body else ""


def _ids(encoder: TextEncoder, text: str) -> Ids:
    return tuple(encoder.with_special.encode(text, add_special_tokens=False).ids)
