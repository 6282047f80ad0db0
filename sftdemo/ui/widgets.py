"""Make the page's own components: HTML drawn in the browser from JSON, with the user's text set as `textContent` only.

They are made by functions, because Gradio writes a `.pyi` file next to any module with a subclass of `gr.HTML`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import gradio as gr

from ..core.errors import SftdemoError
from ..data.examples import Example, ParsedExamples, Problem
from ..data.problems import ProblemGroup, group_problems
from ..data.questions import Question
from ..mask import view
from ..mask.audit import Audit
from ..mask.boundary import Boundary, Remedy
from ..mask.checks import CHECKS, Finding
from ..mask.labels import TokenizedExample
from ..mask.layouts import Block, Layout
from ..mask.view import LAYOUT_NAMES, SAYS, layout_figure, mask_sentence, row_counts, view_tokens, visible
from .controls import input_id, title_of
from .places import sentence
from .words import TAGS, language, say, say_all, words_of

STATIC = Path(__file__).parent / "static"
MESSAGES_DRAWN = 50
CHARACTERS_PREVIEWED = 240
ROWS_LINKED = 12  # of each group of refused rows; audit.js has as many of each finding
CUT_TOKENS_DRAWN = 200
BARS_DRAWN = 24
KINDS = {kind: index for index, kind in enumerate(SAYS)}


def widget(name: str, value: str, elem_id: str | None = None) -> gr.HTML:
    """Return a component that draws the JSON `value` with `static/NAME.js`. `elem_id` defaults to `name`."""
    frame = f'<div class="widget {name}"></div>'
    return gr.HTML(value, html_template=frame, js_on_load=script(name), elem_id=elem_id or name)


def script(name: str) -> str:
    """Return the script of a widget, which begins with its words in the language of the visit."""
    code = "".join((STATIC / f"{each}.js").read_text(encoding="utf-8") for each in ("helpers", name))
    kinds = {kind: say(words) for kind, words in SAYS.items()}  # the scripts know a kind by its place in here
    given = {"LANG": TAGS[language()], "WORDS": words_of(code), "SAYS": kinds}
    return "".join(f"const {each} = {json.dumps(value, ensure_ascii=False)};\n" for each, value in given.items()) + code


def progress_widget(elem_id: str, value: str) -> gr.HTML:
    """Return a line of status whose value is made by `progress`."""
    return widget("progress", value, elem_id)


def mask_message(message: str, waiting: bool = False) -> str:
    """Return a mask view without rows."""
    return to_json(_NO_ROWS | {"message": say(message), "waiting": waiting})


_NO_ROWS = {
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
    "row_text": None,
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
    total: int | None = None,
    row_text: tuple[int, str] | None = None,
) -> str:
    """Return a mask view of one page of examples, with the refused rows and the notes on the data.

    Args:
        examples (`Sequence[TokenizedExample]`):
            The examples of the page.
        data (`ParsedExamples`), problems (`Sequence[Problem]`):
            All examples, and the rows of this page whose prompt could not be rendered.
        tokenizer:
            It names the special tokens.
        pages (`Sequence[int]`), page (`int`):
            The index of the first example of each page, and which page is shown, from 0.
        focus (`int`, *optional*):
            The number of a row to scroll to.
        prompt_loss_weight (`float`, *optional*, defaults to 0.0):
            How much masked tokens count in the loss. They are shaded by it.
        total (`int`, *optional*):
            The number of examples on all pages, by default all.
        row_text (`tuple[int, str]`, *optional*):
            The number of a refused row and what it says, to be shown.
    """
    total = len(data.train) if total is None else total
    parts = Counter(example.row for example in examples)
    return to_json(
        _NO_ROWS
        | {
            "rows": [_card(example, parts[example.row], tokenizer, prompt_loss_weight) for example in examples],
            "first": pages[page] if pages else 0,
            "total": total,
            "page": page,
            "pages": len(pages),
            "problems": problem_groups((*data.problems, *problems)),
            "notes": say_all(data.notes[:MESSAGES_DRAWN]),
            "message": "" if examples else say(_nothing_shown(data, total)),
            "focus": focus,
            "weight": prompt_loss_weight,
            "row_text": row_text,
        }
    )


def _nothing_shown(data: ParsedExamples, total: int) -> str:
    return "No row has such a finding." if data.train and not total else "No example to train on yet."


def problem_groups(problems: Sequence[Problem]) -> list[dict]:
    """Return refused rows and, behind them, dropped ones as mask.js reads them, grouped by their reason."""
    groups: list[ProblemGroup] = []
    for dropped in (False, True):
        groups += group_problems((each for each in problems if each.dropped is dropped), ROWS_LINKED)
    return [_group(group) for group in groups[:MESSAGES_DRAWN]]


def _group(group: ProblemGroup) -> dict:
    first = group.problems[0]
    words = f"left out: {group.reason}" if first.dropped else group.reason
    rows = [[problem.row, problem.line] for problem in group.problems]
    return {"words": say(words), "dropped": first.dropped, "rows": rows, "count": group.count}


def _card(example: TokenizedExample, parts: int, tokenizer, prompt_loss_weight: float = 0.0) -> dict:
    drawn = len(example.input_ids) + CUT_TOKENS_DRAWN
    trained, partly, untrained = row_counts(example, prompt_loss_weight)
    return {
        "row": example.row,
        "part": example.part,
        "parts": parts,
        "prompt": untrained,
        "partly": partly,
        "trained": trained,
        "counts": example.trained > 0,
        "cut": example.cut,
        "more": max(0, example.cut - CUT_TOKENS_DRAWN),
        "hand": "made_by_hand" in example.flags,
        # the card itself says that a mask was made by hand
        "flags": [
            [CHECKS[flag].severity, say(words)] for flag, words in example.sentences.items() if flag != "made_by_hand"
        ],
        "tokens": token_list(example, tokenizer)[:drawn],
    }


def token_list(example: TokenizedExample, tokenizer) -> list[list]:
    """Return for each token, as helpers.js reads it, [text, kind, id, bits, number of newlines after it]. Of the bits,
    1 stands for trained and 2 for cut off."""
    return [
        [token.text, KINDS[token.kind], token.id, token.trained + 2 * token.cut, token.breaks]
        for token in view_tokens(example, tokenizer)
    ]


def columns_preview(message: str, examples: Sequence[Example]) -> str:
    """Return rows as they are read under chosen columns, each with the beginning of its prompt and its answer."""
    rows = [
        {"row": each.row, "prompt": _begin(each.prompt or each.instruction), "answer": _begin(each.completion)}
        for each in examples
    ]
    return to_json({"message": say(message), "rows": rows})


def _begin(text: str) -> str:
    return text if len(text) <= CHARACTERS_PREVIEWED else f"{text[:CHARACTERS_PREVIEWED]}…"


def totals(audit: Audit | None, held_out: int, fraction: float | None = None, prompt_loss_weight: float = 0.0) -> str:
    """Return the numbers of all rows and the hash of their mask. While the rows are being counted, `fraction` is the
    share that is done, and there is no hash yet."""
    counted = audit if audit and audit.examples else None
    words = view.totals(counted, held_out, prompt_loss_weight) if counted else ""
    found = mask_sentence(str(counted.mask_hash)) if counted and fraction is None else ""
    return to_json({"summary": say(words), "hash": say(found), "fraction": fraction})


def audit_findings(findings: Sequence[Finding], message: str) -> str:
    """Return the findings of an audit."""
    drawn = [
        each.to_dict() | {"what": say(each.what), "why": say(each.why), "remedy": say(each.remedy)} for each in findings
    ]
    return to_json({"findings": drawn, "message": say(message)})


def boundary_message(message: str) -> str:
    """Return a boundary view without tokens."""
    return to_json({"lanes": [], "at": 0, "merged": False, "message": say(message), "remedy": None})


def boundary_lanes(boundary: Boundary, remedy: Remedy | None) -> str:
    """Return the three ways to split a row into tokens, to be drawn below each other, and the remedy, if any."""
    lanes = []
    for name, pieces in (("alone", boundary.alone), ("together", boundary.together), ("used", boundary.used)):
        drawn = [
            (visible(boundary.text[piece.begin : piece.end]), *vars(piece).values(), piece.begin >= boundary.at)
            for piece in pieces
            if piece.begin < piece.end
        ]
        lanes.append((say(name), drawn))
    found = {"lanes": lanes, "at": boundary.at, "merged": boundary.merged}
    words = f"Row {boundary.row}. {boundary.sentence}"
    return to_json(found | {"message": say(words), "remedy": remedy and vars(remedy)})


def packing_message(message: str) -> str:
    """Return a packing view without rows."""
    return to_json({"layouts": [], "message": say(message)})


def packing_rows(layouts: Sequence[Layout], audit: Audit) -> str:
    """Return the layouts of the audited rows, each as rows of blocks."""
    message = (
        "Each colour is an example, its trained part darker; hatched is padding. Without packing, “shared” is what "
        "is computed here, where the model allows it. The trainer draws the rows in another order each epoch."
    )
    return to_json({"layouts": [_layout(layout, audit) for layout in layouts], "message": say(message)})


def _layout(layout: Layout, audit: Audit) -> dict:
    drawn = [
        {"width": width, "blocks": [_block(block, layout, audit) for block in blocks]}
        for blocks, width in zip(layout.rows[:BARS_DRAWN], layout.widths[:BARS_DRAWN], strict=True)
    ]
    return {
        "name": layout.name,
        "title": say(LAYOUT_NAMES[layout.name].format(batch_size=audit.batch_size, max_length=audit.max_length)),
        "figure": say(layout_figure(layout, audit.max_length)),
        "wasted": layout.wasted,
        "rows": drawn,
        "more": max(0, len(layout.rows) - BARS_DRAWN),
    }


def _block(block: Block, layout: Layout, audit: Audit) -> list:
    """Return a block as packing.js reads it: [example, row, tokens in the block, runs of trained tokens among them,
    tokens of the example before the block]."""
    parts = layout.trained_parts(block, audit.spans[block.example])
    return [block.example, audit.rows[block.example], block.length, parts, block.begin]


def versus(columns: Sequence[tuple[str, TokenizedExample, object]], message: str, failed: bool = False) -> str:
    """Return one example in several columns, each (title, tokenized example, tokenizer)."""
    drawn = [{"title": say(title)} | _card(example, 1, tokenizer) for title, example, tokenizer in columns]
    return to_json({"columns": drawn, "message": say(message), "failed": failed})


def progress(
    state: str,
    title: str,
    detail: str = "",
    fraction: float | None = None,
    notes: Sequence[str] = (),
    link: Mapping[str, str] | None = None,
) -> str:
    """Return a line of status. `state` is "idle", "working", "done" or "failed". With a `fraction`, from 0 to 1, it has
    a bar, and with a `link` one more line: its `words`, which lead to its `address`."""
    told = {"state": state, "title": say(title), "detail": say(detail), "fraction": fraction, "notes": say_all(notes)}
    return to_json(told | {"link": link and {**link, "words": say(link["words"])}})


def field_errors(wrong: Mapping[str, SftdemoError], notes: Mapping[str, str]) -> str:
    """Return what is wrong with settings, by their names, and what is to be told of them; it is drawn at the inputs."""
    return to_json(
        {"errors": _at_inputs({name: sentence(error) for name, error in wrong.items()}), "notes": _at_inputs(notes)}
    )


def _at_inputs(told: Mapping[str, str]) -> list[dict]:
    return [{"id": input_id(name), "title": say(title_of(name)), "words": say(words)} for name, words in told.items()]


def asked(questions: Sequence[Question]) -> str:
    """Return the prompts that will be answered before and after training."""
    return to_json({"questions": [{"text": each.text, "source": each.source} for each in questions]})


def to_json(fields: dict) -> str:
    """Return the value of a widget."""
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))
