"""Ask which columns are the prompt and the answer, where no shape has a file's columns, and show how rows are read."""

from __future__ import annotations

from typing import Any

import gradio as gr

from ...data.examples import Example, ParsedExamples
from ..reading import REFUSED, TEMPLATE, UNCHANGED, ColumnChoice
from ..widgets import columns_preview, widget

ROWS_SHOWN = 3
_HOW = [
    ("through the prompt template", TEMPLATE),
    ("unchanged", UNCHANGED),
    ("not at all: show why the rows are refused", REFUSED),
]


class ColumnsPanel:
    """The card that asks, hidden where all columns are known."""

    def __init__(self):
        with gr.Group(visible=False, elem_id="columns") as self.card:
            self.preview = widget("columns", columns_preview("", []), elem_id="columns-preview")
            with gr.Row():
                self.prompt = gr.Dropdown([], label="Read as the prompt", min_width=120, elem_id="prompt-column")
                self.answer = gr.Dropdown([], label="Read as the answer", min_width=120, elem_id="answer-column")
            self.how = gr.Radio(_HOW, value=TEMPLATE, label="The prompt goes", elem_id="columns-how")

    def inputs(self) -> list:
        """Return what the person chooses with, in the order of `chosen`."""
        return [self.prompt, self.answer, self.how]

    def outputs(self) -> list:
        """Return all that `show` changes."""
        return [self.card, self.preview, *self.inputs()]

    def show(self, choice: ColumnChoice | None, data: ParsedExamples | None = None) -> dict[Any, Any]:
        """Return the updates that show a choice with the first rows as they are read, or hide the card."""
        if choice is None:
            return {self.card: gr.update(visible=False)}
        rows = sorted((*data.train[:ROWS_SHOWN], *data.held_out[:ROWS_SHOWN]), key=_row) if data else []
        known = {"choices": list(choice.names), "interactive": choice.how != REFUSED}
        return {
            self.card: gr.update(visible=True),
            self.preview: columns_preview(_words(choice), rows[:ROWS_SHOWN] if choice.columns else []),
            self.prompt: gr.update(value=choice.prompt, **known),
            self.answer: gr.update(value=choice.answer, **known),
            self.how: choice.how,
        }


def chosen(prompt: str | None, answer: str | None, how: str) -> dict[str, str | None]:
    """Return what was chosen, as `reading.read` takes it."""
    return {"prompt": prompt or None, "answer": answer or None, "how": how}


def _row(example: Example) -> int:
    return example.row


def _words(choice: ColumnChoice) -> str:
    if choice.how == REFUSED:
        return "The rows are refused, since no known shape has these columns."
    if choice.prompt and choice.prompt == choice.answer:
        return "The prompt and the answer are the same column; choose two."
    if not choice.columns:
        return "No known shape has these columns. Choose the prompt and the answer among them; the mask follows."
    return "No known shape has these columns, so they are read like this. Choose others if that is wrong."
