"""Render an example's prompt in a text template, and keep track of which parts the user wrote.

`chat.py` renders conversations, and `render_prompt` there picks between the two.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, cast

from ..core.config import RunConfig
from ..core.errors import TemplateError
from .examples import Example
from .records import MAX_CHARACTERS, short

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

CHAT = "chat"
TEMPLATE = "template"  # the role of text the user did not write
TYPED = "typed"  # in a chat, the role of text that looks like a special token and that the user typed
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
# A template repeats what it is given: without these limits a request of 30 kB took a minute and a half, and 9 GB.
MAX_PLACES = 8  # of {instruction} and {input} together
MAX_OWN_CHARACTERS = 20_000


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a rendered prompt. `role` is `"template"` for the template's own text. For the user's text it is the
    column (`"instruction"`, `"input"`, `"prompt"`, `"completion"`) or the message's role."""

    text: str
    role: str

    @property
    def from_user(self) -> bool:
        return self.role != TEMPLATE


@dataclass(frozen=True)
class RenderedPrompt:
    """A prompt as the model reads it.

    A `chat` prompt contains special tokens, BOS included if the model has one; what
    the user typed that looks like one is in segments of the role `TYPED`, everything else in segments of the role
    `TEMPLATE`. Any other prompt is plain text, and the tokenizer adds its own prefix (BOS).
    """

    segments: tuple[Segment, ...]
    chat: bool

    @cached_property
    def text(self) -> str:
        """Return the segments as one text."""
        return "".join([segment.text for segment in self.segments])


def role_markers(*texts: str) -> tuple[str, ...]:
    """Return the short pieces of a template's own text that have a letter and a sign, such as "### Response:" or
    "[/INST]". They mark whose turn it is; inside an answer they teach the model to go on with the next turn."""
    pieces = {piece.strip() for text in texts for piece in text.splitlines()}
    return tuple(
        sorted(
            piece
            for piece in pieces
            if 2 <= len(piece) <= 24 and any(map(str.isalpha, piece)) and re.search(r"[^\w\s,.'!?-]", piece)
        )
    )


def segments_from(prompt: RenderedPrompt, begin: int) -> tuple[Segment, ...]:
    """Return the segments of the prompt's text from a character on."""
    segments: list[Segment] = []
    position = 0
    for segment in prompt.segments:
        segments.append(Segment(segment.text[max(begin - position, 0) :], segment.role))
        position += len(segment.text)
    return tuple(segment for segment in segments if segment.text)


@dataclass(frozen=True)
class Template:
    """How a row becomes a prompt. `text` is None for the model's own chat template. `turns` selects the assistant turns
    of a conversation that are trained: `"all"`, or only the `"last"`. `arguments` is JSON: what the chat template is
    given besides the messages."""

    name: str
    text: str | None
    text_with_input: str | None
    turns: str = "all"
    arguments: str = ""

    @property
    def own_text(self) -> list[str]:
        """Return the pieces of text between the places for what the user writes."""
        return [piece for text in (self.text, self.text_with_input) for piece in _PLACEHOLDER.split(text or "")[::2]]

    def characters_of(self, example: Example) -> int:
        """Return about how many characters a row has in this template, at most."""
        return example.characters * self._places + self._own_characters

    @cached_property
    def _places(self) -> int:
        return max(len(_PLACEHOLDER.findall(text or "")) for text in (self.text, self.text_with_input)) or 1

    @cached_property
    def _own_characters(self) -> int:
        return max(len(text or "") for text in (self.text, self.text_with_input))


