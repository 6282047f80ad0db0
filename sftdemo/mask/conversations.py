"""Tokenise conversations: what generation sees before each assistant turn, and what is trained after it.

For an assistant turn k of the messages m, let P = template(m[:k], add_generation_prompt=True) and
F = template(m[:k+1]). Where F continues P, the tokens of F after those of P are trained, through the one at which
generation stops. A later turn is trained in the same sequence if its P continues what is there; otherwise another
sequence begins.

No label is decided here, only where answers stand.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, cast

from ..core.errors import TemplateError
from ..data.chat import Conversation
from ..data.chat_style import ChatStyle, chat_style
from ..data.examples import Example, Problem
from ..data.messages import ASSISTANT, Message
from ..data.templates import RenderedPrompt, Template, segments_from
from .encoding import Encoded, Span, TextEncoder, encoder_for
from .layouts import common_length
from .renderings import encode_renderings
from .row import Piece, Row
from .turn_ends import TurnEnds

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


NAMES = ("name", "tool_call_id", "id")  # keys of a message that carry nothing to learn
# Messages and characters of all renderings of a row together. 400 answers of 30 kB took 18 s, and 200 take 2 s.
MAX_RENDERED, MAX_RENDERED_CHARACTERS = 100_000, 100_000_000
AROUND = 24  # characters shown of a text that two renderings have in common


@dataclass(frozen=True, slots=True)
class _Turn:
    """An assistant turn, the renderings P and F, and whether it is trained."""

    message: Message
    trained: bool
    prompt: RenderedPrompt
    whole: RenderedPrompt


@dataclass(frozen=True, slots=True)
class _Talk:
    """A rendered conversation, and what the template does not show of it (`Row.notes`)."""

    example: Example
    turns: list[_Turn]
    notes: tuple[tuple[str, str], ...]


def encode_conversations(
    examples: Sequence[Example], tokenizer: PreTrainedTokenizerBase, template: Template, stop_ids: frozenset[int]
) -> list[list[Row] | Problem]:
    """Render and tokenise rows that go through the model's chat template. Each becomes one or several sequences, or a
    problem if it cannot be rendered. `stop_ids` are the ids at which generation stops."""
    talks: list[_Talk | Problem] = []
    for example in examples:
        try:
            talks.append(_render(example, template, tokenizer))
        except TemplateError as error:
            talks.append(Problem(example.row, example.line, str(error)))
    if all(isinstance(talk, Problem) for talk in talks):
        return list(cast("list[Problem]", talks))
    encoder, style = encoder_for(tokenizer), chat_style(tokenizer, template.arguments)
    encoded = iter(encode_renderings([_texts(talk) for talk in talks if isinstance(talk, _Talk)], encoder))
    writing = _Writing(encoder, style, TurnEnds(style.tail, tokenizer, stop_ids))
    return [talk if isinstance(talk, Problem) else _sequences(talk, next(encoded), writing) for talk in talks]


@dataclass(frozen=True, slots=True)
class _Writing:
    """How a model's conversations are tokenised, what its chat template does with each, and what ends a turn."""

    encoder: TextEncoder
    style: ChatStyle
    ends: TurnEnds


def _render(example: Example, template: Template, tokenizer: PreTrainedTokenizerBase) -> _Talk:
    conversation = Conversation(example, template, tokenizer)
    messages = conversation.messages
    turns = [index for index, message in enumerate(messages) if message.role == ASSISTANT and index]
    if not turns:
        raise TemplateError("the conversation has no answer; add the assistant's turn.")
    last, chosen = turns[-1], turns if template.turns == "all" else turns[-1:]
    trained = {index for index in chosen if messages[index].trained}
    needed = [index for index in chosen if index in trained or index == last]
    asked = [pair for index in needed for pair in ((index, True), (index + 1, False))]
    _check_work(sum(count for count, _ in asked), len(needed), len(asked) * example.characters)
    renderings = iter(conversation.render(asked))
    rendered = [_Turn(messages[i], i in trained, next(renderings), next(renderings)) for i in needed]
    lost = conversation.lost({index: turn.whole.text for index, turn in zip(needed, rendered, strict=True)})
    notes = tuple(_note(key, index) for key, index in lost)
    return _Talk(example, rendered, notes)


def _check_work(messages: int, turns: int, characters: int) -> None:
    """Check how much is rendered, each turn with all before it: it grows with the square of the number of turns.

    Raises:
        TemplateError: if it is too much.
    """
    if messages > MAX_RENDERED or characters > MAX_RENDERED_CHARACTERS:
        raise TemplateError(
            f"the conversation has {turns:,} answers to train, each of which is rendered with all before it: "
            f"{messages:,} messages; the limits are {MAX_RENDERED:,}, and {MAX_RENDERED_CHARACTERS:,} characters. "
            "Split it, or train only the last answer (--turns last)."
        )


