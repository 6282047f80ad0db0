"""Render and tokenise examples as input for the mask. No label is decided here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from ..core.errors import TemplateError
from ..data.examples import Example, Problem
from ..data.templates import RenderedPrompt, Segment, Template, is_chat, render_text, role_markers
from .conversations import encode_conversations
from .encoding import Encoded, TextEncoder, encoder_for
from .row import Piece, Row
from .separable import encode_separable
from .tokenized import encode_tokens
from .turn_ends import stop_notes

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


# Examples held at once as the tokenizer's own objects, which take about 100 bytes per token: so many, of so many
# characters.
CHUNK, CHUNK_CHARACTERS = 250, 500_000


def chunks_of(examples: Iterable[Example], template: Template) -> Iterator[list[Example]]:
    """Yield the examples in lists that are masked at once."""
    chunk, characters = list[Example](), 0
    for example in examples:
        chunk.append(example)
        characters += template.characters_of(example)
        if len(chunk) == CHUNK or characters >= CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk


def encode_rows(
    examples: Iterable[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    stop_ids: frozenset[int] = frozenset(),
    offsets: bool = True,
) -> list[list[Row] | Problem]:
    """Render and tokenise examples. Each becomes one sequence or, if it is a conversation or was packed, several. One
    that cannot be rendered is returned as a problem, in its place.

    Args:
        stop_ids (`frozenset[int]`, *optional*):
            Ids at which generation stops besides the tokenizer's EOS.
        offsets (`bool`, *optional*, defaults to `True`):
            If False, offsets are computed when they are first read, and rows that came tokenised have no text.
    """
    examples = list(examples)
    kinds = ["ready" if each.tokens else "chat" if is_chat(each, template) else "plain" for each in examples]
    ready, chats, plain = (
        [example for example, kind in zip(examples, kinds, strict=True) if kind == wanted]
        for wanted in ("ready", "chat", "plain")
    )
    rows: dict[str, Iterator[list[Row] | Problem]] = {
        "ready": iter(encode_tokens(ready, tokenizer, template, stop_ids, offsets) if ready else []),
        "chat": iter(encode_conversations(chats, tokenizer, template, stop_ids) if chats else []),
        "plain": iter(_plain(plain, tokenizer, template, stop_ids, offsets) if plain else []),
    }
    return [_with_unused_masks(next(rows[kind])) for kind in kinds]


def _with_unused_masks(row: list[Row] | Problem) -> list[Row] | Problem:
    """Flag a row that has a hand-made mask for a text that none of its sequences has."""
    if isinstance(row, Problem) or not row[0].example.masks or row[0].example.tokens:
        return row
    texts = {sequence.text for sequence in row}
    if all(mask.text in texts for mask in row[0].example.masks):
        return row
    return [replace(row[0], told=row[0].told | {"mask_not_used"}), *row[1:]]


def _plain(
    examples: list[Example],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    stop_ids: frozenset[int],
    offsets: bool,
) -> list[list[Row] | Problem]:
    rendered: list[RenderedPrompt | Problem] = []
    for example in examples:
        try:
            rendered.append(render_text(example, template))
        except TemplateError as error:
            rendered.append(Problem(example.row, example.line, str(error)))
    good = [(each, text) for each, text in zip(examples, rendered, strict=True) if isinstance(text, RenderedPrompt)]
    rows = iter(_encode_plain(good, tokenizer, template, stop_ids, offsets) if good else [])
    return [text if isinstance(text, Problem) else [next(rows)] for text in rendered]


def _encode_plain(
    rendered: list[tuple[Example, RenderedPrompt]],
    tokenizer: PreTrainedTokenizerBase,
    template: Template,
    stop_ids: frozenset[int],
    offsets: bool,
) -> list[Row]:
    encoder, eos = encoder_for(tokenizer), cast("int | None", tokenizer.eos_token_id)
    markers = role_markers(*template.own_text)
    told = frozenset[str]() if eos is not None else frozenset(["no_eos"])
    notes = stop_notes([eos], tokenizer, stop_ids)
    rows: list[Row] = []
    for (example, prompt), (ids, completion, joint_ids) in zip(
        rendered, _encode_both(rendered, encoder, offsets), strict=True
    ):
        length = len(prompt.text)
        begin, end = len(ids.ids), len(ids.ids) + len(completion.ids) + (eos is not None)
        rows.append(
            Row(
                example=example,
                prompt=prompt,
                whole=_joint(prompt, example.completion),
                pieces=(Piece(ids, length), Piece(completion, length + len(example.completion))),
                stop_id=eos,
                answers=((begin, end),),
                joint_ids=joint_ids,
                told=told if joint_ids is None else told | {"merged_boundary"},
                notes=notes,
                markers=() if example.prompt is not None else markers,
            )
        )
    return rows


def _joint(prompt: RenderedPrompt, completion: str) -> RenderedPrompt:
    return RenderedPrompt((*prompt.segments, Segment(completion, "completion")), chat=False)


def _encode_both(
    rendered: list[tuple[Example, RenderedPrompt]], encoder: TextEncoder, offsets: bool
) -> list[tuple[Encoded, Encoded, list[int] | None]]:
    """Return each prompt's tokens, the completion's as they follow them, and the joint ids if a token merges, else
    None."""
    completions, prompts = [example.completion for example, _ in rendered], [prompt for _, prompt in rendered]
    encoded, separable = encode_separable(encoder, prompts, completions, offsets)
    rest = [
        _joint(prompt, text) for text, prompt, own in zip(completions, prompts, separable, strict=True) if own is None
    ]
    joints = iter(encoder.encode_prompts(rest))
    result: list[tuple[Encoded, Encoded, list[int] | None]] = []
    for text, prompt, ids, own in zip(completions, prompts, encoded, separable, strict=True):
        joint_ids, boundary = None, len(prompt.text)
        if own is None:
            joint, length = next(joints), len(ids.ids)
            if joint.ids[:length] == ids.ids and not encoder.reaches_over(joint, length, boundary):
                result.append((ids, joint.from_token(length), None))
                continue
            own, joint_ids = encoder.encode_continuation(text), joint.ids
        result.append((ids, own.shifted(boundary), joint_ids))
    return result
