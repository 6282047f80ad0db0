"""Turns an example into the text of its prompt, knowing which parts the user wrote.

Training and generation both call `render_prompt`, so that the model is asked exactly what it was trained on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .errors import TemplateError
from .examples import Example, Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CHAT = "chat"
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


@dataclass(frozen=True)
class Segment:
    """A stretch of a rendered prompt: the template's own text, or text that the user wrote."""

    text: str
    from_user: bool


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as the model reads it.

    `segments` join to the text. In a `chat` prompt the template's segments hold special tokens (and the BOS, if the
    model wants one); in any other, all text is plain and the tokenizer's own prefix (BOS) goes before it.
    """

    segments: tuple[Segment, ...]
    chat: bool

    @property
    def text(self) -> str:
        return "".join(segment.text for segment in self.segments)


@dataclass(frozen=True)
class Template:
    """How instruction rows become a prompt. `text` is None for the model's own chat template."""

    name: str
    text: str | None
    text_with_input: str | None


def get_template(spec: str) -> Template:
    """The template called `spec`, or a custom one: any text that holds `{instruction}`, and `{input}` if wanted.

    Raises:
        TemplateError: for a text that is neither.
    """
    if spec == CHAT:
        return Template(CHAT, None, None)
    if spec in NAMED_TEMPLATES:
        return Template(spec, *NAMED_TEMPLATES[spec])
    if "{instruction}" not in spec:
        raise TemplateError(
            f"the template {spec!r} has no {{instruction}} in it; write one, such as 'Q: {{instruction}}\\nA:\\n', "
            f"or name one of {', '.join([*NAMED_TEMPLATES, CHAT])}."
        )
    return Template("custom", spec, spec)


def render_prompt(example: Example, template: Template, tokenizer: PreTrainedTokenizerBase) -> RenderedPrompt:
    """The prompt of `example`: a verbatim `prompt` as it stands, `messages` through the model's own chat template,
    and an `instruction` through `template`. Where a template has no place of its own for the input (chat, or a custom
    one without `{input}`), it follows the instruction after a blank line.

    Raises:
        TemplateError: when the model has no chat template and one is needed, or its template cannot be followed.
    """
    if example.prompt is not None:
        return RenderedPrompt((Segment(example.prompt, True),), chat=False)
    if example.messages:
        return _render_chat(example.messages, tokenizer)
    instruction, text = example.instruction, template.text
    if example.input and template.text_with_input is not None and "{input}" in template.text_with_input:
        text = template.text_with_input
    elif example.input:
        instruction = f"{instruction}\n\n{example.input}"
    if text is None:
        return _render_chat((Message("user", instruction),), tokenizer)
    pieces = _PLACEHOLDER.split(text)  # template text and placeholder names by turns
    values = {"instruction": instruction, "input": example.input}
    segments = [
        Segment(values[piece] if index % 2 else piece, from_user=bool(index % 2)) for index, piece in enumerate(pieces)
    ]
    return RenderedPrompt(tuple(segment for segment in segments if segment.text), chat=False)


def _render_chat(messages: tuple[Message, ...], tokenizer: PreTrainedTokenizerBase) -> RenderedPrompt:
    """Renders once for real and once with marks in the contents' place, which shows where the contents went."""
    contents = [message.content for message in messages]
    text = apply_chat_template(tokenizer, messages)
    marks = [f"contentmark{index}x" for index in range(len(messages))]
    marked = apply_chat_template(
        tokenizer, [Message(message.role, mark) for message, mark in zip(messages, marks, strict=True)]
    )
    pieces = re.split(r"contentmark(\d+)x", marked)
    for form in (str, str.strip):  # many templates trim the contents
        segments = [
            Segment(form(contents[int(piece)]) if index % 2 else piece, from_user=bool(index % 2))
            for index, piece in enumerate(pieces)
        ]
        prompt = RenderedPrompt(tuple(segment for segment in segments if segment.text), chat=True)
        if prompt.text == text:
            return prompt
    if not any(token in content for token in tokenizer.all_special_tokens for content in contents):
        return RenderedPrompt((Segment(text, False),), chat=True)
    raise TemplateError(
        "the messages hold a special token's text, and the model's chat template rewrites them, so that it "
        "would become a real one; take it out, or choose another template."
    )


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
