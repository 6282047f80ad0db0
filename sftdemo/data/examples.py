"""Read examples from a file, a data set on the Hub or pasted text.

The table `shapes.SHAPES` has the ways to write a row; they are told apart row by row. Any row may carry
`held_out: true`: it is never trained, its prompt is answered before and after the training. It may also carry a `mask`
made by hand.
"""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, overload

from ..core.errors import DataError
from ..core.text import list_first, plural
from .columns import Unread, check_found, is_known, rename
from .fields import HandMask, read_held_out, read_masks
from .files import TooLarge, can_stream, held_rows, read_file, stream_file
from .hub import FetchedRows, HubRows, Token, fetch_rows, is_hub, open_hub, read_source
from .messages import Message
from .problems import Problem
from .records import (
    MAX_BYTES,
    MAX_CHARACTERS,
    MAX_ROWS,
    TOO_DEEP,
    Record,
    Refused,
    check_wanted,
    first_rows,
    kind_of,
    short,
)
from .shapes import COLUMNS, JSON_COLUMNS, SHAPES, Example, expected_columns, shape_in
from .text_records import split_records

__all__ = ["Example", "HandMask", "Message", "Origin", "ParsedExamples", "Problem", "StreamedExamples"]

FIRST_ROWS = 1_000  # of a data set on the Hub, where nobody says how many


@dataclass(frozen=True)
class Origin:
    """Where on the Hub rows come from, with all that is needed to read the same rows again.

    Args:
        source (`str`):
            `hub:owner/name@commit`, with the config and the split that were named.
        commit (`str`):
            The commit.
        limit (`int`, *optional*):
            How many of the first rows were to be read; all without it.
        columns (`Mapping[str, str]`):
            As in `read_examples`.
    """

    source: str
    commit: str
    limit: int | None
    columns: Mapping[str, str]


@dataclass(frozen=True)
class ParsedExamples:
    """The contents of a source: rows to train on, held-out rows, refused rows, notes on what is not used, where on the
    Hub the rows come from (None for others), the name of the source (empty for text), and what was refused for its
    columns."""

    train: Sequence[Example]
    held_out: tuple[Example, ...]
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    origin: Origin | None = None
    name: str = field(default="", compare=False)
    unread: Unread = field(default_factory=Unread, compare=False)


