"""Lay out the panels from top to bottom, in the order of use, and connect them to their handlers."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ..core.limits import read_limits
from .api import name_endpoints
from .backend import Backend
from .calls import RUN, RUNS
from .controls import Controls, setting_input
from .first_mask import WAITING, FirstMask
from .panels.ahead import NOTHING_YET, AheadHandlers
from .panels.edits import EditHandlers
from .panels.examples import Sources, mask_settings, training_settings
from .panels.film import FilmHandlers, FilmPanel
from .panels.history import HistoryHandlers, HistoryPanel
from .panels.keep import KeepHandlers, KeepPanel
from .panels.laboratory import LaboratoryHandlers, LaboratoryPanel
from .panels.lesson import LessonHandlers, LessonPanel
from .panels.link import LinkHandlers, LinkPanel
from .panels.losses import LossesHandlers, LossesPanel
from .panels.mask import COMMAND, MaskHandlers, MaskOutputs
from .panels.push import PushHandlers
from .panels.put_back import PutBackHandlers
from .panels.revisit import RevisitHandlers, RevisitPanel
from .panels.scanned import ALL_ROWS
from .panels.settings import SettingsHandlers, SettingsPanel
from .panels.sources import SourceHandlers
from .panels.start import StartHandlers, StartPanel
from .panels.take_away import TakeAwayHandlers, TakeAwayPanel
from .panels.train import RunHandlers, RunOutputs
from .results import compare_widget, figures_table
from .run_state import RunState
from .spoken import Page
from .state import Desk, session
from .widgets import (
    asked,
    audit_findings,
    field_errors,
    mask_message,
    progress,
    progress_widget,
    totals,
    widget,
)

TITLE = "sftdemo: see prompt masking, and feel it"
_INTRO = """<div class="intro"><a class="skip" href="#mask">Skip to the mask</a><h1>See prompt masking, and feel it</h1>
<p>Fine-tuning shows a model prompts with the answers to them. Each token has a <b>label</b>: the token that the model
should have predicted there, or &minus;100 where it is not graded. With prompt masking every
<span class="chip prompt">prompt</span> token gets &minus;100: the model reads it, no more. Only the
<span class="chip trained">answer</span> is trained, with the <b>EOS</b> at its end, the end-of-sequence token that says
when to stop.</p></div>"""


def build(backend: Backend | None = None) -> Page:
    """Build the page without serving it. `backend` defaults to a new one."""
    with Page(title=TITLE, fill_width=False, delete_cache=(3600, 86400)) as page:
        backend = backend or Backend()
        name_endpoints(backend)  # before the handlers, as Gradio numbers a name that is taken
        gr.HTML(_INTRO)
        widget("keyboard", "null")
        link = LinkPanel()
        lesson = LessonPanel()
        model_status = progress_widget("model-status", progress("working", "Getting the model ready", ""))
        run_id = gr.BrowserState(None, storage_key=RUN, secret="sftdemo")
        own_runs = gr.BrowserState([], storage_key=RUNS, secret="sftdemo")
        kept = session()
        with gr.Row(equal_height=False):
            with gr.Column(scale=5, min_width=320):
                _step(1, "Examples", "Edit them, paste your own: the mask follows.")
                sources = Sources()
                start = StartPanel()
                inputs = {"examples": sources.examples} | mask_settings()
                keep = KeepPanel()
            with gr.Column(scale=6, min_width=320):
                _step(2, "Mask", "Exactly the tokens and labels that the trainer gets.")
                with gr.Row(equal_height=False, elem_id="counts"):
                    with gr.Column(scale=3, min_width=240):
                        counts = widget("totals", totals(None, 0))
                    with gr.Column(scale=2, min_width=180):
                        only = gr.Dropdown(
                            [ALL_ROWS], value="", label="Show", container=False, interactive=False, elem_id="only"
                        )
                refusals = gr.DownloadButton("", visible=False, size="sm", elem_id="refusals")
                mask = widget("mask", mask_message(WAITING, waiting=True))
                inputs["prompt_loss_weight"] = setting_input("prompt_loss_weight", elem_id="weight")
                export = gr.DownloadButton("", visible=False, size="sm", elem_id="export")
        audit = widget("audit", audit_findings([], ""))
        laboratory = LaboratoryPanel()
        _step(3, "Train", "A short fine-tuning of the real model, on this machine.")
        inputs["prompts"] = setting_input(
            "prompts", placeholder="What is the capital of Japan?", lines=1, max_lines=6, elem_id="prompts"
        )
        questions = widget("asked", asked([]))
        wrong = widget("wrong", field_errors({}, {}))
        inputs["anyway"] = anyway = setting_input("anyway", visible=False, elem_id="anyway")
        allowed = read_limits().sentence
        gr.HTML(f'<p class="allowed">{allowed}</p>', visible=bool(allowed), elem_id="limits")
        buttons = _buttons()
        settings_file = SettingsPanel()
        controls = Controls(**inputs, **training_settings(placed=inputs, last=settings_file.place))
        progress_panel = _progress_panel()
        _step(4, "Compare", "The same prompts, answered by each model.")
        compare = compare_widget("compare", NOTHING_YET)
        figures = widget("figures", figures_table([]))
        losses = LossesPanel()
        film = FilmPanel()
        revisit = RevisitPanel()
        _step(5, "Take it away", "The trained model, and the command that repeats the run.")
        with gr.Row():
            download = gr.DownloadButton("Nothing trained yet", interactive=False, elem_id="download")
            saved = gr.State()
            train_on = gr.Button("Train on from here", visible=False, elem_id="train-on")
        take_away = TakeAwayPanel()
        command = gr.Code(
            label=COMMAND,
            language="shell",
            wrap_lines=True,
            interactive=False,
            lines=1,
            elem_id="command",
            elem_classes="command",
        )
        history = HistoryPanel()
        desk = Desk(backend, controls, kept, run_id)
        masked = MaskOutputs(
            model_status=model_status,
            mask=mask,
            only=only,
            totals=counts,
            audit=audit,
            asked=questions,
            export=export,
            refusals=refusals,
            train=buttons["train"],
            both=buttons["both"],
            anyway=anyway,
            command=command,
            wrong=wrong,
        )
        opening = SourceHandlers(desk, sources)
        opening.wire()
        first = FirstMask(page, mask, backend)
        masking = MaskHandlers(desk, sources, masked, first)
        scans = masking.wire(page)
        EditHandlers(desk, masking).wire()
        keeping = KeepHandlers(desk, keep, sources, opening)
        keeping.wire(masking.edited)
        learning = LessonHandlers(desk, lesson, opening, saved)
        learning.wire(keeping.outputs(), scans)
        LinkHandlers(desk, link, keeping, masking, learning).wire(page, scans)
        LaboratoryHandlers(desk, laboratory).wire([masking.edited, masking.drawn_when_ready], scans)
        SettingsHandlers(desk, settings_file).wire()
        outputs = RunOutputs(
            **buttons,
            **progress_panel,
            compare=compare,
            figures=figures,
            arm=revisit.arm,
            download=download,
            saved=saved,
            train_on=train_on,
            command=command,
            run_id=run_id,
            own_runs=own_runs,
        )
        running = RunHandlers(desk, outputs)
        train, both = running.wire(page)
        AheadHandlers(desk, masking.order, compare, buttons["train"], buttons["both"]).wire([*scans, train, both])
        LossesHandlers(desk, losses, run_id).wire(both, saved)
        FilmHandlers(desk, film, run_id).wire(saved)
        RevisitHandlers(desk, revisit, run_id).wire(saved)
        TakeAwayHandlers(desk, take_away, outputs).wire()
        if take_away.push is not None:
            PushHandlers(desk, take_away.push, outputs).wire(page)
        HistoryHandlers(desk, history, running).wire()
        resets = [keep.start_over.click, settings_file.upload.upload]
        starting = StartHandlers(desk, start, outputs)
        starting.wire(page, history, resets)
        PutBackHandlers(desk, sources, opening, starting).wire(history, outputs)
    page.queue(max_size=32)
    first.bring()
    return page


def _buttons() -> dict[str, Any]:
    """Lay out the buttons that start and stop a run, and return them by their names in `RunOutputs`."""
    with gr.Row(equal_height=True):
        train = gr.Button("Waiting for the model", variant="primary", size="lg", interactive=False, elem_id="train")
        both = gr.Button("Train both ways", size="lg", interactive=False, elem_id="both")
        stop = gr.Button("Stop, keep what it has", size="lg", visible=False, elem_id="stop")
        go_on = gr.Button("Go on", size="lg", visible=False, elem_id="go-on")
    return {"train": train, "both": both, "stop": stop, "go_on": go_on}


def _progress_panel() -> dict[str, Any]:
    """Lay out the progress of a run, and return its components by their names in `RunOutputs`."""
    run_status = progress_widget("run-status", progress("idle", "", ""))
    strip = widget("strip", RunState().strip)
    curve = _curve("loss", "Loss on the trained tokens", visible=False, elem_id="curve")
    with gr.Row(visible=False, elem_id="contest") as arm_curves:
        answers = _curve("answers", "Loss on the held-out answers", color="arm", elem_id="answers-curve")
        prompts = _curve("prompts", "Loss on the held-out prompts", color="arm", elem_id="prompts-curve")
    curves = {"curve": curve, "arm_curves": arm_curves, "answers_curve": answers, "prompts_curve": prompts}
    return {"run_status": run_status, "strip": strip} | curves


def _curve(y: str, title: str, **more: Any) -> gr.LinePlot:
    return gr.LinePlot(
        x="step",
        y=y,
        title=title,
        x_title="step",
        y_title="nats a token",
        color_title="arm",
        x_axis_format="d",
        y_lim=[0, None],
        height=240,
        **more,
    )


def _step(number: int, title: str, says: str) -> None:
    gr.HTML(f'<div class="step"><h2><b>{number}</b> {title}</h2><p>{says}</p></div>', elem_id=f"step-{number}")
