"""Split JSON into records: an array, JSON Lines, or objects over several lines. A slip costs its own record alone."""

# what a record holds is not known until it is looked at
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from ..core.text import plural
from .records import MAX_BYTES, PATIENCE, PATIENCE_A_CHARACTER, TOO_DEEP, Huge, Record, Refused, Repeated, checked

_SPACE = re.compile(r"\s*")
_BRACKETS = re.compile(r'[\[\]{}]|"[^"\\]*(?:\\.[^"\\]*)*"')
_BLANKS = re.compile(r"[^\S\n]*")
_BLANK_LINES = re.compile(r"(?:[ \t\r]*\n)*")
_REMEDY = "Mind quotes, commas and escaped newlines (\\n)."


def json_array(text: str, notes: list[str]) -> Iterator[Record]:
    """Yield what stands in an array. An array that is not closed is told in `notes`. The lines are None if the text has
    only one."""
    lines = _Lines(lines_of(text))
    has_lines = "\n" in text.strip()
    lines.skip_space()
    lines.position += 1
    row = 0
    while lines.skip_space():
        if lines.character == "]":
            lines.position += 1
            if lines.skip_space():
                line = lines.number if has_lines else None
                yield row, line, Refused("stands after the closing ]. Put every row inside one array.")
            return
        line, text, begin = lines.number if has_lines else None, lines.text, lines.position
        try:
            record = lines.value()
        except _Slip as slip:
            yield row, line, Refused(slip.sentence(in_array=True))
            if slip.is_last or not lines.to_next_object(slip, _indent(text, begin)):
                return
        else:
            if not lines.skip_space() or lines.character in ",]":
                yield row, line, checked(record)
                lines.position += lines.character == ","
            else:
                where = f"line {lines.number}, column {lines.position + 1}"
                yield row, line, Refused(f"not valid JSON at {where}: Expecting ',' delimiter. {_REMEDY}")
                if lines.character != "{" and not lines.to_next_object():  # go on at an object after a missing comma
                    return
        row += 1
    read = f"{row} {plural(row, 'row')}"
    notes.append(f"the JSON array is not closed: the text ends behind {read} without a ]. It may be cut short.")


def json_lines(source: Iterable[str]) -> Iterator[Record]:
    """Yield the values of a stream of lines: one a line, or objects that go on over several lines."""
    lines = _Lines(source)
    row = 0
    while lines.skip_space():
        line, text, begin = lines.number, lines.text, lines.position
        try:
            record = lines.value(several_lines=lines.character == "{")
        except _Slip as slip:
            found = lines.to_next_object(slip, _indent(text, begin)) if slip.spans else lines.next_line()
            goes_on = slip.spans and lines.number > line + 1
            yield row, line, Refused(slip.sentence() if goes_on else slip.sentence_of_line())
            if slip.is_last or not found:
                return
        else:
            at_end = lines.ends_here()
            if at_end or lines.character == "{":
                yield row, line, checked(record)
            else:
                yield row, line, _with_more_behind(lines.text[lines.position :].strip(), lines.position)
                lines.position = len(lines.text)
        row += 1


def _indent(line: str, position: int) -> int | None:
    """Return how far in a place stands, if it is the first in its line."""
    return None if line[:position].strip() else position


def _with_more_behind(rest: str, position: int) -> Refused:
    if rest == ",":
        return Refused("ends in a comma. Leave it out, or put all rows in one array: [ … ].")
    return Refused(f"not valid JSON at column {position + 1}: Extra data. {_REMEDY}")


def lines_of(text: str) -> Iterator[str]:
    """Yield the lines of a text with their ends, split at newlines only; blank lines with the one before them."""
    begin = 0
    while begin < len(text):
        end = text.find("\n", begin) + 1 or len(text)
        end = _BLANK_LINES.match(text, end).end()  # pyright: ignore[reportOptionalMemberAccess]
        yield text[begin:end]
        begin = end


def parse_json(text: str) -> object:
    """Return the JSON value that a cell holds.

    Raises:
        Refused: if it is not JSON, or holds what no record may hold.
    """
    lines = _Lines(lines_of(text))
    lines.skip_space()
    try:
        value = lines.value()
    except _Slip as slip:
        raise Refused(slip.sentence()) from None
    if lines.skip_space():
        raise Refused(f"not valid JSON at line {lines.number}, column {lines.position + 1}: Extra data. {_REMEDY}")
    value = checked(value)
    if isinstance(value, Refused):
        raise value
    return value


