"""List earlier runs, show one of them again, set two side by side, and delete one."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from ...core.errors import DataError, SftdemoError
from ...core.limits import is_public
from ...runs.history import PastRun, differences, find_run, side_by_side
from ...runs.wording import column_name
from ..places import sentence, without_places
from ..results import answers_side_by_side, compare_widget, history, run_title
from ..saved_runs import KEPT_RUNS
from ..state import Desk
from ..toasts import refusal, warn
from ..widgets import widget
from .handlers import PRIVATE, Updates
from .train import RunHandlers


class HistoryPanel:
    """The components of the panel, closed at first. The events of `runs` are `open`, `remove`, `named` (of a run) and
    `contrast` (of two)."""

    def __init__(self):
        with gr.Accordion("Earlier runs", open=False, elem_id="past-door") as self.accordion:
            self.runs = widget("history", history([], [], None, ""))
            self.contrast = compare_widget("contrasted", "")


class HistoryHandlers:
    """Show the saved runs; on a public page only those that this browser started."""

    def __init__(self, desk: Desk, panel: HistoryPanel, running: RunHandlers):
        self.desk, self.panel, self.running = desk, panel, running

    def wire(self) -> None:
        """Connect components and handlers."""
        panel, out = self.panel, self.running.out
        known = [out.run_id, out.own_runs]
        panel.accordion.expand(self.show, known, panel.runs, **PRIVATE)
        out.saved.change(self.show, known, panel.runs, **PRIVATE)  # a run has been saved, or another is shown
        opened = panel.runs.open(self.open, out.own_runs, out.all(), concurrency_limit=16, **PRIVATE)
        opened.then(self.show, known, panel.runs, **PRIVATE)
        gone_on = panel.runs.go_on(self.go_on, out.own_runs, out.all(), concurrency_limit=16, **PRIVATE)
        gone_on.then(self.show, known, panel.runs, **PRIVATE)
        panel.runs.remove(self.remove, known, panel.runs, **PRIVATE)
        panel.runs.named(self.label, known, panel.runs, **PRIVATE)
        panel.runs.contrast(self.contrast, out.own_runs, panel.contrast, **PRIVATE)

    def show(self, run_id: str | None, own_runs: list[str] | None) -> str:
        """Show the saved runs, the latest first."""
        runs, problems = self._runs(own_runs)
        begun, unreadable = self.desk.backend.begun_runs(self._ids(own_runs))
        message = (
            f"The last {KEPT_RUNS} runs are kept on this machine; download what you want to keep."
            if runs or begun
            else "No run has been saved yet."
        )
        return history(runs, [*problems, *unreadable], run_id, message, begun)

    def open(self, own_runs: list[str] | None, event: gr.EventData) -> Iterator[Updates]:
        """Show a run in place of the current one.

        Raises:
            gr.Error: if it is not there any more.
        """
        try:
            run = find_run(self._runs(own_runs)[0], str(event.run))
        except SftdemoError as error:
            raise refusal(sentence(error)) from error
        yield from self.running.open(run.name)

    def go_on(self, own_runs: list[str] | None, event: gr.EventData) -> Iterator[Updates]:
        """Go on with a run that was stopped or killed, and show it.

        Raises:
            gr.Error: if it is not there any more.
        """
        try:
            run_id = self._known(str(event.run), own_runs)
        except SftdemoError as error:
            raise refusal(sentence(error)) from error
        yield from self.running.go_on(run_id)

    def remove(self, run_id: str | None, own_runs: list[str] | None, event: gr.EventData) -> str:
        """Delete a run for good."""
        try:
            self.desk.backend.delete(self._known(str(event.run), own_runs))
        except SftdemoError as error:
            warn(error)
        return self.show(run_id, own_runs)

    def label(self, run_id: str | None, own_runs: list[str] | None, event: gr.EventData) -> str:
        """Give a run a name and a note."""
        try:
            self.desk.backend.label(self._known(str(event.run), own_runs), str(event.name), str(event.note))
        except SftdemoError as error:
            warn(error)
        return self.show(run_id, own_runs)

    def contrast(self, own_runs: list[str] | None, event: gr.EventData) -> str:
        """Show the answers of two runs to the questions that both answered."""
        try:
            runs = self._runs(own_runs)[0]
            first, second = (find_run(runs, name) for name in [*event.runs, "", ""][:2])
            rows = side_by_side(first, second)
        except SftdemoError as error:
            return answers_side_by_side([], [], sentence(error))
        shared = sum(weight is None for _, weight, *_ in rows[0][1]) == 1
        names = [_name(weight, 1 + (run is second), shared) for run, weight, *_ in rows[0][1]]
        drawn = [(prompt, "", [column[2:] for column in columns]) for prompt, columns in rows]
        parted = [
            (name, without_places(ours, ""), without_places(theirs, ""))
            for name, ours, theirs in differences(first, second)
        ]
        message = f"1 is {run_title(first)}; 2 is {run_title(second)}."
        message += " They differ in these settings:" if parted else " Their settings are the same."
        return answers_side_by_side(names, drawn, message, settings=parted)

    def _runs(self, own_runs: list[str] | None) -> tuple[list[PastRun], list[str]]:
        return self.desk.backend.past_runs(self._ids(own_runs))

    def _ids(self, own_runs: list[str] | None) -> list[str] | None:
        return (own_runs or []) if is_public() else None

    def _known(self, run_id: str, own_runs: list[str] | None) -> str:
        """Return the id if its run may be touched from this browser.

        Raises:
            DataError: if it may not.
        """
        if (ids := self._ids(own_runs)) is not None and run_id not in ids:
            raise DataError(f"there is no run {run_id!r} any more.")
        return run_id


def _name(weight: float | None, number: int, shared: bool) -> str:
    """Return the name of a column: "base" if the runs share it, else the number of the run and the model."""
    return "base" if weight is None and shared else f"{number}: {column_name(weight)}"
