"""Render an example's prompt as text, and keep track of which parts the user wrote.

Training and generation both call `render_prompt`, so the model is asked with the very prompt it was trained on.
"""

# transformers annotates its tokenizers in part
# pyright: reportUnknownMemberType=false

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, cast

from ..core.errors import TemplateError
from .examples import Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = "chat"
TEMPLATE = "template"  # the role of text the user did not write
_ALPACA = (
    "Below is an instruction that describes a task{}. Write a response that appropriately completes the request.\n\n"
)
_INSTRUCTION = "### Instruction:\n{instruction}\n\n"
_INPUT = "### Input:\n{input}\n\n"
_RESPONSE = "### Response:\n"

# name: (without an input, with one). "alpaca" is https://github.com/tatsu-lab/stanford_alpaca#data-release
NAMED_TEMPLATES = {
    "instruction": (_INSTRUCTION + _RESPONSE, _INSTRUCTION + _INPUT + _RESPONSE),
    "alpaca": (
        _ALPACA.format("") + _INSTRUCTION + _RESPONSE,
        _ALPACA.format(", paired with an input that provides further context") + _INSTRUCTION + _INPUT + _RESPONSE,
    ),
}
_PLACEHOLDER = re.compile(r"\{(instruction|input)\}")


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered prompt. `role` is `"template"` for the template's own text. For the user's text it is the
    column (`"instruction"`, `"input"`, `"prompt"`, `"completion"`) or the message's role."""

    text: str
    role: str

    @property
    def from_user(self) -> bool:
        return self.role != TEMPLATE


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier assistant turn in a prompt. Both fields count characters of the prompt's text: `asked` is where the
    prompt for this turn ends, as generation would have seen it, and `end` is where the content of the turn ends."""

    asked: int
    end: int


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as the model reads it.

    `text` is the `segments` joined. In a `chat` prompt the template's segments contain special tokens, BOS included
    if the model has one. Any other prompt is plain text, and the tokenizer adds its own prefix (BOS). `turns` are the
    earlier assistant turns that are trained as well.
    """

    segments: tuple[Segment, ...]
    chat: bool
    turns: tuple[Turn, ...] = ()
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", "".join([segment.text for segment in self.segments]))


@dataclass(frozen=True)
class Template:
    """How a row becomes a prompt. `text` is None for the model's own chat template. `turns` selects the assistant turns
    of a conversation that are trained: `"all"`, or only the `"last"`."""

    name: str
    text: str | None
    text_with_input: str | None
    turns: str = "all"


def get_template(spec: str, turns: str = "all") -> Template:
    """Return the template named `spec`, or a custom one: any text with `{instruction}` and, optionally, `{input}`.

    Raises:
        TemplateError: when `spec` is neither.
    """
    if spec == CHAT:
        return Template(CHAT, None, None, turns)
    if spec in NAMED_TEMPLATES:
        return Template(spec, *NAMED_TEMPLATES[spec], turns)
    if "{instruction}" not in spec:
        raise TemplateError(
            f"the template {spec!r} has no {{instruction}} in it; write one, such as 'Q: {{instruction}}\\nA:\\n', "
            f"or name one of {', '.join([*NAMED_TEMPLATES, CHAT])}."
        )
    return Template("custom", spec, spec, turns)


def render_prompt(example: Example, template: Template, tokenizer: PreTrainedTokenizerBase) -> RenderedPrompt:
    """Return the prompt of `example`: `prompt` unchanged, `messages` in the model's own chat template, and an
    `instruction` in `template`. In a template without a place for the input (chat, or a custom one without `{input}`)
    the input follows the instruction after a blank line.

    Raises:
        TemplateError: when a chat template is needed and the model has none, or its template cannot be used for these
            messages.
    """
    if example.prompt is not None:
        return RenderedPrompt((Segment(example.prompt, "prompt"),), chat=False)
    if example.messages:
        return _render_chat(example.messages, tokenizer, earlier_turns=template.turns == "all")
    instruction, text = example.instruction, template.text
    if example.input and template.text_with_input is not None and "{input}" in template.text_with_input:
        text = template.text_with_input
    elif example.input:
        instruction = f"{instruction}\n\n{example.input}"
    if text is None:
        prompt = _render_chat((Message("user", instruction),), tokenizer, role="instruction")
        return replace(prompt, segments=tuple(_input_apart(prompt.segments, example)))
    pieces = _PLACEHOLDER.split(text)  # template text and placeholder names alternate
    values = {"instruction": instruction, "input": example.input}
    segments = [
        Segment(values[piece], piece) if index % 2 else Segment(piece, TEMPLATE) for index, piece in enumerate(pieces)
    ]
    return RenderedPrompt(tuple(segment for segment in segments if segment.text), chat=False)


