"""Print the events of a run in the terminal, with rich: a training, an ablation, answers or a proof."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TextColumn
from rich.text import Text

from ..core.events import (
    Answer,
    Arm,
    Checkpoint,
    Columns,
    Comparison,
    Conclusion,
    Event,
    Failed,
    Figures,
    FilmEnded,
    Finished,
    Frame,
    HeldOut,
    Isolation,
    Model,
    Phase,
    Prepared,
    Saved,
    Step,
    TokenLosses,
    Upload,
    Weights,
)
from ..core.palette import LOSS, NO_LOSS, rgb
from ..core.text import duration, epochs
from ..mask.view import harmless, mask_sentence
from ..runs.wording import arm_name, column_name, figure_rows, isolation_sentence, trained_words, weights_sentence
from .console import add_tokens, line, print_table, progress_bar, results_console
from .film import film_text, frame_line
from .remarks import remark

_KINDS = {
    "adapter": "the LoRA adapter and the tokenizer",
    "merged": "the model with the adapter merged into it, and the tokenizer",
    "full": "the model and the tokenizer",
    "gguf": "the model for llama.cpp and Ollama, with a Modelfile beside it",
    "script": "train.py, which trains the same without this program, and its rows",
    "trl-config": "config.yaml for TRL's command line, and the rows",
    "html": "the run as one page, which needs no other file",
    "ablation": "a folder for each arm, with its model and the tokenizer",
    "hub": "one commit on the Hub",
}
_NOTHING = "–"  # noqa: RUF001 - a dash, in place of a number


class EventPrinter:
    """Print a run: a bar with loss and ETA on stderr while it trains, the comparison as a table at its end."""

    def __init__(self):
        self._out = results_console()
        self._bar = progress_bar(
            self._out,
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),  # a folder's name may look like markup
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[detail]}"),
        )
        self._task = self._bar.add_task("Starting", total=None, detail="")
        self._arm: Arm | None = None
        self._step: str | None = None  # of an arm: its line waits for what the held-out rows say of it
        self._comparisons: list[Comparison] = []
        self._columns: list[Columns] = []
        self._figures: list[Figures] = []
        self._weights: list[Weights] = []
        self._frames: list[Frame] = []
        self._conclusion = ""

    def __enter__(self) -> EventPrinter:
        self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        self._print_step()  # where an exception ends the run
        self._bar.stop()

    def print(self, event: Event) -> None:
        """Print an event, or keep it for the tables at the end."""
        if not isinstance(event, HeldOut):
            self._print_step()
        match event:
            case Phase(name="memory"):
                self._line(event.message, "dim")
            case Phase():
                if event.name == "save":
                    self._print_results()
                total = None if event.fraction is None else 100
                self._bar.update(
                    self._task,
                    description=self._named(harmless(event.message)),
                    total=total,
                    completed=round(100 * (event.fraction or 0)),
                    detail="",
                )
            case Model():
                self._line(
                    f"{event.name} · {event.copy} · {event.parameters / 1e6:.0f}M · {event.device}, {event.dtype}"
                )
            case Arm():
                self._arm = event
                self._line(f"Arm {arm_name(event)}", "bold")
            case Prepared():
                if self._arm is None or self._arm.index == 0:  # all arms train the same
                    self._print_prepared(event)
            case Step():
                detail = f"loss {event.loss:.3f}  {duration(event.remaining)} left"
                description = self._named("Training")
                self._bar.update(
                    self._task, description=description, total=event.total, completed=event.step, detail=detail
                )
                self._step = f"step {event.step:>4}  loss {event.loss:.4f}  {event.seconds:6.1f} s"
                if self._arm is None:
                    self._print_step()
            case Checkpoint():
                if event.problem:
                    self._line(
                        f"no checkpoint after step {event.step}: {event.problem}. The training goes on; later ones are "
                        "tried without a word",
                        "yellow",
                    )
                else:
                    self._line(f"checkpoint after step {event.step}", "dim")
            case HeldOut() if self._arm is not None:  # of a training by itself the conclusion says it
                self._step = self._step or f"step {event.step:>4}" + " " * 23  # as wide as with a loss and the seconds
                self._print_step(f"  held out: completion {event.completion_loss:.4f}, prompt {event.prompt_loss:.4f}")
            case Comparison():
                self._comparisons.append(event)
            case Columns():
                self._arm = None  # all have been trained
                self._columns.append(event)
            case Figures():
                self._figures.append(event)
            case Weights():
                self._weights.append(event)
            case Conclusion():
                self._conclusion = event.words
            case Answer():
                self._line(event.prompt, "bold")
                self._line(f"{event.answer}  ⟨{event.stop}⟩")
            case Isolation():
                self._line(isolation_sentence(event))
            case TokenLosses():
                self._out.print(token_losses(event, self._out))
            case FilmEnded():
                words = f"no adapter kept for the film from step {event.step} on: {event.problem}. The training goes on"
                self._line(words, "yellow")
            case Frame():
                self._frames.append(event)
                self._line(frame_line(event), "dim")
            case Upload():
                self._print_upload(event)
            case Saved():
                self._line(f"Saved to {event.path}: {_KINDS[event.kind]}")
            case Finished():
                if self._frames:
                    self._out.print(film_text(self._frames), end="")
                stopped = f", stopped after step {event.steps} of {event.total}" if event.stopped else ""
                self._line(f"Done in {duration(event.seconds)}{stopped}.")
            case Failed():
                self._bar.stop()
                remark(f"sftdemo: {event.message}")

    def _line(self, text: str, style: str = "") -> None:
        line(self._out, harmless(text), style)

    def _named(self, words: str) -> str:
        """Return the text of the bar, with the name of the current arm."""
        if self._arm is None:
            return words
        return f"{arm_name(self._arm)}: {words}"

    def _print_step(self, held_out: str = "") -> None:
        if self._step is not None:
            self._line(self._step + held_out, "dim")
        self._step = None

    def _print_prepared(self, event: Prepared) -> None:
        for reason in event.left_out:
            self._line(f"left out: {reason}", "yellow")
        self._line(
            f"{event.examples} examples, {event.tokens:,} tokens, {trained_words(event)}; "
            f"{event.trainable_parameters / 1e6:.1f}M parameters learn"
        )
        if event.rows:
            self._line(epochs(event.steps, event.rows_a_step, event.rows, event.rows < event.examples))
        self._line(mask_sentence(event.mask_hash), "dim")

    def _print_upload(self, event: Upload) -> None:
        visible = "private" if event.private else "public: everyone can read it"
        size = f"{event.bytes / 1e6:.1f} MB" if event.bytes >= 1e5 else f"{event.bytes:,} bytes"
        self._line(f"{event.repository} on the Hub will be {visible}")
        self._line(f"sent, {size}: {', '.join(event.files)}")
        self._line(f"with prompts and answers in them: {', '.join(event.with_prompts)}", "yellow")
        for words, names in (("stays here", event.left), ("deleted there", event.deleted)):
            if names:
                self._line(f"{words}: {', '.join(names)}")

    def _print_results(self) -> None:
        """Print the answers side by side, the figures, the conclusion, and whether the base's weights have changed."""
        names = [column_name(each.prompt_loss_weight) for each in self._figures]
        if self._columns:
            rows = [(each.prompt, each.source, each.answers, each.stops) for each in self._columns]
            self._print_answers("The same prompts, by the base and by each arm", names, rows)
        else:
            rows = [
                (each.prompt, each.source, [each.before, each.after], [each.before_stop, each.after_stop])
                for each in self._comparisons
            ]
            self._print_answers("The same prompts, before and after", ["Before", "After"], rows, last="bold")
        if self._figures:
            cells = [[f"{name}, {unit}", *numbers] for name, unit, numbers in figure_rows(self._figures)]
            title = "On held-out rows, which no arm is trained on"
            print_table(self._out, title, ["", *names], cells, numbers=True)
        if self._conclusion:
            self._line(self._conclusion, "bold")
        for event in self._weights:
            words = weights_sentence(event)
            self._line(words[0].upper() + words[1:])

    def _print_answers(
        self, title: str, names: list[str], rows: Sequence[tuple[str, str, list[str], list[str]]], last: str = ""
    ) -> None:
        """Print a table of (prompt, source, answers, stops) rows with a column per name; `last` styles the last."""
        styles = [""] * (len(names) - 1) + [last]
        cells = []
        for prompt, source, answers, stops in rows:
            pairs = zip(answers, stops, styles, strict=True)
            drawn = [Text(harmless(f"{answer}\n⟨{stop}⟩"), style) for answer, stop, style in pairs]
            cells.append([Text(harmless(f"{prompt}\n({source})")), *drawn])
        print_table(self._out, title, ["Prompt", *names], cells, [2, *[4] * len(names)])


