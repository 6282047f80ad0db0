"""Look again at the run that is shown: change the strength of its adapter."""

from __future__ import annotations

from collections.abc import Iterator

import gradio as gr

from ...core.errors import SftdemoError
from ...core.events import Answer, Phase
from ...runs.revisit import MOST_STRENGTH
from ..places import sentence
from ..results import answers_at_strength, compare_widget, comparison
from ..run_state import summarize
from ..state import Desk
from ..widgets import progress, progress_widget
from .handlers import PRIVATE, Updates
from .losses import NO_RUN, raise_failed

_ABOUT = "Move the slider: the prompts are answered again at that strength."


class RevisitPanel:
    """The components of the panel, closed at first. If a run trained several models, `arm` is the prompt-loss
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
            self.answers = compare_widget("strengths", _ABOUT)


class RevisitHandlers:
    """Ask the models of the shown run again."""

    def __init__(self, desk: Desk, panel: RevisitPanel, run_id: gr.BrowserState):
        self.desk, self.panel, self.run_id = desk, panel, run_id

    def wire(self, saved: gr.State) -> None:
        """Connect components and handlers. `saved` changes with the run that is shown."""
        panel, device = self.panel, self.desk.controls.device
        inputs = {panel.on, panel.strength, panel.arm, panel.prompt, self.run_id, device}
        shown = [panel.status, panel.answers]
        asked = gr.on(
            [panel.on.input, panel.strength.input, panel.arm.input, panel.prompt.submit],
            self.ask,
            inputs,
            shown,
            trigger_mode="always_last",
            concurrency_limit=4,
            **PRIVATE,
        )
        saved.change(self.reset, None, shown, **PRIVATE)
        self.run_id.change(None, cancels=asked, **PRIVATE)

    def reset(self) -> Updates:
        """Take the answers of the last run away when another is shown."""
        return {self.panel.status: progress("idle", ""), self.panel.answers: comparison([], _ABOUT)}

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
                raise_failed(event)
        except SftdemoError as error:
            yield {panel.status: progress("failed", sentence(error) if run_id else NO_RUN)}
            return
        *_, events = self.desk.backend.watch(run_id)
        state = summarize(events)
        index = state.arms.index(arm) if arm in state.arms else 0
        shown = answers_at_strength(strength, answers, state.comparisons, index)
        yield {panel.status: progress("idle", ""), panel.answers: shown}
