"""Turns an example into the text of its prompt, knowing which parts the user wrote.

Training and generation both call `render_prompt`, so that the model is asked exactly what it was trained on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..core.errors import TemplateError
from .examples import Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = "chat"
TEMPLATE = "template"  # the role of text that the user did not write
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
    """A stretch of a rendered prompt. `role` is `"template"` for the template's own text, and for text that the user
    wrote its column (`"instruction"`, `"input"`, `"prompt"`, `"completion"`) or its message's role."""

    text: str
    role: str

    @property
    def from_user(self) -> bool:
        return self.role != TEMPLATE


@dataclass(frozen=True, slots=True)
class Turn:
    """An earlier assistant turn inside a prompt, in characters of the prompt's text: `asked`, the end of the prompt
    that generation would have seen then, and `end`, where its words end."""

    asked: int
    end: int


@dataclass(frozen=True, slots=True)
class RenderedPrompt:
    """A prompt as the model reads it.

    `segments` join to `text`. In a `chat` prompt the template's segments hold special tokens (and the BOS, if the
    model wants one); in any other, all text is plain and the tokenizer's own prefix (BOS) goes before it. `turns` are
    the earlier assistant turns that are to be trained as well.
    """

    segments: tuple[Segment, ...]
    chat: bool
    turns: tuple[Turn, ...] = ()
    text: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", "".join([segment.text for segment in self.segments]))


@dataclass(frozen=True)
class Template:
    """How rows become a prompt. `text` is None for the model's own chat template; `turns` says whether every assistant
    turn of a conversation is trained ("all") or only its last ("last")."""

    name: str
    text: str | None
    text_with_input: str | None
    turns: str = "all"


def get_template(spec: str, turns: str = "all") -> Template:
    """The template called `spec`, or a custom one: any text that holds `{instruction}`, and `{input}` if wanted.

    Raises:
        TemplateError: for a text that is neither.
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
    """The prompt of `example`: a verbatim `prompt` as it stands, `messages` through the model's own chat template,
    and an `instruction` through `template`. Where a template has no place of its own for the input (chat, or a custom
    one without `{input}`), it follows the instruction after a blank line.

    Raises:
        TemplateError: when the model has no chat template and one is needed, or its template cannot be followed.
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
    pieces = _PLACEHOLDER.split(text)  # template text and placeholder names by turns
    values = {"instruction": instruction, "input": example.input}
    segments = [
        Segment(values[piece], piece) if index % 2 else Segment(piece, TEMPLATE) for index, piece in enumerate(pieces)
    ]
    return RenderedPrompt(tuple(segment for segment in segments if segment.text), chat=False)


def _render_chat(
    messages: tuple[Message, ...], tokenizer: PreTrainedTokenizerBase, role: str = "", earlier_turns: bool = False
) -> RenderedPrompt:
    """Renders once for real and once with marks in the contents' place, which shows where the contents went. `role`
    is for all of the user's text, each message's own if it is empty."""
    text = apply_chat_template(tokenizer, messages)
    marks = [Message(message.role, f"contentmark{index}x") for index, message in enumerate(messages)]
    pieces = re.split(r"contentmark(\d+)x", apply_chat_template(tokenizer, marks))
    segments, places = _matched(text, pieces, messages, role)
    if earlier_turns and any(message.role == "assistant" for message in messages):
        turns = [_turn(text, messages[:index], tokenizer, places.get(index)) for index in _assistants(messages)]
        return RenderedPrompt(segments, chat=True, turns=tuple(turns))
    if segments:
        return RenderedPrompt(segments, chat=True)
    # all of them: `all_special_tokens` has only those that play a part, such as EOS
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.special]
    if not any(token in message.content for token in special for message in messages):
        return RenderedPrompt((Segment(text, TEMPLATE),), chat=True)
    raise TemplateError(
        "the messages hold a special token's text, and the model's chat template rewrites them, so that it "
        "would become a real one; take it out, or choose another template."
    )


def _input_apart(segments: tuple[Segment, ...], example: Example) -> Iterator[Segment]:
    """The same segments, except that the input which follows the instruction stands as one of its own."""
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
    """The segments of `text`, and where each message's content lies in it; neither where the pieces (template text and
    message numbers by turns) do not make up the text. Many templates trim some contents or all."""
    segments, places, position = [Segment(pieces[0], TEMPLATE)], {}, len(pieces[0])
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
    """The assistant turn that comes after the messages `before`, which lies at `place` in the conversation's `text`.

    Raises:
        TemplateError: where the template does not show it, or shows it after something else than the prompt that
            generation would see: trained there, it would be learned in a context that never comes.
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
    """The text of `messages` under the model's own chat template, ready for the assistant to go on.

    Raises:
        TemplateError: when the model has none, or it refuses these messages.
    """
    from jinja2 import TemplateError as JinjaError

    if not tokenizer.chat_template:
        raise TemplateError(
            "this model has no chat template: choose the instruction template, write instruction/output rows, "
            "or choose a model with one."
        )
    turns = [{"role": message.role, "content": message.content} for message in messages]
    try:
        return tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=generation_prompt)
    except JinjaError as error:
        raise TemplateError(f"the model's chat template refuses this conversation: {error}.") from error
