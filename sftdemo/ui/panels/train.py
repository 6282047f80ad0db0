"""The run's part of the page: training one way or both ways, stopping, coming back to a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gradio as gr
import pandas as pd

from ...core.errors import SftdemoError, sentence
from ...model.devices import choose_device
from ...runs.estimate import learn
from ...runs.folder import RECORD
from ...runs.jobs import BusyError
from ...runs.wording import column_name
from ..results import comparison, figures_table
from ..run_state import Story, tell
from ..state import Desk
from ..widgets import progress
from .mask import PRIVATE, Updates

OWN_RUNS = 50  # whose ids a browser keeps
ARM_COLORS = ("#d98200", "#3a8fd0", "#009e73", "#cc79a7")  # told apart by the colour-blind, on light and dark ground


@dataclass(frozen=True)
class RunOutputs:
    """The components that these handlers write to. `own_runs` are the ids of the runs that this browser started."""

    train: gr.Button
    both: gr.Button
    stop: gr.Button
    run_status: gr.HTML
    curve: gr.LinePlot
    contest: gr.Row
    answers_curve: gr.LinePlot
    prompts_curve: gr.LinePlot
    compare: gr.HTML
    figures: gr.HTML
    arm: gr.Radio
    download: gr.DownloadButton
    command: gr.Code
    run_id: gr.BrowserState
    own_runs: gr.BrowserState

    def all(self) -> list:
        return list(vars(self).values())


class RunHandlers:
    """Starts runs and shows them."""

    def __init__(self, desk: Desk, out: RunOutputs):
        self.desk, self.out = desk, out

    def wire(self, page: gr.Blocks) -> None:
        """Connects components and handlers."""
        out = self.out
        everything = {*self.desk.controls.all(), *self.desk.session.all(), out.own_runs}
        out.train.click(self.train, everything, out.all(), concurrency_limit=None, **PRIVATE)
        out.both.click(self.train_both, everything, out.all(), concurrency_limit=None, **PRIVATE)
        out.stop.click(self.stop, out.run_id, out.stop, **PRIVATE)
        page.load(self.come_back, out.run_id, out.all(), concurrency_limit=16, **PRIVATE)

    def train(self, values: dict) -> Iterator[Updates]:
        """Starts a run in a process of its own and shows it until its end."""
        yield from self._run(values, both_ways=False)

    def train_both(self, values: dict) -> Iterator[Updates]:
        """The same, with an arm for each of the two prompt-loss weights."""
        yield from self._run(values, both_ways=True)

    def _run(self, values: dict, both_ways: bool) -> Iterator[Updates]:
        controls, out, audit = self.desk.controls, self.out, values[self.desk.session.audit]
        try:
            config = controls.config(values)
            weights = (config.prompt_loss_weight, controls.other_weight(values)) if both_ways else ()
            data = self.desk.data(values)
            device = choose_device(config.device).type
            run_id = self.desk.backend.start(config, data, weights, audit and str(audit.mask_hash))
        except BusyError as error:
            gr.Warning(sentence(error))
            return
        except SftdemoError as error:
            yield {out.run_status: progress("failed", sentence(error))}
            return
        yield self._begun(run_id) | {
            out.command: config.command_line("examples.jsonl", weights),
            out.own_runs: [run_id, *(values[out.own_runs] or [])][:OWN_RUNS],
        }
        for events in self.desk.backend.watch(run_id):
            yield self._show(tell(events))
        if not both_ways:
            learn(config, device, events)

    def come_back(self, run_id: str | None) -> Iterator[Updates]:
        """After a reload, or to show an earlier run: going on or done."""
        try:
            for events in self.desk.backend.watch(run_id):
                yield self._show(tell(events))
        except SftdemoError as error:
            yield {self.out.run_status: progress("failed", sentence(error))}

    def open(self, run_id: str) -> Iterator[Updates]:
        """Shows an earlier run in place of the one that is shown."""
        yield self._begun(run_id)
        yield from self.come_back(run_id)

    def stop(self, run_id: str | None) -> dict:
        """Asks the run to end after its step."""
        self.desk.backend.stop(run_id)
        return gr.update(value="Stopping after this step…", interactive=False)

    def _begun(self, run_id: str) -> Updates:
        """A run of which nothing is known yet."""
        out = self.out
        return {
            out.run_id: run_id,
            out.train: gr.update(interactive=False),
            out.both: gr.update(interactive=False),
            out.stop: gr.update(visible=True, interactive=True, value="Stop, keep what it has"),
            out.run_status: progress("working", "Starting"),
            out.curve: gr.update(value=None, visible=False),
            out.contest: gr.update(visible=False),
            out.compare: comparison([], ""),
            out.figures: figures_table([]),
            out.arm: gr.update(choices=[], value=None, visible=False),
            out.download: gr.update(value=None, label="Nothing trained yet", interactive=False),
        }

    def _show(self, story: Story) -> Updates:
        out = self.out
        shown: Updates = {out.run_status: story.status, out.stop: gr.update(visible=not story.done)}
        shown |= {button: gr.update(interactive=story.done) for button in (out.train, out.both)}
        if story.held_out:
            shown |= self._contest(story)
        elif len(story.losses) > 1:  # a series of one point is invisible
            frame = pd.DataFrame(story.losses, columns=["step", "loss"])
            shown[out.curve] = gr.update(value=frame, visible=True, x_lim=[1, story.total])
        if story.comparisons:
            message = "Greedy answers of the same model to the same prompts, with the same settings."
            shown[out.compare] = comparison(story.comparisons, message, story.arms)
        elif story.before:
            shown[out.compare] = comparison(
                story.before, "The answers before the training; those after it are to come."
            )
        if story.figures:
            shown[out.figures] = figures_table(story.figures)
        if story.done and story.saved and (Path(story.saved) / RECORD).is_file():
            shown |= self._saved(story, Path(story.saved))
        return shown

    def _saved(self, story: Story, folder: Path) -> Updates:
        """What can be had of a run once it is saved."""
        archive = self.desk.backend.archive(folder)
        label = f"Download the {'models' if story.arms else 'model'} ({archive.stat().st_size / 1e6:.0f} MB)"
        choices = [(column_name(weight), weight) for weight in story.arms]
        chosen = story.arms[0] if story.arms else None
        return {
            self.out.download: gr.update(value=str(archive), label=label, interactive=True),
            self.out.arm: gr.update(choices=choices, value=chosen, visible=len(choices) > 1),
        }

    def _contest(self, story: Story) -> Updates:
        """All arms' losses on the same held-out rows, the answers' in one picture and the prompts' in another. Those
        that are yet to begin have their first point, the base's, or the browser might leave their lines out later."""
        told = [(name, event.step, event.completion_loss, event.prompt_loss) for name, event in story.held_out]
        begun = {name for name, _ in story.held_out}
        told += [(name, *told[0][1:]) for name in story.contestants if name not in begun]
        frame = pd.DataFrame(told, columns=["arm", "step", "answers", "prompts"])
        colors = dict(zip(story.contestants, ARM_COLORS, strict=False))
        picture = {"color_map": colors, "x_lim": [0, story.total]}
        return {
            self.out.contest: gr.update(visible=True),
            self.out.answers_curve: gr.update(value=frame[["arm", "step", "answers"]], **picture),
            self.out.prompts_curve: gr.update(value=frame[["arm", "step", "prompts"]], **picture),
        }
