"""The laboratory, behind a door of its own: the boundary, packing, and two tokenizers or templates on one row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import gradio as gr

from ...core.config import DEFAULT_MODEL
from ...core.errors import SftdemoError, sentence
from ...core.events import Failed, Finished, Isolation, Model, Phase, Relay
from ...data.examples import Example
from ...data.templates import CHAT, NAMED_TEMPLATES, template_of
from ...mask.boundary import inspect_boundary, newline_remedy
from ...mask.layouts import layouts
from ...model.loading import load_tokenizer, stop_ids
from ...runs.jobs import BusyError
from ...runs.wording import isolation_sentence
from ..controls import CUSTOM, MODELS, check_public, is_public
from ..state import Desk, View
from ..widgets import (
    boundary_lanes,
    boundary_message,
    boundary_widget,
    packing_message,
    packing_rows,
    packing_widget,
    progress,
    progress_widget,
    versus,
    versus_widget,
)
from .mask import PRIVATE, Updates

REMEDY_ROWS = 1000  # looked at to say whether a newline would help


@dataclass(frozen=True)
class Laboratory:
    """The panel's components."""

    door: gr.Accordion
    is_open: gr.State
    boundary: gr.HTML
    packing: gr.HTML
    prove: gr.Button
    proof: gr.HTML
    model: gr.Dropdown
    template: gr.Radio
    contrast: gr.Button
    versus: gr.HTML


def laboratory() -> Laboratory:
    """Lays the panel out, closed."""
    is_open = gr.State(False)
    with gr.Accordion("Laboratory: look closer", open=False, elem_id="laboratory") as door:
        with gr.Tab("Boundary"):
            boundary = boundary_widget()
        with gr.Tab("Packing"):
            packing = packing_widget()
            prove = gr.Button("Prove on this model that packed examples do not see each other", elem_id="prove")
            proof = progress_widget("proof", progress("idle", ""))
        with gr.Tab("Two ways"):
            with gr.Row():
                model = gr.Dropdown(
                    list(MODELS),
                    value=DEFAULT_MODEL,
                    label="Tokenizer of",
                    allow_custom_value=not is_public(),
                    elem_id="other-model",
                )
                template = gr.Radio(
                    [*NAMED_TEMPLATES, CHAT], value=CHAT, label="Template", elem_id="other-template", scale=2
                )
                contrast = gr.Button("Compare on the chosen row", elem_id="contrast")
            other = versus_widget()
    return Laboratory(door, is_open, boundary, packing, prove, proof, model, template, contrast, other)


