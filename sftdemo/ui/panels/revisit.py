"""Looking again at the run that is shown: the adapter turned up and down, and the loss of every token."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import gradio as gr

from ...core.errors import SftdemoError, sentence
from ...core.events import Answer, Event, Failed, Phase, TokenLosses
from ...runs.revisit import MOST_STRENGTH
from ..results import columns_at, compare_widget, losses, losses_widget, no_losses
from ..run_state import tell
from ..state import Desk
from ..widgets import progress, progress_widget
from .mask import PRIVATE, Updates

_NO_RUN = "No finished run is shown yet; train first, or show an earlier run."


@dataclass(frozen=True)
class Revisiting:
    """The panels' components. `arm` is the prompt-loss weight of the model that is asked, where a run has several."""

    on: gr.Checkbox
    strength: gr.Slider
    arm: gr.Radio
    prompt: gr.Textbox
    status: gr.HTML
    answers: gr.HTML
    look: gr.Button
    losses: gr.HTML


def revisiting() -> Revisiting:
    """Lays the panels out, closed."""
    with gr.Accordion("Turn what it learned up and down", open=False, elem_id="strength-door"):
        on = gr.Checkbox(True, label="Adapter on", elem_id="adapter-on")
        with gr.Row():
            strength = gr.Slider(
                0,
                MOST_STRENGTH,
                value=1.0,
                step=0.05,
                label="Strength",
                info="0 is the base, 1 as it was trained; above 1 exaggerates",
                elem_id="strength",
                scale=4,
            )
            arm = gr.Radio([], label="Which model", visible=False, elem_id="arm", scale=2)
        prompt = gr.Textbox(
            label="Ask it something else, too",
            placeholder="Write a prompt and press Enter",
            lines=1,
            max_lines=1,
            elem_id="ask",
        )
        status = progress_widget("strength-status", progress("idle", ""))
        answers = compare_widget("strengths", "Move the slider: the prompts are answered again at that strength.")
    with gr.Accordion("The loss of every token, before and after", open=False, elem_id="losses-door"):
        look = gr.Button("Look at every token's loss", elem_id="look")
        found = losses_widget()
    return Revisiting(on, strength, arm, prompt, status, answers, look, found)


class RevisitingHandlers:
    """Asks the run that is shown again."""

    def __init__(self, desk: Desk, panels: Revisiting, run_id: gr.BrowserState):
        self.desk, self.panels, self.run_id = desk, panels, run_id

    def wire(self) -> None:
        """Connects components and handlers."""
        panels, device = self.panels, self.desk.controls.device
        asked = {panels.on, panels.strength, panels.arm, panels.prompt, self.run_id, device}
        gr.on(
            [panels.on.input, panels.strength.input, panels.arm.input, panels.prompt.submit],
            self.ask,
            asked,
            [panels.status, panels.answers],
            trigger_mode="always_last",
            concurrency_limit=4,
            **PRIVATE,
        )
        panels.look.click(
            self.look, {self.run_id, device}, [panels.look, panels.losses], concurrency_limit=4, **PRIVATE
        )

    def ask(self, values: dict) -> Iterator[Updates]:
        """The run's prompts, and a typed one, answered with the adapter at the chosen strength."""
        panels, run_id = self.panels, values[self.run_id]
        strength = float(values[panels.strength]) if values[panels.on] else 0.0
        typed, arm = (values[panels.prompt] or "").strip(), values[panels.arm]
        answers = []
        try:
            device = values[self.desk.controls.device]
            prompts = [typed] if typed else []
            for event in self.desk.backend.answers_at(run_id, strength, prompts, arm, device):
                if isinstance(event, Answer):
                    answers.append(event)
                elif isinstance(event, Phase):
                    yield {panels.status: progress("working", event.message, "", event.fraction)}
                _raise_failed(event)
        except SftdemoError as error:
            yield {panels.status: progress("failed", sentence(error) if run_id else _NO_RUN)}
            return
        *_, events = self.desk.backend.watch(run_id)
        story = tell(events)
        index = story.arms.index(arm) if arm in story.arms else 0
        answered = columns_at(strength, answers, story.comparisons, index)
        yield {panels.status: progress("idle", ""), panels.answers: answered}

    def look(self, values: dict) -> Iterator[Updates]:
        """Every token's loss, by the base and by what was trained."""
        run_id, rows, button, found = values[self.run_id], [], self.panels.look, self.panels.losses
        yield {button: gr.update(interactive=False), found: no_losses("Reading every token's loss…")}
        try:
            for event in self.desk.backend.token_losses(run_id, values[self.desk.controls.device]):
                if isinstance(event, TokenLosses):
                    rows.append(event)
                elif isinstance(event, Phase):
                    yield {found: no_losses(f"{event.message}…")}
                _raise_failed(event)
            yield {button: gr.update(interactive=True), found: losses(rows)}
        except SftdemoError as error:
            message = sentence(error) if run_id else _NO_RUN
            yield {button: gr.update(interactive=True), found: no_losses(message, failed=True)}


def _raise_failed(event: Event) -> None:
    if isinstance(event, Failed):
        raise SftdemoError(event.message)
