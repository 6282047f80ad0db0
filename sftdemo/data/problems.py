"""Refused rows, each with its reason, and many of them told in one sentence."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from ..core.errors import ConfigError, unwritten
from ..core.files import write_whole

EXAMPLES_NAMED = 3


@dataclass(frozen=True)
class Problem:
    """A row that is not used: why, and what to write instead. It is refused or, if the settings say so, `dropped`."""

    row: int
    line: int | None
    message: str
    dropped: bool = False

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"

    @property
    def where(self) -> str:
        """Return the row and, if it is known, its line."""
        return f"row {self.row}" if self.line is None else f"row {self.row} (line {self.line})"


def save_problems(path: str | Path, problems: Iterable[Problem]) -> None:
    """Write the problems to a file, in the order of the rows: JSON Lines of `row`, `line` (null where it is not known)
    and `message`; `dropped` is true for a row that is left out and not refused.

    Raises:
        ConfigError: if the file cannot be written.
    """
    ordered = sorted(problems, key=lambda problem: problem.row)
    lines = [
        json.dumps({name: getattr(each, name) for name in ("row", "line", "message", "dropped")}, ensure_ascii=False)
        for each in ordered
    ]
    try:
        write_whole(Path(path), "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {unwritten(error, 'file')}") from error


@dataclass(frozen=True)
class ProblemGroup:
    """Rows that are refused for one reason: the first of them, and how many there are."""

    problems: tuple[Problem, ...]
    count: int

    def __str__(self) -> str:
        first, *others = self.problems[:EXAMPLES_NAMED]
        if self.count == 1:
            return str(first)
        more = "".join(f", {problem.where}" for problem in others)
        return f"{self.reason.removesuffix('.')}, first in {first.where}{more}."

    @property
    def reason(self) -> str:
        """Return how many rows there are and why, with the row if it is one."""
        first = self.problems[0]
        return str(first) if self.count == 1 else f"{self.count:,} rows: {first.message}"


# A value stands after one of these words, or after the quoted name that it belongs to. Other quoted words are names,
# such as "output", and tell one cause from another.
_VALUE = re.compile(r'(\b(?:text|role|type|from|trains|is|sees|writes) |" )(?:"(?:[^"\\]|\\.)*"|\[[^\]]*\])')
_NUMBER = re.compile(r"-?\d(?:[\d,.]*\d)?")


def group_problems(problems: Iterable[Problem], kept: int = EXAMPLES_NAMED) -> list[ProblemGroup]:
    """Return the problems by their words, whatever the values and numbers in them, in the order of each one's first
    row. Of each group at most `kept` problems are kept."""
    groups: dict[str, list[Problem]] = {}
    counts: dict[str, int] = {}
    for problem in problems:
        words = _without_values(problem.message)
        counts[words] = counts.get(words, 0) + 1
        if counts[words] <= kept:
            groups.setdefault(words, []).append(problem)
    return [ProblemGroup(tuple(named), counts[words]) for words, named in groups.items()]


@lru_cache(maxsize=1024)  # thousands of rows are often refused in the very same words
def _without_values(message: str) -> str:
    return _NUMBER.sub("…", _VALUE.sub(r"\1…", message))
