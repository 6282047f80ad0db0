"""Say what a look over all rows has come to: what the buttons would do, which rows can be shown, what was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import gradio as gr

from ...core.config import RunConfig
from ...core.errors import SftdemoError
from ...core.events import Event
from ...core.text import duration, plural
from ...data.examples import ParsedExamples
from ...data.problems import Problem, save_problems
from ...mask.audit import Audit
from ...mask.checks import Finding, errors
from ...model.devices import choose_device
from ...runs.estimate import NEW, Ready, estimate_seconds, learn_ahead, learn_pace, pace_for
from ...runs.queue import Queued
from ...runs.wording import column_name
from ...runs.work import Work, planned_epochs, planned_steps, tokens_of, work_of
from ..controls import title_of
from ..downloads import Downloads
from ..state import ANY, Desk

ALL_ROWS = ("all rows", "")
OFF = gr.update(interactive=False)


def filters(audit: Audit, findings: list[Finding]) -> list[tuple[str, str]]:
    """Which rows can be shown, as (words, value): all, those with a finding, those of each finding that has rows."""
    each = [(f"only: {found.what} ({found.count:,})", found.check) for found in findings if found.count]
    some = [(f"only rows with a finding ({len(audit.flagged()):,})", ANY)] if each else []
    return [ALL_ROWS, *some, *each]


def refusals(problems: Sequence[Problem], downloads: Downloads) -> dict:
    """The button that saves what was refused and left out."""
    if not problems:
        return gr.update(visible=False)
    path = downloads.offer_own("refusals", "refusals.jsonl", lambda path: save_problems(path, problems))
    label = f"Save the {len(problems):,} {plural(len(problems), 'refusal')}"
    return gr.update(visible=True, value=str(path), label=label)


def mend(wrong: Mapping[str, SftdemoError]) -> dict:
    """The button to train with, while settings are wrong."""
    return gr.update(value=f"Mend: {', '.join(map(title_of, wrong))}", interactive=False)


@dataclass(frozen=True)
class Planned:
    """A training that the buttons offer: the settings that it is timed under, the rows, the audit of all of them, the
    device, and what is done of it already. `against` is the other prompt-loss weight of a training both ways."""

    config: RunConfig
    data: ParsedExamples
    audit: Audit
    device: str
    against: float
    ready: Ready = NEW

    def seconds(self, both_ways: bool = False) -> float | None:
        """Return how long it takes from the click on, as far as that can be told."""
        pace = pace_for(self.config, self.device)
        return pace and estimate_seconds(self.config, self._work(both_ways), pace, self.ready)

    def learn(self, events: Sequence[Event], both_ways: bool = False) -> None:
        """Keep how long it took, for later estimates. What was ready for a run that waited for others is not known."""
        if not any(isinstance(event, Queued) for event in events):
            learn_pace(self.config, self.device, self._work(both_ways), self.ready, events)

    def learn_ahead(self, events: Sequence[Event]) -> None:
        """Keep how long what was done ahead took, for the estimate of a first run."""
        learn_ahead(self.config, self.device, self._work(), events)

    def _work(self, both_ways: bool = False) -> Work:
        weights = (self.config.prompt_loss_weight, self.against) if both_ways else ()
        return work_of(self.config, self.audit, self.data, weights)


def planned(desk: Desk, values: dict, audit: Audit) -> Planned:
    """Return the training that the buttons offer.

    Raises:
        DataError: where there are no rows, or they cannot be read.
        ModelError: if there is no such device here.
    """
    config, data = desk.checked(values)[0], desk.data(values)
    return Planned(
        config=replace(desk.timed(values, config), max_length=audit.max_length),
        data=data,
        audit=audit,
        device=choose_device(config.device).type,
        against=desk.controls.other_weight(values, config.prompt_loss_weight),
        ready=desk.backend.readiness(config, data),
    )


def buttons(planned: Planned, findings: list[Finding]) -> tuple:
    """What the two buttons say: that to train, and that to train both ways."""
    config, audit = planned.config, planned.audit
    if not audit.rows:
        return gr.update(value="Nothing to train yet", interactive=False), OFF
    found = errors(findings)
    if found and not config.anyway:
        words = f"Mend {len(found)} {plural(len(found), 'error')} that the audit found"
        return gr.update(value=words, interactive=False), OFF
    steps = planned_steps(config, *_size(audit))
    seconds, twice = planned.seconds(), planned.seconds(both_ways=True)
    name = column_name(config.prompt_loss_weight)
    where = {"cpu": "this CPU", "cuda": "this GPU", "mps": "this GPU"}[planned.device]
    both = f"Train both ways: {name} against {column_name(planned.against)}"
    both += f" · about {duration(twice)}" if twice else ""
    how = f", {name}" if config.prompt_loss_weight else ""
    train = f"Train {steps} {plural(steps, 'step')}{how}"
    if seconds:
        train += f" · about {duration(seconds)} on {where}"
    return gr.update(value=train, interactive=True), gr.update(value=both, interactive=True)


def lengths(config: RunConfig, audit: Audit) -> tuple[dict, dict]:
    """What the fields of steps and of epochs say while they are empty: what the other one comes to."""
    size = _size(audit)
    steps, epochs = (planned_steps(config, *size), planned_epochs(config, *size)) if audit.rows else ("", "")
    return gr.update(placeholder=str(steps)), gr.update(placeholder=f"{epochs:.3g}" if audit.rows else "")


def _size(audit: Audit) -> tuple[int, int]:
    """Return the number of examples, and that of their tokens."""
    return len(audit.rows), tokens_of(audit)
