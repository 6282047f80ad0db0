"""Read examples from a file or pasted text.

The table `SHAPES` has the ways to write a row; they are told apart row by row. Any row may carry `held_out: true`: it
is never trained, its prompt is answered before and after the training. It may also carry a `mask` made by hand.
"""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, overload

from ..core.errors import DataError
from .fields import HandMask, read_answer, read_held_out, read_masks, read_text
from .files import TooLarge, can_stream, read_file, stream_file
from .messages import ASSISTANT, CONTEXT, Message, read_context, read_conversation, read_prompt_completion
from .records import MAX_BYTES, TOO_DEEP, Record, Refused, kind_of, short
from .text_records import split_records


@dataclass(frozen=True, slots=True)
class Example:
    """One row. Its prompt is kept as `messages`, as a verbatim `prompt`, or as an `instruction` with its `input`.

    `row` counts from 0 over all rows of the source, refused ones included. `line` is the row's first line in a text of
    several, counted from 1; examples that differ in it alone are equal. A held-out row may have an empty `completion`.

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

    def __post_init__(self) -> None:
        if self.answer is not None:
            object.__setattr__(self, "completion", self.answer.text)
        elif self.messages and self.completion:
            object.__setattr__(self, "answer", Message(ASSISTANT, self.completion))

    @property
    def is_answered(self) -> bool:
        """Return whether the row has an answer, which a held-out row may lack."""
        return bool(self.completion or self.answer)


@dataclass(frozen=True)
class Shape:
    """A way to write a row.

    Args:
        columns (`tuple[str, ...]`):
            The columns it uses. A row that has the first one has this shape.
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
    """

    columns: tuple[str, ...]
    read: Callable[[dict[str, Any], bool], dict[str, Any]]
    write: Callable[[Example], dict[str, Any] | None] | None = None
    optional: tuple[str, ...] = ()
    json: bool = False

    def __str__(self) -> str:
        return " and ".join(f'"{column}"' for column in self.columns if column not in self.optional)


def _read_messages(record: dict[str, Any], held_out: bool) -> dict[str, Any]:
    return read_conversation(record["messages"], held_out) | {"context": read_context(record)}


def _write_messages(example: Example) -> dict[str, Any] | None:
    if not example.messages:
        return None
    turns = [*example.messages, *([example.answer] if example.answer else [])]
    context = json.loads(example.context) if example.context else {}
    return {"messages": [turn.to_record() for turn in turns]} | context


def _read_prompt(record: dict[str, Any], held_out: bool) -> dict[str, Any]:
    if not isinstance(record["prompt"], list):
        unused = [name for name in CONTEXT if record.get(name) is not None]
        text, completion = read_text(record, "prompt"), read_answer(record, "completion", held_out)
        return {"prompt": text, "completion": completion, "unused": unused}
    conversation = read_prompt_completion(record["prompt"], record.get("completion", []), held_out)
    return conversation | {"context": read_context(record)}


def _write_prompt(example: Example) -> dict[str, Any] | None:
    return None if example.prompt is None else {"prompt": example.prompt, "completion": example.completion}


def _read_instruction(record: dict[str, Any], held_out: bool) -> dict[str, Any]:
    return {
        "instruction": read_text(record, "instruction"),
        "input": "" if record.get("input") is None else read_text(record, "input"),
        "completion": read_answer(record, "output", held_out),
    }


def _write_instruction(example: Example) -> dict[str, Any] | None:
    record = {"instruction": example.instruction, "input": example.input, "output": example.completion}
    return {name: value for name, value in record.items() if value or name != "input"}


# Of a row with the first columns of several shapes, the first in this table counts.
SHAPES = (
    Shape(("messages", *CONTEXT), _read_messages, _write_messages, optional=CONTEXT, json=True),
    Shape(("prompt", "completion", *CONTEXT), _read_prompt, _write_prompt, optional=CONTEXT),
    Shape(("instruction", "input", "output"), _read_instruction, _write_instruction, optional=("input",)),
)
COLUMNS = frozenset(column for shape in SHAPES for column in shape.columns)
JSON_COLUMNS = ("mask", *(shape.columns[0] for shape in SHAPES if shape.json))


def expected_columns() -> str:
    """The shapes as a refusal lists them, the simplest first."""
    *others, last = map(str, reversed(SHAPES))
    return f"{', '.join(others)}, or {last}"


@dataclass(frozen=True)
class Problem:
    """A refused row: why, and what to write instead."""

    row: int
    line: int | None
    message: str

    def __str__(self) -> str:
        where = f"row {self.row}" if self.line is None else f"row {self.row} (line {self.line})"
        return f"{where}: {self.message}"


@dataclass(frozen=True)
class ParsedExamples:
    """The contents of a source: rows to train on, held-out rows, refused rows, and notes on what is not used."""

    train: Sequence[Example]
    held_out: tuple[Example, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


class StreamedExamples(Sequence[Example]):
    """The rows to train on of a file, read from the disk again on each iteration.

    Indexing reads from the beginning of the file, so use it for the first rows only."""

    def __init__(self, path: Path, count: int):
        self._path, self._count = path, count

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Example]:
        return _Reading().train(stream_file(self._path))

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        begin, end, step = (index if isinstance(index, slice) else slice(index, index + 1)).indices(self._count)
        rows = list(islice(self, begin, end, step))
        return rows if isinstance(index, slice) else rows[0]


def open_examples(path: str | Path) -> ParsedExamples:
    """Like `read_examples`, but without a limit for JSON Lines, Parquet, Arrow and a `datasets` folder: above
    `MAX_BYTES` the rows to train on stay on the disk (`StreamedExamples`). Raises what `read_examples` raises."""
    path = Path(path)
    try:
        return read_examples(path)
    except TooLarge:
        if not can_stream(path):
            raise
    reading = _Reading()
    count = sum(1 for _ in reading.train(stream_file(path, reading.notes)))
    return reading.result(StreamedExamples(path, count))


def read_examples(path: str | Path) -> ParsedExamples:
    """Read a file: JSON, JSON Lines or CSV in UTF-8 or UTF-16, Parquet or Arrow, each also compressed with gzip or
    Zstandard or as the only file in a zip; or a folder that `datasets` saved.

    Raises:
        DataError: when the file cannot be read, holds more than `MAX_BYTES` (checked before reading, and again while
            decompressing), is of another format or encoding, or has no rows.
    """
    reading = _Reading()
    content = read_file(Path(path), MAX_BYTES, reading.notes)
    if isinstance(content, str):
        return parse_examples(content)
    return reading.result(tuple(reading.train(content)))


def parse_examples(text: str) -> ParsedExamples:
    """Read pasted text. A bad row is refused by its number and does not affect the others.

    Raises:
        DataError: when the text is longer than `MAX_BYTES` or has no rows.
    """
    if len(text) > MAX_BYTES:
        raise DataError(f"the text has {len(text):,} characters; the limit is {MAX_BYTES:,}. Split it.")
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise DataError(
            f"there are no examples yet. Write rows with {expected_columns()}, as a JSON array, JSON Lines or CSV."
        )
    reading = _Reading()
    return reading.result(tuple(reading.train(split_records(text, COLUMNS, JSON_COLUMNS, reading.notes))))


class _Reading:
    """Turn records into examples, and collect what is not trained: held-out rows, refused rows, notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []  # of the source as a whole
        self._held_out: list[Example] = []
        self._problems: list[Problem] = []
        self._ignored: dict[str, int] = {}  # columns, and in how many rows they stand

    def train(self, records: Iterable[Record]) -> Iterator[Example]:
        """Yield the examples to train on."""
        for row, line, record in records:
            try:
                if isinstance(record, Refused):
                    raise record
                example, unused = _example(row, line, record)
            except (Refused, RecursionError) as reason:  # a string of a row may hold JSON of its own, however deep
                sentence = str(reason) if isinstance(reason, Refused) else TOO_DEEP
                self._problems.append(Problem(row, line, sentence))
                continue
            for column in unused:
                self._ignored[column] = self._ignored.get(column, 0) + 1
            if example.held_out:
                self._held_out.append(example)
            else:
                yield example

    def result(self, train: Sequence[Example]) -> ParsedExamples:
        ignored = ((name if len(name) <= 60 else f"{name[:59]}…", count) for name, count in self._ignored.items())
        columns = ", ".join(f"{name!r} ({count} rows)" for name, count in ignored)
        notes = (*self.notes, *([f"columns not used: {columns}."] if columns else []))
        return ParsedExamples(train, tuple(self._held_out), tuple(self._problems), notes)


def _example(row: int, line: int | None, record: object) -> tuple[Example, list[str]]:
    """Return the example in a record, and the names of its unused columns."""
    if not isinstance(record, dict):
        raise Refused(f"is {kind_of(record)}, not an object. Write {expected_columns()}.")
    held_out = read_held_out(record)
    shape = next((shape for shape in SHAPES if shape.columns[0] in record), None)
    if shape is None:
        found = ", ".join(map(short, record)) or "no column"
        raise Refused(f"has {found}; expected {expected_columns()}.")
    fields = shape.read(record, held_out)
    unused = fields.pop("unused", [])
    unused += [name for name in record if name not in (*shape.columns, "held_out", "mask")]
    return Example(row=row, line=line, held_out=held_out, masks=read_masks(record.get("mask")), **fields), unused


def to_record(example: Example) -> dict[str, Any]:
    """Return the example as a record that `parse_examples` reads back to the same example."""
    written = (shape.write(example) for shape in SHAPES if shape.write is not None)
    record = next(record for record in written if record is not None)
    held_out = {"held_out": True} if example.held_out else {}
    masks = [mask.to_record() for mask in example.masks]
    return record | held_out | ({"mask": masks if len(masks) > 1 else masks[0]} if masks else {})
