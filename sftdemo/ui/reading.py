"""Read what the person gives: the text, an opened file or a data set on the Hub, under the columns that they choose."""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from ..core.limits import is_public, read_limits
from ..data.columns import columns_in, guess_columns
from ..data.examples import FIRST_ROWS, Example, ParsedExamples, parse_examples, read_examples, read_fetched
from ..data.files import read_file
from ..data.hub import FetchedRows, fetch_rows, is_hub
from ..data.messages import ASSISTANT
from ..data.records import Record, UnknownColumns
from ..data.shapes import COLUMNS, JSON_COLUMNS
from ..data.text_records import split_records

PAGE_ROWS, PAGE_CHARACTERS = 50, 40_000  # of a page of rows: about 10,000 tokens
TEMPLATE, UNCHANGED, REFUSED = "template", "unchanged", "refused"
READ_AS = {TEMPLATE: ("instruction", "output"), UNCHANGED: ("prompt", "completion")}
MOSTLY = 0.9  # of the rows; above it, it is the columns that are not known, and not a slip in some rows
HUB_KEPT = 4  # data sets on the Hub, for all visitors; each of at most `MAX_BYTES`
ROW_SHOWN = 4_000  # characters of a refused row

Pairs = tuple[tuple[str, str], ...]
_Read = tuple[ParsedExamples, tuple[int, ...], int]  # the examples, where pages begin, and what `_rendered` returns


@dataclass(frozen=True)
class ColumnChoice:
    """How rows of columns that are not known are read: which of the columns in `names` is the prompt and which the
    answer, and `how`, a key of `READ_AS` or `REFUSED`."""

    names: tuple[str, ...]
    prompt: str | None
    answer: str | None
    how: str = TEMPLATE

    @property
    def columns(self) -> dict[str, str]:
        """Return them as `read_examples` takes them; empty where nothing is chosen."""
        if self.how not in READ_AS or not self.prompt or not self.answer or self.prompt == self.answer:
            return {}
        return dict(zip(READ_AS[self.how], (self.prompt, self.answer), strict=True))


@dataclass(frozen=True)
class Reading:
    """What is read: the examples, the indices of the pages' first ones, and for columns that are not known the choice
    under which they are read."""

    data: ParsedExamples
    pages: tuple[int, ...]
    choice: ColumnChoice | None = None


def read(text: str, opened: str | None, chosen: Mapping[str, Any] | None = None) -> Reading:
    """Read the text or, in its place, what is opened: a file's path, or a data set on the Hub at a commit.

    Args:
        chosen (`Mapping[str, Any]`, *optional*):
            The fields of a `ColumnChoice` but its names. It counts where the columns are not known and are those
            that it names; otherwise a guess does.

    Raises:
        DataError: as `parse_examples` and `read_examples` do, and for more than this page reads (`Limits`).
    """
    choice = choice_for(text, opened, chosen)
    data, pages, rendered = _read(text, opened, tuple(choice.columns.items()) if choice else ())
    read_limits().check_rows(len(data.train) + len(data.held_out))
    read_limits().check_rendered(rendered)
    return Reading(data, pages, choice)


def choice_for(text: str, opened: str | None, chosen: Mapping[str, Any] | None = None) -> ColumnChoice | None:
    """Return how the columns are read where no shape has them; None where they are known, or nothing can be read."""
    records = _unread(text, opened)
    names = columns_in(records)
    if len(names) < 2:
        return None
    if chosen and {chosen["prompt"], chosen["answer"]} - {None} <= set(names):
        return ColumnChoice(tuple(names), chosen["prompt"], chosen["answer"], chosen["how"])
    prompt, answer = guess_columns(records) or (None, None)
    return ColumnChoice(tuple(names), prompt, answer)


