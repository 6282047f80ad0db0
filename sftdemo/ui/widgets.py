"""The page's own components: HTML drawn in the browser from JSON, the user's text set as `textContent` only.

Made by functions: a subclass of `gr.HTML` would have Gradio write a `.pyi` file beside this one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from ..events import Before, Comparison
from ..examples import Example, ParsedExamples, Problem
from ..rendering import flag_sentences, summary, view_tokens
from ..tokenization import TokenizedExample

STATIC = Path(__file__).parent / "static"
ROWS_DRAWN = 50
_SHORT = {"special": "s", "template": "t", "prompt": "p", "completion": "c", "eos": "e"}


def _widget(name: str, value: str) -> gr.HTML:
    script = (STATIC / "helpers.js").read_text() + (STATIC / f"{name}.js").read_text()
    return gr.HTML(value, html_template=f'<div class="widget {name}"></div>', js_on_load=script, elem_id=name)


def mask_widget() -> gr.HTML:
    return _widget("mask", mask_message("Getting the model ready…", waiting=True))


def progress_widget(elem_id: str, value: str) -> gr.HTML:
    widget = _widget("progress", value)
    widget.elem_id = elem_id
    return widget


def asked_widget() -> gr.HTML:
    return _widget("asked", asked([]))


def compare_widget() -> gr.HTML:
    return _widget("compare", comparison([], "The answers appear here, side by side, when a training is done."))


def mask_message(message: str, waiting: bool = False, problems: Sequence[str] = ()) -> str:
    """A mask view without rows."""
    return _json(rows=[], more=0, problems=list(problems), notes=[], summary="", message=message, waiting=waiting)


def mask_rows(
    examples: Sequence[TokenizedExample], data: ParsedExamples, problems: Sequence[Problem], tokenizer
) -> str:
    """The first `ROWS_DRAWN` examples as tokens, the totals of all, and what was refused."""
    rows = [
        {
            "row": example.row,
            "prompt": len(example.input_ids) - example.trained,
            "trained": example.trained,
            "cut": example.cut,
            "flags": flag_sentences(example),
            "tokens": [
                [token.text, _SHORT[token.kind], token.id, token.trained, token.breaks]
                for token in view_tokens(example, tokenizer)
            ],
        }
        for example in examples[:ROWS_DRAWN]
    ]
    held_out = f" · {len(data.held_out)} held out" if data.held_out else ""
    return _json(
        rows=rows,
        more=max(0, len(examples) - ROWS_DRAWN),
        problems=[str(problem) for problem in (*data.problems, *problems)][:ROWS_DRAWN],
        notes=list(data.notes)[:ROWS_DRAWN],
        summary=summary(examples) + held_out if examples else "",
        message="" if examples else "No example to train on yet.",
        waiting=False,
    )


def progress(state: str, title: str, detail: str = "", fraction: float | None = None, notes: Sequence[str] = ()) -> str:
    """A line of status with a bar. `state` is "idle", "working", "done" or "failed"."""
    return _json(state=state, title=title, detail=detail, fraction=fraction, notes=list(notes))


def comparison(rows: Sequence[Comparison | Before], message: str) -> str:
    """Prompts with their answers before and, once they are known, after."""
    return _json(rows=[_pair(row) for row in rows], message=message)


def _pair(row: Comparison | Before) -> dict:
    if isinstance(row, Comparison):
        return row.to_dict()
    pair = {"prompt": row.prompt, "source": row.source, "before": row.answer, "before_stop": row.stop}
    return pair | {"after": None, "after_stop": ""}


def asked(questions: Sequence[tuple[str, Example, str]]) -> str:
    """The prompts that will be answered before and after, as `runs.questions_asked` gives them."""
    return _json(questions=[{"text": text, "source": source} for text, _, source in questions])


def _json(**fields: object) -> str:
    return json.dumps(fields, ensure_ascii=False)
