"""What happens on the page: arriving, editing, training, stopping, coming back."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import gradio as gr
import pandas as pd

from ..config import RunConfig
from ..errors import DataError, SftdemoError, sentence
from ..estimate import estimate_seconds, learn, planned_steps, rate_for
from ..examples import parse_examples, read_examples
from ..jobs import BusyError
from ..models import choose_device
from ..runs import RECORD, questions_asked
from ..samples import get_sample
from ..templates import get_template
from ..tokenization import tokenize_examples
from .backend import Backend
from .controls import Controls
from .story import Story, tell
from .widgets import asked, comparison, mask_message, mask_rows, progress


@dataclass(frozen=True)
class Outputs:
    """The components that the handlers write to."""

    model_status: gr.HTML
    mask: gr.HTML
    asked: gr.HTML
    train: gr.Button
    stop: gr.Button
    run_status: gr.HTML
    curve: gr.LinePlot
    compare: gr.HTML
    download: gr.DownloadButton
    command: gr.Code
    run_id: gr.BrowserState


_RUN_PARTS = [part.name for part in fields(Outputs) if part.name not in ("model_status", "mask", "asked")]


class Handlers:
    """The page's event handlers, over one backend."""

    def __init__(self, backend: Backend):
        self.backend = backend
        self.controls: Controls

    def wire(self, page: gr.Blocks, controls: Controls, out: Outputs, sample, upload) -> None:
        """Connects components and handlers. Every endpoint is private: the page is no API."""
        self.controls = controls
        everything, private = set(controls.all()), {"api_visibility": "private", "show_progress": "hidden"}
        drawn = [out.mask, out.asked, out.train, out.command]
        run_parts = [getattr(out, name) for name in _RUN_PARTS]

        sample.input(
            lambda name: get_sample(name).path.read_text(encoding="utf-8"), sample, controls.examples, **private
        )
        upload.upload(self.open_file, upload, controls.examples, **private)
        # Typing sends many events; "always_last" draws the newest and lets those between go.
        edits = [control.change for control in controls.all() if control is not controls.model]
        gr.on(edits, self.draw, everything, drawn, trigger_mode="always_last", concurrency_limit=4, **private)
        ready = gr.on(
            [page.load, controls.model.change],
            self.get_ready,
            everything,
            [out.model_status, *drawn],
            concurrency_limit=8,
            **private,
        )
        ready.then(self.draw, everything, drawn, **private)  # of the text as it is by then
        out.train.click(self.train, everything, run_parts, concurrency_limit=None, **private)
        out.stop.click(self.stop, out.run_id, out.stop, **private)
        page.load(self.come_back, out.run_id, run_parts, concurrency_limit=16, **private)

    def open_file(self, path: str) -> str:
        """The text of an uploaded file; one that cannot be read is named in a message."""
        try:
            read_examples(path)
            return Path(path).read_text(encoding="utf-8-sig")
        except DataError as error:
            raise gr.Error(str(error).replace(path, Path(path).name)) from error

    def get_ready(self, values: dict) -> Iterator[tuple]:
        """Fetches the chosen model, with progress."""
        nothing = (gr.skip(),) * 4
        try:
            config = self.controls.config(values)
            for phase in self.backend.prepare(config.model):
                yield (progress("working", phase.message, "", phase.fraction), *nothing)
            yield (progress("done", self.backend.describe(config.model, config.device)), *nothing)
        except SftdemoError as error:
            label = gr.update(value="No model to train", interactive=False)
            yield progress("failed", sentence(error)), mask_message(sentence(error)), asked([]), label, ""

    def draw(self, values: dict) -> tuple:
        """The mask of the text as it stands, and what the button would do with it."""
        try:
            config = self.controls.config(values)
            template = get_template(config.template)
            if self.backend.source(config.model) is None:
                return (gr.skip(),) * 4
            tokenizer = self.backend.tokenizer(config.model)
            data = parse_examples(values[self.controls.examples] or "")
            max_length = self.backend.max_length(config.model, config.max_length)
            examples, problems = tokenize_examples(data.train, tokenizer, template, max_length)
            button = _button(config, examples, choose_device(config.device).type)
        except SftdemoError as error:
            label = gr.update(value="Nothing to train yet", interactive=False)
            return mask_message(sentence(error)), asked([]), label, ""
        questions = questions_asked(config, data) if data.train else []
        command = config.command_line("examples.jsonl") if examples else ""
        return mask_rows(examples, data, problems, tokenizer), asked(questions), button, command

    def train(self, values: dict) -> Iterator[tuple]:
        """Starts a run in a process of its own and shows it until its end."""
        try:
            config = self.controls.config(values)
            data = parse_examples(values[self.controls.examples] or "")
            device = choose_device(config.device).type
            run_id = self.backend.start(config, data)
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
        for events in self.backend.watch(run_id):
            yield self._show(tell(events))
        learn(config, device, events)

    def come_back(self, run_id: str | None) -> Iterator[tuple]:
        """After a reload: shows the run that this browser started, going on or done."""
        for events in self.backend.watch(run_id):
            yield self._show(tell(events))

    def stop(self, run_id: str | None) -> dict:
        """Asks the run to end after its step."""
        self.backend.stop(run_id)
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
            archive = self.backend.archive(Path(story.saved))
            size = f"{archive.stat().st_size / 1e6:.0f} MB"
            parts["download"] = gr.update(value=str(archive), label=f"Download the model ({size})", interactive=True)
        return self._parts(**parts)

    def _parts(self, **parts: object) -> tuple:
        """Updates of the run's components, in their order; what is not named stays as it is."""
        return tuple(parts.get(name, gr.skip()) for name in _RUN_PARTS)


def _button(config: RunConfig, examples: list, device: str) -> dict:
    if not any(example.trained for example in examples):
        return gr.update(value="Nothing to train yet", interactive=False)
    steps = planned_steps(config, examples)
    rate = rate_for(config, device)
    noun = "step" if steps == 1 else "steps"
    if rate is None:
        return gr.update(value=f"Train {steps} {noun}", interactive=True)
    seconds = estimate_seconds(config, examples, rate)
    duration = f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
    where = {"cpu": "this CPU", "cuda": "this GPU", "mps": "this GPU"}[device]
    return gr.update(value=f"Train {steps} {noun} · about {duration} on {where}", interactive=True)
