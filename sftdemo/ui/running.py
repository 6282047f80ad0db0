"""The run's part of the page: training, stopping, coming back to a run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import gradio as gr
import pandas as pd

from ..errors import SftdemoError, sentence
from ..estimate import learn
from ..jobs import BusyError
from ..models import choose_device
from ..outputs import RECORD
from .masking import PRIVATE
from .story import Story, tell
from .widgets import comparison, progress
from .workspace import Desk


@dataclass(frozen=True)
class RunOutputs:
    """The components that these handlers write to."""

    train: gr.Button
    stop: gr.Button
    run_status: gr.HTML
    curve: gr.LinePlot
    compare: gr.HTML
    download: gr.DownloadButton
    command: gr.Code
    run_id: gr.BrowserState


_PARTS = [part.name for part in fields(RunOutputs)]


class RunHandlers:
    """Starts runs and shows them."""

    def __init__(self, desk: Desk):
        self.desk = desk

    def wire(self, page: gr.Blocks, out: RunOutputs) -> None:
        """Connects components and handlers."""
        everything = {*self.desk.controls.all(), *self.desk.session.all()}
        parts = [getattr(out, name) for name in _PARTS]
        out.train.click(self.train, everything, parts, concurrency_limit=None, **PRIVATE)
        out.stop.click(self.stop, out.run_id, out.stop, **PRIVATE)
        page.load(self.come_back, out.run_id, parts, concurrency_limit=16, **PRIVATE)

    def train(self, values: dict) -> Iterator[tuple]:
        """Starts a run in a process of its own and shows it until its end."""
        try:
            config = self.desk.controls.config(values)
            data = self.desk.data(values)
            device = choose_device(config.device).type
            run_id = self.desk.backend.start(config, data)
        except BusyError as error:
            gr.Warning(sentence(error))
            return
        except SftdemoError as error:
            yield self._parts(run_status=progress("failed", sentence(error)))
            return
        yield self._parts(
            train=gr.update(interactive=False),
            stop=gr.update(visible=True, interactive=True, value="Stop, keep what it has"),
            run_status=progress("working", "Starting"),
            curve=gr.update(value=None, visible=False),
            compare=comparison([], ""),
            download=gr.update(value=None, label="Nothing trained yet", interactive=False),
            command=config.command_line("examples.jsonl"),
            run_id=run_id,
        )
        for events in self.desk.backend.watch(run_id):
            yield self._show(tell(events))
        learn(config, device, events)

    def come_back(self, run_id: str | None) -> Iterator[tuple]:
        """After a reload: shows the run that this browser started, going on or done."""
        for events in self.desk.backend.watch(run_id):
            yield self._show(tell(events))

    def stop(self, run_id: str | None) -> dict:
        """Asks the run to end after its step."""
        self.desk.backend.stop(run_id)
        return gr.update(value="Stopping after this step…", interactive=False)

    def _show(self, story: Story) -> tuple:
        parts = {"run_status": story.status, "stop": gr.update(visible=not story.done)}
        parts["train"] = gr.update(interactive=story.done)
        if len(story.losses) > 1:  # a series of one point is invisible
            frame = pd.DataFrame(story.losses, columns=["step", "loss"])
            parts["curve"] = gr.update(value=frame, visible=True, x_lim=[1, story.total])
        if story.comparisons:
            message = "Greedy answers of the same model to the same prompts, with the same settings."
            parts["compare"] = comparison(story.comparisons, message)
        elif story.before:
            parts["compare"] = comparison(story.before, "The answers before the training; those after it are to come.")
        if story.done and story.saved and (Path(story.saved) / RECORD).is_file():
            archive = self.desk.backend.archive(Path(story.saved))
            size = f"{archive.stat().st_size / 1e6:.0f} MB"
            parts["download"] = gr.update(value=str(archive), label=f"Download the model ({size})", interactive=True)
        return self._parts(**parts)

    def _parts(self, **parts: object) -> tuple:
        """Updates of the run's components, in their order; what is not named stays as it is."""
        return tuple(parts.get(name, gr.skip()) for name in _PARTS)