def _unread(text: str, opened: str | None) -> Sequence[Mapping[str, Any]]:
    """Return the first rows where all, or nearly all, are refused for their columns."""
    try:
        data, *_ = _read(text, opened, ())
    except UnknownColumns as error:
        return error.records
    except DataError:  # the mask's place says what is wrong
        return ()
    rows = len(data.train) + len(data.held_out) + len(data.problems)
    return data.unread.records if data.unread.count >= MOSTLY * rows else ()


def _read(text: str, opened: str | None, columns: Pairs) -> _Read:
    if opened is None:
        read_limits().check_text(len(text))
        return _text(text, columns, read_limits().rows)
    if is_hub(opened):
        return _hub(opened, columns)
    stat = Path(opened).stat()
    read_limits().check_text(stat.st_size)
    return _file(opened, stat.st_mtime, columns, read_limits().rows)


def _rendered(data: ParsedExamples) -> int:
    """Return how many messages are rendered to mask all conversations, each answer with all before it, twice."""
    talks = ((*example.messages, example.answer) for example in (*data.train, *data.held_out) if example.messages)
    return sum(2 * at + 1 for talk in talks for at, turn in enumerate(talk) if turn and turn.role == ASSISTANT)


@lru_cache(maxsize=8)
def _text(text: str, columns: Pairs, most: int) -> _Read:
    data = parse_examples(text, dict(columns), most)
    return data, paginate(data.train), _rendered(data)


@lru_cache(maxsize=4)
def _file(path: str, changed: float, columns: Pairs, most: int) -> _Read:
    data = read_examples(path, dict(columns), most=most)
    return data, paginate(data.train), _rendered(data)


@lru_cache(maxsize=4)
def _hub(source: str, columns: Pairs) -> _Read:
    data = read_fetched(hub_rows(source), dict(columns))
    return data, paginate(data.train), _rendered(data)


_fetched: OrderedDict[str, FetchedRows] = OrderedDict()  # by the source with its commit, the last used at the end


def fetch_hub(source: str) -> FetchedRows:
    """Read the first rows of a data set on the Hub, and keep them for a while under its commit. On a public page nobody
    reads private ones with its token.

    Raises:
        DataError: as `read_hub` does.
    """
    rows = fetch_rows(source, min(FIRST_ROWS, read_limits().rows), False if is_public() else None)
    _fetched[str(rows.source)] = rows
    while len(_fetched) > HUB_KEPT:
        _fetched.popitem(last=False)
    return rows


def hub_rows(source: str) -> FetchedRows:
    """Return the rows of a data set at a commit, read anew only if they are no longer kept."""
    rows = _fetched.get(source)
    return fetch_hub(source) if rows is None else rows


def text_of_row(text: str, opened: str | None, row: int, line: int | None) -> str:
    """Return what a row of the source says, to look at it: its line or, where it has none, its record as JSON.

    Raises:
        DataError: where the source cannot be read.
    """
    if opened is not None and is_hub(opened):
        return _shown(iter(hub_rows(opened).records), row)
    content = text if opened is None else read_file(Path(opened))
    if isinstance(content, str):
        if line is not None:
            return "".join(islice(content.split("\n"), line - 1, line))[:ROW_SHOWN]
        names = columns_in(_unread(text, opened))
        content = split_records(content, {*COLUMNS, *names}, JSON_COLUMNS)
    return _shown(content, row)


def _shown(records: Iterator[Record], row: int) -> str:
    record = next((record for number, _, record in records if number == row), None)
    return json.dumps(record, ensure_ascii=False, default=str)[:ROW_SHOWN]


def paginate(examples: Sequence[Example]) -> tuple[int, ...]:
    """Return the indices of the pages' first examples."""
    pages, rows, characters = [], PAGE_ROWS, 0
    for index, example in enumerate(examples):
        length = example.characters
        if rows == PAGE_ROWS or characters + length > PAGE_CHARACTERS:
            pages.append(index)
            rows = characters = 0
        rows, characters = rows + 1, characters + length
    return tuple(pages)
