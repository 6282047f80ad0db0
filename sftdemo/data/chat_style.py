"""Find out what a model's chat template does with any conversation, by rendering a short one."""

# transformers annotates its tokenizers in part, and what a message's keys hold is not known
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from ..core.apart import APART, ApartError
from ..core.characters import half_at
from ..core.errors import TemplateError, reason
from .messages import ASSISTANT
from .template_bounds import is_bounded
from .templates import role_markers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "contentmark"
# What a template that is bounded by its conversation renders in this process; anything else, and more, in another.
MOST_AT_ONCE, MOST_CHARACTERS_AT_ONCE = 1_000, 100_000
RENDER_SECONDS, MESSAGES_A_SECOND = 5.0, 4_000
MOST_RENDERED = 20_000_000  # characters of all renderings that are asked for at once
_STOPPED: dict[str, str] = {}  # templates that had to be ended, and why
REMEDY = "Write the conversation as the template wants it, or choose a model with another chat template."


@dataclass(frozen=True, slots=True)
class ChatStyle:
    """What a chat template does with every conversation.

    Args:
        takes_text, takes_parts (`bool`):
            Whether it shows a content that is a string, or a list of parts.
        tail (`str`, *optional*):
            The text that it puts after the last assistant turn; None if it refuses the short conversation.
        header (`str`):
            The text that it writes before an answer but leaves out of the prompt that asks for it, because it ignores
            `add_generation_prompt`. Empty for nearly all templates.
        opening (`str`):
            The text with which it opens an answer when asked by `add_generation_prompt`. Empty if it ignores that.
        markers (`tuple[str, ...]`):
            The texts by which it marks whose turn it is, from `role_markers`, without those of special tokens.
    """

    takes_text: bool
    takes_parts: bool
    tail: str | None
    header: str
    opening: str
    markers: tuple[str, ...]


def chat_style(tokenizer: PreTrainedTokenizerBase, arguments: str = "") -> ChatStyle:
    """Return what the tokenizer's chat template does, found out by rendering a short conversation.

    Raises:
        TemplateError: when the model has no chat template.
    """
    if not tokenizer.chat_template:
        raise TemplateError(
            "this model has no chat template: choose the instruction template, write instruction/output rows, "
            "or choose a model with one."
        )
    return _chat_style(tokenizer, str(tokenizer.chat_template), arguments)


@lru_cache(maxsize=32)
def _chat_style(tokenizer: PreTrainedTokenizerBase, chat_template: str, arguments: str) -> ChatStyle:
    """`chat_template` is there for the cache: a tokenizer may be given another one."""
    settings = json.loads(arguments or "{}")

    def rendered(content: object, answer: object = None, asks: bool = False) -> str:
        messages = [{"role": "user", "content": content}]
        messages += [] if answer is None else [{"role": ASSISTANT, "content": answer}]
        try:
            return _render(tokenizer, messages, {}, settings, asks)
        except TemplateError:
            return ""

    parts = [{"type": "text", "text": MARK}]
    takes_text = MARK in rendered(MARK) and MARK in rendered("x", MARK)
    takes_parts = all(text.count(MARK) == 2 and "'type'" not in text for text in [rendered(parts, parts)])

    def form(text: str) -> object:
        return text if takes_text or not takes_parts else [{"type": "text", "text": text}]

    whole, asked = rendered(form("x"), form(MARK)), rendered(form("x"), asks=True)
    header = ""
    before = rendered(form("x"))
    opening = asked[len(before) :] if before and asked.startswith(before) else ""
    if asked and asked == before and whole.startswith(asked):
        header = whole[len(asked) :].partition(MARK)[0].strip()
    tail = whole.rpartition(MARK)[2] if MARK in whole else None
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
    around = any_of([MARK, *special]).split(rendered(form(MARK), form(MARK)))
    return ChatStyle(takes_text or not takes_parts, takes_parts, tail, header, opening, role_markers(*around))


@lru_cache(maxsize=32)
def _special_texts(tokenizer: PreTrainedTokenizerBase, chat_template: str) -> tuple[str, ...]:
    added = {token.content: token.special for token in tokenizer.added_tokens_decoder.values()}
    texts = [text for text in added if text.strip()]
    tail = chat_style(tokenizer).tail if chat_template else ""
    marks = set(any_of(texts).findall(tail or ""))
    return tuple(text for text in texts if added[text] or text == tokenizer.eos_token or text in marks)


