"""Offer a saved run in other formats, and say how it is used elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

import gradio as gr

from ...core.errors import SftdemoError
from ...core.events import Failed, Phase
from ...export.formats import read_record
from ...runs.jobs import BusyError
from ...runs.ways import ways_of
from ..places import sentence
from ..space import has_sign_in
from ..state import Desk
from ..toasts import warn
from ..widgets import progress, progress_widget
from .handlers import PRIVATE, Updates
from .push import PushPanel
from .train import RunOutputs

MERGED, GGUF, SMALL = "merged", "gguf f16", "gguf q8_0"
FORMS = [
    ("Merged: all weights, for transformers and vLLM", MERGED),
    ("GGUF for llama.cpp and Ollama", GGUF),
    ("GGUF in 8 bits, half as large", SMALL),
]
_WAYS = 8  # tabs, whose texts come from `ways_of`


class TakeAwayPanel:
    """The components of the panel, hidden until a run is saved."""

    def __init__(self):
        with gr.Column(visible=False, elem_id="take-away") as self.column:
            with gr.Row(equal_height=True):
                self.form = gr.Dropdown(
                    FORMS, value=MERGED, label="Or in another format", scale=3, min_width=280, elem_id="form"
                )
                self.prepare = gr.Button("Prepare it", scale=1, min_width=140, elem_id="prepare")
            self.status = progress_widget("form-status", progress("idle", ""))
            self.file = gr.DownloadButton("", visible=False, elem_id="form-download")
            self.push = PushPanel() if has_sign_in() else None
            self.tabs: list[gr.Tab] = []
            self.words: list[gr.Markdown] = []
            self.codes: list[gr.Code] = []
            with gr.Tabs(elem_id="ways"):
                for _ in range(_WAYS):
                    with gr.Tab("") as tab:
                        self.words.append(gr.Markdown())
                        self.codes.append(
                            gr.Code(
                                interactive=False, wrap_lines=True, lines=1, show_label=False, elem_classes="command"
                            )
                        )
                    self.tabs.append(tab)


class TakeAwayHandlers:
    """Show how the current run is used, and prepare it in another format."""

    def __init__(self, desk: Desk, panel: TakeAwayPanel, out: RunOutputs):
        self.desk, self.panel, self.out = desk, panel, out

    def wire(self) -> None:
        """Connect components and handlers."""
        panel, out = self.panel, self.out
        shown = [panel.column, panel.status, panel.file, *panel.tabs, *panel.words, *panel.codes]
        gr.on([out.saved.change, out.arm.change], self.show, [out.run_id, out.arm], shown, **PRIVATE)
        prepared = [panel.prepare, panel.status, panel.file]
        panel.prepare.click(self.prepare, [out.run_id, out.arm, panel.form], prepared, **PRIVATE)
        panel.form.change(self.reset, None, [panel.status, panel.file], **PRIVATE)

    def reset(self) -> Updates:
        """Take away what was prepared in another format."""
        return {self.panel.status: progress("idle", ""), self.panel.file: gr.update(visible=False, value=None)}

    def show(self, run_id: str | None, weight: float | None) -> Updates:
        """Show the ways to use the current run, or nothing while none is saved."""
        panel = self.panel
        try:
            record = read_record(self.desk.backend.folder(run_id, weight))
        except SftdemoError:  # none is saved yet
            return {panel.column: gr.update(visible=False)} | self.reset()
        updates: Updates = {panel.column: gr.update(visible=True)} | self.reset()
        for tab, words, code, way in zip_longest(panel.tabs, panel.words, panel.codes, ways_of(record)):
            updates[tab] = gr.update(visible=way is not None, label=way.name if way else "")
            updates[words] = way.says if way else ""
            updates[code] = gr.update(value=way.code, language=way.language) if way else gr.update(value="")
        return updates

    def prepare(self, run_id: str | None, weight: float | None, form: str | None) -> Iterator[Updates]:
        """Export the current run, and offer the file."""
        panel, (to, _, quantization) = self.panel, (form or MERGED).partition(" ")
        waiting, ready = gr.update(interactive=False), gr.update(interactive=True)
        try:
            yield {panel.prepare: waiting} | self.reset()
            for step in self.desk.backend.export(run_id, weight, to, quantization or "f16"):
                if isinstance(step, Phase):
                    yield {panel.status: progress("working", step.message, "")}
                elif isinstance(step, Failed):
                    yield {panel.status: progress("failed", step.message), panel.prepare: ready}
                elif isinstance(step, Path):
                    size = f"{step.stat().st_size / 1e6:.0f} MB"
                    file = gr.update(visible=True, value=str(step), label=f"Download it ({size})")
                    yield {panel.status: progress("done", "Ready"), panel.file: file, panel.prepare: ready}
        except BusyError as error:
            warn(error)
            yield {panel.prepare: ready}
        except SftdemoError as error:
            yield {panel.status: progress("failed", sentence(error)), panel.prepare: ready}