class _Lines:
    """A place in a stream of lines. Lines ahead are read no further than a value needs."""

    def __init__(self, lines: Iterable[str]):
        self._rest, self._ahead, self._patience = iter(lines), deque[str](), PATIENCE
        self.text, self.position, self.number = "", 0, 1
        self._usual = 2  # lines that a value goes on over, as the last one did

    @property
    def character(self) -> str:
        """The character at the place; empty at the end."""
        return self.text[self.position : self.position + 1]

    def next_line(self) -> bool:
        """Move to the next line; False if there is none."""
        if not self._ahead:
            self._ahead.extend(islice(self._rest, 1))
        if not self._ahead:
            self.position = len(self.text)
            return False
        self.number += self.text.count("\n")
        self._patience += PATIENCE_A_CHARACTER * len(self.text)
        self.text, self.position = self._ahead.popleft(), 0
        return True

    def skip_space(self) -> bool:
        """Move to the next character that is no whitespace; False if there is none."""
        while True:
            self.position = _SPACE.match(self.text, self.position).end()  # pyright: ignore[reportOptionalMemberAccess]
            if self.position < len(self.text):
                return True
            if not self.next_line():
                return False

    def ends_here(self) -> bool:
        """Move over blanks; whether the line ends behind them."""
        self.position = _BLANKS.match(self.text, self.position).end()  # pyright: ignore[reportOptionalMemberAccess]
        return self.character in ("", "\n")

    def to_next_object(self, slip: _Slip | None = None, indent: int | None = None) -> bool:
        """Move to the next line after a slip that opens an object; False if there is none.

        Of a record that goes on over several lines the objects within are no records: they are further in.
        """
        limit = None if slip is None or slip.is_whole_line else indent
        while self.next_line():
            self.position = len(self.text) - len(self.text.lstrip())
            if self.character == "{" and (limit is None or self.position <= limit):
                return True
        return False

    def value(self, several_lines: bool = True) -> object:
        """Return the value at the place and move behind it.

        Raises:
            _Slip: if there is none; the place stays.
        """
        try:
            value, self.position = _decode(self.text, self.position)
            return value
        except (json.JSONDecodeError, RecursionError) as error:
            first = error
        if not several_lines or not _is_cut(first, self.text):
            raise _Slip(first, self)
        begun, count = self.text[self.position :], self._usual
        while True:
            self._ahead.extend(islice(self._rest, max(0, count - len(self._ahead))))
            joined = begun + "".join(islice(self._ahead, count))
            try:
                value, end = _decode(joined, 0)
            except (json.JSONDecodeError, RecursionError) as error:
                if _is_cut(error, joined) and count <= len(self._ahead) and len(joined) < MAX_BYTES:
                    count *= 2
                    continue
                is_last = self._patience < 0  # one may run on to the end, however long the text is
                self._patience -= len(joined) if isinstance(error, RecursionError) else error.pos
                raise _Slip(first, self, error, is_last) from None
            end -= len(begun)
            self._usual = 1
            while self.next_line() and end > len(self.text):
                end -= len(self.text)
                self._usual += 1
            self.position = end
            return value


class _Slip(Exception):
    """What is wrong at a place: within its line, or `later` in the lines that the value goes on over."""

    def __init__(
        self,
        error: json.JSONDecodeError | RecursionError,
        lines: _Lines,
        later: json.JSONDecodeError | RecursionError | None = None,
        is_last: bool = False,
    ):
        super().__init__()
        self._error, self._later, self._number, self._begin = error, later, lines.number, lines.position
        self.spans, self.is_last = later is not None, is_last
        self.is_whole_line = later is None and lines.text.rstrip().endswith(("}", "},"))

    def sentence_of_line(self) -> str:
        """The refusal for a value that should end in its line."""
        if isinstance(self._error, RecursionError):
            return f"{TOO_DEEP} {self._enough}".rstrip()
        return f"not valid JSON at column {self._error.colno}: {self._error.msg}. {self._enough}{_REMEDY}"

    def sentence(self, in_array: bool = False) -> str:
        """The refusal for a value that may go on over several lines."""
        error = self._later or self._error
        if isinstance(error, RecursionError):
            return f"{TOO_DEEP} {self._enough}".rstrip()
        line, column = self._number + error.lineno - 1, error.colno
        if self._later and error.lineno == 1:
            column += self._begin
        at_end = in_array and error.pos >= len(error.doc.rstrip())
        closed = " and the array is not closed; the text may be cut short" if at_end else ""
        return f"not valid JSON at line {line}, column {column}: {error.msg}{closed}. {self._enough}{_REMEDY}"

    @property
    def _enough(self) -> str:
        return "The rows below are not read, because too much before them is not closed. " if self.is_last else ""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    return made if len(made) == len(pairs) else Repeated(pairs)


def _integer(digits: str) -> int | Huge:
    try:
        return int(digits)
    except ValueError:
        return Huge(len(digits.lstrip("-")))


_DECODER = json.JSONDecoder(object_pairs_hook=_object)
_PATIENT = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer)  # slower where there are many integers


def _decode(text: str, position: int) -> tuple[object, int]:
    """Return the value at a position, and where it ends; a `Refused` for one that is nested too deeply."""
    try:
        try:
            return _DECODER.raw_decode(text, position)
        except json.JSONDecodeError:
            raise
        except ValueError:  # an integer of too many digits
            return _PATIENT.raw_decode(text, position)
    except RecursionError:
        end = _end_of(text, position)
        if end is None:
            raise
        return Refused(TOO_DEEP), end


def _is_cut(error: json.JSONDecodeError | RecursionError, text: str) -> bool:
    """Whether a value may go on behind the text: it is not over yet, or too deep and its brackets are not closed."""
    return isinstance(error, RecursionError) or error.pos >= len(text.rstrip())


def _end_of(text: str, position: int) -> int | None:
    """Return where the brackets that open at a position are closed, if they are."""
    depth = 0
    for part in _BRACKETS.finditer(text, position):
        depth += part[0] in "[{"
        depth -= part[0] in "]}"
        if not depth:
            return part.end()
    return None
