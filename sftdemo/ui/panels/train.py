"""The run's part of the page: training one way or both ways, stopping, coming back to a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import gradio as gr
import pandas as pd

from ...core.errors import SftdemoError, sentence
from ...core.palette import ARMS
from ...model.devices import choose_device
from ...runs.estimate import learn
from ...runs.folder import RECORD
from ...runs.jobs import BusyError
from ...runs.wording import column_name
from ..results import comparison, figures_table
from ..run_state import Story, tell
from ..state import Desk
from ..widgets import progress
from .mask import PRIVATE

OWN_RUNS = 50  # whose ids a browser keeps


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


_PARTS = [part.name for part in fields(RunOutputs)]


class RunHandlers:
    """Starts runs and shows them."""

    def __init__(self, desk: Desk, out: RunOutputs):
        self.desk, self.out = desk, out

    def wire(self, page: gr.Blocks) -> None:
        """Connects components and handlers."""
        out = self.out
        everything = {*self.desk.controls.all(), *self.desk.session.all(), out.own_runs}
        out.train.click(self.train, everything, self.parts, concurrency_limit=None, **PRIVATE)
        out.both.click(self.train_both, everything, self.parts, concurrency_limit=None, **PRIVATE)
        out.stop.click(self.stop, out.run_id, out.stop, **PRIVATE)
        page.load(self.come_back, out.run_id, self.parts, concurrency_limit=16, **PRIVATE)

    @property
    def parts(self) -> list:
        """What `come_back` and the others update, in order."""
        return [getattr(self.out, name) for name in _PARTS]

    def train(self, values: dict) -> Iterator[tuple]:
        """Starts a run in a process of its own and shows it until its end."""
        yield from self._run(values, both_ways=False)

    def train_both(self, values: dict) -> Iterator[tuple]:
        """The same, with an arm for each of the two prompt-loss weights."""
        yield from self._run(values, both_ways=True)

    def _run(self, values: dict, both_ways: bool) -> Iterator[tuple]:
        try:
            controls = self.desk.controls
            config = controls.config(values)
            weights = (config.prompt_loss_weight, controls.other_weight(values)) if both_ways else ()
            data = self.desk.data(values)
            device = choose_device(config.device).type
            run_id = self.desk.backend.start(config, data, weights)
        except BusyError as error:
            gr.Warning(sentence(error))
            return
        except SftdemoError as error:
            yield self._parts(run_status=progress("failed", sentence(error)))
            return
        yield self._parts(
            **_begun(),
            command=config.command_line("examples.jsonl", weights),
            run_id=run_id,
            own_runs=[run_id, *(values[self.out.own_runs] or [])][:OWN_RUNS],
        )
        for events in self.desk.backend.watch(run_id):
            yield self._show(tell(events))
        if not both_ways:
            learn(config, device, events)

    def come_back(self, run_id: str | None) -> Iterator[tuple]:
        """After a reload, or to show an earlier run: going on or done."""
        try:
            for events in self.desk.backend.watch(run_id):
                yield self._show(tell(events))
        except SftdemoError as error:
            yield self._parts(run_status=progress("failed", sentence(error)))

    def open(self, run_id: str) -> Iterator[tuple]:
        """Shows an earlier run in place of the one that is shown."""
        yield self._parts(**_begun(), run_id=run_id)
        yield from self.come_back(run_id)

    def stop(self, run_id: str | None) -> dict:
        """Asks the run to end after its step."""
        self.desk.backend.stop(run_id)
        return gr.update(value="Stopping after this step…", interactive=False)

    def _show(self, story: Story) -> tuple:
        parts = {"run_status": story.status, "stop": gr.update(visible=not story.done)}
        parts |= {"train": gr.update(interactive=story.done), "both": gr.update(interactive=story.done)}
        if story.held_out:
            parts |= _contest(story)
        elif len(story.losses) > 1:  # a series of one point is invisible
            frame = pd.DataFrame(story.losses, columns=["step", "loss"])
            parts["curve"] = gr.update(value=frame, visible=True, x_lim=[1, story.total])
        if story.comparisons:
            message = "Greedy answers of the same model to the same prompts, with the same settings."
            parts["compare"] = comparison(story.comparisons, message, story.arms)
        elif story.before:
            parts["compare"] = comparison(story.before, "The answers before the training; those after it are to come.")
        if story.figures:
            parts["figures"] = figures_table(story.figures)
        if story.done and story.saved and (Path(story.saved) / RECORD).is_file():
            archive = self.desk.backend.archive(Path(story.saved))
            size = f"{archive.stat().st_size / 1e6:.0f} MB"
            noun = "models" if story.arms else "model"
            parts["download"] = gr.update(value=str(archive), label=f"Download the {noun} ({size})", interactive=True)
            choices = [(column_name(weight), weight) for weight in story.arms]
            chosen = story.arms[0] if story.arms else None
            parts["arm"] = gr.update(choices=choices, value=chosen, visible=len(choices) > 1)
        return self._parts(**parts)

    def _parts(self, **parts: object) -> tuple:
        """Updates of the run's components, in their order; what is not named stays as it is."""
        return tuple(parts.get(name, gr.skip()) for name in _PARTS)


def _begun() -> dict:
    """A run of which nothing is known yet."""
    return {
        "train": gr.update(interactive=False),
        "both": gr.update(interactive=False),
        "stop": gr.update(visible=True, interactive=True, value="Stop, keep what it has"),
        "run_status": progress("working", "Starting"),
        "curve": gr.update(value=None, visible=False),
        "contest": gr.update(visible=False),
        "compare": comparison([], ""),
        "figures": figures_table([]),
        "arm": gr.update(choices=[], value=None, visible=False),
        "download": gr.update(value=None, label="Nothing trained yet", interactive=False),
    }


def _contest(story: Story) -> dict:
    """All arms' losses on the same held-out rows, the answers' in one picture and the prompts' in another. Those that
    are yet to begin have their first point, the base's, or the browser might leave their lines out later."""
    told = [(name, event.step, event.completion_loss, event.prompt_loss) for name, event in story.held_out]
    begun = {name for name, _ in story.held_out}
    told += [(name, *told[0][1:]) for name in story.contestants if name not in begun]
    frame = pd.DataFrame(told, columns=["arm", "step", "answers", "prompts"])
    colors = dict(zip(story.contestants, ARMS, strict=False))
    picture = {"color_map": colors, "x_lim": [0, story.total]}
    return {
        "contest": gr.update(visible=True),
        "answers_curve": gr.update(value=frame[["arm", "step", "answers"]], **picture),
        "prompts_curve": gr.update(value=frame[["arm", "step", "prompts"]], **picture),
    }
