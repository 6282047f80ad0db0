"""Render conversations with the model's own chat template: as generation asks, and as the template writes them down.

The template is a program that may trim, move, add or drop text. So nothing is assumed of it: what it writes is rendered
and compared.
"""

# transformers annotates its tokenizers in part, and what a message's keys hold is not known
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any, cast

from ..core.errors import TemplateError
from .examples import Example
from .json_records import parse_json
from .messages import ASSISTANT, Message
from .records import Refused
from .templates import TEMPLATE, TYPED, RenderedPrompt, Segment, Template, is_chat, render_text, role_markers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

MARK = "contentmark"
_SIGNS = range(0xF0000, 0xFFFFE)  # Unicode's private plane 15, of which a row may use some
_REMEDY = "Write the conversation as the template wants it, or choose a model with another chat template."


def render_prompt(example: Example, template: Template, tokenizer: PreTrainedTokenizerBase) -> RenderedPrompt:
    """Return the prompt that the model is asked with for `example`, in `template` or in the model's own chat template.

    Raises:
        TemplateError: when a chat template is needed and the model has none, or its template refuses these messages.
    """
    if not is_chat(example, template):
        return render_text(example, template)
    conversation = Conversation(example, template, tokenizer)
    return conversation.render([(len(conversation.messages) - (conversation.answer is not None), True)])[0]


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
        markers (`tuple[str, ...]`):
            The texts by which it marks whose turn it is, from `role_markers`, without those of special tokens.
    """

    takes_text: bool
    takes_parts: bool
    tail: str | None
    header: str
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
            return _apply(tokenizer, messages, {}, settings, asks)
        except TemplateError:
            return ""

    parts = [{"type": "text", "text": MARK}]
    takes_text = MARK in rendered(MARK) and MARK in rendered("x", MARK)
    takes_parts = all(text.count(MARK) == 2 and "'type'" not in text for text in [rendered(parts, parts)])

    def form(text: str) -> object:
        return text if takes_text or not takes_parts else [{"type": "text", "text": text}]

    whole, asked = rendered(form("x"), form(MARK)), rendered(form("x"), asks=True)
    header = ""
    if asked and asked == rendered(form("x")) and whole.startswith(asked):
        header = whole[len(asked) :].partition(MARK)[0].strip()
    tail = whole.rpartition(MARK)[2] if MARK in whole else None
    special = [token.content for token in tokenizer.added_tokens_decoder.values() if token.content.strip()]
    around = any_of([MARK, *special]).split(rendered(form(MARK), form(MARK)))
    return ChatStyle(takes_text or not takes_parts, takes_parts, tail, header, role_markers(*around))


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


class Conversation:
    """A row in the model's chat template.

    Args:
        example (`Example`):
            A row with messages, or an instruction, which becomes a user's message.
        template (`Template`):
            Its `arguments` are passed to the chat template, below those of the row.

    Raises:
        TemplateError: when the model has no chat template.
    """

    def __init__(self, example: Example, template: Template, tokenizer: PreTrainedTokenizerBase):
        self.answer = example.answer
        if example.messages:
            self.messages = (*example.messages, *([example.answer] if example.answer else []))
        else:
            self.answer = Message(ASSISTANT, example.completion)
            self.messages = (
                Message("user", "\n\n".join(filter(None, [example.instruction, example.input]))),
                self.answer,
            )
        self.context: dict[str, Any] = json.loads(example.context) if example.context else {}
        own = self.context.pop("chat_template_kwargs", {})
        self._settings: dict[str, Any] = json.loads(template.arguments or "{}") | own
        self._own = own
        self._tokenizer, self.style = tokenizer, chat_style(tokenizer, template.arguments)
        self._special = any_of(special_texts(tokenizer))
        self._records = self._to_records()
        everything = (self._records, self.context, self._settings)
        self._is_typed = _any_text(everything, lambda text: self._special.search(text) is not None)

    def render(self, asked: Sequence[tuple[int, bool]]) -> list[RenderedPrompt]:
        """Return renderings of the first messages: each of `asked` is how many, and whether to ask for an answer.

        A template may want a tool call's arguments as a string instead of an object, a text where there is null, or
        one text instead of parts. The first way that it takes is used for the whole conversation.

        Raises:
            TemplateError: when the template refuses the conversation.
        """
        refused: TemplateError | None = None
        tried: list[list[dict[str, Any]]] = []
        for joined, strings, empty in product((False, True), repeat=3):
            records = self._to_records(joined, strings, empty)
            if records in tried:
                continue
            tried.append(records)
            self._records = records
            try:
                renderings = self._rendered(records, asked)
            except TemplateError as error:
                refused = refused or error
                continue
            if not any(form in renderings[-1].text for form in _python_forms(records)):
                return renderings
            refused = TemplateError(
                f"the model's chat template prints a tool call's arguments as Python does. {_REMEDY}"
            )
        raise refused or TemplateError("there is nothing to render.")

    def lost(self, texts: Mapping[int, str]) -> Iterator[tuple[str, int | None]]:
        """Yield what the template does not show, as (key, index of the message, or None for a column of the row).

        Each is found by rendering the conversation without it. `texts` are the renderings of the conversation up to and
        including a message, by its index; the last one must be among them.
        """
        last = len(self.messages) - 1
        for index, message in enumerate(self.messages):
            until = index if index in texts else last
            text = texts[until]
            if message.text.strip() and message.text.strip() not in text:
                without: Any = self._records[index] | {"content": ""}
                if self._would_be(text, index, without, until):
                    yield "content", index
            for key, value in message.fields.items():
                without = {name: each for name, each in self._records[index].items() if name != key}
                if value and self._would_be(text, index, without, until):
                    yield key, index
        for name in self.context:
            context = {key: value for key, value in self.context.items() if key != name}
            if self._text(self._records, context, self._settings) == texts[last]:
                yield name, None
        if self._own:
            settings = {name: value for name, value in self._settings.items() if name not in self._own}
            if self._text(self._records, self.context, settings) == texts[last]:
                yield "chat_template_kwargs", None

    def _would_be(self, text: str, index: int, without: dict[str, Any], until: int) -> bool:
        records = [*self._records[:index], without, *self._records[index + 1 : until + 1]]
        return self._text(records, self.context, self._settings) == text

    def _text(self, records: Any, context: Any, settings: Any) -> str | None:
        try:
            return _apply(self._tokenizer, records, context, settings, False)
        except TemplateError:
            return None

    def _to_records(self, joined: bool = False, strings: bool = False, empty: bool = False) -> list[dict[str, Any]]:
        """Return the messages as a chat template takes them: with parts joined, arguments as strings, "" for null."""
        records: list[dict[str, Any]] = []
        for message in self.messages:
            content: Any = "" if message.content is None and empty else message.content
            if self.style.takes_text and not (isinstance(content, tuple) and self.style.takes_parts and not joined):
                content = content if content is None else message.text
            elif content is not None:
                texts = content if isinstance(content, tuple) else (content,)
                content = [{"type": "text", "text": text} for text in texts]
            record: dict[str, Any] = {"role": message.role, "content": content}
            records.append(record | _with_arguments(message.fields, strings) if message.extra else record)
        return records

    def _rendered(self, records: list[dict[str, Any]], asked: Sequence[tuple[int, bool]]) -> list[RenderedPrompt]:
        everything = (records, self.context, self._settings)
        if not self._is_typed:
            texts = _apply_all(self._tokenizer, *everything, asked)
            return [RenderedPrompt((Segment(text, TEMPLATE),), chat=True) for text in texts]
        # A sign inside each special text: to the template it is a letter, and it shows afterwards what was typed.
        used = set(json.dumps(everything, ensure_ascii=False))
        sign = next(sign for sign in map(chr, _SIGNS) if sign not in used)

        def hide(text: str) -> str:
            return self._special.sub(lambda match: match[0][0] + sign + match[0][1:], text)

        messages, context, settings = (_map_texts(each, hide) for each in everything)
        texts = _apply_all(self._tokenizer, messages, context, settings, asked)
        return [RenderedPrompt(tuple(_segments(text, sign, self._special)), chat=True) for text in texts]


def _segments(text: str, sign: str, pattern: re.Pattern[str]) -> Iterator[Segment]:
    """Yield the template's text and, apart from it, the special texts that were typed, both without the sign."""
    first, *rest = text.split(sign)
    before = first
    for piece in rest:
        begins = before[-1:]
        typed = pattern.match(begins + piece)
        if typed:
            yield Segment(before[:-1], TEMPLATE)
            yield Segment(typed[0], TYPED)
            before = (begins + piece)[typed.end() :]
        else:  # the template has taken the text apart
            before += piece
    yield Segment(before, TEMPLATE)


