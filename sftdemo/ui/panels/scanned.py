"""Say what a look over all rows has come to: what the buttons would do, which rows can be shown, what was refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import gradio as gr

from ...core.config import RunConfig
from ...core.errors import SftdemoError
from ...core.text import duration, plural
from ...data.problems import Problem, save_problems
from ...mask.audit import Audit
from ...mask.checks import Finding, errors
from ...runs.estimate import estimate_seconds, planned_epochs, planned_steps, rate_for
from ...runs.wording import column_name
from ..controls import title_of
from ..downloads import Downloads
from ..state import ANY

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


def buttons(config: RunConfig, audit: Audit, findings: list[Finding], device: str, against: float) -> tuple:
    """What the two buttons say: that to train, and that to train both ways."""
    if not audit.rows:
        return gr.update(value="Nothing to train yet", interactive=False), OFF
    found = errors(findings)
    if found and not config.anyway:
        words = f"Mend {len(found)} {plural(len(found), 'error')} that the audit found"
        return gr.update(value=words, interactive=False), OFF
    steps = planned_steps(config, *_size(config, audit))
    seconds = seconds_of(config, audit, device)
    name = column_name(config.prompt_loss_weight)
    where = {"cpu": "this CPU", "cuda": "this GPU", "mps": "this GPU"}[device]
    twice = f" · about {duration(2 * seconds)}" if seconds else ""
    both = f"Train both ways: {name} against {column_name(against)}{twice}"
    how = f", {name}" if config.prompt_loss_weight else ""
    train = f"Train {steps} {plural(steps, 'step')}{how}"
    if seconds:
        train += f" · about {duration(seconds)} on {where}"
    return gr.update(value=train, interactive=True), gr.update(value=both, interactive=True)


def lengths(config: RunConfig, audit: Audit) -> tuple[dict, dict]:
    """What the fields of steps and of epochs say while they are empty: what the other one comes to."""
    size = _size(config, audit)
    steps, epochs = (planned_steps(config, *size), planned_epochs(config, *size)) if audit.rows else ("", "")
    return gr.update(placeholder=str(steps)), gr.update(placeholder=f"{epochs:.3g}" if audit.rows else "")


def seconds_of(config: RunConfig, audit: Audit | None, device: str) -> float | None:
    """Return how long a training one way takes, as far as that can be told."""
    rate = rate_for(config, device)
    if audit is None or rate is None:
        return None
    return estimate_seconds(config, *_size(config, audit), rate)


def _size(config: RunConfig, audit: Audit) -> tuple[int, int]:
    """Return the number of examples, and that of their tokens."""
    return len(audit.rows), sum(min(length, config.max_length) for length in audit.lengths)
