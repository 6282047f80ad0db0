"""Look again at the run that is shown: change the strength of its adapter, and see the loss of every token."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from ...core.errors import SftdemoError, sentence
from ...core.events import Answer, Event, Failed, Phase, TokenLosses
from ...runs.revisit import MOST_STRENGTH
from ..results import answers_at_strength, compare_widget, losses_message, losses_rows
from ..run_state import summarize
from ..state import Desk
from ..widgets import progress, progress_widget, widget
from .mask import PRIVATE, Updates

_NO_RUN = "No finished run is shown yet; train first, or show an earlier run."


class RevisitPanel:
    """The components of both accordions, closed at first. If a run trained several models, `arm` is the prompt-loss
    weight of the one that answers."""

    def __init__(self):
        with gr.Accordion("Turn what it learned up and down", open=False, elem_id="strength-door"):
            self.on = gr.Checkbox(True, label="Adapter on", elem_id="adapter-on")
            with gr.Row():
                self.strength = gr.Slider(
                    0,
                    MOST_STRENGTH,
                    value=1.0,
                    step=0.05,
                    label="Strength",
                    info="0 is the base, 1 as it was trained; above 1 exaggerates",
                    elem_id="strength",
                    scale=4,
                )
                self.arm = gr.Radio([], label="Which model", visible=False, elem_id="arm", scale=2)
            self.prompt = gr.Textbox(
                label="Ask it something else, too",
                placeholder="Write a prompt and press Enter",
                lines=1,
                max_lines=1,
                elem_id="ask",
            )
            self.status = progress_widget("strength-status", progress("idle", ""))
            message = "Move the slider: the prompts are answered again at that strength."
            self.answers = compare_widget("strengths", message)
        with gr.Accordion("The loss of every token, before and after", open=False, elem_id="losses-door"):
            self.look = gr.Button("Look at every token's loss", elem_id="look")
            message = "Every token of the rows in the colour of its loss, those of the prompt too."
            self.losses = widget("losses", losses_message(message))


class RevisitHandlers:
    """Ask the models of the shown run again."""

    def __init__(self, desk: Desk, panel: RevisitPanel, run_id: gr.BrowserState):
        self.desk, self.panel, self.run_id = desk, panel, run_id

    def wire(self) -> None:
        """Connect components and handlers."""
        panel, device = self.panel, self.desk.controls.device
        inputs = {panel.on, panel.strength, panel.arm, panel.prompt, self.run_id, device}
        gr.on(
            [panel.on.input, panel.strength.input, panel.arm.input, panel.prompt.submit],
            self.ask,
            inputs,
            [panel.status, panel.answers],
            trigger_mode="always_last",
            concurrency_limit=4,
            **PRIVATE,
        )
        panel.look.click(self.look, {self.run_id, device}, [panel.look, panel.losses], concurrency_limit=4, **PRIVATE)

    def ask(self, values: dict) -> Iterator[Updates]:
        """Answer the prompts of the run, and a typed one, with the adapter at the chosen strength."""
        panel, run_id = self.panel, values[self.run_id]
        strength = float(values[panel.strength]) if values[panel.on] else 0.0
        typed, arm = (values[panel.prompt] or "").strip(), values[panel.arm]
        answers = []
        try:
            device = values[self.desk.controls.device]
            prompts = [typed] if typed else []
            for event in self.desk.backend.answers_at(run_id, strength, prompts, arm, device):
                if isinstance(event, Answer):
                    answers.append(event)
                elif isinstance(event, Phase):
                    yield {panel.status: progress("working", event.message, "", event.fraction)}
                _raise_failed(event)
        except SftdemoError as error:
            yield {panel.status: progress("failed", sentence(error) if run_id else _NO_RUN)}
            return
        *_, events = self.desk.backend.watch(run_id)
        state = summarize(events)
        index = state.arms.index(arm) if arm in state.arms else 0
        shown = answers_at_strength(strength, answers, state.comparisons, index)
        yield {panel.status: progress("idle", ""), panel.answers: shown}

    def look(self, values: dict) -> Iterator[Updates]:
        """Show the loss of every token under the base and under each trained model."""
        run_id, rows, button, found = values[self.run_id], [], self.panel.look, self.panel.losses
        yield {button: gr.update(interactive=False), found: losses_message("Reading every token's loss…")}
        try:
            for event in self.desk.backend.token_losses(run_id, values[self.desk.controls.device]):
                if isinstance(event, TokenLosses):
                    rows.append(event)
                elif isinstance(event, Phase):
                    yield {found: losses_message(f"{event.message}…")}
                _raise_failed(event)
            yield {button: gr.update(interactive=True), found: losses_rows(rows)}
        except SftdemoError as error:
            message = sentence(error) if run_id else _NO_RUN
            yield {button: gr.update(interactive=True), found: losses_message(message, failed=True)}


def _raise_failed(event: Event) -> None:
    if isinstance(event, Failed):
        raise SftdemoError(event.message)
