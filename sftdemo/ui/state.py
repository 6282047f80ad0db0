"""What the person works on: the text or the opened file, the masks made by hand, and a view of them under settings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr

from ..core.config import RunConfig
from ..core.errors import ConfigError, SftdemoError
from ..core.limits import is_public
from ..data.examples import Example, HandMask, ParsedExamples, Problem
from ..data.hold_out import hold_out
from ..data.templates import Template, template_of
from ..mask.audit import Audit
from ..mask.labels import Masker
from .backend import Backend
from .controls import PAGE_SETTINGS, Controls, decides_mask
from .reading import ColumnChoice, Reading, choice_for, paginate, read
from .start import Start

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

EDITABLE = 500_000  # bytes of a file that still goes into the text box; the browser sends all of it at each edit
TICK = 0.4  # seconds between two reports while many rows are looked over
ANY = "any"  # in place of a check: rows with any finding

Masks = dict[Example, tuple[HandMask, ...]]


@dataclass(frozen=True)
class View:
    """The examples as one set of settings shows them; their `max_length` is no more than the model has positions.
    `shown` are those to train on or, where only rows with a finding are wanted, these; `pages` are the indices of the
    pages' first ones. `choice` says how columns that are not known are read."""

    config: RunConfig
    template: Template
    tokenizer: PreTrainedTokenizerBase
    stop_ids: frozenset[int]
    data: ParsedExamples
    shown: Sequence[Example]
    pages: tuple[int, ...]
    choice: ColumnChoice | None = None

    @property
    def masker(self) -> Masker:
        """What masks these examples."""
        config = self.config
        return Masker(self.tokenizer, self.template, config.max_length, self.stop_ids, config.too_long)

    def page(self, number: int) -> tuple[int, Sequence[Example]]:
        """A page's number, brought into range, and its examples."""
        number = min(max(number, 0), max(len(self.pages) - 1, 0))
        begin, end = [*self.pages, 0][number], [*self.pages, None][number + 1] if self.pages else 0
        return number, self.shown[begin:end]

    def page_of(self, row: int) -> int:
        """The page on which a row stands; the first, if it is on none."""
        index = next((i for i, example in enumerate(self.shown) if example.row == row), 0)
        return max((number for number, first in enumerate(self.pages) if first <= index), default=0)

    def example(self, row: int) -> Example | None:
        """The row, if there is one of this number."""
        return next((example for example in self.data.train if example.row == row), None)


@dataclass(frozen=True)
class Desk:
    """Where the page's handlers find what the person works on. `values` are the inputs' values, by component, and
    `run_id` is that of the run that is shown."""

    backend: Backend
    controls: Controls
    session: Session
    run_id: gr.BrowserState

    def is_untouched(self, values: dict) -> bool:
        """Whether the examples and the settings are still those that the page opens with."""
        session = self.session
        states = [session.opened, session.columns, session.start, session.masks, session.page, session.only]
        return all(values[each] == each.value for each in (*self.controls.all(), *states))

    def config(self, values: dict) -> RunConfig:
        """The settings, whose model is the run's that is to be trained on, if there is one.

        Raises:
            ConfigError: for settings that cannot be used.
        """
        config, start = self.controls.config(values), self.start(values)
        return config if start is None else start.put_into(config)

    def checked(self, values: dict) -> tuple[RunConfig, dict[str, SftdemoError]]:
        """The settings with the default in place of each that cannot be used, and what is wrong with those."""
        (config, wrong), start = self.controls.checked(values), self.start(values)
        if start is None:
            return config, wrong
        try:
            return start.put_into(config), wrong
        except ConfigError as error:
            return start.put_into(replace(config, full=False)), {"full": error} | wrong

    def start(self, values: dict) -> Start | None:
        """The run that is to be trained on."""
        return values[self.session.start]

    def timed(self, values: dict, config: RunConfig) -> RunConfig:
        """The settings under which it is kept how long a run takes: one that trains on takes as long as its first."""
        start = self.start(values)
        return config if start is None else replace(config, model=start.base)

    def model(self, values: dict, name: str) -> str:
        """What the model that is trained is called, and which copy of it is used."""
        start = self.start(values)
        return self.backend.describe(name) if start is None else f"Starts from {start.words}"

    def data(self, values: dict) -> ParsedExamples:
        """The examples with their masks.

        Raises:
            DataError: where there are none, or they cannot be read.
        """
        return self._read(values).data

    def _read(self, values: dict) -> Reading:
        return with_masks(read(*self._source(values)), values[self.session.masks])

    def _source(self, values: dict) -> tuple[str, str | None, Mapping[str, Any] | None]:
        return values[self.controls.examples] or "", values[self.session.opened], values[self.session.columns]

    def choice(self, values: dict) -> ColumnChoice | None:
        """How the columns are read where no shape has them; None where they are known."""
        return choice_for(*self._source(values))

    def command(self, values: dict, config: RunConfig, weights: Sequence[float] | None = None) -> tuple[str, str]:
        """The command that repeats a run, and what its file of examples is.

        Args:
            weights (`Sequence[float]`, *optional*):
                The prompt-loss weights that the run compares, none for a training one way. By default those of the run
                that is shown.

        Raises:
            DataError: as `data` does.
        """
        reading, opened, start = self._read(values), values[self.session.opened], self.start(values)
        weights = self._weights(values, config) if weights is None else weights
        if start is not None and is_public():  # where the run lies there is of no use elsewhere
            config = replace(config, model=start.download)
        data, columns = reading.data, reading.choice and reading.choice.columns
        by_hand = any(example.masks for example in data.train)
        if data.origin and not by_hand:
            command = config.command_line(data.origin.source, weights, data.origin.limit, data.origin.columns)
            return command, "the rows come from the Hub"
        if not columns or by_hand:
            return config.command_line("examples.jsonl", weights), "the download holds examples.jsonl"
        name = Path(opened).name if opened else _file_name(values[self.controls.examples])
        where = f"{name} is the file that is open" if opened else f"{name} is the text, saved"
        return config.command_line(name, weights, columns=columns), where

    def _weights(self, values: dict, config: RunConfig) -> Sequence[float]:
        """The weights that the run that is shown compares, if it is an ablation under these very settings."""
        shown = self.backend.saved_run(values[self.run_id])
        if shown is None or len(shown.arms) < 2:
            return []
        is_same = all(getattr(shown.config, name) == getattr(config, name) for name in PAGE_SETTINGS)
        return [weight for weight, _ in shown.arms] if is_same else []

    def view(self, values: dict) -> View | None:
        """The examples under the settings; None while the model is still on its way.

        Raises:
            SftdemoError: for settings or examples that cannot be used.
        """
        config, wrong = self.checked(values)
        for name, error in wrong.items():
            if decides_mask([name]):
                raise error
        template = template_of(config)
        if self.backend.source(config.model) is None:
            return None
        tokenizer, stop_ids = self.backend.tokenizer(config.model), self.backend.stop_ids(config.model)
        config = replace(config, max_length=self.backend.max_length(config.model, config.max_length))
        reading = self._read(values)
        data = hold_out(reading.data, config)
        pages = reading.pages if data is reading.data else paginate(data.train)
        audit, only = values[self.session.audit], values[self.session.only]
        if not only or audit is None:
            return View(config, template, tokenizer, stop_ids, data, data.train, pages, reading.choice)
        wanted = audit.flagged(check_of(only))
        shown = tuple(example for example in data.train if example.row in wanted)
        return View(config, template, tokenizer, stop_ids, data, shown, paginate(shown), reading.choice)


