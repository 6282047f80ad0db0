"""The page's own components: HTML drawn in the browser from JSON, the user's text set as `textContent` only.

Made by functions: a subclass of `gr.HTML` would have Gradio write a `.pyi` file beside this one.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import gradio as gr

from ..data.examples import ParsedExamples, Problem
from ..data.questions import Question
from ..mask.audit import Audit
from ..mask.boundary import Boundary, Remedy
from ..mask.checks import Finding
from ..mask.labels import TokenizedExample
from ..mask.layouts import Block, Layout
from ..mask.view import LAYOUT_NAMES, SAYS, layout_figure, mask_sentence, summary, view_tokens, visible

STATIC = Path(__file__).parent / "static"
MESSAGES_DRAWN = 50
CUT_TOKENS_DRAWN = 200
BARS_DRAWN = 24
KINDS = {kind: index for index, kind in enumerate(SAYS)}


def widget(name: str, value: str, elem_id: str | None = None) -> gr.HTML:
    """`static/NAME.js` as a component that draws `value`."""
    script = f"const SAYS = {json.dumps(SAYS)};\n"  # the kinds of tokens, in the order of their numbers
    script += (STATIC / "helpers.js").read_text() + (STATIC / f"{name}.js").read_text()
    frame = f'<div class="widget {name}"></div>'
    return gr.HTML(value, html_template=frame, js_on_load=script, elem_id=elem_id or name)


def mask_widget() -> gr.HTML:
    """The rows of tokens. Events: `pick`, `turn` (a page), `toggle` and `reset` (a mask made by hand)."""
    return widget("mask", mask_message("Getting the model ready…", waiting=True))


def totals_widget() -> gr.HTML:
    return widget("totals", totals(None, 0))


def audit_widget() -> gr.HTML:
    """The findings. Event: `goto` (a row)."""
    return widget("audit", audit_findings([], ""))


def boundary_widget() -> gr.HTML:
    """Event: `mend` (a template)."""
    return widget("boundary", boundary_message("Pick a token: the boundary of its row is looked at here."))


def packing_widget() -> gr.HTML:
    return widget("packing", packing_message(""))


def versus_widget() -> gr.HTML:
    return widget("versus", versus([], "Choose another model or template, and see the same row both ways."))


def progress_widget(elem_id: str, value: str) -> gr.HTML:
    return widget("progress", value, elem_id)


def asked_widget() -> gr.HTML:
    return widget("asked", asked([]))


def mask_message(message: str, waiting: bool = False) -> str:
    """A mask view without rows."""
    return to_json(_no_rows | {"message": message, "waiting": waiting})


_no_rows = {
    "rows": [],
    "first": 0,
    "total": 0,
    "page": 0,
    "pages": 0,
    "problems": [],
    "notes": [],
    "message": "",
    "waiting": False,
    "focus": None,
    "weight": 0,
}


def mask_rows(
    examples: Sequence[TokenizedExample],
    data: ParsedExamples,
    problems: Sequence[Problem],
    tokenizer,
    pages: Sequence[int],
    page: int,
    focus: int | None = None,
    prompt_loss_weight: float = 0.0,
) -> str:
    """A page of examples as tokens, what was refused, and the row to bring into view, if any. `pages` are the indices
    of the pages' first examples. What is not trained is shaded by how much it counts all the same."""
    parts = Counter(example.row for example in examples)
    return to_json(
        _no_rows
        | {
            "rows": [_card(example, parts[example.row], tokenizer) for example in examples],
            "first": pages[page] if pages else 0,
            "total": len(data.train),
            "page": page,
            "pages": len(pages),
            "problems": [str(problem) for problem in (*data.problems, *problems)][:MESSAGES_DRAWN],
            "notes": list(data.notes)[:MESSAGES_DRAWN],
            "message": "" if examples else "No example to train on yet.",
            "focus": focus,
            "weight": prompt_loss_weight,
        }
    )


def _card(example: TokenizedExample, parts: int, tokenizer) -> dict:
    drawn = len(example.input_ids) + CUT_TOKENS_DRAWN
    return {
        "row": example.row,
        "part": example.part,
        "parts": parts,
        "prompt": len(example.input_ids) - example.trained,
        "trained": example.trained,
        "cut": example.cut,
        "more": max(0, example.cut - CUT_TOKENS_DRAWN),
        "hand": "made_by_hand" in example.flags,
        # the card itself says that a mask was made by hand
        "flags": [words for flag, words in example.sentences.items() if flag != "made_by_hand"],
        "tokens": _tokens(example, tokenizer)[:drawn],
    }