def get_template(spec: str, turns: str = "all", arguments: str = "") -> Template:
    """Return the template named `spec`, or a custom one: any text with `{instruction}` and, optionally, `{input}`.

    Raises:
        TemplateError: when `spec` is neither.
    """
    if spec == CHAT:
        return Template(CHAT, None, None, turns, arguments)
    if spec in NAMED_TEMPLATES:
        return Template(spec, *NAMED_TEMPLATES[spec], turns, arguments)
    if "{instruction}" not in spec:
        raise TemplateError(
            f"the template {short(spec)} has no {{instruction}} in it; write one, such as "
            f"'Q: {{instruction}}\\nA:\\n', or name one of {', '.join([*NAMED_TEMPLATES, CHAT])}."
        )
    if len(spec) > MAX_OWN_CHARACTERS:
        raise TemplateError(
            f"the template has {len(spec):,} characters; the limit is {MAX_OWN_CHARACTERS:,}. Shorten it."
        )
    places = len(_PLACEHOLDER.findall(spec))
    if places > MAX_PLACES:
        raise TemplateError(
            f"the template has {places:,} places for {{instruction}} and {{input}}; the limit is {MAX_PLACES}. Take "
            "some of them out."
        )
    return Template("custom", spec, spec, turns, arguments)


def other_placeholders(spec: str) -> list[str]:
    """Return the names in braces that a template of the user's own has besides those that are filled in, which stay as
    they are written."""
    if spec in (*NAMED_TEMPLATES, CHAT):
        return []
    return [name for name in dict.fromkeys(re.findall(r"\{(\w+)\}", spec)) if name not in ("instruction", "input")]


def template_of(config: RunConfig) -> Template:
    """Return the template that the settings name.

    Raises:
        TemplateError: as `get_template` does.
    """
    return get_template(config.template, config.turns, config.chat_template_kwargs)


def render_tokens(example: Example, tokenizer: PreTrainedTokenizerBase) -> RenderedPrompt:
    """Return the prompt of a row that came tokenised: the text of its tokens before the first trained one."""
    ids = list(example.tokens.prompt_ids) if example.tokens else []
    text = cast("Tokenizer", tokenizer.backend_tokenizer).decode(ids, skip_special_tokens=False)
    return RenderedPrompt((Segment(text, TEMPLATE),), chat=True)


def is_chat(example: Example, template: Template) -> bool:
    """Return whether the row goes through the model's own chat template."""
    return bool(example.messages) or (example.prompt is None and template.text is None)


def render_text(example: Example, template: Template) -> RenderedPrompt:
    """Return the prompt of a row that does not go through a chat template: `prompt` unchanged, or the `instruction` in
    `template`. In a template without a place for the input, the input follows the instruction after a blank line.

    Raises:
        TemplateError: when the prompt has more than `MAX_CHARACTERS`.
    """
    if example.prompt is not None:
        return RenderedPrompt((Segment(example.prompt, "prompt"),), chat=False)
    instruction, text = example.instruction, template.text or ""
    if example.input and template.text_with_input is not None and "{input}" in template.text_with_input:
        text = template.text_with_input
    elif example.input:
        instruction = f"{instruction}\n\n{example.input}"
    values = {"instruction": instruction, "input": example.input}
    segments = [
        piece if isinstance(piece, Segment) else Segment(values[piece], piece)
        for piece in _pieces(text)
        if isinstance(piece, Segment) or values[piece]
    ]
    prompt = RenderedPrompt(tuple(segments), chat=False)
    check_length(len(prompt.text))
    return prompt


def check_length(characters: int) -> None:
    """Check the length of a rendered text.

    Raises:
        TemplateError: when it has more than `MAX_CHARACTERS`.
    """
    if characters > MAX_CHARACTERS:
        raise TemplateError(
            f"the text has {characters:,} characters in its template; the limit is {MAX_CHARACTERS:,}. Shorten the row "
            "or the template."
        )


@lru_cache(maxsize=64)
def _pieces(text: str) -> tuple[Segment | str, ...]:
    """Return a template's own text as segments, and the columns whose texts stand between them."""
    pieces = enumerate(_PLACEHOLDER.split(text))  # template text and placeholder names alternate
    return tuple(piece if index % 2 else Segment(piece, TEMPLATE) for index, piece in pieces if piece)
