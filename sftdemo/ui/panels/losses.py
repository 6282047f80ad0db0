"""Show the loss of every token of the run that is shown: by itself after a training both ways, else when opened."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr
from gradio.events import Dependency

from ...core.errors import SftdemoError
from ...core.events import Event, Failed, Phase, TokenLosses
from ..places import sentence
from ..results import losses_message, losses_rows
from ..state import Desk
from ..widgets import widget
from .handlers import PRIVATE, Updates

NO_RUN = "No finished run is shown yet; train first, or show an earlier run."


class LossesPanel:
    """The components of the panel, closed at first. `of` is the id of the run whose losses are shown."""

    def __init__(self):
        self.is_open, self.of = gr.State(False), gr.State(None)
        with gr.Accordion(
            "The loss of every token, before and after", open=False, elem_id="losses-door"
        ) as self.accordion:
            message = "Every token of the rows in the colour of its loss, those of the prompt too."
            self.losses = widget("losses", losses_message(message))
            self.again = gr.Button("Try again", visible=False, elem_id="look")


class LossesHandlers:
    """Read every token's loss while the panel is open."""

    def __init__(self, desk: Desk, panel: LossesPanel, run_id: gr.BrowserState):
        self.desk, self.panel, self.run_id = desk, panel, run_id

    def wire(self, both: Dependency, saved: gr.State) -> None:
        """Connect components and handlers. `both` is a training both ways, and `saved` changes with the run that is
        shown."""
        panel = self.panel
        inputs = {panel.is_open, panel.of, self.run_id, self.desk.controls.device}
        outputs = [panel.losses, panel.again, panel.of]
        panel.accordion.expand(lambda: True, None, panel.is_open, **PRIVATE)
        panel.accordion.collapse(lambda: False, None, panel.is_open, **PRIVATE)
        both.then(self.open, self.run_id, [panel.accordion, panel.is_open], **PRIVATE)
        triggers = [panel.is_open.change, saved.change]
        gr.on(triggers, self.follow, inputs, outputs, trigger_mode="always_last", concurrency_limit=4, **PRIVATE)
        panel.again.click(self.look, inputs, outputs, concurrency_limit=4, **PRIVATE)

    def open(self, run_id: str | None) -> Updates:
        """Open the panel if the run trained several models."""
        saved = self.desk.backend.saved_run(run_id)
        if saved is None or len(saved.arms) < 2:
            return {self.panel.is_open: gr.skip()}
        return {self.panel.accordion: gr.update(open=True), self.panel.is_open: True}

    def follow(self, values: dict) -> Iterator[Updates]:
        """Show the losses of the run that is shown, unless they are already; while it goes on, show none."""
        run_id, shown = values[self.run_id], values[self.panel.of]
        if run_id == shown and run_id is not None:
            yield {self.panel.of: gr.skip()}
        elif run_id is None or self.desk.backend.saved_run(run_id) is None:
            yield {self.panel.losses: losses_message(NO_RUN), self.panel.of: None}
        elif values[self.panel.is_open]:
            yield from self.look(values)
        else:
            yield {self.panel.of: None}

    def look(self, values: dict) -> Iterator[Updates]:
        """Show the loss of every token under the base and under each trained model."""
        run_id, rows, again, found = values[self.run_id], [], self.panel.again, self.panel.losses
        yield {
            again: gr.update(visible=False),
            found: losses_message("Reading every token's loss…"),
            self.panel.of: run_id,
        }
        try:
            for event in self.desk.backend.token_losses(run_id, values[self.desk.controls.device]):
                if isinstance(event, TokenLosses):
                    rows.append(event)
                elif isinstance(event, Phase):
                    more = f"{event.message}…"
                    yield {found: losses_rows(rows, more) if rows else losses_message(more)}
                raise_failed(event)
            yield {found: losses_rows(rows)}
        except SftdemoError as error:
            message = sentence(error) if run_id else NO_RUN
            yield {again: gr.update(visible=True), found: losses_message(message, failed=True), self.panel.of: None}


def raise_failed(event: Event) -> None:
    """Raise what made a run fail.

    Raises:
        SftdemoError: with its message.
    """
    if isinstance(event, Failed):
        raise SftdemoError(event.message)
