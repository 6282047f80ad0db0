"""Lay out the panels from top to bottom, in the order of use, and connect them to their handlers."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

import gradio as gr

from ..core.config import DEFAULT_MODEL
from ..core.errors import ConfigError, SftdemoError
from ..core.limits import read_limits
from ..core.palette import BUTTON, BUTTON_HOVER, ON_BUTTON, page_css
from .backend import Backend
from .controls import Controls, setting_input
from .panels.examples import Sources, mask_settings, training_settings
from .panels.film import FilmHandlers, FilmPanel
from .panels.history import HistoryHandlers, HistoryPanel
from .panels.keep import KeepHandlers, KeepPanel
from .panels.laboratory import LaboratoryHandlers, LaboratoryPanel
from .panels.lesson import LessonHandlers, LessonPanel
from .panels.link import LinkHandlers, LinkPanel
from .panels.mask import COMMAND, MaskHandlers, MaskOutputs
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
from .state import Desk, session
from .widgets import (
    STATIC,
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
WARM_DELAY = 2.0  # seconds in which the first page has the machine to itself: importing torch takes all of a core
_INTRO = """<div class="intro"><h1>See prompt masking, and feel it</h1>
<p>Fine-tuning shows a model prompts with the answers to them. With prompt masking every
<span class="chip prompt">prompt</span> token gets the label &minus;100: the model reads it, but is not graded on it.
Only the <span class="chip trained">answer</span> is trained, and with it when to stop.</p></div>"""
_LEGEND = """<div class="widget"><div class="legend">
<span><span class="chip prompt">prompt</span> seen, not trained (label &minus;100)</span>
<span><span class="chip trained">completion</span> trained</span>
<span><span class="chip trained eos">EOS</span> trained: when to stop</span>
<span><span class="chip special">special</span> put in by the chat template</span></div></div>"""


def build(backend: Backend | None = None) -> gr.Blocks:
    """Build the page without serving it. `backend` defaults to a new one."""
    with gr.Blocks(title=TITLE, fill_width=False, delete_cache=(3600, 86400)) as page:
        gr.HTML(_INTRO)
        link = LinkPanel()
        lesson = LessonPanel()
        model_status = progress_widget("model-status", progress("working", "Getting the model ready", ""))
        run_id = gr.BrowserState(None, storage_key="sftdemo-run", secret="sftdemo")
        own_runs = gr.BrowserState([], storage_key="sftdemo-runs", secret="sftdemo")
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
                gr.HTML(_LEGEND)
                with gr.Row(equal_height=False, elem_id="counts"):
                    with gr.Column(scale=3, min_width=240):
                        counts = widget("totals", totals(None, 0))
                    with gr.Column(scale=2, min_width=180):
                        only = gr.Dropdown(
                            [ALL_ROWS], value="", label="Show", container=False, interactive=False, elem_id="only"
                        )
                refusals = gr.DownloadButton("", visible=False, size="sm", elem_id="refusals")
                mask = widget("mask", mask_message("Getting the model ready…", waiting=True))
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
        _step(4, "Compare", "The same prompts, answered greedily by each model.")
        compare = compare_widget("compare", "The answers appear here, side by side, when a training is done.")
        figures = widget("figures", figures_table([]))
        film = FilmPanel()
        revisit = RevisitPanel()
        _step(5, "Take it away", "The trained model, and the command that repeats the run.")
        with gr.Row():
            download = gr.DownloadButton("Nothing trained yet", interactive=False, elem_id="download")
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
        desk = Desk(backend or Backend(), controls, kept, run_id)
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
        masking = MaskHandlers(desk, sources, masked)
        scans = masking.wire(page)
        keeping = KeepHandlers(desk, keep, sources, opening)
        keeping.wire()
        learning = LessonHandlers(desk, lesson, opening, download)
        learning.wire(keeping.outputs(), scans)
        LinkHandlers(desk, link, keeping, masking, learning).wire(page, scans)
        LaboratoryHandlers(desk, laboratory).wire(scans)
        SettingsHandlers(desk, settings_file).wire()
        outputs = RunOutputs(
            **buttons,
            **progress_panel,
            compare=compare,
            figures=figures,
            arm=revisit.arm,
            download=download,
            train_on=train_on,
            command=command,
            run_id=run_id,
            own_runs=own_runs,
        )
        running = RunHandlers(desk, outputs)
        running.wire(page)
        FilmHandlers(desk, film, run_id).wire()
        RevisitHandlers(desk, revisit, run_id).wire()
        TakeAwayHandlers(desk, take_away, outputs).wire()
        HistoryHandlers(desk, history, running).wire()
        resets = [keep.start_over.click, settings_file.upload.upload]
        starting = StartHandlers(desk, start, outputs)
        starting.wire(page, history, resets)
        PutBackHandlers(desk, sources, opening, starting).wire(history, outputs)
    page.queue(max_size=32)
    return page


def _buttons() -> dict[str, Any]:
    """Lay out the buttons that start and stop a run, and return them by their names in `RunOutputs`."""
    with gr.Row():
        train = gr.Button("Waiting for the model", variant="primary", size="lg", interactive=False, elem_id="train")
        both = gr.Button("Train both ways", size="lg", interactive=False, elem_id="both")
        stop = gr.Button("Stop, keep what it has", size="lg", visible=False, elem_id="stop")
        go_on = gr.Button("Go on", size="lg", visible=False, elem_id="go-on")
    return {"train": train, "both": both, "stop": stop, "go_on": go_on}


def _progress_panel() -> dict[str, Any]:
    """Lay out the progress of a run, and return its components by their names in `RunOutputs`."""
    run_status = progress_widget("run-status", progress("idle", "", ""))
    strip = widget("strip", RunState().strip)
    curve = _curve("loss", "Loss on the trained tokens, step by step", visible=False, elem_id="curve")
    with gr.Row(visible=False, elem_id="contest") as arm_curves:
        answers = _curve("answers", "Loss on the held-out answers", color="arm", elem_id="answers-curve")
        prompts = _curve("prompts", "Loss on the held-out prompts", color="arm", elem_id="prompts-curve")
    curves = {"curve": curve, "arm_curves": arm_curves, "answers_curve": answers, "prompts_curve": prompts}
    return {"run_status": run_status, "strip": strip} | curves


def _curve(y: str, title: str, **more: Any) -> gr.LinePlot:
    return gr.LinePlot(
        x="step", y=y, title=title, y_title="nats a token", x_axis_format="d", y_lim=[0, None], height=240, **more
    )


def _step(number: int, title: str, says: str) -> None:
    gr.HTML(f'<div class="step"><h2><b>{number}</b> {title}</h2><p>{says}</p></div>', elem_id=f"step-{number}")


def launch(host: str | None = None, port: int | None = None, open_browser: bool = True) -> None:
    """Serve the page until it is interrupted, and prepare the default model in the background.

    Args:
        host (`str`, *optional*):
            Defaults to `$GRADIO_SERVER_NAME` or 127.0.0.1.
        port (`int`, *optional*):
            Defaults to `$GRADIO_SERVER_PORT` or the first free port from 7860.
        open_browser (`bool`, *optional*, defaults to True):
            Whether to open a browser, if there is a screen.

    Raises:
        ConfigError: for a port out of range, or a limit (`Limits`) that is no number.
        SftdemoError: if the page cannot listen on the address, or if the port is taken.
    """
    if port is not None and not 1 <= port <= 65_535:
        raise ConfigError(f"port is {port}; it must lie between 1 and 65535.")
    backend = Backend()
    page = build(backend)
    theme = gr.themes.Default(
        primary_hue="amber",
        neutral_hue="slate",
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SF Mono", "Menlo", "Consolas", "monospace"],
    ).set(
        button_primary_background_fill=BUTTON,
        button_primary_background_fill_dark=BUTTON,
        button_primary_background_fill_hover=BUTTON_HOVER,
        button_primary_background_fill_hover_dark=BUTTON_HOVER,
        button_primary_text_color=ON_BUTTON,
        button_primary_text_color_dark=ON_BUTTON,
    )
    try:
        page.launch(
            inbrowser=open_browser and _has_screen(),
            server_name=host or os.environ.get("GRADIO_SERVER_NAME", "127.0.0.1"),
            server_port=port,
            prevent_thread_lock=True,
            share=False,
            ssr_mode=False,
            enable_monitoring=False,
            run_history=False,
            max_file_size="64mb",
            theme=theme,
            css=page_css(),
            css_paths=sorted(STATIC.glob("*.css")),
            footer_links=["gradio"],
            show_error=False,  # of our own errors `toasts` tells; any other may hold anything, and is in the log
        )
    except OSError as error:
        raise SftdemoError(f"the page cannot listen there: {error} Give another --host or --port.") from error
    timer = threading.Timer(WARM_DELAY, backend.warm, [DEFAULT_MODEL])
    timer.daemon = True
    timer.start()
    page.block_thread()


def _has_screen() -> bool:
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY"))
