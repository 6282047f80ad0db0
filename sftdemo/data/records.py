"""What all ways to read rows share: why a record is refused, and which values no record may hold."""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

from ..core.characters import WHOLE, half_at, half_words
from ..core.errors import ConfigError, DataError
from ..core.text import plural

MAX_BYTES = 64 * 2**20
# Of one row: about 750,000 tokens, beyond the positions of most models. The tokenizer takes 170 bytes a character.
MAX_CHARACTERS = 3_000_000
MAX_ROWS = 1_000_000  # of a source that is held in memory: 64 MiB may hold 30 million rows, which took gigabytes
MAX_DEPTH = 100  # of lists and objects in each other; Python's own limit would be met somewhere below, not here
# Characters that may be read in vain, in search of the end of something that has none: so many, and beside them a few
# times those that were passed. Without a limit, a text of many such beginnings would be read from each of them to its
# end: 10 kB took half a second, 60 kB a quarter of a minute.
PATIENCE, PATIENCE_A_CHARACTER = 2**17, 8

UNREAD_KEPT = 20  # of the rows whose columns are not known, to guess from what they are

Record = tuple[int, int | None, object]  # row from 0, line from 1 or None, the record or a `Refused` in its place


class Refused(Exception):
    """Why a record is refused, and what to write instead. The caller knows the row and adds its number."""


class UnknownColumns(DataError):
    """A table whose header has none of the known columns; `records` are the first of its rows."""

    def __init__(self, message: str, records: Sequence[Mapping[str, Any]]):
        super().__init__(message)
        self.records = tuple(records)


def first_twice(names: Iterable[str]) -> str | None:
    """Return the first name that has stood before, if there is one."""
    seen = set[str]()
    return next((name for name in names if name in seen or seen.add(name)), None)


class Repeated(dict[str, Any]):
    """A JSON object in whose text a key stands twice."""

    def __init__(self, pairs: list[tuple[str, Any]]):
        super().__init__(pairs)
        self.name = first_twice(name for name, _ in pairs) or ""


class Huge:
    """A JSON integer of more digits than Python turns into a number."""

    def __init__(self, digits: int):
        self.digits = digits


class NotHeld:
    """A value of a table that Python cannot hold, with the reason: a date of the year 10000, or an unknown time zone.
    A shape refuses it in its row, if it uses the column."""

    def __init__(self, reason: str):
        self._reason = reason

    def __str__(self) -> str:
        return f"a value that Python cannot hold ({self._reason})"


def check_wanted(limit: int | None) -> None:
    """Check how many rows are wanted; None is all of them.

    Raises:
        ConfigError: when it is less than one.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit:,}, which leaves no row; give 1 or more.")


def first_rows(records: Iterator[Record], limit: int | None, source: object, notes: list[str]) -> Iterator[Record]:
    """Yield the first `limit` records, all without it. `notes` takes whether there were more."""
    count = 0
    for record in islice(records, limit):
        count += 1
        yield record
    if limit is None:
        return
    if next(records, None) is None:
        notes.append(f"{source} has {count:,} {plural(count, 'row')}, all of which are read; the limit is {limit:,}.")
    else:
        notes.append(f"the first {count:,} {plural(count, 'row')} of {source} are read; there are more.")


def checked(record: object) -> object:
    """Return the record, or a `Refused` if it holds a value that breaks what comes later: half of a character, a huge
    integer, a key twice, NaN or infinity below a column, or too much in each other."""
    return record if _is_sound(record) else Refused(_fault(record))


def _is_sound(record: object) -> bool:
    level: list[Any] = [record]
    for depth in range(MAX_DEPTH):
        deeper: list[Any] = []
        for value in level:
            kind: Any = type(value)
            if kind is str:
                if not value.isascii() and half_at(value) is not None:
                    return False
            elif kind is dict:
                deeper.extend(value)
                deeper.extend(value.values())
            elif kind is list:
                deeper.extend(value)
            elif kind is float:
                if depth > 1 and not math.isfinite(value):
                    return False
            elif kind is Repeated or kind is Huge:
                return False
        if not deeper:
            return True
        level = deeper
    return False


def _fault(record: object) -> str:
    """Say which value is at fault, and where it stands."""
    left: list[tuple[object, str, int]] = [(record, "", 0)]
    while left:
        value, place, depth = left.pop()
        subject = f'"{place}" ' if place else ""
        if depth == MAX_DEPTH:
            break
        if isinstance(value, str) and (position := half_at(value)) is not None:
            return f"{subject}{half_words(value, position)}"
        if isinstance(value, Huge):
            return f"{subject}is a number of {value.digits:,} digits; write a shorter one, or the digits as a string."
        if isinstance(value, Repeated):
            return f"{subject}has {short(value.name)} twice; keep one of them."
        if isinstance(value, float) and depth > 1 and not math.isfinite(value):
            return f"{subject}is {json.dumps(value)}, which JSON does not have; write a number or null."
        if isinstance(value, dict):
            for name in value:
                if (position := half_at(name)) is not None:
                    return f"{subject}has the name {short(name)} with half of a character in it; {WHOLE}"
            dot = f"{place}." if place else ""
            left.extend((each, dot + short(name)[1:-1], depth + 1) for name, each in reversed(value.items()))
        elif isinstance(value, list):
            left.extend((each, f"{place}[{index}]", depth + 1) for index, each in reversed([*enumerate(value)]))
    return TOO_DEEP


TOO_DEEP = "the JSON is nested too deeply; a row is a flat object."


def kind_of(value: object) -> str:
    """Return what a value is, as a refusal names it."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "the true" if value else "the false"
    if isinstance(value, int | float):
        return f"the number {short(json.dumps(value))[1:-1]}"
    if isinstance(value, str):
        return f"the text {short(value)}"
    if isinstance(value, NotHeld):
        return str(value)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes that are no text"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return "an object"


def short(value: object) -> str:
    """Return a value as a refusal quotes it: as JSON, cut to 60 characters, half characters as their escapes."""
    text = value if isinstance(value, str) else str(value)
    quoted = json.dumps(text if len(text) <= 60 else text[:59] + "…", ensure_ascii=False)
    return quoted.encode("utf-8", "backslashreplace").decode()
