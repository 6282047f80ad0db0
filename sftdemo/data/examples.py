"""Read examples from a file or pasted text: a JSON array, JSON Lines or CSV.

The table `shapes.SHAPES` has the ways to write a row; they are told apart row by row. Any row may carry
`held_out: true`: it is never trained, its prompt is answered before and after the training. It may also carry a `mask`
made by hand.
"""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, overload

from ..core.errors import DataError
from .columns import check_found, rename
from .fields import HandMask, read_held_out, read_masks
from .messages import Message
from .problems import Problem
from .records import MAX_BYTES, Refused, file_lines, kind_of, short, split_lines, split_records
from .shapes import COLUMNS, JSON_COLUMNS, SHAPES, Example, expected_columns, shape_in

__all__ = ["Example", "HandMask", "Message", "ParsedExamples", "Problem", "StreamedExamples"]


@dataclass(frozen=True)
class ParsedExamples:
    """The contents of a source: rows to train on, held-out rows, refused rows, and notes on what is not used."""

    train: Sequence[Example]
    held_out: tuple[Example, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]


class StreamedExamples(Sequence[Example]):
    """The rows to train on of a JSON Lines file, read from the disk again on each iteration.

    Indexing reads from the beginning of the file, so use it for the first rows only."""

    def __init__(self, path: Path, count: int, columns: Mapping[str, str] | None = None):
        self._path, self._count, self._columns = path, count, columns

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Example]:
        return _Reading(self._columns).train(split_lines(file_lines(self._path)))

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        begin, end, step = (index if isinstance(index, slice) else slice(index, index + 1)).indices(self._count)
        rows = list(islice(self, begin, end, step))
        return rows if isinstance(index, slice) else rows[0]


def open_examples(path: str | Path, columns: Mapping[str, str] | None = None) -> ParsedExamples:
    """Like `read_examples`, but without a limit for `.jsonl`: the rows to train on of a file larger than `MAX_BYTES`
    stay on the disk (`StreamedExamples`). Raises what `read_examples` raises."""
    path = Path(path)
    if path.suffix != ".jsonl" or not path.is_file() or path.stat().st_size <= MAX_BYTES:
        return read_examples(path, columns)
    reading = _Reading(columns)
    count = sum(1 for _ in reading.train(split_lines(file_lines(path))))
    return reading.result(StreamedExamples(path, count, columns))


def read_examples(path: str | Path, columns: Mapping[str, str] | None = None) -> ParsedExamples:
    """Read a UTF-8 file, with or without a byte-order mark.

    Args:
        columns (`Mapping[str, str]`, *optional*):
            Our columns, each with the one of the file that is read as it: `{"prompt": "question"}`.

    Raises:
        DataError: when the file cannot be read, is larger than `MAX_BYTES` (checked before reading), is not UTF-8, or
            has no rows.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} has {path.stat().st_size:,} bytes; the limit is {MAX_BYTES:,}. Split the file.")
        with path.open("rb") as file:  # a pipe reports 0 bytes: limit what is read from it as well
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if len(data) > MAX_BYTES:
        raise DataError(f"{path} has more than {MAX_BYTES:,} bytes, the limit. Split the file.")
    try:
        return parse_examples(data.decode("utf-8-sig"), columns)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path} is not UTF-8: byte 0x{data[error.start]:02x} in line {line}. Save the file as UTF-8."
        ) from error


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
    return reading.result(tuple(reading.train(split_records(text, known, in_json))))


class _Reading:
    """Turn records into examples, and collect what is not trained: held-out rows, refused rows, notes."""

    def __init__(self, columns: Mapping[str, str] | None = None) -> None:
        self._columns = columns or {}
        self._found: dict[str, None] = {}  # the file's columns, in order
        self._held_out: list[Example] = []
        self._problems: list[Problem] = []
        self._ignored: dict[str, int] = {}  # columns, and in how many rows they stand

    def train(self, records: Iterable[tuple[int, int | None, object]]) -> Iterator[Example]:
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
            except Refused as reason:
                self._problems.append(Problem(row, line, str(reason)))
                continue
            for column in (*replaced, *unused):
                self._ignored[column] = self._ignored.get(column, 0) + 1
            if example.held_out:
                self._held_out.append(example)
            else:
                yield example

    def result(self, train: Sequence[Example]) -> ParsedExamples:
        check_found(self._columns, self._found)
        columns = ", ".join(f"{name!r} ({count} rows)" for name, count in self._ignored.items())
        notes = (f"columns not used: {columns}.",) if columns else ()
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
    return Example(row=row, line=line, held_out=held_out, masks=read_masks(record.get("mask")), **fields), unused


def to_record(example: Example) -> dict[str, Any]:
    """Return the example as a record that `parse_examples` reads back to the same example."""
    written = (shape.write(example) for shape in SHAPES if shape.write is not None)
    record = next(record for record in written if record is not None)
    held_out = {"held_out": True} if example.held_out else {}
    masks = [mask.to_record() for mask in example.masks]
    return record | held_out | ({"mask": masks if len(masks) > 1 else masks[0]} if masks else {})
