"""Split text into records: a JSON array, JSON Lines or CSV. A mistake in one record does not affect the others."""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from ..core.errors import DataError

MAX_BYTES = 64 * 2**20


class Refused(Exception):
    """Why a record is refused, and what to write instead. The caller knows the row and adds its number."""


def split_records(
    text: str, columns: Collection[str], json_columns: Iterable[str] = ()
) -> Iterator[tuple[int, int | None, object]]:
    """Yield (row, line, record), with a `Refused` in place of a record that cannot be parsed.

    Args:
        text (`str`):
            The records, with at least one character that is not whitespace.
        columns (`Collection[str]`):
            The known columns. Text that is not JSON is read as CSV if its header has one of them.
        json_columns (`Iterable[str]`, *optional*):
            The columns whose cells hold JSON in CSV.

    `row` counts from 0, `line` from 1; `line` is None except in JSON Lines.

    Raises:
        DataError: for a text that is neither JSON nor CSV with a known column.
    """
    start = text.lstrip()[0]
    if start == "[":
        yield from _json_array(text)
    elif start == "{":
        yield from _json_lines(text)
    else:
        yield from _csv(text, columns, json_columns)


def _json_array(text: str) -> Iterator[tuple[int, None, object]]:
    decoder = json.JSONDecoder()
    position = _after_space(text, text.index("[") + 1)
    row = 0
    while position < len(text) and text[position] != "]":
        try:
            record, position = decoder.raw_decode(text, position)
            position = _after_space(text, position)
            if position < len(text) and text[position] not in ",]":
                raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
            yield row, None, record
            if position < len(text) and text[position] == ",":
                position = _after_space(text, position + 1)
        except (json.JSONDecodeError, RecursionError) as error:
            yield row, None, _not_json(error)
            # continue at the next line that opens an object, so that one mistake does not lose the rows below it
            following = re.compile(r"\n\s*(?=\{)").search(text, max(position, getattr(error, "pos", position)))
            position = following.end() if following else len(text)
        row += 1
    if text[position + 1 :].strip():
        yield row, None, Refused("stands after the closing ]. Put every row inside one array.")


def _after_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _json_lines(text: str) -> Iterator[tuple[int, int | None, object]]:
    try:  # one object that spans several lines is one row
        record = json.loads(text)
    except (json.JSONDecodeError, RecursionError):
        pass
    else:
        yield 0, 1, record
        return
    yield from split_lines(text.split("\n"))


def file_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a UTF-8 file, split at newlines only.

    Raises:
        DataError: when the file cannot be read or is not UTF-8.
    """
    line = 0
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for line, text in enumerate(file, start=1):  # noqa: B007
                yield text
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8: byte 0x{error.object[error.start]:02x} behind line {line}. Save the file as UTF-8."
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error


def split_lines(lines: Iterable[str]) -> Iterator[tuple[int, int, object]]:
    """Like `split_records`, for a stream of JSON Lines. An object that spans several lines is refused line by line."""
    row = 0
    for line, content in enumerate(lines, start=1):
        if not content.strip():
            continue
        try:
            yield row, line, json.loads(content)
        except (json.JSONDecodeError, RecursionError) as error:
            yield row, line, _not_json(error, in_line=True)
        row += 1


def _not_json(error: json.JSONDecodeError | RecursionError, in_line: bool = False) -> Refused:
    if isinstance(error, RecursionError):
        return Refused("the JSON is nested too deeply; a row is a flat object.")
    where = f"column {error.colno}" if in_line else f"line {error.lineno}, column {error.colno}"
    return Refused(f"not valid JSON at {where}: {error.msg}. Mind quotes, commas and escaped newlines (\\n).")


def _csv(text: str, columns: Collection[str], json_columns: Iterable[str]) -> Iterator[tuple[int, None, object]]:
    first_line = text.lstrip().split("\n", 1)[0]
    delimiter = max(",;\t", key=first_line.count)
    csv.field_size_limit(MAX_BYTES)
    reader = csv.DictReader(io.StringIO(text.lstrip("\n\r "), newline=""), delimiter=delimiter, strict=True)
    header = reader.fieldnames or []
    if not set(columns) & set(header):
        raise DataError(
            f"the text is neither JSON nor CSV with known columns: its first line is {short(first_line)}. "
            f"Begin with [ or {{, or with a header line such as instruction,output."
        )
    row = 0
    while True:
        try:
            record = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield row, None, Refused(f'not valid CSV near line {reader.line_num}: {error}. Quote cells with ".')
            return
        if None in record:
            record = Refused(
                f'has {len(header) + len(record[None])} cells, the header {len(header)}. Quote cells with ".'
            )
        else:
            record = {name: value for name, value in record.items() if value is not None}
            try:
                nested = {name: json.loads(record[name]) for name in json_columns if record.get(name)}
                record |= nested
            except (json.JSONDecodeError, RecursionError) as error:
                record = _not_json(error)
        yield row, None, record
        row += 1


def kind_of(value: object) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool | int | float):
        return f"the {'number ' if not isinstance(value, bool) else ''}{json.dumps(value)}"
    if isinstance(value, str):
        return f"the text {short(value)}"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object"


def short(value: object) -> str:
    text = value if isinstance(value, str) else str(value)
    return json.dumps(text if len(text) <= 60 else text[:59] + "…", ensure_ascii=False)