def _file_name(text: str) -> str:
    """A name for a file of the text."""
    return {"[": "data.json", "{": "data.jsonl"}.get(text.strip()[:1], "data.csv")


def check_of(only: str) -> str | None:
    """The check whose rows are shown; None for those of any."""
    return None if only == ANY else only


def audit_of(view: View, refused: list[Problem]) -> Iterator[tuple[Audit, float | None]]:
    """Masks and audits all rows: the audit so far with the fraction that is done, at the end with None. `refused` takes
    the rows that cannot be rendered, or are too long."""
    audit, train = Audit(view.config.batch_size, view.config.max_length, view.data.held_out), view.data.train
    last = time.monotonic()
    for count, (_, masked) in enumerate(audit.review(train, view.masker)):
        if isinstance(masked, Problem):
            refused.append(masked)
        if time.monotonic() - last > TICK:
            last = time.monotonic()
            yield audit, count / len(train)
    yield audit, None


def with_masks(reading: Reading, masks: Masks) -> Reading:
    """The same with the masks made by hand."""
    if not masks:
        return reading
    data = reading.data
    train = tuple(replace(each, masks=masks.get(content_of(each), each.masks)) for each in data.train)
    return replace(reading, data=replace(data, train=train))


def with_own_masks(example: Example, masks: tuple[HandMask, ...]) -> Example:
    """The example with these masks made by hand."""
    return replace(example, masks=masks)


def content_of(example: Example) -> Example:
    """What an example is apart from its place and its mask: a mask made by hand stays with it when rows move."""
    return replace(example, row=0, line=None, masks=())


@dataclass(frozen=True)
class Session:
    """What a visit keeps beside the inputs: the long file or the data set on the Hub that is open, how its columns are
    read, the run to start from, the masks made by hand, what they were before each edit, the page of rows that is
    shown, whether only rows with a finding are (a check, or `ANY`), the row whose token was chosen last, and the last
    audit of all rows."""

    opened: gr.State
    columns: gr.State
    start: gr.State
    masks: gr.State
    edits: gr.State
    page: gr.State
    only: gr.State
    picked: gr.State
    audit: gr.State

    def all(self) -> list:
        return list(vars(self).values())


def session() -> Session:
    """An empty one."""
    return Session(
        opened=gr.State(None),
        columns=gr.State(None),
        start=gr.State(None),
        masks=gr.State({}),
        edits=gr.State([]),
        page=gr.State(0),
        only=gr.State(""),
        picked=gr.State(0),
        audit=gr.State(None),
    )
