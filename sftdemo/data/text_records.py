"""Split text into records: a JSON array, JSON Lines or CSV. A mistake in one record does not affect the others."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator
from itertools import islice
from typing import cast

from ..core.errors import DataError
from ..core.text import plural
from .json_records import json_array, json_lines, lines_of, parse_json
from .records import (
    MAX_BYTES,
    PATIENCE,
    PATIENCE_A_CHARACTER,
    UNREAD_KEPT,
    Record,
    Refused,
    UnknownColumns,
    checked,
    first_twice,
    short,
)

_QUOTES = 'Put the cell in ", and write " inside it as "".'


def split_records(
    text: str, columns: Collection[str], json_columns: Collection[str] = (), notes: list[str] | None = None
) -> Iterator[Record]:
    """Yield (row, line, record), with a `Refused` in place of a record that cannot be used.

    Args:
        text (`str`):
            The records, with at least one character that is not whitespace.
        columns (`Collection[str]`):
            The known columns. Text that is not JSON is read as CSV if its header has one of them.
        json_columns (`Collection[str]`, *optional*):
            The columns whose cells hold JSON in CSV.
        notes (`list[str]`, *optional*):
            Takes what is to be told of the text as a whole.

    `row` counts from 0, `line` from 1; `line` is None in an array that stands in one line.

    Raises:
        DataError: for a text that is neither JSON nor CSV with a known column, or with a column twice.
    """
    notes = [] if notes is None else notes
    start = text.lstrip()[0]
    if start == "[":
        yield from json_array(text, notes)
    elif start == "{":
        yield from json_lines(lines_of(text))
    else:
        yield from _csv(text, columns, json_columns, notes)


def _csv(text: str, columns: Collection[str], json_columns: Collection[str], notes: list[str]) -> Iterator[Record]:
    body = text.lstrip("\n\r ")
    line = 1 + text[: len(text) - len(body)].count("\n")
    first_line = body.split("\n", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    csv.field_size_limit(MAX_BYTES)
    stream = io.StringIO(body, newline="")
    reader = csv.reader(stream, delimiter=delimiter, strict=True)
    try:
        header = _names(next(reader), notes)
    except csv.Error as error:
        raise DataError(f"the header is not valid CSV: {error}. {_QUOTES}") from error
    if not set(columns) & set(header):
        raise _unknown(text, header, first_line)
    line, row, patience = line + reader.line_num, 0, PATIENCE + PATIENCE_A_CHARACTER * len(body)
    while True:
        begin, passed = stream.tell(), reader.line_num
        slip, cells = "", list[str]()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            slip = f"not valid CSV near line {line}: {error}. {_QUOTES}"
        height = reader.line_num - passed
        if len(cells) > len(header):
            slip = f'has {len(cells)} cells, the header {len(header)}. Quote cells with ".'
        if slip and height > 1:  # a quote that is not closed has run on: go on below its own line
            patience -= stream.tell() - begin
            stream.seek(begin)
            stream.readline()
            height = 1
        if slip and patience < 0:
            slip += " The rows below are not read, because too many quotes before them are not closed."
        if slip or cells:
            yield row, line, Refused(slip) if slip else _record(header, cells, json_columns)
            row += 1
        line += height
        if patience < 0:
            return


def _unknown(text: str, header: list[str], first_line: str) -> DataError:
    """Return why a text without a known column is refused: with its rows, if it is a table of other columns."""
    reason = (
        f"the text is neither JSON nor CSV with known columns: its first line is {short(first_line)}. "
        f"Begin with [ or {{, or with a header line such as instruction,output."
    )
    if len(header) < 2:
        return DataError(reason)
    records = [record for _, _, record in islice(_csv(text, header, (), []), UNREAD_KEPT)]
    rows = [cast("dict[str, object]", record) for record in records if isinstance(record, dict)]
    rows = [row for row in rows if len(row) == len(header)]
    return UnknownColumns(reason, rows) if rows and len(rows) == len(records) else DataError(reason)


def _names(cells: list[str], notes: list[str]) -> list[str]:
    """Return the columns' names without the spaces around them, which are told.

    Raises:
        DataError: if a name stands twice.
    """
    names = [cell.strip() for cell in cells]
    twice = first_twice(filter(None, names))
    if twice is not None:
        raise DataError(f"the header has the column {short(twice)} twice; rename or remove one of them.")
    spaced = [short(cell) for cell, name in zip(cells, names, strict=True) if cell != name]
    if spaced:
        notes.append(f"{plural(len(spaced), 'column')} read without the spaces of the name: {', '.join(spaced)}.")
    return names


def _record(header: list[str], cells: list[str], json_columns: Collection[str]) -> object:
    record: dict[str, object] = dict(zip(header, cells, strict=False))  # cells left out at the end are left out
    try:
        record |= {name: parse_json(str(record[name])) for name in json_columns if record.get(name)}
    except Refused as refused:
        return refused
    return checked(record)
