"""Read examples from a file or pasted text.

The table `shapes.SHAPES` has the ways to write a row; they are told apart row by row. Any row may carry
`held_out: true`: it is never trained, its prompt is answered before and after the training. It may also carry a `mask`
made by hand.
"""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any, overload

from ..core.errors import DataError
from .columns import check_found, rename
from .fields import HandMask, read_held_out, read_masks
from .files import TooLarge, can_stream, read_file, stream_file
from .messages import Message
from .problems import Problem
from .records import MAX_BYTES, MAX_CHARACTERS, TOO_DEEP, Record, Refused, kind_of, short
from .shapes import COLUMNS, JSON_COLUMNS, SHAPES, Example, expected_columns, shape_in
from .text_records import split_records

__all__ = ["Example", "HandMask", "Message", "ParsedExamples", "Problem", "StreamedExamples"]


@dataclass(frozen=True)
class ParsedExamples:
    """The contents of a source: rows to train on, held-out rows, refused rows, notes on what is not used, and the name
    of the file, empty for text."""

    train: Sequence[Example]
    held_out: tuple[Example, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    name: str = field(default="", compare=False)


class StreamedExamples(Sequence[Example]):
    """The rows to train on of a file, read from the disk again on each iteration.

    Indexing reads from the beginning of the file, so use it for the first rows only."""

    def __init__(
        self,
        path: Path,
        count: int,
        columns: Mapping[str, str] | None = None,
        left_out: frozenset[int] = frozenset(),
    ):
        self._path, self._count, self._columns, self._left_out = path, count, columns, left_out

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Example]:
        examples = _Reading(self._columns).train(stream_file(self._path))
        return (example for example in examples if example.row not in self._left_out)

    def without(self, rows: frozenset[int]) -> StreamedExamples:
        """Return the examples without some rows, which must be among them."""
        return StreamedExamples(self._path, self._count - len(rows), self._columns, self._left_out | rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        begin, end, step = (index if isinstance(index, slice) else slice(index, index + 1)).indices(self._count)
        rows = list(islice(self, begin, end, step))
        return rows if isinstance(index, slice) else rows[0]


def open_examples(path: str | Path, columns: Mapping[str, str] | None = None) -> ParsedExamples:
    """Like `read_examples`, but without a limit for JSON Lines, Parquet, Arrow and a `datasets` folder: above
    `MAX_BYTES` the rows to train on stay on the disk (`StreamedExamples`). Raises what `read_examples` raises."""
    path = Path(path)
    try:
        return read_examples(path, columns)
    except TooLarge:
        if not can_stream(path):
            raise
    reading = _Reading(columns)
    count = sum(1 for _ in reading.train(stream_file(path, reading.notes)))
    return replace(reading.result(StreamedExamples(path, count, columns)), name=path.name)


def read_examples(path: str | Path, columns: Mapping[str, str] | None = None) -> ParsedExamples:
    """Read a file: JSON, JSON Lines or CSV in UTF-8 or UTF-16, Parquet or Arrow, each also compressed with gzip or
    Zstandard or as the only file in a zip; or a folder that `datasets` saved.

    Args:
        columns (`Mapping[str, str]`, *optional*):
            Our columns, each with the one of the file that is read as it: `{"prompt": "question"}`.

    Raises:
        DataError: when the file cannot be read, holds more than `MAX_BYTES` (checked before reading, and again while
            decompressing), is of another format or encoding, or has no rows.
    """
    reading, path = _Reading(columns), Path(path)
    content = read_file(path, MAX_BYTES, reading.notes)
    if isinstance(content, str):
        return replace(parse_examples(content, columns), name=path.name)
    return replace(reading.result(tuple(reading.train(content))), name=path.name)


def parse_examples(text: str, columns: Mapping[str, str] | None = None) -> ParsedExamples:
    """Read pasted text, with `columns` as in `read_examples`. A bad row is refused by its number and does not affect
    the others.

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
    reading, names = _Reading(columns), columns or {}
    known, in_json = {*COLUMNS, *names.values()}, {names.get(name, name) for name in JSON_COLUMNS}
    return reading.result(tuple(reading.train(split_records(text, known, in_json, reading.notes))))


class _Reading:
    """Turn records into examples, and collect what is not trained: held-out rows, refused rows, notes."""

    def __init__(self, columns: Mapping[str, str] | None = None) -> None:
        self.notes: list[str] = []  # of the source as a whole
        self._columns = columns or {}
        self._found: dict[str, None] = {}  # the file's columns, in order
        self._held_out: list[Example] = []
        self._problems: list[Problem] = []
        self._ignored: dict[str, int] = {}  # columns, and in how many rows they stand

    def train(self, records: Iterable[Record]) -> Iterator[Example]:
        """Yield the examples to train on."""
        for row, line, record in records:
            try:
                if isinstance(record, Refused):
                    raise record
                if self._columns and isinstance(record, dict):
                    self._found.update(dict.fromkeys(record))
                    record, replaced = rename(record, self._columns)
                else:
                    replaced = []
                example, unused = _example(row, line, record)
            except (Refused, RecursionError) as reason:  # a string of a row may hold JSON of its own, however deep
                sentence = str(reason) if isinstance(reason, Refused) else TOO_DEEP
                self._problems.append(Problem(row, line, sentence))
                continue
            for column in (*replaced, *unused):
                self._ignored[column] = self._ignored.get(column, 0) + 1
            if example.held_out:
                self._held_out.append(example)
            else:
                yield example

    def result(self, train: Sequence[Example]) -> ParsedExamples:
        check_found(self._columns, self._found)
        ignored = ((name if len(name) <= 60 else f"{name[:59]}…", count) for name, count in self._ignored.items())
        columns = ", ".join(f"{name!r} ({count} rows)" for name, count in ignored)
        notes = (*self.notes, *([f"columns not used: {columns}."] if columns else []))
        return ParsedExamples(train, tuple(self._held_out), tuple(self._problems), notes)


def _example(row: int, line: int | None, record: object) -> tuple[Example, list[str]]:
    """Return the example in a record, and the names of its unused columns."""
    if not isinstance(record, dict):
        raise Refused(f"is {kind_of(record)}, not an object. Write {expected_columns()}.")
    held_out = read_held_out(record)
    shape = shape_in(record)
    if shape is None:
        found = ", ".join(map(short, record)) or "no column"
        raise Refused(f"has {found}; expected {expected_columns()}.")
    fields = shape.read(record, held_out)
    unused = fields.pop("unused", [])
    known = (*shape.columns, "held_out", "mask")
    unused += [name for name, value in record.items() if name not in known and value is not None]
    example = Example(row=row, line=line, held_out=held_out, masks=read_masks(record.get("mask")), **fields)
    if example.characters > MAX_CHARACTERS:
        raise Refused(f"has {example.characters:,} characters; the limit is {MAX_CHARACTERS:,}. Split it into rows.")
    return example, unused


def to_record(example: Example) -> dict[str, Any]:
    """Return the example as a record that `parse_examples` reads back to the same example, but for turns that were left
    out after the last answer."""
    written = (shape.write(example) for shape in SHAPES if shape.write is not None)
    record = next(record for record in written if record is not None)
    held_out = {"held_out": True} if example.held_out else {}
    masks = [mask.to_record() for mask in example.masks]
    return record | held_out | ({"mask": masks if len(masks) > 1 else masks[0]} if masks else {})
