"""The ways to write a row: the table `SHAPES` has them all, and they are told apart row by row."""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from typing import Any

from .fields import HandMask, read_answer, read_text
from .messages import ASSISTANT, CONTEXT, Message, as_tools, read_context, read_conversation, read_prompt_completion
from .sharegpt import read_sharegpt
from .tokens import BESIDE, Tokens, read_tokens


@dataclass(frozen=True, slots=True)
class Example:
    """One row. Its prompt is kept as `messages`, as a verbatim `prompt`, or as an `instruction` with its `input`.

    A row that is one text without a prompt is `whole`, with the text in `completion` and an empty `prompt`. A row that
    came tokenised has its `tokens` and none of the others.

    `row` counts from 0 over all rows of the source, refused ones included. `line` is the row's line in JSON Lines,
    counted from 1; it does not count when examples are compared. A held-out row may have an empty `completion`.

    A conversation has its last assistant turn in `answer`, the text of that turn in `completion` (either is filled from
    the other), the messages before it in `messages`, and the number of those after it in `left_out`. `context` is JSON:
    the row's tools, documents and arguments of the chat template. `masks` are made by hand, one for each sequence at
    most.
    """

    row: int
    completion: str = ""
    instruction: str = ""
    input: str = ""
    prompt: str | None = None
    messages: tuple[Message, ...] = ()
    answer: Message | None = None
    context: str = ""
    left_out: int = 0
    held_out: bool = False
    line: int | None = field(default=None, compare=False)
    masks: tuple[HandMask, ...] = ()
    whole: bool = False
    tokens: Tokens | None = None

    def __post_init__(self) -> None:
        if self.answer is not None:
            object.__setattr__(self, "completion", self.answer.text)
        elif self.messages and self.completion:
            object.__setattr__(self, "answer", Message(ASSISTANT, self.completion))

    @property
    def is_answered(self) -> bool:
        """Return whether the row has an answer, which a held-out row may lack."""
        return bool(self.completion or self.answer or self.tokens)

    @property
    def characters(self) -> int:
        """Return how many characters the row has. A token of a row that came tokenised counts as 4, about what one
        stands for in English."""
        turns = (*self.messages, self.answer) if self.answer else self.messages
        own = len(self.instruction) + len(self.input) + len(self.prompt or "") + len(self.context)
        own += 0 if self.answer else len(self.completion)
        own += 4 * len(self.tokens.input_ids) if self.tokens else 0
        return own + sum([len(turn.role) + len(turn.text) + len(turn.extra) for turn in turns])


@dataclass(frozen=True)
class Shape:
    """A way to write a row.

    Args:
        columns (`tuple[str, ...]`):
            The columns it uses; the first one tells that a row may have this shape.
        read (`Callable[[dict[str, Any], bool], dict[str, Any]]`):
            From a record, and whether it is held out, to fields of [`Example`]. May add `"unused"`, the names of
            `columns` that this row does not use, and raise `Refused`.
        write (`Callable[[Example], dict[str, Any] | None]`, *optional*):
            From an example back to a record; None where the example is kept in another shape. Without it, rows of this
            shape are exported in the shape whose fields `read` fills.
        optional (`tuple[str, ...]`, *optional*, defaults to `()`):
            Which of `columns` a row may leave out.
        json (`bool`, *optional*, defaults to `False`):
            Whether the first column is not text, so that in CSV its cells hold JSON.
        alone (`bool`, *optional*, defaults to `False`):
            Whether a row with the first column of another shape has that shape, even if the rest of it is missing.
    """

    columns: tuple[str, ...]
    read: Callable[[dict[str, Any], bool], dict[str, Any]]
    write: Callable[[Example], dict[str, Any] | None] | None = None
    optional: tuple[str, ...] = ()
    json: bool = False
    alone: bool = False

    def __str__(self) -> str:
        return " and ".join(f'"{column}"' for column in self.needed)

    @property
    def needed(self) -> tuple[str, ...]:
        """Return the columns that a row may not leave out."""
        return tuple(column for column in self.columns if column not in self.optional)


def _read_tokens(record: dict[str, Any], held_out: bool) -> dict[str, Any]:
    return read_tokens(record)


def _write_tokens(example: Example) -> dict[str, Any] | None:
    return example.tokens.to_record() if example.tokens else None


def _read_messages(record: dict[str, Any], held_out: bool) -> dict[str, Any]:
    older, unused = record.get("functions"), list[str]()
    if older is not None and record.get("tools") is not None:
        unused = ["functions"]
    elif older is not None:
        record = record | {"tools": as_tools(older)}
    fields = read_conversation(record["messages"], held_out)
    return fields | {"context": read_context(record), "unused": unused}


def _write_messages(example: Example) -> dict[str, Any] | None:
    if not example.messages:
        return None
    turns = [*example.messages, *([example.answer] if example.answer else [])]
    context = json.loads(example.context) if example.context else {}
    return {"messages": [turn.to_record() for turn in turns]} | context


def _read_prompt(record: dict[str, Any], held_out: bool, answer: str) -> dict[str, Any]:
    if not isinstance(record["prompt"], list):
        unused = [name for name in CONTEXT if record.get(name) is not None]
        text, completion = read_text(record, "prompt"), read_answer(record, answer, held_out)
        return {"prompt": text, "completion": completion, "unused": unused}
    conversation = read_prompt_completion(record["prompt"], record.get(answer, []), held_out, answer)
    return conversation | {"context": read_context(record)}


def _write_prompt(example: Example) -> dict[str, Any] | None:
    return None if example.prompt is None else {"prompt": example.prompt, "completion": example.completion}


