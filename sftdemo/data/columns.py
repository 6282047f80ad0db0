"""Give a file's columns the names of ours, before the shape of a row is looked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ..core.errors import ConfigError, DataError
from .records import short
from .shapes import COLUMNS

NAMES = frozenset((*COLUMNS, "held_out", "mask"))


def read_columns(pairs: Sequence[str]) -> dict[str, str]:
    """Read `--columns prompt=question completion=answer`: for each of our columns, the file's that is read as it.

    Raises:
        ConfigError: for a pair without "=", a name that is not one of `NAMES`, or one that is given twice.
    """
    columns: dict[str, str] = {}
    for pair in pairs:
        ours, equals, theirs = (part.strip() for part in pair.partition("="))
        if not equals or not ours or not theirs:
            raise ConfigError(f"columns has {pair!r}; write OURS=THEIRS, such as prompt=question.")
        if ours in columns:
            raise ConfigError(f"columns names {ours!r} twice; read it from one column of the file.")
        columns[ours] = theirs
    check_columns(columns)
    return columns


def check_columns(columns: Mapping[str, str]) -> None:
    """Check that each key is one of `NAMES`.

    Raises:
        ConfigError: naming the one that is not, and those that are.
    """
    unknown = sorted(set(columns) - NAMES)
    if unknown:
        raise ConfigError(f"columns names {unknown[0]!r}; left of = stands one of {', '.join(sorted(NAMES))}.")


def rename(record: Mapping[str, Any], columns: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Return the record with the file's columns under our names, and the names of those that another has replaced."""
    present = {ours: theirs for ours, theirs in columns.items() if theirs in record}
    taken = set(present.values())
    kept = {name: value for name, value in record.items() if name not in taken and name not in present}
    replaced = [name for name in present if name in record and name not in taken]
    return kept | {ours: record[theirs] for ours, theirs in present.items()}, replaced


def check_found(columns: Mapping[str, str], found: Iterable[str]) -> None:
    """Check that each column that is to be read under another name is among those of the file.

    Raises:
        DataError: naming the one that is not, and those that are.
    """
    known = list(found)
    missing = next((theirs for theirs in columns.values() if theirs not in known), None)
    if missing is not None:
        names = ", ".join(map(short, known)) or "none"
        raise DataError(f"no row has the column {short(missing)} that columns names; the columns are {names}.")
