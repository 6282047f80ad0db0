"""Earlier runs: what they were, any one shown again, any two side by side, and deleted."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from ...core.errors import SftdemoError, sentence
from ...runs.history import PastRun, find_run, side_by_side
from ...runs.wording import column_name
from ..backend import KEPT_RUNS
from ..controls import is_public
from ..results import answers_side_by_side, compare_widget, history, history_widget, run_title
from ..state import Desk
from .mask import PRIVATE, Updates
from .train import RunHandlers


@dataclass(frozen=True)
class Past:
    """The panel's components."""

    door: gr.Accordion
    runs: gr.HTML
    contrast: gr.HTML


def past() -> Past:
    """Lays the panel out, closed."""
    with gr.Accordion("Earlier runs", open=False, elem_id="past-door") as door:
        runs = history_widget()
        contrast = compare_widget("contrasted", "")
    return Past(door, runs, contrast)


class PastHandlers:
    """Shows what lies in the folder of runs; on a public page only what this browser started."""

    def __init__(self, desk: Desk, panel: Past, running: RunHandlers):
        self.desk, self.panel, self.running = desk, panel, running

    def wire(self) -> None:
        """Connects components and handlers."""
        panel, out = self.panel, self.running.out
        known = [out.run_id, out.own_runs]
        panel.door.expand(self.show, known, panel.runs, **PRIVATE)
        out.download.change(self.show, known, panel.runs, **PRIVATE)  # a run has been saved, or another is shown
        opened = panel.runs.open(self.open, out.own_runs, out.all(), concurrency_limit=16, **PRIVATE)
        opened.then(self.show, known, panel.runs, **PRIVATE)
        panel.runs.remove(self.remove, known, panel.runs, **PRIVATE)
        panel.runs.contrast(self.contrast, out.own_runs, panel.contrast, **PRIVATE)

    def show(self, run_id: str | None, own_runs: list[str] | None) -> str:
        """The runs that are there, the latest first."""
        runs, problems = self._runs(own_runs)
        message = (
            f"The last {KEPT_RUNS} runs are kept on this machine; download what you want to keep."
            if runs
            else "No run has been saved yet."
        )
        return history(runs, problems, run_id, message)

    def open(self, own_runs: list[str] | None, event: gr.EventData) -> Iterator[Updates]:
        """Shows a run above, in place of the one that is shown."""
        try:
            run = find_run(self._runs(own_runs)[0], str(event.run))
        except SftdemoError as error:
            raise gr.Error(sentence(error)) from error
        yield from self.running.open(run.name)

    def remove(self, run_id: str | None, own_runs: list[str] | None, event: gr.EventData) -> str:
        """Deletes a run for good."""
        try:
            self.desk.backend.delete(find_run(self._runs(own_runs)[0], str(event.run)).name)
        except SftdemoError as error:
            gr.Warning(sentence(error))
        return self.show(run_id, own_runs)

    def contrast(self, own_runs: list[str] | None, event: gr.EventData) -> str:
        """The answers of two runs to the questions that both were asked."""
        try:
            runs = self._runs(own_runs)[0]
            first, second = (find_run(runs, str(name)) for name in list(event.runs)[:2])
            rows = side_by_side(first, second)
        except SftdemoError as error:
            return answers_side_by_side([], [], sentence(error))
        shared = sum(weight is None for _, weight, *_ in rows[0][1]) == 1
        names = [_name(weight, 1 + (run is second), shared) for run, weight, *_ in rows[0][1]]
        drawn = [(prompt, "", [column[2:] for column in columns]) for prompt, columns in rows]
        message = f"1 is {run_title(first)}; 2 is {run_title(second)}."
        return answers_side_by_side(names, drawn, message)

    def _runs(self, own_runs: list[str] | None) -> tuple[list[PastRun], list[str]]:
        return self.desk.backend.past_runs((own_runs or []) if is_public() else None)


def _name(weight: float | None, number: int, shared: bool) -> str:
    """A column's: of which run it is, unless it is the base that both have in common."""
    return "base" if weight is None and shared else f"{number}: {column_name(weight)}"
