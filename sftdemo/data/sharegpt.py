"""Read ShareGPT's conversations, turns of `from` and `value`, as messages."""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from typing import Any

from .fields import read_text
from .messages import ASSISTANT, as_tools, read_context, read_conversation
from .records import Refused, kind_of, short

CALL = "function_call"
# whose turn it is, by what data sets write as `from`
ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": ASSISTANT,
    "assistant": ASSISTANT,
    "chatgpt": ASSISTANT,
    "model": ASSISTANT,
    CALL: ASSISTANT,
    "observation": "tool",
    "function_response": "tool",
    "tool": "tool",
}


def read_sharegpt(record: dict[str, Any], held_out: bool, name: str) -> dict[str, Any]:
    """Return the fields of an `Example`, as `read_conversation` does, from the turns in the column `name`, with the
    row's `system` and `tools`. Turns of `role` and `content` are read as they are.

    Raises:
        Refused: naming the turn that cannot be read.
    """
    turns, unused = record[name], list[str]()
    if isinstance(turns, list):
        turns = [_message(turn, f'"{name}"[{place}]') for place, turn in enumerate(turns)]
        system = read_text(record, "system") if record.get("system") is not None else ""
        if system and turns and turns[0].get("role") == "system":
            unused = ["system"]
        elif system and turns:
            turns = [{"role": "system", "content": system}, *turns]
    context = read_context(record | {"tools": as_tools(record.get("tools"))})
    return read_conversation(turns, held_out, name) | {"context": context, "unused": unused}


def _message(turn: object, where: str) -> dict[str, Any]:
    if not isinstance(turn, dict):
        raise Refused(f'{where} is {kind_of(turn)}; write {{"from": "human", "value": "…"}}.')
    if "role" in turn and "from" not in turn:
        return turn
    sender, value = turn.get("from"), turn.get("value")
    if not isinstance(sender, str) or sender.strip().lower() not in ROLES:
        raise Refused(f"{where} is from {short(sender)}; write one of {', '.join(ROLES)}.")
    if not isinstance(value, str):
        raise Refused(f'{where} has a "value" that is {kind_of(value)}; write a string: "value": "…".')
    sender = sender.strip().lower()
    calls = _calls(value) if sender == CALL else []
    said = {"content": None, "tool_calls": calls} if calls else {"content": value}
    rest = {key: each for key, each in turn.items() if key not in ("from", "value", "role", *said)}
    return {"role": ROLES[sender]} | said | rest


def _calls(value: str) -> list[dict[str, Any]]:
    """Return the calls in a turn that is JSON with the name of a function, or a list of such; else none."""
    try:
        found = json.loads(value)
    except (ValueError, RecursionError):
        return []
    calls = found if isinstance(found, list) else [found]
    if not all(isinstance(call, dict) and isinstance(call.get("name"), str) for call in calls):
        return []
    return [
        {
            "type": "function",
            "function": {"name": call["name"], "arguments": call.get("arguments", call.get("parameters", {}))},
        }
        for call in calls
    ]