class LaboratoryHandlers:
    """Looks closer, while the door is open."""

    def __init__(self, desk: Desk, lab: Laboratory):
        self.desk, self.lab = desk, lab

    def wire(self, scans: list) -> None:
        """Connects components and handlers. `scans` are the events after which there is a new audit."""
        controls, session, lab = self.desk.controls, self.desk.session, self.lab
        everything = {*controls.all(), *session.all(), lab.is_open}
        lab.door.expand(lambda: True, None, lab.is_open, **PRIVATE)
        lab.door.collapse(lambda: False, None, lab.is_open, **PRIVATE)
        inputs = [*controls.all(), session.opened, session.masks, session.picked, lab.is_open]
        gr.on(
            [each.change for each in inputs],
            self.look_at_boundary,
            everything,
            lab.boundary,
            trigger_mode="always_last",
            **PRIVATE,
        )
        for event in (*(scan.then for scan in scans), lab.is_open.change):
            event(self.look_at_packing, everything, lab.packing, **PRIVATE)
        lab.boundary.mend(self.mend, None, [controls.template, controls.custom], **PRIVATE)
        lab.prove.click(self.prove, everything, [lab.prove, lab.proof], concurrency_limit=4, **PRIVATE)
        compared = {*everything, lab.model, lab.template}
        lab.contrast.click(self.contrast, compared, lab.versus, concurrency_limit=4, **PRIVATE)

    def _view(self, values: dict) -> View | None:
        """The examples, if the door is open and the model there."""
        view = self.desk.view(values) if values[self.lab.is_open] else None
        return view if view is None or view.data.train else None

    def _chosen(self, view: View, values: dict) -> Example:
        """The row whose token was chosen last, or the first one if that row is gone."""
        return view.example(values[self.desk.session.picked]) or view.data.train[0]

    def look_at_boundary(self, values: dict) -> str | dict:
        """The boundary of the chosen row, and what would mend it."""
        try:
            view = self._view(values)
            if view is None:
                return gr.skip()
            example = self._chosen(view, values)
            boundary = inspect_boundary(example, view.masker)
            remedy = None
            if boundary.merged:
                remedy = newline_remedy(view.data.train[:REMEDY_ROWS], view.masker)
            return boundary_lanes(boundary, remedy)
        except SftdemoError as error:
            return boundary_message(sentence(error))

    def look_at_packing(self, values: dict) -> Iterator[str | dict]:
        """How all rows lie in what the trainer gets."""
        audit = values[self.desk.session.audit]
        if audit is None or not values[self.lab.is_open]:
            yield gr.skip()
        elif not audit.rows:
            yield packing_message("No row has a trained token, so there is nothing to pack.")
        else:
            yield packing_message("Laying the rows out…")
            yield packing_rows(layouts(audit.lengths, audit.fresh, audit.batch_size, audit.max_length), audit)

    def mend(self, event: gr.EventData) -> Updates:
        """Takes the remedy's template."""
        return {self.desk.controls.template: CUSTOM, self.desk.controls.custom: event.template}

    def prove(self, values: dict) -> Iterator[Updates]:
        """Shows on the real model, in a process of its own, how far one packed example reaches into the others."""
        button, proof, ready = self.lab.prove, self.lab.proof, gr.update(interactive=True)
        try:
            config, data = self.desk.controls.config(values), self.desk.data(values)
            yield {button: gr.update(interactive=False), proof: progress("working", "Starting")}
            notes, done = [], ""
            for event in self.desk.backend.prove(config, data):
                match event:
                    case Phase():
                        yield {proof: progress("working", event.message, "", event.fraction, notes)}
                    case Model():
                        notes.append(f"{event.name} · {event.copy} · {event.device}, {event.dtype}")
                    case Isolation():
                        notes.append(isolation_sentence(event))
                    case Failed():
                        yield {button: ready, proof: progress("failed", event.message, "", None, notes)}
                        return
                    case Finished():
                        done = f"{event.seconds:.0f} s"
            yield {button: ready, proof: progress("done", "Measured", done, None, notes)}
        except BusyError as error:
            gr.Warning(sentence(error))
            yield {button: ready, proof: progress("idle", "")}
        except SftdemoError as error:
            yield {button: ready, proof: progress("failed", sentence(error))}

    def contrast(self, values: dict) -> Iterator[str]:
        """The chosen row under the settings, beside the same row with another tokenizer or template."""
        model, template = values[self.lab.model], values[self.lab.template]
        try:
            view = self.desk.view(values)
            if view is None or not view.data.train:
                yield versus([], "There is no row to compare yet.")
                return
            example = self._chosen(view, values)
            config = replace(view.config, model=model or "", template=template)
            check_public(config)
            fetching = Relay(self.desk.backend.prepare_tokenizer(config.model))
            for phase in fetching:
                yield versus([], f"{phase.message}…")
            source = fetching.result
            tokenizer, stops = load_tokenizer(source), stop_ids(source)
            other = replace(view, config=config, template=template_of(config), tokenizer=tokenizer, stop_ids=stops)
            columns = [_column(each, example) for each in (view, other)]
            yield versus(
                columns, f"Row {example.row}, both ways. On the left the settings above, on the right the other."
            )
        except SftdemoError as error:
            yield versus([], sentence(error), failed=True)


def _column(view: View, example: Example) -> tuple:
    rows, problems = view.masker.tokenize([example])
    if problems:
        raise SftdemoError(str(problems[0]))
    name = view.config.template if view.template.name != "custom" else "custom template"
    return f"{view.config.model} · {name}", rows[0], view.tokenizer