TOP = 8.0  # nats that have the full colour


def token_losses(event: TokenLosses, console: Console) -> Text:
    """Return a row's tokens, once for each model. Without colours, each token is followed by its loss in nats. Trained
    tokens are underlined, or in brackets without colours."""
    trained = [is_trained for _, _, _, is_trained, _ in event.tokens]
    where = "held out" if event.source == "held out" else "training row"
    text = Text(f"row {event.row} · {where} · {sum(trained)} of {len(trained)} tokens trained\n", "bold")
    for weight, losses in zip(event.weights, event.losses, strict=True):
        kept = list(compress(losses, trained[1:]))
        mean = f", {sum(kept) / len(kept):.2f} nats a trained token" if kept else ""
        text.append(f"{column_name(weight)}{mean}\n", "dim")
        tokens = []
        for (shown, _, _, is_trained, breaks), loss in zip(event.tokens, [None, *losses], strict=True):
            drawn = _token(harmless(shown), is_trained, loss, console.color_system is not None)
            tokens.append((shown, *drawn, breaks))
        add_tokens(text, tokens, console)
        text.append("\n")
    return text


def _token(shown: str, is_trained: bool, loss: float | None, in_colour: bool) -> tuple[str, str]:
    if not in_colour:
        behind = "" if loss is None else f"⟨{loss:.1f}⟩"
        return (f"[{shown}]" if is_trained else shown) + behind, ""
    share = min(1.0, (loss or 0.0) / TOP)
    red, green, blue = (round(low + share * (high - low)) for low, high in zip(rgb(NO_LOSS), rgb(LOSS), strict=True))
    return shown, f"black on rgb({red},{green},{blue})" + (" underline" if is_trained else "")