def _with_arguments(fields: dict[str, Any], strings: bool) -> dict[str, Any]:
    """Return the fields with each tool call's arguments as an object or, with `strings`, as JSON. Datasets in OpenAI's
    form have JSON; templates are written for objects (https://huggingface.co/docs/transformers/chat_extras)."""
    calls = fields.get("tool_calls")
    if not isinstance(calls, list):
        return fields

    def changed(call: Any) -> Any:
        if not isinstance(call, dict):
            return call
        if isinstance(call.get("function"), dict):
            return call | {"function": changed(call["function"])}
        arguments = call.get("arguments")
        if strings and isinstance(arguments, dict):
            return call | {"arguments": json.dumps(arguments, ensure_ascii=False)}
        if not strings and isinstance(arguments, str):
            try:
                return call | {"arguments": parse_json(arguments)}
            except Refused:  # not JSON that can be used: the template gets what is there
                return call
        return call

    return fields | {"tool_calls": [changed(call) for call in calls]}


def _python_forms(records: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield how a template that expects a string would print each tool call's arguments."""
    for record in records:
        for call in record.get("tool_calls") or ():
            inner = call.get("function", call) if isinstance(call, dict) else {}
            arguments = inner.get("arguments") if isinstance(inner, dict) else None
            if isinstance(arguments, dict) and str(arguments) != json.dumps(arguments, ensure_ascii=False):
                yield str(arguments)


def _any_text(value: Any, test: Callable[[str], bool]) -> bool:
    """Return whether `test` holds for a string anywhere in `value`, keys included."""
    if isinstance(value, str):
        return test(value)
    if isinstance(value, dict):
        return any(test(key) or _any_text(each, test) for key, each in value.items())
    return isinstance(value, list | tuple) and any(_any_text(each, test) for each in value)


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return `value` with every string in it changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _map_texts(each, change) for key, each in value.items()}
    return [_map_texts(each, change) for each in value] if isinstance(value, list | tuple) else value


def _apply_all(
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
        for asks in {asks for _, asks in asked}:  # one call takes less time than one for each number of messages
            counts = [count for count, each in asked if each == asks]
            conversations = [list(messages[:count]) for count in counts]
            rendered = tokenizer.apply_chat_template(
                conversations, tokenize=False, add_generation_prompt=asks, **context, **settings
            )
            texts |= zip(((count, asks) for count in counts), cast("list[str]", rendered), strict=True)
    except Exception as error:  # a template is a program, and may fail in any way
        reason = str(error).strip().rstrip(".") or type(error).__name__
        raise TemplateError(f"the model's chat template refuses this conversation: {reason}. {_REMEDY}") from error
    return [texts[each] for each in asked]


def _apply(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    context: Mapping[str, Any],
    settings: Mapping[str, Any],
    asks: bool,
) -> str:
    """Return what the chat template makes of these messages, as `_apply_all` does."""
    return _apply_all(tokenizer, messages, context, settings, [(len(messages), asks)])[0]
