"""Look closer, in an accordion: the boundary, packing, and one row under two tokenizers or templates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import gradio as gr

from ...core.config import DEFAULT_MODEL
from ...core.errors import SftdemoError
from ...core.events import Failed, Finished, Isolation, Model, Phase
from ...core.limits import MODELS, is_public, read_limits
from ...core.streams import Relay
from ...data.examples import Example
from ...data.templates import CHAT, NAMED_TEMPLATES, template_of
from ...mask.boundary import inspect_boundary, newline_remedy
from ...mask.layouts import layouts, load_packer
from ...model.loading import load_tokenizer, stop_ids
from ...runs.jobs import BusyError
from ...runs.wording import isolation_sentence
from ..controls import CUSTOM
from ..models import IMPORTS
from ..places import sentence, without_places
from ..state import Desk, View
from ..toasts import warn
from ..widgets import (
    boundary_lanes,
    boundary_message,
    packing_message,
    packing_rows,
    progress,
    progress_widget,
    versus,
    widget,
)
from ..words import say
from .handlers import NEWEST, PRIVATE, Updates

REMEDY_ROWS = 1000  # enough to tell whether a newline would help


class LaboratoryPanel:
    """The components of the panel, closed at first. The event of `boundary` is `mend` (with a template)."""

    def __init__(self):
        self.is_open = gr.State(False)
        with gr.Accordion("Laboratory: look closer", open=False, elem_id="laboratory") as self.accordion:
            with gr.Tab("Boundary"):
                message = "Pick a token: the boundary of its row is looked at here."
                self.boundary = widget("boundary", boundary_message(message))
            with gr.Tab("Packing"):
                self.packing = widget("packing", packing_message(""))
                label = "Prove on this model that packed examples do not see each other"
                self.prove = gr.Button(label, elem_id="prove")
                self.proof = progress_widget("proof", progress("idle", ""))
            with gr.Tab("Two ways"):
                with gr.Row():
                    self.model = gr.Dropdown(
                        list(MODELS),
                        value=DEFAULT_MODEL,
                        label="Tokenizer of",
                        allow_custom_value=not is_public(),
                        elem_id="other-model",
                    )
                    self.template = gr.Radio(
                        [*NAMED_TEMPLATES, CHAT], value=CHAT, label="Template", elem_id="other-template", scale=2
                    )
                    self.contrast = gr.Button("Compare on the chosen row", elem_id="contrast")
                message = "Choose another model or template, and see the same row both ways."
                self.versus = widget("versus", versus([], message))


class LaboratoryHandlers:
    """Fill the panel while it is open."""

    def __init__(self, desk: Desk, panel: LaboratoryPanel):
        self.desk, self.panel = desk, panel

    def wire(self, drawn: list, scans: list) -> None:
        """Connect components and handlers. `drawn` are the events after which the mask is another, `scans` those after
        which there is a new audit."""
        controls, session, panel = self.desk.controls, self.desk.session, self.panel
        everything = {*controls.all(), *session.all(), panel.is_open}
        panel.accordion.expand(lambda: True, None, panel.is_open, **PRIVATE)
        panel.accordion.collapse(lambda: False, None, panel.is_open, **PRIVATE)
        for event in (*(each.then for each in drawn), session.picked.change, panel.is_open.change):
            event(self.look_at_boundary, everything, panel.boundary, **NEWEST)
        for event in (*(scan.then for scan in scans), panel.is_open.change):
            event(self.look_at_packing, everything, panel.packing, **PRIVATE)
        panel.boundary.mend(self.mend, None, [controls.template, controls.custom], **PRIVATE)
        panel.prove.click(self.prove, everything, [panel.prove, panel.proof], concurrency_limit=4, **PRIVATE)
        compared = {*everything, panel.model, panel.template}
        panel.contrast.click(self.contrast, compared, panel.versus, concurrency_limit=4, **PRIVATE)

    def _view(self, values: dict) -> View | None:
        """Return a view of the examples; None if the panel is closed, the model is not ready or there is no row."""
        view = self.desk.view(values) if values[self.panel.is_open] else None
        return view if view is None or view.data.train else None

    def _chosen(self, view: View, values: dict) -> Example:
        """Return the row whose token was picked last, or the first row if that one is gone."""
        return view.example(values[self.desk.session.picked]) or view.data.train[0]

    def look_at_boundary(self, values: dict) -> str | dict:
        """Show the boundary of the picked row and, if it is merged, a remedy."""
        try:
            view = self._view(values)
            if view is None:
                return gr.skip()
            example = self._chosen(view, values)
            boundary = inspect_boundary(example, view.masker)
            remedy = newline_remedy(view.data.train[:REMEDY_ROWS], view.masker) if boundary.merged else None
            return boundary_lanes(boundary, remedy)
        except SftdemoError as error:
            return boundary_message(sentence(error))

    def look_at_packing(self, values: dict) -> Iterator[str | dict]:
        """Show how all rows lie in the batches of the trainer."""
        audit = values[self.desk.session.audit]
        if audit is None or not values[self.panel.is_open]:
            yield gr.skip()
        elif not audit.rows:
            yield packing_message("No row has a trained token, so there is nothing to pack.")
        else:
            yield packing_message("Laying the rows out…")
            with IMPORTS:
                load_packer()
            yield packing_rows(layouts(audit.lengths, audit.fresh, audit.batch_size, audit.max_length), audit)

    def mend(self, event: gr.EventData) -> Updates:
        """Set the template to that of the remedy."""
        return {self.desk.controls.template: CUSTOM, self.desk.controls.custom: event.template}

    def prove(self, values: dict) -> Iterator[Updates]:
        """Measure on the chosen model, in a process of its own, how far packed examples change each other."""
        button, proof, ready = self.panel.prove, self.panel.proof, gr.update(interactive=True)
        try:
            config, data = self.desk.config(values), self.desk.data(values)
            yield {button: gr.update(interactive=False), proof: progress("working", "Starting")}
            notes, done = [], ""
            for event in self.desk.backend.prove(config, data):
                match event:
                    case Phase():
                        yield {proof: progress("working", event.message, "", event.fraction, notes)}
                    case Model():
                        notes.append(f"{event.name} · {event.copy} · {say(event.device)}, {event.dtype}")
                    case Isolation():
                        notes.append(isolation_sentence(event))
                    case Failed():
                        yield {button: ready, proof: progress("failed", event.message, "", None, notes)}
                        return
                    case Finished():
                        done = f"{event.seconds:.0f} s"
            yield {button: ready, proof: progress("done", "Measured", done, None, notes)}
        except BusyError as error:
            warn(error)
            yield {button: ready, proof: progress("idle", "")}
        except SftdemoError as error:
            yield {button: ready, proof: progress("failed", sentence(error))}

    def contrast(self, values: dict) -> Iterator[str]:
        """Show the picked row under the settings next to the same row with another tokenizer or template."""
        model, template = values[self.panel.model], values[self.panel.template]
        try:
            view = self.desk.view(values)
            if view is None or not view.data.train:
                yield versus([], "There is no row to compare yet.")
                return
            example = self._chosen(view, values)
            config = replace(view.config, model=model or "", template=template)
            read_limits().check_settings(config)
            fetching = Relay(self.desk.backend.prepare_tokenizer(config.model))
            for phase in fetching:
                yield versus([], f"{phase.message}…")
            source = fetching.result
            tokenizer, stops = load_tokenizer(source), stop_ids(source)
            other = replace(view, config=config, template=template_of(config), tokenizer=tokenizer, stop_ids=stops)
            columns = [_column(each, example) for each in (view, other)]
            message = f"Row {example.row}, both ways. On the left the settings above, on the right the other."
            yield versus(columns, message)
        except SftdemoError as error:
            yield versus([], sentence(error), failed=True)


def _column(view: View, example: Example) -> tuple:
    rows, problems = view.masker.tokenize([example])
    if problems:
        raise SftdemoError(str(problems[0]))
    name = view.config.template if view.template.name != "custom" else "custom template"
    return f"{without_places(view.config.model, run_id='')} · {name}", rows[0], view.tokenizer
