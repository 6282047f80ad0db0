"""Render and tokenise examples, prompt and completion apart, as input for the mask.

No label is decided here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from ..core.errors import TemplateError
from ..data.examples import Example, HandMask, Message, Problem
from ..data.templates import TEMPLATE, RenderedPrompt, Segment, Template, apply_chat_template, render_prompt
from .encoding import Encoded, Span, TextEncoder, encoder_for, partition
from .separable import encode_separable

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, slots=True)
class Row:
    """An example, rendered and tokenised.

    Args:
        prompt_ids (`Encoded`):
            The prompt tokenised alone, as in generation.
        completion_ids (`Encoded`):
            The completion's tokens. Their offsets count characters of prompt + completion.
        stop_id (`int`, *optional*):
            The token that ends the completion.
        joint_ids (`list[int]`, *optional*):
            The ids of prompt + completion as one text, if a token merges across the boundary; else None.
        turns (`tuple[tuple[int, int], ...]`):
            For each earlier assistant turn that is trained, where its own prompt ends and where its content ends, in
            characters of the prompt's text.
    """

    example: Example
    prompt: RenderedPrompt
    prompt_ids: Encoded
    completion_ids: Encoded
    stop_id: int | None
    joint_ids: list[int] | None
    turns: tuple[Span, ...]

    @property
    def text(self) -> str:
        """Return prompt + completion."""
        return self.prompt.text + self.example.completion

    @property
    def hand_mask(self) -> HandMask | None:
        """Return the example's hand-made mask if it was made for exactly this text, else None."""
        mask = self.example.mask
        return mask if mask is not None and mask.text == self.text else None

    @property
    def input_ids(self) -> list[int]:
        """Return all ids of the row, EOS included."""
        return [*self.prompt_ids.ids, *self.completion_ids.ids, *([] if self.stop_id is None else [self.stop_id])]

    @property
    def spans(self) -> list[Span]:
        """Return the span of each of `input_ids`, in order and without gaps. The span of EOS is empty."""
        boundary, end = len(self.prompt.text), len(self.text)
        spans = partition(self.prompt_ids.offsets, 0, boundary) + partition(self.completion_ids.offsets, boundary, end)
        return spans + [(end, end)] * (self.stop_id is not None)


def encode_rows(
    examples: Iterable[Example], tokenizer: PreTrainedTokenizerBase, template: Template, offsets: bool = True
) -> list[Row | Problem]:
    """Render and tokenise examples. One that cannot be rendered is returned as a problem, in its place. If `offsets` is
    False, offsets are computed when they are first read."""
    encoder = encoder_for(tokenizer)
    rows: dict[int, Row | Problem] = {}
    good: list[tuple[int, Example, RenderedPrompt]] = []
    for index, example in enumerate(examples):
        try:
            good.append((index, example, render_prompt(example, template, tokenizer)))
        except TemplateError as error:
            rows[index] = _problem(example, error)
    prompts = [prompt for _, _, prompt in good]
    encoded = encoder.encode_prompts(prompts, offsets)
    stop_ids = {chat: stop_token_id(tokenizer, chat) for chat in {prompt.chat for prompt in prompts}}
    completions = _completions([example for _, example, _ in good], prompts, encoded, encoder, offsets)
    for (index, example, prompt), ids, (completion, joint_ids) in zip(good, encoded, completions, strict=True):
        try:
            turns = _turns(prompt, ids, encoder) if prompt.turns else ()
            rows[index] = Row(example, prompt, ids, completion, stop_ids[prompt.chat], joint_ids, turns)
        except TemplateError as error:
            rows[index] = _problem(example, error)
    return [rows[index] for index in range(len(rows))]


def _problem(example: Example, error: TemplateError) -> Problem:
    return Problem(example.row, example.line, str(error))


def _completions(
    examples: list[Example], prompts: list[RenderedPrompt], encoded: list[Encoded], encoder: TextEncoder, offsets: bool
) -> list[tuple[Encoded, list[int] | None]]:
    """Return each completion's tokens as they follow its prompt, and the joint ids if a token merges, else None."""
    separable = encode_separable(encoder, prompts, encoded, [example.completion for example in examples], offsets)
    rest = [
        RenderedPrompt((*prompt.segments, Segment(example.completion, "completion")), prompt.chat)
        for example, prompt, completion in zip(examples, prompts, separable, strict=True)
        if completion is None
    ]
    joints = iter(encoder.encode_prompts(rest))
    result: list[tuple[Encoded, list[int] | None]] = []
    for example, prompt, ids, completion in zip(examples, prompts, encoded, separable, strict=True):
        joint_ids, boundary = None, len(prompt.text)
        if completion is None:
            joint, length = next(joints), len(ids.ids)
            # equal ids may still cover more text, as an unknown token fuses with its neighbours
            reaches_over = any(end > boundary for _, end in joint.offsets[:length])
            if joint.ids[:length] == ids.ids and not reaches_over:
                result.append((joint.from_token(length), None))
                continue
            completion, joint_ids = encoder.encode_continuation(example.completion), joint.ids
        result.append((completion.shifted(boundary), joint_ids))
    return result


def _turns(prompt: RenderedPrompt, prompt_ids: Encoded, encoder: TextEncoder) -> tuple[Span, ...]:
    """Return where the prompt of each earlier assistant turn ends, and where the content of the turn ends.

    Raises:
        TemplateError: when the ids before a turn are not those that generation would see.
    """
    prefixes = encoder.encode_prompts([_cut(prompt, turn.asked) for turn in prompt.turns])
    for number, (turn, prefix) in enumerate(zip(prompt.turns, prefixes, strict=True), start=1):
        length = len(prefix.ids)
        if prompt_ids.ids[:length] != prefix.ids or any(end > turn.asked for _, end in prompt_ids.offsets[:length]):
            raise TemplateError(
                f"a token merges across the beginning of assistant turn {number}, so that it would be learned after "
                "other tokens than generation sees. Train only the last turn of conversations."
            )
    return tuple((turn.asked, turn.end) for turn in prompt.turns)


def _cut(prompt: RenderedPrompt, end: int) -> RenderedPrompt:
    segments: list[Segment] = []
    position = 0
    for segment in prompt.segments:
        segments.append(Segment(segment.text[: max(end - position, 0)], segment.role))
        position += len(segment.text)
    return RenderedPrompt(tuple(segment for segment in segments if segment.text), prompt.chat)


def stop_token_id(tokenizer: PreTrainedTokenizerBase, chat: bool) -> int | None:
    """Return the token that ends an answer: EOS, or in a chat the one that the chat template puts after the content."""
    if not chat:
        return cast("int | None", tokenizer.eos_token_id)
    mark = "contentmark"
    turns = [Message("user", "x"), Message("assistant", mark)]
    text = apply_chat_template(tokenizer, turns, generation_prompt=False)
    tail = encoder_for(tokenizer).encode_chat([[Segment(text.rpartition(mark)[2], TEMPLATE)]])[0].ids
    special = [index for index in tail if index in encoder_for(tokenizer).special_ids]
    return special[0] if special else cast("int | None", tokenizer.eos_token_id)
