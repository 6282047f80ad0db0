"""Read conversations: OpenAI's `messages` with tool calls, reasoning and weights, and TRL's lists of messages."""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

from ..core.errors import ConfigError
from ..core.template_arguments import check_template_arguments
from .fields import whole_text
from .json_records import parse_json
from .records import Refused, kind_of, short

ASSISTANT = "assistant"
LONGEST_ROLE = 64  # characters: every token of a message is shown and printed with its role
DEEPEST = 100  # levels of lists and objects in a message's keys, which go through recursive functions
CONTEXT = ("tools", "documents", "chat_template_kwargs")  # columns of a row that its chat template sees
_TRAINED = {"weight": (1, 0), "train": (True, False), "loss": (True, False)}  # key: (trained, not trained)


@dataclass(frozen=True, slots=True)
class Message:
    """A message of a conversation.

    Args:
        role (`str`):
            Such as `"system"`, `"user"`, `"assistant"` or `"tool"`. The chat template decides which it knows.
        content (`str`, `tuple[str, ...]` or `None`):
            The text, its parts if it was written as a list of text parts, or None if it is null or missing.
        extra (`str`):
            All other keys that are not null, as a JSON object, so that a message can be hashed; `""` if there are none.
        trained (`bool`):
            Whether an assistant's turn is trained, by `weight`, `train` or `loss`.
    """

    role: str
    content: str | tuple[str, ...] | None = ""
    extra: str = ""
    trained: bool = True

    @property
    def text(self) -> str:
        """Return the content as one text, empty if there is none."""
        return self.content if isinstance(self.content, str) else "".join(self.content or ())

    @property
    def fields(self) -> dict[str, Any]:
        """Return the keys other than role and content."""
        return json.loads(self.extra) if self.extra else {}

    @property
    def is_empty(self) -> bool:
        """Return whether the message says nothing: no text but whitespace, and no other key, such as a tool call."""
        return not self.extra and not self.text.strip()

    def to_record(self) -> dict[str, Any]:
        """Return the message as an entry of `messages`."""
        content = self.content
        if isinstance(content, tuple):
            content = [{"type": "text", "text": part} for part in content]
        untrained = self.role == ASSISTANT and not self.trained
        return {"role": self.role, "content": content} | self.fields | ({"weight": 0} if untrained else {})


def read_conversation(turns: object, held_out: bool, name: str = "messages") -> dict[str, Any]:
    """Split a conversation, the value of the column `name`, at its last assistant turn.

    Returns fields of an `Example`: the `messages` before that turn, the turn itself (`answer`), and how many turns
    after it are left out. A held-out conversation may end before the answer; it then
    has no answer.

    Raises:
        Refused: if there is nothing to learn, or a message cannot be read.
    """
    return _split(_messages(turns, name), held_out, name)


def read_prompt_completion(
    prompt: object, completion: object, held_out: bool, name: str = "completion"
) -> dict[str, Any]:
    """Join TRL's two lists of messages, `prompt` and the column `name`. The assistant turns of the first are not
    trained, those of the second are.

    Raises:
        Refused: as `read_conversation`, and if the second is empty or holds no assistant turn.
    """
    if not isinstance(completion, list):
        raise Refused(
            f'"prompt" is a list of messages and "{name}" is {kind_of(completion)}; write both as lists of '
            "messages, or both as strings."
        )
    before = [
        replace(message, trained=False) if message.role == ASSISTANT else message
        for message in _messages(prompt, "prompt")
    ]
    if held_out and not completion:
        return {"messages": tuple(before)}
    if not completion:
        raise Refused(f'"{name}" is an empty list, so there is nothing to learn; add the assistant\'s turn.')
    after = _messages(completion, name)
    if not any(message.role == ASSISTANT for message in after):
        raise Refused(f'"{name}" has no turn with "role": "assistant", so there is nothing to learn; add it.')
    return _split(before + after, held_out, name)


def read_context(record: dict[str, Any]) -> str:
    """Return the row's columns that its chat template sees (`CONTEXT`), as JSON; `""` if there are none."""
    found: dict[str, Any] = {}
    for name in CONTEXT:
        value = record.get(name)
        if value is None or value == "":  # an empty cell in CSV
            continue
        if isinstance(value, str):  # TRL takes tools as JSON too, because Arrow cannot hold them otherwise
            try:
                value = parse_json(value)
            except Refused:
                raise Refused(f'"{name}" is a string that is not JSON; write {_shape_of(name)}.') from None
        is_right = isinstance(value, dict) if name == "chat_template_kwargs" else _is_list_of_objects(value)
        if not is_right:
            raise Refused(f'"{name}" is {kind_of(value)}; write {_shape_of(name)}.')
        if name == "chat_template_kwargs":
            _check_arguments(value)
        if value:
            found[name] = value
    return _to_json(found, ", ".join(found)) if found else ""


def _check_arguments(value: object) -> None:
    try:
        check_template_arguments(json.dumps(value))
    except ConfigError as error:
        raise Refused(str(error)) from None


def _shape_of(name: str) -> str:
    return 'an object: {"enable_thinking": false}' if name == "chat_template_kwargs" else "a list of objects"


def _is_list_of_objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, dict) for each in value)


