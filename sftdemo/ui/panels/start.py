"""Start the next training from what an earlier run has learned, and go back to the model."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...core.config import SETTINGS
from ...core.errors import DataError, SftdemoError
from ...core.limits import is_public
from ..start import Start
from ..state import Desk
from ..toasts import warn
from ..widgets import progress, progress_widget
from ..words import say
from .handlers import PRIVATE, Updates
from .history import HistoryPanel
from .train import RunOutputs

_GONE = "The run that you wanted to train on from is gone; the training starts from the model again."
_TO_THE_CARD = "() => setTimeout(() => document.querySelector('#start')?.scrollIntoView({block: 'center'}), 300)"


class StartPanel:
    """The card that says which run the next training starts from, hidden where it starts from a model by its name.
    `store` keeps the run in the browser."""

    def __init__(self):
        with gr.Group(visible=False, elem_id="start") as self.card:
            self.status = progress_widget("start-status", progress("idle", ""))
            self.leave = gr.Button("From the model again", size="sm", elem_id="leave-start")
        self.store = gr.BrowserState(None, storage_key="sftdemo-start", secret="sftdemo")


class StartHandlers:
    """Choose the run to start from; on a public page only among those that this browser started."""

    def __init__(self, desk: Desk, panel: StartPanel, out: RunOutputs):
        self.desk, self.panel, self.out = desk, panel, out

    def wire(self, page: gr.Blocks, history: HistoryPanel, resets: list) -> None:
        """Connect components and handlers. `resets` are the events after which a model by its name is trained."""
        controls, panel, out = self.desk.controls, self.panel, self.out
        shown: list[Any] = [self.desk.session.start, panel.card, panel.status, panel.store, controls.model]
        settings = ("template", "custom", "chat_template_kwargs", "full", "lora_r")
        changed = [*shown, *(getattr(controls, name) for name in settings)]
        taken = out.train_on.click(self.take, [out.run_id, out.arm, out.own_runs], changed, **PRIVATE)
        listed = history.runs.take(self.take_listed, out.own_runs, changed, **PRIVATE)
        for event in (taken, listed):
            event.then(None, None, None, js=_TO_THE_CARD, **PRIVATE)
        gr.on([panel.leave.click, *resets], self.leave, None, shown, **PRIVATE)
        page.load(self.restore, [panel.store, out.own_runs], shown, **PRIVATE)

    def take(self, run_id: str | None, weight: float | None, own_runs: list[str] | None) -> Updates:
        """Start from the model of a run, and with its prompt template."""
        try:
            start = self._find(run_id, weight, own_runs)
        except SftdemoError as error:
            warn(error)
            return {self.desk.session.start: gr.skip()}
        controls = self.desk.controls
        held = controls.held(start.config)
        updates = {each: held[each] for each in (controls.template, controls.custom, controls.chat_template_kwargs)}
        if start.is_adapter:
            updates |= {controls.full: False, controls.lora_r: SETTINGS["lora_r"].default}
        return updates | self._show(start)

    def take_listed(self, own_runs: list[str] | None, event: gr.EventData) -> Updates:
        """Start from a run in the list of earlier ones; if it trained several models, from the first."""
        return self.take(str(event.run), None, own_runs)

    def leave(self) -> Updates:
        """Start from the model again."""
        return {
            self.desk.session.start: None,
            self.panel.card: gr.update(visible=False),
            self.panel.status: progress("idle", ""),
            self.panel.store: None,
            self.desk.controls.model: gr.update(interactive=True),
        }

    def restore(self, kept: object, own_runs: list[str] | None) -> Updates:
        """Bring back, after a reload, the run that was chosen; tell it if it is gone."""
        if not isinstance(kept, list) or len(kept) != 2:
            return {self.panel.store: gr.skip()}
        try:
            return self._show(self._find(str(kept[0]), kept[1], own_runs))
        except SftdemoError:
            gr.Warning(say(_GONE))
            return self.leave()

    def _find(self, run_id: str | None, weight: float | None, own_runs: list[str] | None) -> Start:
        if is_public() and run_id not in (own_runs or []):
            raise DataError(f"there is no run {run_id!r} any more.")
        return self.desk.backend.start_at(run_id, weight)

    def _show(self, start: Start) -> Updates:
        stays = "Its prompt template is chosen" + (", and it keeps its rank" if start.is_adapter else "")
        return {
            self.desk.session.start: start,
            self.panel.card: gr.update(visible=True),
            self.panel.status: progress("idle", f"Starts from {start.words}", f"{stays}."),
            self.panel.store: [start.run_id, start.weight],
            self.desk.controls.model: gr.update(interactive=False),
        }
