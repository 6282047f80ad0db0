"""Draws masks, events and tables in the terminal, with rich."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.table import Table
from rich.text import Text

from .events import Answer, Comparison, Event, Failed, Finished, Model, Phase, Prepared, Saved, Step
from .rendering import flag_sentences, harmless, summary, view_tokens
from .tokenization import TokenizedExample

# Two tones by turns show where one token ends and the next begins.
_STYLES = {
    "template": ("dim", "dim"),
    "special": ("cyan italic", "cyan italic"),
    "prompt": ("", ""),
    "completion": ("black on dark_orange underline", "black on orange1 underline"),
    "eos": ("bold black on gold1 underline", "bold black on gold1 underline"),
}

_KINDS = {
    "adapter": "the LoRA adapter and the tokenizer",
    "merged": "the model with the adapter merged into it, and the tokenizer",
    "full": "the model and the tokenizer",
}


def print_mask(examples: Sequence[TokenizedExample], tokenizer, held_out: int) -> None:
    """Every example's tokens: trained ones on orange, or in brackets where there is no colour."""
    console = Console(highlight=False, soft_wrap=True)
    for example in examples:
        untrained = len(example.input_ids) - example.trained
        console.rule(
            f"row {example.row} · {untrained} tokens of prompt (not trained) · {example.trained} trained", align="left"
        )
        console.print(_mask_text(example, tokenizer, brackets=console.color_system is None))
        for sentence in flag_sentences(example):
            console.print(f"⚠ {sentence}", style="yellow")
    console.rule(style="dim")
    console.print(summary(examples) + (f" · {held_out} held out" if held_out else ""))
    legend = "[trained] prompt" if console.color_system is None else "on colour: trained · plain: prompt, label -100"
    console.print(legend, style="dim", markup=False)


def _mask_text(example: TokenizedExample, tokenizer, brackets: bool) -> Text:
    text = Text()
    for index, token in enumerate(view_tokens(example, tokenizer)):
        shown = f"[{token.text}]" if brackets and token.trained else token.text
        text.append(shown, _STYLES[token.kind][index % 2] if token.trained or token.kind != "completion" else "dim")
        text.append("\n" * token.breaks)
    if example.cut:
        text.append(f" ✂ {example.cut} tokens cut off by max_length", "red")
    return text


class Status:
    """One line on stderr that says what is going on and how far it is."""

    def __init__(self):
        self._progress = Progress(
            SpinnerColumn(), TextColumn("{task.description}"), console=Console(stderr=True), transient=True
        )
        self._task = self._progress.add_task("Starting", total=None)

    def __enter__(self) -> Status:
        self._progress.start()
        return self

    def __exit__(self, *_) -> None:
        self._progress.stop()

    def show(self, event: Event) -> None:
        if isinstance(event, Phase):
            share = "" if event.fraction is None else f" ({event.fraction:.0%})"
            self._progress.update(self._task, description=harmless(event.message) + share)
        elif isinstance(event, Step):
            self._progress.update(self._task, description=f"step {event.step} of {event.total}, loss {event.loss:.3f}")


class EventPrinter:
    """Prints a run: a bar with loss and ETA on stderr while it trains, the comparison as a table at its end."""

    def __init__(self):
        self._out = Console(highlight=False)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("Starting", total=None, detail="")
        self._comparisons: list[Comparison] = []

    def __enter__(self) -> EventPrinter:
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._bar.stop()

    def print(self, event: Event) -> None:
        match event:
            case Phase():
                if event.name == "save":
                    self._print_comparisons()
                total = None if event.fraction is None else 100
                self._bar.update(
                    self._task,
                    description=harmless(event.message),
                    total=total,
                    completed=round(100 * (event.fraction or 0)),
                    detail="",
                )
            case Model():
                self._line(
                    f"{event.name} · {event.copy} · {event.parameters / 1e6:.0f}M · {event.device}, {event.dtype}"
                )
            case Prepared():
                for reason in event.left_out:
                    self._line(f"left out: {reason}", "yellow")
                self._line(
                    f"{event.examples} examples, {event.tokens:,} tokens, {event.trained_tokens:,} of them trained; "
                    f"{event.trainable_parameters / 1e6:.1f}M parameters learn"
                )
            case Step():
                detail = f"loss {event.loss:.3f}  {event.remaining:.0f} s left"
                self._bar.update(
                    self._task, description="Training", total=event.total, completed=event.step, detail=detail
                )
                self._line(f"step {event.step:>4}  loss {event.loss:.4f}  {event.seconds:6.1f} s", "dim")
            case Comparison():
                self._comparisons.append(event)
            case Answer():
                self._line(event.prompt, "bold")
                self._line(f"{event.answer}  ⟨{event.stop}⟩")
            case Saved():
                self._line(f"Saved to {event.path}: {_KINDS[event.kind]}")
            case Finished():
                stopped = f", stopped after step {event.steps} of {event.total}" if event.stopped else ""
                self._line(f"Done in {event.seconds:.0f} s{stopped}.")
            case Failed():
                self._bar.stop()
                Console(stderr=True, highlight=False, soft_wrap=True).print(
                    harmless(f"sftdemo: {event.message}"), markup=False
                )

    def _line(self, text: str, style: str = "") -> None:
        self._out.print(harmless(text), style=style, markup=False, soft_wrap=True)

    def _print_comparisons(self) -> None:
        table = Table(title="The same prompts, before and after", title_justify="left", show_lines=True, expand=True)
        for name, ratio in (("Prompt", 2), ("Before", 4), ("After", 4)):
            table.add_column(name, ratio=ratio, overflow="fold")
        for item in self._comparisons:
            table.add_row(
                Text(harmless(f"{item.prompt}\n({item.source})")),
                Text(harmless(f"{item.before}\n⟨{item.before_stop}⟩")),
                Text(harmless(f"{item.after}\n⟨{item.after_stop}⟩"), "bold"),
            )
        self._out.print(table)


def print_samples(results: Sequence) -> None:
    """The Markdown table that the README shows."""
    console = Console(highlight=False, soft_wrap=True)
    console.print("| sample | seed | held-out answers in the style, before | after | seconds |", markup=False)
    console.print("|---|---|---|---|---|")
    for result in results:
        counts = f"{result.before} of {result.held_out} | {result.after} of {result.held_out}"
        console.print(f"| {result.name} | {result.seed} | {counts} | {result.seconds:.0f} |", markup=False)
