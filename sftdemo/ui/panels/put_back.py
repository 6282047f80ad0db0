"""Put the rows and the settings of an earlier run back onto the page, when it is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from ...core.errors import SftdemoError
from ...core.limits import is_public
from ...runs.folder import EXAMPLES
from ...runs.revisit import SavedRun
from ..start import RUN_ID, model_words
from ..state import EDITABLE, Desk
from ..toasts import warn
from ..widgets import progress
from .examples import Sources
from .handlers import PRIVATE, Updates
from .history import HistoryPanel
from .sources import SourceHandlers
from .start import StartHandlers
from .train import RunOutputs

_TO_THE_RUN = "() => setTimeout(() => document.querySelector('#run-status')?.scrollIntoView({block: 'start'}), 300)"


class PutBackHandlers:
    """Fill the inputs with what a run was trained with; on a public page only with one's own."""

    def __init__(self, desk: Desk, sources: Sources, opening: SourceHandlers, starting: StartHandlers):
        self.desk, self.sources, self.opening, self.starting = desk, sources, opening, starting

    def wire(self, history: HistoryPanel, out: RunOutputs) -> None:
        """Connect components and handlers."""
        desk, sources = self.desk, self.sources
        session, starting = desk.session, self.starting.panel
        filled: list[Any] = [*desk.controls.all(), session.opened, session.columns, session.page, session.only]
        filled += [session.masks, session.start, starting.card, starting.status, starting.store]
        filled += [sources.card, sources.status, sources.hub_status, sources.sample]
        shown = history.runs.open(self.put_back, out.own_runs, filled, **PRIVATE)
        shown.then(None, None, None, js=_TO_THE_RUN, **PRIVATE)

    def put_back(self, own_runs: list[str] | None, event: gr.EventData) -> Updates:
        """Return the rows and the settings of a run, and the run that it started from."""
        run_id = str(event.run)
        try:
            saved = self.desk.backend.saved_run(run_id)
            if saved is None or (is_public() and run_id not in (own_runs or [])):
                return {self.desk.session.page: gr.skip()}
            return self._rows(saved) | self._settings(saved) | self._start(saved, own_runs)
        except SftdemoError as error:
            warn(error)
            return {self.desk.session.page: gr.skip()}

    def _rows(self, saved: SavedRun) -> Updates:
        path = saved.folder / EXAMPLES
        masks: Updates = {self.desk.session.masks: {}}  # the rows have their own
        if path.stat().st_size <= EDITABLE:
            return masks | self.opening.show_source(text=path.read_text(encoding="utf-8"))
        opened = self.opening.show_source(opened=str(path))
        return masks | opened | {self.sources.status: progress("done", "The rows of the run that is shown")}

    def _settings(self, saved: SavedRun) -> Updates:
        controls = self.desk.controls
        held = controls.held(saved.config)
        if len(saved.arms) > 1:
            others = [weight for weight, _ in saved.arms if weight != saved.config.prompt_loss_weight]
            held[controls.against] = others[0]
        return held

    def _start(self, saved: SavedRun, own_runs: list[str] | None) -> Updates:
        """Return the run that this one started from or, if it started from a model, that model."""
        folder, model = Path(saved.config.model), self.desk.controls.model
        names = [part for part in folder.parts if RUN_ID.fullmatch(part)]
        if not names:
            return self.starting.leave() | {model: gr.update(value=saved.config.model, interactive=True)}
        weight = folder.name.removeprefix("weight-") if folder.name != names[0] else None
        kept = [names[0], None if weight is None else float(weight)]
        updates = self.starting.restore(kept, own_runs)
        named = {"value": saved.base} if model_words(saved.base) == saved.base else {}
        return updates | {model: updates[model] | named}