def _note(key: str, index: int | None) -> tuple[str, str]:
    check = "field_not_shown" if key in NAMES else "text_not_shown"
    return check, f"the row's {key}" if index is None else f"{key} of turn {index}"


def _texts(talk: _Talk) -> list[RenderedPrompt]:
    return [text for turn in talk.turns for text in (turn.prompt, turn.whole)]


@dataclass(frozen=True, slots=True)
class _Step:
    """A turn after its prompt: the tokens of both without the one that ends the turn, how many tokens stand before
    the answer, and the end."""

    turn: _Turn
    pieces: tuple[Piece, ...]
    begin: int
    stop_id: int | None
    joint_ids: list[int] | None
    told: frozenset[str]
    notes: tuple[tuple[str, str], ...]

    @property
    def ids(self) -> list[int]:
        """Return the ids through the end of the turn."""
        ids = [index for piece in self.pieces for index in piece.encoded.ids]
        return ids if self.stop_id is None else [*ids, self.stop_id]


def _sequences(talk: _Talk, encoded: list[Encoded], writing: _Writing) -> list[Row]:
    """Return the conversation as few sequences as possible, each of which has exactly what generation sees before every
    answer that is trained in it."""
    sequences: list[list[tuple[_Step, Span]]] = []
    before: list[int] = []
    for turn, prompt, whole in zip(talk.turns, encoded[::2], encoded[1::2], strict=True):
        step = _step(turn, prompt, whole, writing)
        ids = step.ids
        if not sequences or ids[: min(len(before), step.begin)] != before:
            sequences.append([])
        sequences[-1].append((step, (step.begin, len(ids))))
        before = ids
    trained = [steps for steps in sequences if any(step.turn.trained for step, _ in steps)] or sequences[:1]
    rows = [_row(talk, steps, part, writing) for part, steps in enumerate(trained)]
    if len(rows) > 1:
        rows[0] = replace(rows[0], told=rows[0].told | {"history_rewritten"})
    return rows


def _step(turn: _Turn, prompt: Encoded, whole: Encoded, writing: _Writing) -> _Step:
    encoder, ends = writing.encoder, writing.ends
    text, length, begin = turn.whole.text, len(turn.prompt.text), len(prompt.ids)
    head: tuple[Piece, ...] = ()
    rest, joint_ids, told, notes = whole, None, set[str](), tuple[tuple[str, str], ...]()
    if not text.startswith(turn.prompt.text):
        begin = common_length(prompt.ids, whole.ids)
        notes = (("prompt_not_continued", _both(turn.prompt.text, text)),)
    elif whole.ids[:begin] != prompt.ids or encoder.reaches_over(whole, begin, length):
        head, joint_ids = (Piece(prompt, length),), whole.ids
        rest = encoder.encode_chat_continuation(segments_from(turn.whole, length)).shifted(length)
        told.add("merged_boundary")
    end, before = ends.find(text, rest.ids), begin - sum(len(piece.encoded.ids) for piece in head)
    if end is None or end.position < before:
        told.add("no_eos" if ends.eos_id is None else "eos_added")
        return _Step(turn, (*head, Piece(rest, len(text))), begin, ends.eos_id, joint_ids, frozenset(told), notes)
    pieces = (*head, Piece(rest.until(end.position), end.character))
    stop_id = rest.ids[end.position]
    return _Step(turn, pieces, begin, stop_id, joint_ids, frozenset(told), notes)


def _both(prompt: str, whole: str) -> str:
    """Return how the two texts part, with some of what they have in common."""
    begin = max(common_length(prompt, whole) - AROUND, 0)
    seen, written = (json.dumps(text[begin : begin + 3 * AROUND], ensure_ascii=False) for text in (prompt, whole))
    return f"generation sees {seen}, the template writes {written}"


def _row(talk: _Talk, steps: list[tuple[_Step, Span]], part: int, writing: _Writing) -> Row:
    last, _ = steps[-1]
    trained = [(step, answer) for step, answer in steps if step.turn.trained]
    always = ["no_generation_prompt"] if writing.style.header else []
    return Row(
        example=talk.example,
        prompt=last.turn.prompt,
        whole=last.turn.whole,
        pieces=last.pieces,
        stop_id=last.stop_id,
        answers=tuple(answer for _, answer in trained),
        joint_ids=last.joint_ids,
        part=part,
        turns=tuple(step.turn.message for step, _ in trained),
        told=frozenset(always).union(*(step.told for step, _ in trained)),
        notes=(
            *(() if part else talk.notes),
            *(note for step, _ in trained for note in step.notes),
            *writing.ends.notes(step.stop_id for step, _ in trained),
        ),
        markers=writing.style.markers,
    )
