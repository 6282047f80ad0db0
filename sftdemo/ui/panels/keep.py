"""Keep the text, the masks made by hand and the settings in the browser, bring them back after a reload, start over."""

from __future__ import annotations

from typing import Any

import gradio as gr
from gradio.events import Dependency

from ...data.samples import SAMPLES, sample_of
from ..kept import STORAGE_KEY, Kept, from_kept, settings_of, to_keep, too_much
from ..state import Desk
from ..widgets import progress, progress_widget
from .examples import Sources
from .handlers import NEWEST, PRIVATE, Updates
from .sources import SourceHandlers


class KeepPanel:
    """The button that starts over, what is told of what was kept, and the store in the browser."""

    def __init__(self):
        with gr.Row(elem_id="keep"):
            with gr.Column(min_width=120):
                self.told = progress_widget("kept", progress("idle", ""))
                self.limit = progress_widget("kept-limit", progress("idle", ""))
            self.start_over = gr.Button("Start over", size="sm", scale=0, min_width=110, elem_id="start-over")
        self.store = gr.BrowserState(None, storage_key=STORAGE_KEY, secret="sftdemo")
        self.restored = gr.State(False)


class KeepHandlers:
    """Write to the browser's store, and read it."""

    def __init__(self, desk: Desk, panel: KeepPanel, sources: Sources, opening: SourceHandlers):
        self.desk, self.panel, self.sources, self.opening = desk, panel, sources, opening

    def outputs(self) -> list[Any]:
        """Return the components that a view fills."""
        controls, session, panel, sources = self.desk.controls, self.desk.session, self.panel, self.sources
        return [
            *(*controls.all(), session.columns, session.masks, session.opened, session.page, session.only),
            *(panel.told, panel.restored, panel.store, sources.hub, sources.sample, sources.card, sources.hub_status),
        ]

    def wire(self, edited: Dependency) -> None:
        """Connect components and handlers. What the browser kept comes back where no link is opened. `edited` is the
        drawing of an edit."""
        controls, session, panel = self.desk.controls, self.desk.session, self.panel
        everything = {*controls.all(), *session.all(), panel.restored}
        for event in (edited.then, controls.model.change):
            event(self.keep, everything, [panel.store, panel.limit], concurrency_limit=8, **NEWEST)
        panel.start_over.click(self.start_over, None, self.outputs(), **PRIVATE)

    def keep(self, values: dict) -> Updates:
        """Return what the browser is to keep now; nothing before it has been asked what it kept."""
        controls, session, panel = self.desk.controls, self.desk.session, self.panel
        if not values[panel.restored]:
            return {panel.store: gr.skip()}
        settings = {name: values[each] for name, each in settings_of(controls).items()}
        kept = to_keep(
            values[controls.examples] or "",
            values[session.opened],
            values[session.masks],
            values[session.columns],
            settings,
        )
        warning = too_much(kept)
        return {panel.store: kept, panel.limit: progress("idle", "", "", None, [warning] if warning else [])}

    def restore(self, value: object) -> Updates:
        """Bring back what the browser kept. What it did not, or what cannot be used, stays at its default."""
        kept, panel = from_kept(value, self.desk.controls), self.panel
        return self.fill(kept) | {panel.restored: True, panel.told: progress("idle", "", "", None, kept.notes)}

    def fill(self, kept: Kept) -> Updates:
        """Return what the inputs hold for a view."""
        controls, session = self.desk.controls, self.desk.session
        updates: Updates = {}
        inputs = settings_of(controls)
        updates |= {inputs[name]: setting for name, setting in kept.settings.items()}
        if kept.text is not None:
            updates |= {controls.examples: kept.text, self.sources.sample: gr.update(value=sample_of(kept.text))}
        updates |= {session.columns: kept.columns} if kept.columns else {}
        updates |= {session.masks: kept.masks} if kept.masks else {}
        return updates | ({self.sources.hub: kept.hub} if kept.hub else {})

    def start_over(self) -> Updates:
        """Set everything back to its default, in the browser's store as well."""
        controls, session, panel = self.desk.controls, self.desk.session, self.panel
        sample = SAMPLES[0]
        updates = self.opening.take_sample(sample.name)
        updates.pop(self.sources.status, None)
        updates |= {each: each.value for each in settings_of(controls).values()}
        updates |= {session.masks: {}, self.sources.hub: ""}
        return updates | {panel.store: None, panel.told: progress("idle", "")}
