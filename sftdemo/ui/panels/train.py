"""Train one way or both ways, stop a run, and show it again after a reload."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import gradio as gr
import pandas as pd
from gradio.events import Dependency

from ...core.errors import SftdemoError
from ...core.events import Event
from ...core.palette import ARMS
from ...runs.folder import RECORD
from ...runs.jobs import BusyError
from ...runs.queue import Turn
from ...runs.wording import column_name
from ..downloads import size_of_zip
from ..places import sentence
from ..results import comparison, figures_table
from ..run_state import RunState, summarize
from ..state import Desk
from ..toasts import warn
from ..widgets import progress
from ..words import say, say_all
from .handlers import PRIVATE, Updates
from .order import VISITS
from .scanned import planned

TO_COME = "The answers before the training; those after it are to come."
# The choices of the last run stay: the browser may still send one, which Gradio looks for among them.
_NO_ARM = gr.update(value=None, visible=False)
# Out of sight, and still in the page: Gradio's plot draws itself once more when its element goes, and fails.
HIDDEN = "hidden"
OWN_RUNS = 50  # the number of runs whose ids a browser keeps


@dataclass(frozen=True)
class RunOutputs:
    """The components that these handlers write to. `own_runs` are the ids of the runs that this browser started.
    `saved` is the archive that `download` offers: a state, whose `change` may have several handlers."""

    train: gr.Button
    both: gr.Button
    stop: gr.Button
    go_on: gr.Button
    train_on: gr.Button
    run_status: gr.HTML
    strip: gr.HTML
    curve: gr.LinePlot
    arm_curves: gr.Row
    answers_curve: gr.LinePlot
    prompts_curve: gr.LinePlot
    compare: gr.HTML
    figures: gr.HTML
    arm: gr.Radio
    download: gr.DownloadButton
    saved: gr.State
    command: gr.Code
    run_id: gr.BrowserState
    own_runs: gr.BrowserState

    def all(self) -> list:
        return list(vars(self).values())


class RunHandlers:
    """Start runs and show them."""

    def __init__(self, desk: Desk, out: RunOutputs):
        self.desk, self.out = desk, out
        self._begun = lru_cache(VISITS)(lambda visit: [])  # the ids of a visit's runs: a second click may not know them
        self._lock = threading.Lock()

    def wire(self, page: gr.Blocks) -> tuple[Dependency, Dependency]:
        """Connect components and handlers, and return the training one way and both ways."""
        out = self.out
        everything = {*self.desk.controls.all(), *self.desk.session.all(), out.run_id, out.own_runs}
        train = out.train.click(self.train, everything, out.all(), concurrency_limit=None, **PRIVATE)
        both = out.both.click(self.train_both, everything, out.all(), concurrency_limit=None, **PRIVATE)
        out.stop.click(self.stop, out.run_id, out.stop, **PRIVATE)
        out.strip.halt(self.stop, out.run_id, out.stop, **PRIVATE)
        out.go_on.click(self.go_on, [out.run_id, out.own_runs], out.all(), concurrency_limit=None, **PRIVATE)
        page.load(self.resume, out.run_id, out.all(), concurrency_limit=16, **PRIVATE)
        return train, both

    def train(self, values: dict, request: gr.Request | None = None) -> Iterator[Updates]:
        """Start a run in a process of its own and show it until its end."""
        yield from self._run(values, request, both_ways=False)

    def train_both(self, values: dict, request: gr.Request | None = None) -> Iterator[Updates]:
        """Start an ablation with the two prompt-loss weights and show it until its end."""
        yield from self._run(values, request, both_ways=True)

    def _run(self, values: dict, request: gr.Request | None, both_ways: bool) -> Iterator[Updates]:
        controls, out, audit = self.desk.controls, self.out, values[self.desk.session.audit]
        waited = False
        try:
            config = self.desk.config(values)
            chosen = config.prompt_loss_weight
            weights = (chosen, controls.other_weight(values, chosen)) if both_ways else ()
            data = self.desk.data(values)
            for phase in self.desk.backend.fetch_weights(config.model):
                waited = True
                yield {out.run_status: progress("working", phase.message, "", phase.fraction)} | self._idle(False)
            filmed = replace(config, film=not config.full)  # to be played when it is done
            plan = audit and planned(self.desk, values, audit)
            seconds = plan and plan.seconds(both_ways)
            before = self.desk.backend.answered(config, data)
            begun = self._begun(request.session_hash) if request else []
            with self._lock:
                turn = Turn(seconds, (*(values[out.own_runs] or ()), *begun))
                run_id = self.desk.backend.start(filmed, data, weights, audit and str(audit.mask_hash), turn)
                begun.append(run_id)
        except BusyError as error:
            warn(error)
            yield self._idle(True) if waited else self.unchanged()
            return
        except SftdemoError as error:
            yield {out.run_status: progress("failed", sentence(error))} | (self._idle(True) if waited else {})
            return
        yield self._starting(run_id) | {
            out.compare: comparison(before, TO_COME if before else ""),
            out.command: self.desk.command(values, config, weights)[0],
            out.own_runs: [run_id, *(values[out.own_runs] or [])][:OWN_RUNS],
        }
        events = yield from self._follow(run_id)
        if plan:
            plan.learn(events, both_ways)

    def _follow(self, run_id: str | None) -> Generator[Updates, None, Sequence[Event]]:
        """Show a run until its end, and return its events."""
        events: Sequence[Event] = ()
        waited = False
        for events in self.desk.backend.watch(run_id):
            state = summarize(events)
            shown = self._show(state, run_id)
            if state.waits:
                shown[self.out.stop] = gr.update(visible=True, interactive=True, value="Leave the queue")
            elif waited and not state.done:
                shown[self.out.stop] = _stop_button()
            waited = state.waits
            yield shown
        return events

    def unchanged(self) -> Updates:
        """Return an update of nothing: Gradio empties all outputs of a generator that yields none."""
        return {self.out.run_status: gr.skip()}

    def _idle(self, idle: bool) -> Updates:
        """The two buttons, which wait while weights are fetched."""
        return {button: gr.update(interactive=idle) for button in (self.out.train, self.out.both)}

    def resume(self, run_id: str | None) -> Iterator[Updates]:
        """Show a run that is under way or finished, until its end."""
        yield self.unchanged()
        try:
            yield from self._follow(run_id)
        except SftdemoError as error:
            ended: Updates = {self.out.run_status: progress("failed", sentence(error))}
            yield ended | {self.out.stop: gr.update(visible=False)} | self._idle(True)

    def open(self, run_id: str) -> Iterator[Updates]:
        """Show an earlier run in place of the current one; the strip is for one that is under way."""
        starting = self._starting(run_id)
        del starting[self.out.strip]
        yield starting
        yield from self.resume(run_id)

    def go_on(self, run_id: str | None, own_runs: list[str] | None = None) -> Iterator[Updates]:
        """Go on with the run that is shown, which was stopped or killed, and show it until its end."""
        try:
            self.desk.backend.go_on(run_id, own_runs or ())
        except SftdemoError as error:
            warn(error)
            yield self.unchanged()
            return
        yield self._starting(run_id or "")
        yield from self.resume(run_id)

    def stop(self, run_id: str | None) -> dict:
        """Ask the run to end after the current step, or take it out of the queue."""
        self.desk.backend.stop(run_id)
        return gr.update(value="Stopping after this step…", interactive=False)

    def _starting(self, run_id: str) -> Updates:
        """Show a run without any event yet."""
        out = self.out
        return {
            out.run_id: run_id,
            out.train: gr.update(interactive=False),
            out.both: gr.update(interactive=False),
            out.stop: _stop_button(),
            out.go_on: gr.update(visible=False),
            out.train_on: gr.update(visible=False),
            out.run_status: progress("working", "Starting"),
            out.strip: RunState.beginning().strip,
            **{curve: gr.update(visible=HIDDEN) for curve in (out.curve, out.answers_curve, out.prompts_curve)},
            out.compare: comparison([], ""),
            out.figures: figures_table([]),
            out.arm: _NO_ARM,
            out.download: gr.update(value=None, label="Nothing trained yet", interactive=False),
            out.saved: None,
        }

    def _show(self, state: RunState, run_id: str | None) -> Updates:
        out = self.out
        shown: Updates = {
            out.run_status: state.status,
            out.strip: state.strip,
            out.stop: gr.update(visible=not state.done),
        }
        shown |= {button: gr.update(interactive=state.done) for button in (out.train, out.both)}
        shown[out.go_on] = self._left(state, run_id)
        if state.held_out:
            shown |= self._show_arm_curves(state)
        elif len(state.losses) > 1:  # a series of one point is invisible
            frame = pd.DataFrame(state.losses, columns=["step", "loss"])
            shown[out.curve] = gr.update(value=frame, visible=True, x_lim=[1, state.total])
            shown |= {curve: gr.update(visible=HIDDEN) for curve in (out.answers_curve, out.prompts_curve)}
        if state.comparisons:
            message = (
                "Answered greedily: each token is the likeliest one there, so a model answers the same every time."
            )
            shown[out.compare] = comparison(state.comparisons, message, state.arms, conclusion=state.conclusion)
        elif state.before:
            shown[out.compare] = comparison(state.before, TO_COME)
        if state.figures:
            shown[out.figures] = figures_table(state.figures)
        if state.done and state.saved and (Path(state.saved) / RECORD).is_file():
            shown |= self._saved(state, Path(state.saved))
        return shown

    def _left(self, state: RunState, run_id: str | None) -> dict:
        """Return the button to go on with, if the run has ended before its last step and left a checkpoint."""
        step = self.desk.backend.checkpoint(run_id) if state.done else None
        if step is None:
            return gr.update(visible=False)
        left = max(state.total - step, 0)
        return gr.update(visible=True, value=f"Go on: {left:,} of {state.total:,} steps left")

    def _saved(self, state: RunState, folder: Path) -> Updates:
        """Offer the download of a saved run, and the choice among its models."""
        archive = self.desk.backend.archive(folder)
        label = f"Download the {'models' if state.arms else 'model'} (about {size_of_zip(folder) / 1e6:.0f} MB)"
        arm = _NO_ARM
        if state.arms:
            choices = [(column_name(weight), weight) for weight in state.arms]
            arm = gr.update(choices=choices, value=state.arms[0], visible=len(choices) > 1)
        return {
            self.out.download: gr.update(value=str(archive), label=label, interactive=True),
            self.out.saved: str(archive),
            self.out.train_on: gr.update(visible=True),
            self.out.arm: arm,
        }

    def _show_arm_curves(self, state: RunState) -> Updates:
        """Draw the losses of all arms on the same held-out rows, those of the answers and those of the prompts."""
        points = [(say(name), event.step, event.completion_loss, event.prompt_loss) for name, event in state.held_out]
        started = {name for name, _ in state.held_out}
        # An arm that has not started gets the base's point, or the browser might leave its line out later.
        points += [(say(name), *points[0][1:]) for name in state.arm_names if name not in started]
        frame = pd.DataFrame(points, columns=["arm", "step", "answers", "prompts"])
        colors = dict(zip(say_all(state.arm_names), ARMS, strict=False))
        picture = {"color_map": colors, "x_lim": [0, state.total], "visible": True}
        return {
            self.out.arm_curves: gr.update(visible=True),
            self.out.answers_curve: gr.update(value=frame[["arm", "step", "answers"]], **picture),
            self.out.prompts_curve: gr.update(value=frame[["arm", "step", "prompts"]], **picture),
        }


def _stop_button() -> dict:
    return gr.update(visible=True, interactive=True, value="Stop, keep what it has")
