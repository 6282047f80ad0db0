"""What the person works on: the text or the opened file, the masks made by hand, and a view of them under settings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import gradio as gr

from ..core.config import RunConfig
from ..data.examples import Example, HandMask, ParsedExamples, parse_examples, read_examples
from ..data.hold_out import hold_out
from ..data.templates import Template, template_of
from ..mask.audit import Audit
from ..mask.labels import Masker
from .backend import Backend
from .controls import Controls

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EDITABLE = 500_000  # bytes of a file that still goes into the text box; the browser sends all of it at each edit
TICK = 0.4  # seconds between two reports while many rows are looked over
PAGE_ROWS, PAGE_CHARACTERS = 50, 40_000  # of a page of rows: about 10,000 tokens

Masks = dict[Example, tuple[HandMask, ...]]


@dataclass(frozen=True)
class View:
    """The examples as one set of settings shows them; their `max_length` is no more than the model has positions.
    `pages` are the indices of the pages' first examples."""

    config: RunConfig
    template: Template
    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]
    data: ParsedExamples
    pages: tuple[int, ...]

    @property
    def masker(self) -> Masker:
        """What masks these examples."""
        config = self.config
        return Masker(self.tokenizer, self.template, config.max_length, self.stop_ids, config.too_long)

    def page(self, number: int) -> tuple[int, Sequence[Example]]:
        """A page's number, brought into range, and its examples."""
        number = min(max(number, 0), max(len(self.pages) - 1, 0))
        begin, end = [*self.pages, 0][number], [*self.pages, None][number + 1] if self.pages else 0
        return number, self.data.train[begin:end]

    def page_of(self, row: int) -> int:
        """The page on which a row stands; the first, if it is on none."""
        index = next((i for i, example in enumerate(self.data.train) if example.row == row), 0)
        return max((number for number, first in enumerate(self.pages) if first <= index), default=0)

    def example(self, row: int) -> Example | None:
        """The row, if there is one of this number."""
        return next((example for example in self.data.train if example.row == row), None)


@dataclass(frozen=True)
class Desk:
    """Where the page's handlers find what the person works on. `values` are the inputs' values, by component."""

    backend: Backend
    controls: Controls
    session: Session

    def data(self, values: dict) -> ParsedExamples:
        """The examples with their masks.

        Raises:
            DataError: where there are none, or they cannot be read.
        """
        return self._data(values)[0]

    def _data(self, values: dict) -> tuple[ParsedExamples, tuple[int, ...]]:
        session = self.session
        return examples_of(values[self.controls.examples] or "", values[session.opened], values[session.masks])

    def view(self, values: dict) -> View | None:
        """The examples under the settings; None while the model is still on its way.

        Raises:
            SftdemoError: for settings or examples that cannot be used.
        """
        config = self.controls.config(values)
        template = template_of(config)
        if self.backend.source(config.model) is None:
            return None
        tokenizer, stop_ids = self.backend.tokenizer(config.model), self.backend.stop_ids(config.model)
        config = replace(config, max_length=self.backend.max_length(config.model, config.max_length))
        everything, pages = self._data(values)
        data = hold_out(everything, config)
        pages = pages if data is everything else _paginate(data.train)
        return View(config, template, tokenizer, stop_ids, data, pages)


def audit_of(view: View) -> Iterator[tuple[Audit, float | None]]:
    """Masks and audits all rows: the audit so far with the fraction that is done, at the end with None."""
    audit, train = Audit(view.config.batch_size, view.config.max_length, view.data.held_out), view.data.train
    last = time.monotonic()
    for count, _ in enumerate(audit.review(train, view.masker)):
        if time.monotonic() - last > TICK:
            last = time.monotonic()
            yield audit, count / len(train)
    yield audit, None


def examples_of(text: str, opened: str | None, masks: Masks) -> tuple[ParsedExamples, tuple[int, ...]]:
    """The examples of the opened file, or else of the text, with the masks made by hand; and their pages.

    Raises:
        DataError: as `parse_examples` and `read_examples` do.
    """
    data, pages = _parsed(text) if opened is None else _opened(opened, Path(opened).stat().st_mtime)
    if masks:
        train = tuple(replace(each, masks=masks.get(content_of(each), each.masks)) for each in data.train)
        data = replace(data, train=train)
    return data, pages


def content_of(example: Example) -> Example:
    """What an example is apart from its place and its mask: a mask made by hand stays with it when rows move."""
    return replace(example, row=0, line=None, masks=())


@lru_cache(maxsize=8)
def _parsed(text: str) -> tuple[ParsedExamples, tuple[int, ...]]:
    data = parse_examples(text)
    return data, _paginate(data.train)


@lru_cache(maxsize=2)
def _opened(path: str, changed: float) -> tuple[ParsedExamples, tuple[int, ...]]:
    data = read_examples(path)
    return data, _paginate(data.train)


def _paginate(examples: Sequence[Example]) -> tuple[int, ...]:
    pages, rows, characters = [], PAGE_ROWS, 0
    for index, example in enumerate(examples):
        length = example.characters
        if rows == PAGE_ROWS or characters + length > PAGE_CHARACTERS:
            pages.append(index)
            rows = characters = 0
        rows, characters = rows + 1, characters + length
    return tuple(pages)


@dataclass(frozen=True)
class Session:
    """What a visit keeps beside the inputs: the long file that was opened, the masks made by hand, the page of rows
    that is shown, the row whose token was chosen last, and the last audit of all rows."""

    opened: gr.State
    masks: gr.State
    page: gr.State
    picked: gr.State
    audit: gr.State

    def all(self) -> list:
        return list(vars(self).values())


def session() -> Session:
    """An empty one."""
    return Session(gr.State(None), gr.State({}), gr.State(0), gr.State(0), gr.State(None))