def _render_chat(
    messages: tuple[Message, ...], tokenizer: PreTrainedTokenizerBase, role: str = "", earlier_turns: bool = False
) -> RenderedPrompt:
    """Render the messages twice, the second time with a mark in place of each content, to find where the contents are.
    The user's text gets `role`, or its message's role if that is empty."""
    text = apply_chat_template(tokenizer, messages)
    marks = [Message(message.role, f"contentmark{index}x") for index, message in enumerate(messages)]
    pieces = re.split(r"contentmark(\d+)x", apply_chat_template(tokenizer, marks))
    segments, places = _matched(text, pieces, messages, role)
    if earlier_turns and any(message.role == "assistant" for message in messages):
        turns = [_turn(text, messages[:index], tokenizer, places.get(index)) for index in _assistants(messages)]
        return RenderedPrompt(segments, chat=True, turns=tuple(turns))
    if segments:
        return RenderedPrompt(segments, chat=True)
    # not `all_special_tokens`, which lists only those with a function, such as EOS
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    if not any(token in message.content for token in special for message in messages):
        return RenderedPrompt((Segment(text, TEMPLATE),), chat=True)
    raise TemplateError(
        "the messages hold a special token's text, and the model's chat template rewrites them, so that it "
        "would become a real one; take it out, or choose another template."
    )


def _input_apart(segments: tuple[Segment, ...], example: Example) -> Iterator[Segment]:
    """Yield the same segments, with the input that follows the instruction in a segment of its own."""
    for segment in segments:
        before, glue, after = segment.text.rpartition(f"\n\n{example.input.rstrip()}")
        if segment.role == "instruction" and example.input.strip() and glue:
            yield from (Segment(before, "instruction"), Segment("\n\n", TEMPLATE), Segment(glue[2:] + after, "input"))
        else:
            yield segment


def _assistants(messages: tuple[Message, ...]) -> list[int]:
    return [index for index, message in enumerate(messages) if message.role == "assistant"]


def _matched(
    text: str, pieces: list[str], messages: tuple[Message, ...], role: str
) -> tuple[tuple[Segment, ...], dict[int, tuple[int, int]]]:
    """Return the segments of `text` and the span of each message's content in it. `pieces` alternates template text
    and message numbers. Both results are empty if the pieces do not add up to `text`. Contents may be trimmed: many
    templates do that."""
    segments, position = [Segment(pieces[0], TEMPLATE)], len(pieces[0])
    places: dict[int, tuple[int, int]] = {}
    if not text.startswith(pieces[0]):
        return (), {}
    for number, following in zip(map(int, pieces[1::2]), pieces[2::2], strict=True):
        message = messages[number]
        forms = [
            form for form in (message.content, message.content.strip()) if text.startswith(form + following, position)
        ]
        if not forms or number in places:
            return (), {}
        places[number] = (position, position + len(forms[0]))
        segments += [Segment(forms[0], role or message.role), Segment(following, TEMPLATE)]
        position += len(forms[0]) + len(following)
    if position != len(text):
        return (), {}
    return tuple(segment for segment in segments if segment.text), places


def _turn(
    text: str, before: tuple[Message, ...], tokenizer: PreTrainedTokenizerBase, place: tuple[int, int] | None
) -> Turn:
    """Return the assistant turn that follows the messages `before`. `place` is its span in the conversation's `text`.

    Raises:
        TemplateError: when the template drops or rewrites the turn, or puts it after a text other than the prompt that
            generation would see: the model would learn it in a context that never occurs.
    """
    remedy = "Train only the last turn of conversations, or choose a model with another chat template."
    if not before:
        raise TemplateError(f"the conversation begins with an assistant turn, which nothing asks for. {remedy}")
    if place is None:
        raise TemplateError(
            f"the model's chat template rewrites or drops message {len(before)}, so that the tokens of this assistant "
            f"turn cannot be found. {remedy}"
        )
    asked = apply_chat_template(tokenizer, before)
    if not text.startswith(asked) or text[len(asked) : place[0]].strip():
        raise TemplateError(
            f"in the model's chat template message {len(before)} does not follow the prompt that asks for it when the "
            f"model answers, so that this assistant turn would be learned after another text. {remedy}"
        )
    return Turn(len(asked), place[1])


def apply_chat_template(
    tokenizer: PreTrainedTokenizerBase, messages: tuple[Message, ...] | list[Message], generation_prompt: bool = True
) -> str:
    """Return `messages` in the model's own chat template, up to where the assistant's answer starts.

    Raises:
        TemplateError: when the model has no chat template, or the template refuses these messages.
    """
    from jinja2 import TemplateError as JinjaError

    if not tokenizer.chat_template:
        raise TemplateError(
            "this model has no chat template: choose the instruction template, write instruction/output rows, "
            "or choose a model with one."
        )
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation_prompt)
    except JinjaError as error:
        raise TemplateError(f"the model's chat template refuses this conversation: {error}.") from error
    return cast("str", text)
