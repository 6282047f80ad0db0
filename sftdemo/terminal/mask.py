"""Draw masks, findings and progress in the terminal, with rich."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import SpinnerColumn, TextColumn
from rich.text import Text

from ..core.events import Event, Phase, Step
from ..core.palette import TERMINAL_EOS, TERMINAL_TONES, TERMINAL_TRAINED
from ..core.text import markdown_table, plural
from ..mask.audit import Audit
from ..mask.boundary import Boundary, Remedy
from ..mask.checks import Finding
from ..mask.labels import TokenizedExample
from ..mask.layouts import Block, Layout
from ..mask.view import (
    LAYOUT_NAMES,
    ViewToken,
    harmless,
    layout_figure,
    mask_sentence,
    row_counts,
    row_name,
    row_words,
    totals,
    view_tokens,
    visible,
)
from .console import add_tokens, indented, progress_bar, results_console

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TRAINED = tuple(f"black on {tone}" for tone in TERMINAL_TRAINED)
# Alternating tones show where one token ends and the next begins.
_STYLES = {
    "template": ("dim", "dim"),
    "special": ("cyan italic", "cyan italic"),
    "prompt": ("", ""),
    "completion": tuple(f"{style} underline" for style in _TRAINED),
    "eos": (f"bold black on {TERMINAL_EOS} underline",) * 2,
}


def render_ansi(example: TokenizedExample, tokenizer: PreTrainedTokenizerBase, width: int = 100) -> str:
    """Draw a masked example as `sftdemo mask` does in a terminal with 256 colours, whatever stdout is.

    Args:
        example (`TokenizedExample`):
            The row, as `Masker.tokenize` returns it.
        tokenizer (`PreTrainedTokenizerBase`):
            The one it was tokenised with.
        width (`int`, *optional*, defaults to 100):
            Characters of the line above the tokens. The tokens themselves are not wrapped.

    Returns:
        `str`: Text with ANSI escape sequences. The example's own control characters are drawn as signs.
    """
    text = StringIO()
    console = Console(
        file=text, force_terminal=True, color_system="256", no_color=False, width=width, highlight=False, soft_wrap=True
    )
    print_rows([example], tokenizer, console)
    return text.getvalue()


def print_rows(
    examples: Sequence[TokenizedExample],
    tokenizer: PreTrainedTokenizerBase,
    console: Console | None = None,
    prompt_loss_weight: float = 0.0,
) -> None:
    """Print the tokens of each example: trained ones on orange, those that count by a weight underlined; if there is no
    colour, in brackets and in parentheses."""
    console = console or results_console()
    for example in examples:
        console.rule(f"{row_name(example)} · {_row_words(example, prompt_loss_weight)}", align="left")
        console.print(_mask_text(example, tokenizer, console, prompt_loss_weight))
        for words in example.sentences.values():
            console.print(f"⚠ {words}", style="yellow", markup=False)


def _row_words(example: TokenizedExample, prompt_loss_weight: float) -> str:
    if prompt_loss_weight:
        return row_words(example, prompt_loss_weight)
    trained, _, untrained = row_counts(example)
    return f"{untrained} tokens of prompt (not trained) · {trained} trained"


def print_totals(audit: Audit, held_out: int, prompt_loss_weight: float = 0.0) -> None:
    """Print the totals and the legend below the rows."""
    console = results_console()
    console.rule(style="dim")
    _print_summary(console, audit, held_out, prompt_loss_weight)
    findings = len(audit.findings())
    if findings:
        console.print(f"{findings} {plural(findings, 'finding')}: --audit tells", style="yellow")
    console.print(_legend(console.color_system is not None, prompt_loss_weight), style="dim", markup=False)


def _legend(coloured: bool, weight: float) -> str:
    if weight == 1:
        return "on colour: trained, the prompt too" if coloured else "[trained], the prompt too"
    if weight:
        counts = f"counts {weight:g} times"
        return f"on colour: trained · underlined: prompt, {counts}" if coloured else f"[trained] (prompt, {counts})"
    return "on colour: trained · plain: prompt, label -100" if coloured else "[trained] prompt"


def print_audit(audit: Audit, findings: Sequence[Finding], held_out: int, prompt_loss_weight: float = 0.0) -> None:
    """Print each finding: what is wrong, where, why it matters and what to do, the worst first."""
    console = results_console()
    for finding in findings:
        sign, style = _SEVERITIES[finding.severity]
        console.print(f"{sign} {finding.severity}: {finding.what}{finding.where}", style=style)
        indented(console, finding.why, "dim")
        indented(console, f"→ {finding.remedy}")
    if not findings:
        console.print("✓ nothing found", style="green")
    _print_summary(console, audit, held_out, prompt_loss_weight)


def _print_summary(console: Console, audit: Audit, held_out: int, prompt_loss_weight: float) -> None:
    console.print(totals(audit, held_out, prompt_loss_weight))
    console.print(mask_sentence(str(audit.mask_hash)), style="dim")


def print_boundary(boundary: Boundary) -> None:
    """Print three rows of tokens below each other, aligned by their characters."""
    console = results_console()
    console.rule(f"row {boundary.row}{' · a token merges' if boundary.merged else ''}", align="left")
    rows = {"prompt alone": boundary.alone, "together": boundary.together, "used": boundary.used}
    cuts = sorted({place for pieces in rows.values() for piece in pieces for place in (piece.begin, piece.end)})
    edge = {place: index for index, place in enumerate(cuts)}
    for name, pieces in rows.items():
        line = Text(f"{name:>12} ", "dim")
        for piece in pieces:
            crosses = piece.begin < boundary.at < piece.end
            trained = name == "used" and piece.begin >= boundary.at
            style = "black on red" if crosses else _TRAINED[1] if trained else ""
            text = visible(boundary.text[piece.begin : piece.end]) or "·"
            line.append("|", "dim").append(text, style)
            line.append(" " * (edge[piece.end] - edge[piece.begin] - 1), style)  # room for the edges it spans
        console.print(line.append("|", "dim"))
    console.print(boundary.sentence, markup=False)


def print_remedy(remedy: Remedy) -> None:
    """Print how the template should end."""
    template, merging = remedy.template.replace("\n", "\\n"), remedy.merging
    rows = plural(merging, "row merges", "rows merge")
    results_console().print(f"→ {merging} {rows}; with --template '{template}' {remedy.remaining}", markup=False)


def print_layouts(layouts: Sequence[Layout], audit: Audit) -> None:
    """Print how the examples lie in the rows, and what share of the positions is padding."""
    console = results_console()
    for layout in layouts:
        name = LAYOUT_NAMES[layout.name].format(batch_size=audit.batch_size, max_length=audit.max_length)
        console.print(name, style="bold")
        console.print(f"  {layout_figure(layout, audit.max_length)}")
        widest = max(layout.widths, default=1)
        for blocks, width in zip(layout.rows[:BARS], layout.widths[:BARS], strict=True):
            console.print(Text("  ").append(_bar(blocks, width, widest, layout, audit)))
        if len(layout.rows) > BARS:
            console.print(f"  and {len(layout.rows) - BARS:,} more rows", style="dim")


def _bar(blocks: Sequence[Block], width: int, widest: int, layout: Layout, audit: Audit) -> Text:
    """Return a row as blocks. Each example has its own colour, with trained tokens solid and the rest shaded; padding
    is drawn as dots. `widest` positions take `BAR_WIDTH` characters."""
    bar, position = Text(), 0
    for block in blocks:
        tone = TERMINAL_TONES[block.example % len(TERMINAL_TONES)]
        parts = layout.trained_parts(block, audit.spans[block.example])
        first, last = (round(place / widest * BAR_WIDTH) for place in (position, position + block.length))
        for column in range(first, last):
            at = (column + 0.5) * widest / BAR_WIDTH - position  # the token in the middle of this character
            bar.append("█" if any(begin <= at < end for begin, end in parts) else "▒", tone)
        position += block.length
    return bar.append("·" * (round(width / widest * BAR_WIDTH) - round(position / widest * BAR_WIDTH)), "dim")


def _mask_text(example: TokenizedExample, tokenizer, console: Console, prompt_loss_weight: float) -> Text:
    text, tokens, is_plain = Text(), [], console.color_system is None
    viewed = view_tokens(example, tokenizer, prompt_loss_weight)
    left, half = max(0, len(viewed) - SHOWN), SHOWN // 2
    for index, token in enumerate(viewed):
        if half <= index < half + left:
            if index == half:
                tokens.append((" ", f"\n… {left:,} tokens of this row are not shown …\n", "dim", 0))
            continue
        brackets = "[]" if token.weight == 1 else "()" if token.weight else ""
        shown = f"{brackets[0]}{token.text}{brackets[1]}" if is_plain and brackets else token.text
        tokens.append((token.text, shown, _style(token)[index % 2], token.breaks))
    add_tokens(text, tokens, console)
    if example.cut:
        text.append(f" ✂ {example.cut} tokens cut off by max_length", "red")
    return text


def _style(token: ViewToken) -> tuple[str, str]:
    if token.cut:
        return ("dim strike underline", "dim strike underline") if token.trained else ("dim strike", "dim strike")
    if token.weight == 1:
        return _STYLES["eos" if token.kind == "eos" else "completion"]
    if token.weight:
        return ("underline", "underline bold")
    return _STYLES[token.kind if token.kind in ("template", "special") else "prompt"]


_SEVERITIES = {"error": ("✗", "bold red"), "warning": ("⚠", "yellow"), "note": ("·", "cyan")}


# Tokens of a row, half from its beginning and half from its end: a terminal takes a minute for a million.
SHOWN = 20_000
BARS, BAR_WIDTH = 8, 60  # rows of a layout, and characters of its widest


class Status:
    """A line on stderr that shows the current work and its progress."""

    def __init__(self):
        columns = SpinnerColumn(), TextColumn("{task.description}", markup=False)
        self._progress = progress_bar(results_console(), *columns)
        self._task = self._progress.add_task("Starting", total=None)

    def __enter__(self) -> Status:
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        """Show a phase or a step."""
        if isinstance(event, Phase):
            share = "" if event.fraction is None else f" ({event.fraction:.0%})"
            self._progress.update(self._task, description=harmless(event.message) + share)
        elif isinstance(event, Step):
            self._progress.update(self._task, description=f"step {event.step} of {event.total}, loss {event.loss:.3f}")


def print_samples(results: Sequence) -> None:
    """Print the results as the Markdown table of the README."""
    head = ["sample", "seed", "held-out answers in the style, before", "after", "seconds"]
    rows = []
    for result in results:
        before, after = (f"{count} of {result.held_out}" for count in (result.before, result.after))
        rows.append([result.name, result.seed, before, after, f"{result.seconds:.0f}"])
    results_console().print(markdown_table(head, rows), markup=False)