def _split(messages: list[Message], held_out: bool, name: str) -> dict[str, Any]:
    answers = [index for index, message in enumerate(messages) if message.role == ASSISTANT]
    if held_out and messages[-1].role != ASSISTANT:
        return {"messages": tuple(messages)}
    if not answers:
        raise Refused(f'"{name}" has no turn of the assistant, so there is nothing to learn; add the answer.')
    last = answers[-1]
    if last == 0:
        raise Refused(f'"{name}" begins with its only assistant turn; put the user\'s turn before it.')
    return {
        "messages": tuple(messages[:last]),
        "answer": messages[last],
        "left_out": len(messages) - last - 1,
    }


def _messages(turns: object, name: str) -> list[Message]:
    if not isinstance(turns, list) or not turns:
        raise Refused(f'"{name}" is {kind_of(turns)}; write a list of {{"role": …, "content": …}}.')
    return list(_read(turns, name))


def _read(turns: list[Any], name: str) -> Iterator[Message]:
    for index, turn in enumerate(turns):
        where = f'"{name}"[{index}]'
        if not isinstance(turn, dict):
            raise Refused(f'{where} is {kind_of(turn)}; write {{"role": "user", "content": "…"}}.')
        turn = _as_today(turn)
        role = turn.get("role")
        if not isinstance(role, str) or not role.strip():
            raise Refused(f"{where} has the role {short(role)}; use system, user, assistant or tool.")
        whole_text(role, f"{name}[{index}].role")
        if len(role) > LONGEST_ROLE:
            raise Refused(
                f"{where} has a role of {len(role):,} characters; the limit is {LONGEST_ROLE}. Use system, user, "
                "assistant or tool."
            )
        extra = {
            key: value
            for key, value in turn.items()
            if key not in ("role", "content", *_TRAINED) and value is not None and value != []
        }
        if "tool_calls" in extra and not _is_list_of_objects(extra["tool_calls"]):
            raise Refused(f'{where} has "tool_calls" that is {kind_of(extra["tool_calls"])}; write a list of objects.')
        content = _content(turn.get("content"), where, f"{name}[{index}].content")
        if content is None and not extra:
            raise Refused(f'{where} has no text; write {{"role": "{role}", "content": "…"}}.')
        yield Message(
            role, content, _to_json(extra, f"{name}[{index}]") if extra else "", _is_trained(turn, role, where)
        )


def _as_today(turn: dict[str, Any]) -> dict[str, Any]:
    """Return a message of OpenAI's first form of calls, `function_call` and the role `function`, in today's form."""
    call = turn.get("function_call")
    if isinstance(call, dict) and not turn.get("tool_calls"):
        kept = {key: value for key, value in turn.items() if key != "function_call"}
        turn = kept | {"tool_calls": [{"type": "function", "function": call}]}
    return turn | {"role": "tool"} if turn.get("role") == "function" else turn


def as_tools(value: object) -> object:
    """Return a row's `tools` or OpenAI's earlier `functions`: functions that stand there bare, with a name and no type,
    are wrapped as tools. What cannot be read is returned as it is, for `read_context` to refuse."""
    if isinstance(value, str) and value:
        try:
            value = parse_json(value)
        except Refused:
            return value
    if not _is_list_of_objects(value):
        return value
    return [
        {"type": "function", "function": tool} if "name" in tool and not {"type", "function"} & set(tool) else tool
        for tool in cast("list[dict[str, Any]]", value)
    ]


def _content(value: object, where: str, path: str) -> str | tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return whole_text(value, path)
    if not isinstance(value, list) or not value:
        raise Refused(f"{where} has content that is {kind_of(value)}; write a string, or a list of text parts.")
    parts: list[str] = []
    for part in value:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            what = part.get("type") if isinstance(part, dict) else part
            raise Refused(
                f"{where} has a content part of the type {short(what)}; only text can be trained here: "
                '{"type": "text", "text": "…"}.'
            )
        parts.append(whole_text(text, path))
    return tuple(parts)


def _is_trained(turn: dict[str, Any], role: str, where: str) -> bool:
    given: dict[str, bool] = {}
    for key, (yes, no) in _TRAINED.items():
        value = turn.get(key)
        if value is None:
            continue
        is_number = type(value) in (int, float) if key == "weight" else type(value) is bool
        if not is_number or value not in (yes, no):
            raise Refused(f'{where} has "{key}" {short(value)}; write {_word(yes)} or {_word(no)}.')
        given[key] = value == yes
    if len(set(given.values())) > 1:
        raise Refused(f"{where} is trained by one of {', '.join(given)} and not by another; keep one of them.")
    if role != ASSISTANT and any(given.values()):
        raise Refused(
            f'{where} is marked to be trained ("{next(iter(given))}"), but its role is {short(role)}; only assistant '
            "turns are trained, so leave it out."
        )
    return role != ASSISTANT or all(given.values())


def _word(value: object) -> str:
    return str(value).lower()


def _to_json(value: dict[str, Any], where: str) -> str:
    _check_depth(value, where)
    return whole_text(json.dumps(value, ensure_ascii=False), where)


def _check_depth(value: object, where: str, room: int = DEEPEST) -> None:
    if isinstance(value, dict | list):
        if not room:
            raise Refused(f"{where} is nested more than {DEEPEST} deep; write it flatter.")
        for each in value.values() if isinstance(value, dict) else value:
            _check_depth(each, where, room - 1)