@lru_cache(maxsize=32)
def _any_of(texts: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, sorted(texts, key=len, reverse=True))) or "(?!)")


def any_of(texts: Iterable[str]) -> re.Pattern[str]:
    """Return a pattern that matches any of these texts, the longest first, as a tokenizer finds its added tokens."""
    return _any_of(tuple(texts))


def special_texts(tokenizer: PreTrainedTokenizerBase) -> tuple[str, ...]:
    """Return the texts that never become a token where a user typed them: those of special tokens, and of the tokens
    that end a turn, which some models add as ordinary ones."""
    return _special_texts(tokenizer, str(tokenizer.chat_template or ""))


def apply_chat_template(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    context: Mapping[str, Any],
    settings: Mapping[str, Any],
    asked: Sequence[tuple[int, bool]],
) -> list[str]:
    """Return what the chat template makes of the first messages, for each of `asked`: how many, and whether to ask for
    an answer.

    Raises:
        TemplateError: when it refuses them.
    """
    texts: dict[tuple[int, bool], str] = {}
    try:
        render = _renderer(tokenizer, messages, context, settings)
        for asks in {asks for _, asks in asked}:  # one call takes less time than one for each number of messages
            counts = [count for count, each in asked if each == asks]
            rendered = render([list(messages[:count]) for count in counts], asks)
            texts |= zip(((count, asks) for count in counts), rendered, strict=True)
    except Exception as error:  # a template is a program, and may fail in any way
        said = reason(error).rstrip(".")
        raise TemplateError(f"the model's chat template refuses this conversation: {said}. {REMEDY}") from error
    if any(half_at(text) is not None for text in texts.values() if not text.isascii()):
        raise TemplateError(f"the model's chat template writes half of a character. {REMEDY}")
    return [texts[each] for each in asked]


_Conversations = list[list[dict[str, Any]]]


def _renderer(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    context: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> Callable[[_Conversations, bool], list[str]]:
    """Return what renders conversations: `apply_chat_template` itself, if the template and the conversation bound what
    it does, else the same in a process of its own, which is ended when it does not come to an end."""
    template = tokenizer.get_chat_template(None, context.get("tools"))
    several = max(len(messages), len(context.get("tools") or ()), len(context.get("documents") or ()))
    size = _size(messages, context, settings)
    if several <= MOST_AT_ONCE and size <= MOST_CHARACTERS_AT_ONCE and is_bounded(template):
        return lambda conversations, asks: cast(
            "list[str]",
            tokenizer.apply_chat_template(
                conversations, tokenize=False, add_generation_prompt=asks, **context, **settings
            ),
        )

    def render(conversations: _Conversations, asks: bool) -> list[str]:
        if template in _STOPPED:
            raise TemplateError(_STOPPED[template])
        own = [[_without_null(message) for message in messages] for messages in conversations]
        arguments = {**tokenizer.special_tokens_map, **context, **settings}
        arguments |= {"conversations": own, "add_generation_prompt": asks}
        seconds = RENDER_SECONDS + sum(map(len, own)) / MESSAGES_A_SECOND
        try:
            return APART.ask("render", seconds, template=template, arguments=arguments, most=MOST_RENDERED)
        except ApartError as error:
            if error.stopped:
                _STOPPED[template] = str(error)
            raise

    return render


def _size(messages: Sequence[dict[str, Any]], context: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    """Return about how many characters a template is given."""
    if context or settings or any(len(each) > 2 or not isinstance(each.get("content"), str) for each in messages):
        return len(str((messages, context, settings)))
    return sum([len(each["content"]) for each in messages])


def _without_null(message: dict[str, Any]) -> dict[str, Any]:
    """Return a message as `apply_chat_template` gives it to the template."""
    return {key: value for key, value in message.items() if value is not None}


def _render(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    context: Mapping[str, Any],
    settings: Mapping[str, Any],
    asks: bool,
) -> str:
    """Return what the chat template makes of these messages, as `apply_chat_template` does."""
    return apply_chat_template(tokenizer, messages, context, settings, [(len(messages), asks)])[0]