def _tokens(example: TokenizedExample, tokenizer) -> list[list]:
    """For helpers.js: text, kind, id, bits (1 trained, 2 cut off), newlines after it."""
    return [
        [token.text, KINDS[token.kind], token.id, token.trained + 2 * token.cut, token.breaks]
        for token in view_tokens(example, tokenizer)
    ]


def totals(audit: Audit | None, held_out: int, fraction: float | None = None) -> str:
    """The numbers of all rows and their mask's hash, or while they are being counted how far that is."""
    counted = audit if audit and audit.examples else None
    words = summary(counted.examples, counted.tokens, counted.trained, held_out) if counted else ""
    found = mask_sentence(str(counted.mask_hash)) if counted and fraction is None else ""
    return to_json({"summary": words, "hash": found, "fraction": fraction})


def audit_findings(findings: Sequence[Finding], message: str) -> str:
    """What the audit has to say."""
    return to_json({"findings": [finding.to_dict() for finding in findings], "message": message})


def boundary_message(message: str) -> str:
    """A boundary view without tokens."""
    return to_json({"lanes": [], "at": 0, "merged": False, "message": message, "remedy": None})


def boundary_lanes(boundary: Boundary, remedy: Remedy | None) -> str:
    """The three ways to cut a text into tokens, to be drawn under each other."""
    lanes = []
    for name, pieces in (("alone", boundary.alone), ("together", boundary.together), ("used", boundary.used)):
        drawn = [
            (visible(boundary.text[piece.begin : piece.end]), *vars(piece).values(), piece.begin >= boundary.at)
            for piece in pieces
            if piece.begin < piece.end
        ]
        lanes.append((name, drawn))
    found = {"lanes": lanes, "at": boundary.at, "merged": boundary.merged}
    words = f"Row {boundary.row}. {boundary.sentence}"
    return to_json(found | {"message": words, "remedy": remedy and vars(remedy)})


def packing_message(message: str) -> str:
    """A packing view without rows."""
    return to_json({"layouts": [], "message": message})


def packing_rows(layouts: Sequence[Layout], audit: Audit) -> str:
    """Layouts of the audited rows, as rows of blocks."""
    message = (
        "Each colour is an example, its trained part darker; hatched is padding. Without packing, “shared” is what "
        "is computed here, where the model allows it. The trainer draws the rows in another order each epoch."
    )
    return to_json({"layouts": [_layout(layout, audit) for layout in layouts], "message": message})


def _layout(layout: Layout, audit: Audit) -> dict:
    drawn = [
        {
            "width": width,
            "blocks": [_block(block, layout, audit) for block in blocks],
        }
        for blocks, width in zip(layout.rows[:BARS_DRAWN], layout.widths[:BARS_DRAWN], strict=True)
    ]
    return {
        "name": layout.name,
        "title": LAYOUT_NAMES[layout.name].format(batch_size=audit.batch_size, max_length=audit.max_length),
        "figure": layout_figure(layout, audit.max_length),
        "wasted": layout.wasted,
        "rows": drawn,
        "more": max(0, len(layout.rows) - BARS_DRAWN),
    }


def _block(block: Block, layout: Layout, audit: Audit) -> list:
    """For packing.js: example, row, tokens in this block, the runs of trained ones among them, tokens before them."""
    parts = layout.trained_parts(block, audit.spans[block.example])
    return [block.example, audit.rows[block.example], block.length, parts, block.begin]


def versus(columns: Sequence[tuple[str, TokenizedExample, object]], message: str, failed: bool = False) -> str:
    """The same example in several columns: (title, example, tokenizer)."""
    drawn = [{"title": title} | _card(example, 1, tokenizer) for title, example, tokenizer in columns]
    return to_json({"columns": drawn, "message": message, "failed": failed})


def progress(state: str, title: str, detail: str = "", fraction: float | None = None, notes: Sequence[str] = ()) -> str:
    """A line of status with a bar. `state` is "idle", "working", "done" or "failed"."""
    return to_json({"state": state, "title": title, "detail": detail, "fraction": fraction, "notes": list(notes)})


def asked(questions: Sequence[Question]) -> str:
    """The prompts that will be answered before and after."""
    return to_json({"questions": [{"text": each.text, "source": each.source} for each in questions]})


def to_json(fields: dict) -> str:
    """A widget's value."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
