"""Give a file's columns the names of ours, before the shape of a row is looked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import ConfigError, DataError
from ..core.text import list_first
from .records import UNREAD_KEPT, short
from .shapes import COLUMNS, shape_in

NAMES = frozenset((*COLUMNS, "held_out", "mask"))
# What others call the two columns, the surest first; compared in small letters.
_PROMPTS = (
    *("instruction", "prompt", "question", "query", "input", "problem", "task", "user", "human", "source"),
    *("frage", "anweisung", "aufgabe", "pregunta", "domanda", "title", "titel", "subject", "document", "article"),
    *("sentence", "context", "text"),
)
_ANSWERS = (
    *("output", "completion", "response", "answer", "answers", "solution", "reply", "assistant", "bot", "target"),
    *("antwort", "lösung", "ausgabe", "réponse", "reponse", "respuesta", "risposta", "summary", "translation"),
    *("label", "body", "text"),
)


@dataclass(frozen=True)
class Unread:
    """Rows that are refused for their columns: no shape has them, or the shape lacks its answer. How many there are,
    and the first of them."""

    count: int = 0
    records: tuple[Mapping[str, Any], ...] = ()

    def with_record(self, record: Mapping[str, Any]) -> Unread:
        """Return the same with one more row."""
        kept = (*self.records, record) if len(self.records) < UNREAD_KEPT else self.records
        return Unread(self.count + 1, kept)


def is_known(record: Mapping[str, Any]) -> bool:
    """Return whether a record has all columns that some shape needs."""
    shape = shape_in(record)
    return shape is not None and all(record.get(name) is not None for name in shape.needed)


def columns_in(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the columns that hold something in any of the records, in their order."""
    return list(dict.fromkeys(name for record in records for name, value in record.items() if value is not None))


def guess_columns(records: Sequence[Mapping[str, Any]]) -> tuple[str, str] | None:
    """Guess which columns hold the prompt and the answer: by their names, else the longest text is the answer and the
    first other text the prompt. None where there are no two columns of text."""
    texts = {
        name: [text for record in records if isinstance(text := record.get(name), str) and text.strip()]
        for name in columns_in(records)
    }
    named = {name: found for name, found in texts.items() if 2 * len(found) > len(records)}
    if len(named) < 2:
        return None
    by_length = sorted(named, key=lambda name: -sum(map(len, named[name])) / len(named[name]))
    prompt = _first_named(named, _PROMPTS[:-1])
    answer = _first_named([name for name in named if name != prompt], _ANSWERS)
    answer = answer or next(name for name in by_length if name != prompt)
    prompt = prompt or _first_named([name for name in named if name != answer], _PROMPTS)
    return prompt or next(name for name in named if name != answer), answer


def _first_named(names: Iterable[str], known: Sequence[str]) -> str | None:
    by_name = {name.strip().casefold(): name for name in names}
    return next((by_name[name] for name in known if name in by_name), None)


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
        names = list_first(map(short, known)) or "none"
        raise DataError(f"no row has the column {short(missing)} that columns names; the columns are {names}.")