class StreamedExamples(Sequence[Example]):
    """The rows to train on of a source on the disk, read from it again on each iteration.

    Indexing reads from the beginning, so use it for the first rows only.

    Args:
        records (`Callable[[], Iterator[Record]]`):
            Reads all records, from the first each time.
        count (`int`):
            How many of them are to be trained on.
    """

    def __init__(
        self,
        records: Callable[[], Iterator[Record]],
        count: int,
        columns: Mapping[str, str] | None = None,
        left_out: frozenset[int] = frozenset(),
    ):
        self._records, self._count, self._columns, self._left_out = records, count, columns, left_out

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Example]:
        examples = _Reading(self._columns).train(self._records())
        return (example for example in examples if example.row not in self._left_out)

    def without(self, rows: frozenset[int]) -> StreamedExamples:
        """Return the examples without some rows, which must be among them."""
        return StreamedExamples(self._records, self._count - len(rows), self._columns, self._left_out | rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...

    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...

    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        begin, end, step = (index if isinstance(index, slice) else slice(index, index + 1)).indices(self._count)
        rows = list(islice(self, begin, end, step))
        return rows if isinstance(index, slice) else rows[0]


def open_examples(
    path: str | Path, columns: Mapping[str, str] | None = None, limit: int | None = None
) -> ParsedExamples:
    """Like `read_examples`, but for more rows than may be held in memory: those to train on stay on the disk
    (`StreamedExamples`). Above `MAX_BYTES` those of JSON Lines, Parquet, Arrow and a `datasets` folder stay where they
    are; a data set on the Hub of which all rows are wanted is downloaded into the cache of `datasets`. Raises what
    `read_examples` raises."""
    if is_hub(path):
        return _open_hub(str(path), columns, limit)
    path = Path(path)
    try:
        return read_examples(path, columns, limit)
    except TooLarge:
        if not can_stream(path):
            raise
    reading = _Reading(columns, path.name)
    records = first_rows(stream_file(path, reading.notes), limit, path, reading.notes)
    return reading.streamed(records, lambda: islice(stream_file(path), limit))


def _open_hub(source: str, columns: Mapping[str, str] | None, limit: int | None) -> ParsedExamples:
    if limit is not None:
        with suppress(TooLarge):
            return read_hub(source, columns, limit)
    reading = _Reading(columns, source)
    rows = open_hub(read_source(source), reading.notes)
    read = rows.download()

    def records() -> Iterator[Record]:
        return (record for record, _ in read())

    first = first_rows(records(), limit, source, reading.notes)
    return reading.streamed(first, lambda: islice(records(), limit), _origin(rows, columns, limit))


def read_examples(
    path: str | Path, columns: Mapping[str, str] | None = None, limit: int | None = None, most: int = MAX_ROWS
) -> ParsedExamples:
    """Read a file: JSON, JSON Lines or CSV in UTF-8 or UTF-16, Parquet or Arrow, each also compressed with gzip or
    Zstandard or as the only file in a zip; or a folder that `datasets` saved; or a data set on the Hub, with the user's
    own login: `hub:owner/name@revision/config[split]`, of which all behind the name may be missing.

    Args:
        columns (`Mapping[str, str]`, *optional*):
            Our columns, each with the one of the file that is read as it: `{"prompt": "question"}`.
        limit (`int`, *optional*):
            How many of the first rows are read; all without it.
        most (`int`, *optional*, defaults to `MAX_ROWS`):
            The rows that may be held in memory.

    Raises:
        DataError: when the source cannot be read, holds more than `MAX_BYTES` (checked before reading, and again while
            decompressing) or `most` rows, is of another format or encoding, or has no rows.
        ConfigError: when `limit` is below 1.
    """
    if is_hub(path):
        return read_hub(str(path), columns, limit)
    check_wanted(limit)
    path = Path(path)
    reading = _Reading(columns, path.name)
    try:
        content = read_file(path, MAX_BYTES, reading.notes)
    except TooLarge:
        if limit is None or not can_stream(path):
            raise
        content = stream_file(path, reading.notes, MAX_BYTES)
    if isinstance(content, str):
        return _parse(content, reading, columns, limit, path, most)
    return reading.result(tuple(reading.train(first_rows(held_rows(content, path, most), limit, path, reading.notes))))


def read_hub(
    source: str, columns: Mapping[str, str] | None = None, limit: int | None = FIRST_ROWS, token: Token = None
) -> ParsedExamples:
    """Read the first rows of a data set on the Hub over the network, without leaving them on the disk.

    Args:
        source (`str`):
            `hub:owner/name@revision/config[split]`, of which all behind the name may be missing.
        columns (`Mapping[str, str]`, *optional*):
            As in `read_examples`.
        limit (`int`, *optional*, defaults to `FIRST_ROWS`):
            How many rows are read; None for all.
        token (`bool` or `str`, *optional*):
            Who asks: a token, or by default the one of this machine's user. A server that strangers use passes False,
            so that nobody reads private data sets with its token.

    Raises:
        DataError: when the data set cannot be had, with the reason, or its rows hold more than `MAX_BYTES`.
        ConfigError: when `limit` is below 1.
    """
    return read_fetched(fetch_rows(source, limit, token, MAX_BYTES), columns)


def read_fetched(rows: FetchedRows, columns: Mapping[str, str] | None = None) -> ParsedExamples:
    """Read rows that `fetch_rows` has fetched, with `columns` as in `read_examples`."""
    reading = _Reading(columns, rows.source.name)
    reading.notes += rows.notes
    return reading.result(tuple(reading.train(rows.records)), _origin(rows, columns, rows.limit))


def _origin(rows: HubRows | FetchedRows, columns: Mapping[str, str] | None, limit: int | None) -> Origin:
    return Origin(str(rows.source), str(rows.source.revision), limit, dict(columns or {}))


def parse_examples(text: str, columns: Mapping[str, str] | None = None, most: int = MAX_ROWS) -> ParsedExamples:
    """Read pasted text, with `columns` and `most` as in `read_examples`. A bad row is refused by its number and does
    not affect the others.

    Raises:
        DataError: when the text is longer than `MAX_BYTES`, has more than `most` rows, or none.
    """
    return _parse(text, _Reading(columns), columns, most=most)


def _parse(
    text: str,
    reading: _Reading,
    columns: Mapping[str, str] | None,
    limit: int | None = None,
    source: object = "the text",
    most: int = MAX_ROWS,
) -> ParsedExamples:
    if len(text) > MAX_BYTES:
        raise DataError(f"the text has {len(text):,} characters; the limit is {MAX_BYTES:,}. Split it.")
    text = text.removeprefix("\ufeff")
    if not text.strip():
        raise DataError(
            f"there are no examples yet. Write rows with {expected_columns()}, as a JSON array, JSON Lines or CSV."
        )
    names = columns or {}
    known, in_json = {*COLUMNS, *names.values()}, {names.get(name, name) for name in JSON_COLUMNS}
    records = held_rows(split_records(text, known, in_json, reading.notes), source, most)
    return reading.result(tuple(reading.train(first_rows(records, limit, source, reading.notes))))


class _Reading:
    """Turn records into examples, and collect what is not trained: held-out rows, refused rows, notes."""

    def __init__(self, columns: Mapping[str, str] | None = None, name: str = "") -> None:
        self.notes: list[str] = []  # of the source as a whole
        self._name = name
        self._columns = columns or {}
        self._found: dict[str, None] = {}  # the file's columns, in order
        self._held_out: list[Example] = []
        self._problems: list[Problem] = []
        self._ignored: dict[str, int] = {}  # columns, and in how many rows they stand
        self._unread = Unread()

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
                if isinstance(record, dict) and not is_known(record):
                    self._unread = self._unread.with_record(record)
                sentence = str(reason) if isinstance(reason, Refused) else TOO_DEEP
                self._problems.append(Problem(row, line, sentence))
                continue
            for column in (*replaced, *unused):
                self._ignored[column] = self._ignored.get(column, 0) + 1
            if example.held_out:
                self._held_out.append(example)
            else:
                yield example

    def streamed(
        self, records: Iterator[Record], again: Callable[[], Iterator[Record]], origin: Origin | None = None
    ) -> ParsedExamples:
        """Read the records once, and leave those to train on where `again` reads them."""
        count = sum(1 for _ in self.train(records))
        return self.result(StreamedExamples(again, count, self._columns), origin)

    def result(self, train: Sequence[Example], origin: Origin | None = None) -> ParsedExamples:
        check_found(self._columns, self._found)
        ignored = ((name if len(name) <= 60 else f"{name[:59]}…", count) for name, count in self._ignored.items())
        columns = list_first(f"{name!r} ({count} {plural(count, 'row')})" for name, count in ignored)
        notes = (*self.notes, *([f"columns not used: {columns}."] if columns else []))
        notes_of = (tuple(self._held_out), tuple(self._problems), notes)
        return ParsedExamples(train, *notes_of, origin, self._name, self._unread)


def _example(row: int, line: int | None, record: object) -> tuple[Example, list[str]]:
    """Return the example in a record, and the names of its unused columns."""
    if not isinstance(record, dict):
        raise Refused(f"is {kind_of(record)}, not an object. Write {expected_columns()}.")
    held_out = read_held_out(record)
    shape = shape_in(record)
    if shape is None:
        found = list_first(map(short, record)) or "no column"
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