def _read_preferred(record: dict[str, Any], held_out: bool) -> dict[str, Any]:
    """The answer that is preferred: after its prompt, or as a conversation that may begin with the prompt's turns."""
    prompt, chosen = record["prompt"], record.get("chosen")
    if not isinstance(chosen, list) or not _is_conversation(chosen):
        return _read_prompt(record, held_out, "chosen")
    if isinstance(prompt, list):
        repeated = chosen[: len(prompt)] == prompt
        return _read_prompt(record | {"chosen": chosen[len(prompt) :] if repeated else chosen}, held_out, "chosen")
    asked = [turn.get("content") for turn in chosen if isinstance(turn, dict) and turn.get("role") == "user"]
    text = read_text(record, "prompt")
    turns = chosen if asked else [{"role": "user", "content": text}, *chosen]
    unused = ["prompt"] if asked and text not in asked else []
    return read_conversation(turns, held_out, "chosen") | {"context": read_context(record), "unused": unused}


def _read_chosen(record: dict[str, Any], held_out: bool) -> dict[str, Any]:
    """The preferred one of two whole conversations, or of two texts."""
    if _is_conversation(record["chosen"]):
        return read_conversation(record["chosen"], held_out, "chosen") | {"context": read_context(record)}
    unused = [name for name in CONTEXT if record.get(name) is not None]
    return _read_whole(record, held_out, "chosen") | {"unused": unused}


def _is_conversation(value: object) -> bool:
    return isinstance(value, list) and not all(isinstance(each, str) for each in value)


def _read_asked(
    record: dict[str, Any], held_out: bool, question: str, answer: str, context: str = ""
) -> dict[str, Any]:
    """What goes through the template: a question or an instruction, with or without a column of context."""
    return {
        "instruction": read_text(record, question),
        "input": read_text(record, context) if context and record.get(context) is not None else "",
        "completion": read_answer(record, answer, held_out),
    }


def _write_asked(example: Example) -> dict[str, Any] | None:
    record = {"instruction": example.instruction, "input": example.input, "output": example.completion}
    return {name: value for name, value in record.items() if value or name != "input"}


def _read_whole(record: dict[str, Any], held_out: bool, text: str) -> dict[str, Any]:
    return {"completion": read_text(record, text), "prompt": "", "whole": True}


def _write_whole(example: Example) -> dict[str, Any] | None:
    return {"text": example.completion} if example.whole else None


def _asked(question: str, answer: str, context: str = "", write: bool = False) -> Shape:
    """A shape whose question goes through the template."""
    columns = (question, context, answer) if context else (question, answer)
    read = partial(_read_asked, question=question, answer=answer, context=context)
    return Shape(columns, read, _write_asked if write else None, optional=(context,) if context else ())


def _prompted(answer: str, write: bool = False) -> Shape:
    """A shape whose prompt stays as it is."""
    columns, read = ("prompt", answer, *CONTEXT), partial(_read_prompt, answer=answer)
    return Shape(columns, read, _write_prompt if write else None, optional=CONTEXT)


def _shared(column: str) -> Shape:
    """A conversation in ShareGPT's form."""
    more = ("system", *CONTEXT)
    return Shape((column, *more), partial(read_sharegpt, name=column), optional=more, json=True)


# Of the shapes that a row has all needed columns of, the first in this table counts.
SHAPES = (
    Shape(("input_ids", *BESIDE), _read_tokens, _write_tokens, optional=BESIDE, json=True),
    Shape(
        ("messages", *CONTEXT, "functions"),
        _read_messages,
        _write_messages,
        optional=(*CONTEXT, "functions"),
        json=True,
    ),
    _shared("conversations"),
    _shared("conversation"),
    Shape(("text",), partial(_read_whole, text="text"), _write_whole, alone=True),
    _prompted("completion", write=True),
    _prompted("response"),
    Shape(("prompt", "chosen", *CONTEXT), _read_preferred, optional=CONTEXT),
    _asked("instruction", "output", "input", write=True),
    _asked("instruction", "response", "context"),
    _asked("question", "answer", "context"),
    _asked("question", "chosen"),
    _asked("query", "response"),
    _asked("input", "output"),
    Shape(("chosen", *CONTEXT), _read_chosen, optional=CONTEXT, alone=True),
)
COLUMNS = frozenset(column for shape in SHAPES for column in shape.columns)
JSON_COLUMNS = ("mask", *(shape.columns[0] for shape in SHAPES if shape.json))


def shape_in(record: Mapping[str, Any]) -> Shape | None:
    """Return the shape that a record has: of those whose needed columns are all there, the first in the table; without
    any, the first whose first column is there. A column with null is not there, unless nothing else tells the shape."""
    named = COLUMNS.intersection(record)
    return _shape_of(frozenset([name for name in named if record[name] is not None]), named)


@lru_cache(maxsize=1024)
def _shape_of(there: frozenset[str], named: frozenset[str]) -> Shape | None:
    """Return the shape of a row in which these columns are there, and these are named; most rows are as the last."""
    known = [shape for shape in SHAPES if shape.columns[0] in there]
    firsts = {shape.columns[0] for shape in known}
    for shape in known:
        if there.issuperset(shape.needed) and not (shape.alone and len(firsts) > 1):
            return shape
    known = [shape for shape in known if not shape.alone or len(firsts) == 1]
    return next(iter(known), None) or next((shape for shape in SHAPES if shape.columns[0] in named), None)


@cache
def expected_columns() -> str:
    """Return the shapes as a refusal lists them, the simplest first."""
    simple = list(reversed(SHAPES))
    simple.sort(key=lambda shape: (shape.json, shape.alone, shape.write is None))
    *others, last = map(str, simple)
    return f"{', '.join(others)}, or {last}"
