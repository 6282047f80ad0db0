"""Render conversations with the model's own chat template: as generation asks, and as the template writes them down.

The template is a program that may trim, move, add or drop text. So nothing is assumed of it: what it writes is rendered
and compared.
"""

# transformers annotates its tokenizers in part, and what a message's keys hold is not known
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from typing import TYPE_CHECKING, Any

from ..core.errors import TemplateError
from .chat_style import REMEDY, any_of, apply_chat_template, chat_style, special_texts
from .examples import Example
from .json_records import parse_json
from .messages import ASSISTANT, Message
from .records import Refused
from .templates import (
    TEMPLATE,
    TYPED,
    RenderedPrompt,
    Segment,
    Template,
    is_chat,
    render_text,
    render_tokens,
)

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SIGNS = range(0xF0000, 0xFFFFE)  # Unicode's private plane 15, of which a row may use some


def render_prompt(example: Example, template: Template, tokenizer: PreTrainedTokenizerBase) -> RenderedPrompt:
    """Return the prompt that the model is asked with for `example`, in `template` or in the model's own chat template.

    Raises:
        TemplateError: when a chat template is needed and the model has none, or its template refuses these messages.
    """
    if example.tokens:
        return render_tokens(example, tokenizer)
    if not is_chat(example, template):
        return render_text(example, template)
    conversation = Conversation(example, template, tokenizer)
    return conversation.render([(len(conversation.messages) - (conversation.answer is not None), True)])[0]


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
        self._is_typed = any(self._special.search(text) for text in _texts_in(everything))

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
            if not _prints_python(renderings[-1].text, records):
                return renderings
            refused = TemplateError(
                f"the model's chat template prints a tool call's arguments as Python does. {REMEDY}"
            )
        raise refused or TemplateError("there is nothing to render.")

    def lost(self, texts: Mapping[int, str]) -> Iterator[tuple[str, int | None]]:
        """Yield what the template does not show, as (key, index of the message, or None for a column of the row).

        Each is found by rendering the conversation without it. `texts` are the renderings of the conversation up to and
        including a message, by its index; the last one must be among them.
        """
        last = len(self.messages) - 1
        for until, text in texts.items():
            own = [index for index in range(until + 1) if index == until or (until == last and index not in texts)]
            contents = [message.text.strip() for message in self.messages[: until + 1]]
            is_whole = _stand_in_order(text, contents)
            has_fields = any(self.messages[index].extra for index in own)
            no_field_shown = has_fields and self._is_rendered(
                [_bare(each) for each in self._records[: until + 1]], text
            )
            for index in own:
                record, message = self._records[index], self.messages[index]
                if not is_whole and contents[index] and self._is_without(index, record | {"content": ""}, until, text):
                    yield "content", index
                for key, value in message.fields.items():
                    rest = {name: each for name, each in record.items() if name != key}
                    if value and (no_field_shown or self._is_without(index, rest, until, text)):
                        yield key, index
        for name in self.context:
            if self._is_same({key: value for key, value in self.context.items() if key != name}, self._settings):
                yield name, None
        settings = {name: value for name, value in self._settings.items() if name not in self._own}
        if self._own and self._is_same(self.context, settings):
            yield "chat_template_kwargs", None

    def _is_without(self, index: int, record: dict[str, Any], until: int, text: str) -> bool:
        """Return whether the text stays the same with another record in the place of a message."""
        return self._is_rendered([*self._records[:index], record, *self._records[index + 1 : until + 1]], text)

    def _is_rendered(self, records: list[dict[str, Any]], text: str) -> bool:
        asked = [(len(records), False)]
        try:
            return apply_chat_template(self._tokenizer, records, self.context, self._settings, asked) == [text]
        except TemplateError:
            return False

    def _is_same(self, context: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
        """Return whether the conversation, and the prompt of its answer, are the same with another context or other
        arguments."""
        asked = [(len(self._records), False), (len(self._records) - 1, True)]
        try:
            usual = apply_chat_template(self._tokenizer, self._records, self.context, self._settings, asked)
            return apply_chat_template(self._tokenizer, self._records, context, settings, asked) == usual
        except TemplateError:
            return False

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
            texts = apply_chat_template(self._tokenizer, *everything, asked)
            return [RenderedPrompt((Segment(text, TEMPLATE),), chat=True) for text in texts]
        # A sign inside each special text: to the template it is a letter, and it shows afterwards what was typed.
        used = set(json.dumps(everything, ensure_ascii=False))
        sign = next(sign for sign in map(chr, _SIGNS) if sign not in used)

        def hide(text: str) -> str:
            return self._special.sub(lambda match: match[0][0] + sign + match[0][1:], text)

        messages, context, settings = (_map_texts(each, hide) for each in everything)
        texts = apply_chat_template(self._tokenizer, messages, context, settings, asked)
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


def _bare(record: dict[str, Any]) -> dict[str, Any]:
    return {"role": record["role"], "content": record.get("content")}


def _stand_in_order(text: str, contents: Sequence[str]) -> bool:
    """Return whether all contents stand in the text, one after the other."""
    position = 0
    for content in contents:
        place = text.find(content, position)
        if place < 0:
            return False
        position = place + len(content)
    return True


def _prints_python(text: str, records: Sequence[dict[str, Any]]) -> bool:
    """Return whether a template prints a tool call's arguments as Python does, because it expects a string. What stands
    in the conversation's own texts does not count."""
    calls = [call for record in records for call in record.get("tool_calls", ())]
    inner = [call.get("function", call) for call in calls]
    arguments = [each.get("arguments") for each in inner if isinstance(each, dict)]
    forms = {str(each) for each in arguments if isinstance(each, dict) and str(each) != json.dumps(each)}
    return any(text.count(form) > sum(own.count(form) for own in _texts_in(records)) for form in forms)


def _texts_in(value: Any) -> Iterator[str]:
    """Yield every string in `value`, keys included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, each in value.items():
            yield key
            yield from _texts_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts_in(each)


def _map_texts(value: Any, change: Callable[[str], str]) -> Any:
    """Return `value` with every string in it changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {change(key): _map_texts(each, change) for key, each in value.items()}
    return [_map_texts(each, change) for each in value] if isinstance(value, list | tuple) else value
