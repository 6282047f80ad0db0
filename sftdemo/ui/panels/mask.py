"""The mask's part of the page: where examples come from, their tokens page by page, the audit, masks made by hand."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from ...core.errors import DataError, ModelError, SftdemoError
from ...core.text import plural
from ...data.examples import Example, ParsedExamples, to_record
from ...data.problems import Problem
from ...data.questions import questions_of
from ...mask.audit import Audit
from ...mask.checks import Finding, errors
from ...mask.labels import TokenizedExample, mark_by_hand
from ...model.devices import choose_device
from ...model.sources import check_weights
from ..controls import decides_mask, notes_on
from ..first_mask import FirstMask
from ..places import sentence
from ..reading import text_of_row
from ..state import Desk, View, audit_of, check_of, content_of
from ..widgets import asked, audit_findings, field_errors, mask_message, mask_rows, progress, totals
from .examples import Sources
from .handlers import NEWEST, PRIVATE, Updates
from .order import Order
from .scanned import OFF, buttons, filters, lengths, mend, planned, refusals

COMMAND = "These settings in a terminal"


@dataclass(frozen=True)
class MaskOutputs:
    """The components that these handlers write to."""

    model_status: gr.HTML
    mask: gr.HTML
    only: gr.Dropdown
    totals: gr.HTML
    audit: gr.HTML
    asked: gr.HTML
    export: gr.DownloadButton
    refusals: gr.DownloadButton
    train: gr.Button
    both: gr.Button
    anyway: gr.Checkbox
    command: gr.Code
    wrong: gr.HTML


class MaskHandlers:
    """Draws what the person sees of the examples."""

    def __init__(self, desk: Desk, sources: Sources, out: MaskOutputs, first: FirstMask):
        self.desk, self.sources, self.out, self.first = desk, sources, out, first
        self.order = Order(desk.controls)

    def wire(self, page: gr.Blocks) -> list:
        """Connects components and handlers; returns the events after which all rows have been looked over."""
        controls, session, sources, out = self.desk.controls, self.desk.session, self.sources, self.out
        everything = {*controls.all(), *session.all(), self.desk.run_id}
        drawn = [out.mask, out.asked, out.command, out.wrong, *sources.columns.outputs()]
        scanned = [
            *(out.totals, out.audit, out.train, out.both, out.anyway, session.audit),
            *(out.refusals, out.only, session.only, out.mask, controls.steps, controls.epochs),
        ]
        inputs = [control for control in controls.all() if control is not controls.model]
        edited_parts: list[Any] = [*inputs, session.opened, session.columns, session.masks]  # all of them have `change`
        edits = [part.change for part in edited_parts]
        self.edited = gr.on(edits, self.draw, everything, drawn, concurrency_limit=4, **NEWEST)
        scan = self.edited.then(self.scan, everything, scanned, concurrency_limit=4, trigger_mode="multiple", **PRIVATE)
        ready = gr.on(
            [page.load, controls.model.change, session.start.change],
            self.get_ready,
            everything,
            [out.model_status, *drawn, out.train, out.both],
            concurrency_limit=8,
            **PRIVATE,
        )
        self.drawn_when_ready = ready.then(self.draw, everything, drawn, **PRIVATE)  # of the text as it is by then
        told = self.drawn_when_ready.then(self.tell_device, everything, out.model_status, **PRIVATE)
        first_scan = told.then(self.scan, everything, scanned, concurrency_limit=4, trigger_mode="multiple", **PRIVATE)
        gr.on(edits, None, cancels=[self.drawn_when_ready], **PRIVATE)
        out.mask.turn(self.turn, everything, [out.mask, session.page], **PRIVATE)
        out.mask.read(self.read_row, everything, out.mask, **PRIVATE)
        out.mask.pick(self.pick, None, session.picked, **PRIVATE)
        gone = [out.mask, session.page, session.picked, out.only, session.only]
        out.audit.goto(self.go_to, everything, gone, **PRIVATE)
        filtered = [out.mask, session.page, session.only]
        out.only.input(self.show_only, {*everything, out.only}, filtered, **PRIVATE)
        out.audit.only(self.show_only_of, everything, [*filtered, out.only], **PRIVATE)
        session.masks.change(self.export, everything, out.export, **PRIVATE)
        return [scan, first_scan]

    def get_ready(self, values: dict) -> Iterator[Updates]:
        """Fetches the chosen model, with progress."""
        out, backend = self.out, self.desk.backend
        try:
            config, wrong = self.desk.checked(values)
            if "model" in wrong:
                raise wrong["model"]
            is_running = backend.is_running(values[self.desk.run_id])
            words = "A run is under way" if is_running else "Waiting for the model"
            waiting = {out.train: gr.update(value=words, interactive=False), out.both: OFF}
            for phase in backend.prepare(config.model):
                yield {out.model_status: progress("working", phase.message, "", phase.fraction)} | waiting
                waiting = {}
            yield {out.model_status: progress("done", self.desk.model(values, config.model))}
        except SftdemoError as error:
            no_model = {out.train: gr.update(value="No model to train", interactive=False), out.both: OFF}
            yield {out.model_status: progress("failed", sentence(error))} | no_model | self._undrawn(sentence(error))

    def _undrawn(self, words: str) -> Updates:
        """The mask's place with what is wrong."""
        return {self.out.mask: mask_message(words), self.out.asked: asked([]), self.out.command: ""}

    def draw(self, values: dict, request: gr.Request | None = None) -> Updates:
        """One page of the mask of the text as it stands."""
        self.order.draw(values, request)
        out, columns = self.out, self.sources.columns
        config, wrong = self.desk.checked(values)
        told = {out.wrong: field_errors(wrong, notes_on(config))}
        if decides_mask(wrong):  # the mask stays as it was, if there was one
            first = sentence(next(iter(wrong.values())))
            return told | ({} if values[self.desk.session.audit] else self._undrawn(first))
        try:
            view = self.desk.view(values)
            if view is None:
                return told
            mask, drawn = _page(view, values[self.desk.session.page])
            if self.desk.is_untouched(values):
                self.first.keep(view, mask)
            command, says = (
                self.desk.command(values, view.config) if drawn or (view.data.train and not view.shown) else ("", "")
            )
        except SftdemoError as error:
            return told | self._undrawn(sentence(error)) | columns.show(self.desk.choice(values))
        questions = questions_of(view.config, view.data) if view.data.train else []
        label = f"These settings in a terminal; {says}" if says else COMMAND
        told |= {out.mask: mask, out.asked: asked(questions)} | columns.show(view.choice, view.data)
        return told | ({} if wrong else {out.command: gr.update(value=command, label=label)})

    def tell_device(self, values: dict) -> str | dict:
        """The device beside the model's name, after the mask: to know it, torch has to be loaded."""
        try:
            config, _ = self.desk.checked(values)
            if self.desk.backend.source(config.model) is None:
                return gr.skip()
            device = self.desk.backend.device(config.device)
            return progress("done", f"{self.desk.model(values, config.model)} · {device}")
        except SftdemoError:  # the mask's place says what is wrong
            return gr.skip()

    def scan(self, values: dict, request: gr.Request | None = None) -> Iterator[Updates]:
        """The totals of all rows as they come, what the audit finds, and what the button would do, until the same visit
        begins another scan. Gradio's `cancels` names no event but a function: one that is late would end the other."""
        is_newest = self.order.begin("scan", values, request)
        for updates in self._scan(values):
            if not is_newest():
                yield {self.out.totals: gr.skip()}
                return
            yield updates

    def _scan(self, values: dict) -> Iterator[Updates]:
        out, kept, controls = self.out, self.desk.session.audit, self.desk.controls
        _, wrong = self.desk.checked(values)
        if decides_mask(wrong):
            yield {out.train: mend(wrong), out.both: OFF}
            return
        try:
            view = self.desk.view(values)
            if view is None:
                yield self._uncounted() | ({out.train: mend(wrong), out.both: OFF} if wrong else {})
                return
            held_out = len(view.data.held_out)
            choose_device(view.config.device)  # a missing one is told before the rows are looked over
            weight = view.config.prompt_loss_weight
            refused: list[Problem] = []
            for audit, fraction in audit_of(view, refused):
                if fraction is not None:
                    waiting = gr.update(value="Looking the rows over…", interactive=False)
                    counted = totals(audit, held_out, fraction, weight)
                    yield {out.totals: counted, out.train: waiting, out.both: OFF}
        except SftdemoError:  # the mask's place says what is wrong
            nothing = gr.update(value="Nothing to train yet", interactive=False)
            yield self._uncounted() | {out.train: nothing, out.both: OFF}
            return
        findings = audit.findings()
        message = "✓ The audit finds nothing to mend." if audit.examples and not findings else ""
        try:
            check_weights(view.config.model)
            train, both = buttons(planned(self.desk, values, audit), findings)
        except ModelError:
            train = gr.update(value="No weights here to train: a tokenizer alone", interactive=False)
            both = gr.update(value="Train both ways", interactive=False)
        if wrong:
            train, both = mend(wrong), OFF
        elif self.desk.backend.is_running(values[self.desk.run_id]):
            train, both = train | OFF, both | OFF
        steps, epochs = lengths(view.config, audit)
        yield {
            controls.steps: steps,
            controls.epochs: epochs,
            out.totals: totals(audit, held_out, None, weight),
            out.audit: audit_findings(findings, message),
            out.train: train,
            out.both: both,
            out.anyway: gr.update(visible=bool(errors(findings)) and bool(audit.rows)),
            out.refusals: refusals((*view.data.problems, *refused), self.desk.backend.downloads),
            kept: audit,
        } | self._filtered(values | {kept: audit}, audit, findings)

    def _uncounted(self) -> Updates:
        """What was counted, taken away."""
        out = self.out
        counted = {out.totals: totals(None, 0), out.audit: audit_findings([], ""), self.desk.session.audit: None}
        counted |= {each: gr.update(visible=False) for each in (out.anyway, out.refusals)}
        return counted | {out.only: gr.update(interactive=False)}

    def _filtered(self, values: dict, audit: Audit, findings: list[Finding]) -> Updates:
        """What rows can be shown after an audit, and those that are, where it is those with a finding."""
        only, asked_for = self.desk.session.only, values[self.desk.session.only]
        choices = filters(audit, findings)
        now = asked_for if asked_for in [value for _, value in choices] else ""
        updates: Updates = {self.out.only: gr.update(choices=choices, value=now, interactive=len(choices) > 1)}
        if not asked_for:
            return updates
        mask = self._at(values | {only: now}, lambda view: (values[self.desk.session.page], None))[self.out.mask]
        return updates | {only: now, self.out.mask: mask}

    def show_only(self, values: dict) -> Updates:
        """All rows, or those with the finding that was chosen."""
        only = self.desk.session.only
        values = values | {only: values[self.out.only] or ""}
        return self._at(values, lambda view: (0, None)) | {only: values[only]}

    def show_only_of(self, values: dict, event: gr.EventData) -> Updates:
        """The rows with a finding whose button was pressed."""
        check = str(event.check)
        return self.show_only(values | {self.out.only: check}) | {self.out.only: check}

    def turn(self, values: dict, event: gr.EventData) -> Updates:
        """Another page of rows."""
        return self._at(values, lambda view: (int(event.page), None))

    def pick(self, event: gr.EventData) -> int:
        """The row whose token was chosen."""
        return int(event.row)

    def go_to(self, values: dict, event: gr.EventData) -> Updates:
        """The page of a row, with that row in view."""
        row, only, audit = int(event.row), self.desk.session.only, values[self.desk.session.audit]
        updates: Updates = {self.desk.session.picked: row}
        if values[only] and (audit is None or row not in audit.flagged(check_of(values[only]))):
            values = values | {only: ""}
            updates |= {only: "", self.out.only: ""}
        return self._at(values, lambda view: (view.page_of(row), row)) | updates

    def read_row(self, values: dict, event: gr.EventData) -> str | dict:
        """What a refused row says, which has no tokens, in the mask's place."""
        opened, text = values[self.desk.session.opened], values[self.desk.controls.examples] or ""
        row, line = int(event.row), None if event.line is None else int(event.line)
        try:
            view = self.desk.view(values)
            if view is None:
                return gr.skip()
            said = row, text_of_row(text, opened, row, line)
            return _page(view, values[self.desk.session.page], row_text=said)[0]
        except SftdemoError as error:
            return mask_message(sentence(error))

    def _at(self, values: dict, place: Callable[[View], tuple[int, int | None]]) -> Updates:
        out, page = self.out, self.desk.session.page
        if decides_mask(self.desk.checked(values)[1]):
            return {out.mask: gr.skip()}
        try:
            view = self.desk.view(values)
            if view is None:
                return {out.mask: gr.skip()}
            number, focus = place(view)
            return {out.mask: _page(view, number, focus)[0], page: view.page(number)[0]}
        except SftdemoError as error:
            return {out.mask: mask_message(sentence(error)), page: 0}

    def toggle(self, values: dict, event: gr.EventData) -> dict:
        """Trains or ignores the tokens that were marked: the row then has a mask of its own."""
        view, example = self._marked(values, event)
        if view is None or example is None:
            return gr.skip()
        rows, _ = view.masker.tokenize([example])
        row = next((row for row in rows if row.part == int(event.part)), None)
        if row is None:
            return gr.skip()
        made = next((mask for mask in example.masks if mask.text == row.text), None)
        others = tuple(mask for mask in example.masks if mask.text != row.text)
        mask = mark_by_hand(row, made, map(int, event.tokens), bool(event.trained))
        return values[self.desk.session.masks] | {content_of(example): (*others, mask)}

    def reset(self, values: dict, event: gr.EventData) -> dict:
        """Gives a row its usual mask back."""
        _, example = self._marked(values, event)
        return gr.skip() if example is None else values[self.desk.session.masks] | {content_of(example): ()}

    def _marked(self, values: dict, event: gr.EventData) -> tuple[View | None, Example | None]:
        """The row that was clicked; no example where the text has changed since, or cannot be read any more."""
        try:
            view = self.desk.view(values)
        except SftdemoError:  # the mask's place says what is wrong
            return None, None
        return view, view and view.example(int(event.row))

    def export(self, values: dict) -> dict:
        """The examples with their masks, as JSON Lines to download."""
        try:
            data = self.desk.data(values)
        except DataError:  # the mask's place says what is wrong
            return gr.update(visible=False)
        marked = sum(len(example.masks) for example in data.train)
        if not marked:
            return gr.update(visible=False)
        path = self.desk.backend.downloads.offer_own("masks", "examples.jsonl", partial(_write_rows, data))
        label = f"Download the examples with {marked} {plural(marked, 'mask')} made by hand"
        return gr.update(visible=True, value=str(path), label=label)


def _write_rows(data: ParsedExamples, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for example in (*data.train, *data.held_out):
            file.write(json.dumps(to_record(example), ensure_ascii=False) + "\n")


def _page(
    view: View, number: int, focus: int | None = None, row_text: tuple[int, str] | None = None
) -> tuple[str, list[TokenizedExample]]:
    number, rows = view.page(number)
    examples, problems = view.masker.tokenize(rows)
    weight = view.config.prompt_loss_weight
    total = len(view.shown)
    drawn = mask_rows(examples, view.data, problems, view.tokenizer, view.pages, number, focus, weight, total, row_text)
    return drawn, examples
