"""Summarize a run for the page from its events so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

from ..core.curves import thin
from ..core.events import (
    Arm,
    Before,
    Checkpoint,
    Columns,
    Comparison,
    Conclusion,
    Event,
    Failed,
    Figures,
    Finished,
    HeldOut,
    Model,
    Phase,
    Prepared,
    Saved,
    Step,
    Weights,
)
from ..core.text import duration, epochs, plural
from ..runs.queue import Queued
from ..runs.wording import arm_name, column_name, trained_words, weights_sentence
from .space import duplicate_address
from .start import model_words
from .widgets import progress, to_json
from .words import say

POINTS = 300  # of a curve, at most: more would cost the browser more than they show
CROWDED = 2  # runs in the queue: with more, a Space of one's own is offered
STRIP_POINTS, STRIP_CHARACTERS = 60, 160
_BEGINNING = "Starting"
_IDLE = {"state": "idle", "title": "", "detail": "", "fraction": None}


@dataclass
class RunState:
    """The state of a run, ready for the components of the page.

    Args:
        told (`dict`):
            How it stands, in words: the arguments of `progress`.
        phase (`str`):
            What is being done, without the number of the step.
        losses (`list[tuple[int, float]]`), total (`int`):
            The (step, loss) pairs of the curve, and the number of steps that the run will take.
        held_out (`list[tuple[str, HeldOut]]`), arm_names (`list[str]`):
            For an ablation, the losses on held-out rows with the name of their arm, and the names of all arms.
        before, comparisons, figures (`list`):
            The answers before training, those of all models, and the figures.
        conclusion (`str`):
            What the run has shown; empty until it is saved.
        arms (`list[float]`):
            The prompt-loss weights of the models that an ablation saved.
        saved (`str | None`), waits (`bool`), done (`bool`):
            The output folder, once it is written, and whether the run waits in the queue or has ended.
    """

    told: dict[str, Any] = field(default_factory=lambda: dict(_IDLE))
    phase: str = ""
    losses: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[str, HeldOut]] = field(default_factory=list)
    arm_names: list[str] = field(default_factory=list)
    total: int = 0
    before: list[Before] = field(default_factory=list)
    comparisons: list[Comparison | Columns] = field(default_factory=list)
    figures: list[Figures] = field(default_factory=list)
    conclusion: str = ""
    arms: list[float] = field(default_factory=list)
    saved: str | None = None
    waits: bool = False
    done: bool = False

    @classmethod
    def beginning(cls) -> RunState:
        """Return the state of a run without any event yet."""
        state = cls(phase=_BEGINNING)
        state.tell("working", _BEGINNING, "")
        return state

    def tell(
        self, state: str, title: str, detail: str, fraction: float | None = None, notes: Sequence[str] = ()
    ) -> None:
        """Say how the run stands, as `progress` does."""
        self.told = {"state": state, "title": title, "detail": detail, "fraction": fraction, "notes": notes}

    @property
    def status(self) -> str:
        """Return the value of the status widget."""
        return progress(**self.told)

    @property
    def strip(self) -> str:
        """Return the value of the strip at the window's edge."""
        told = {"state": self.told["state"], "fraction": self.told["fraction"]}
        told |= {"title": say(self.told["title"]), "detail": say(self.told["detail"])}
        curves = [thin(curve, STRIP_POINTS) for curve in self._curves()]
        more = {"phase": say(self.phase), "begins": self.phase == _BEGINNING, "curves": curves}
        more |= {"pair": self._pair(), "answers": len(self.comparisons)}
        return to_json(told | more)

    def _curves(self) -> list[list[float]]:
        """Return the losses of the steps or, of an ablation, for each arm those on the held-out answers."""
        if not self.held_out:
            return [[loss for _, loss in self.losses]]
        return [
            [event.completion_loss for _, event in group]
            for _, group in groupby(self.held_out, key=lambda told: told[0])
        ]

    def _pair(self) -> dict[str, str | None] | None:
        """Return the first answer, and what became of it once that is known."""
        match [*self.comparisons[:1], *self.before[:1]]:
            case [Comparison() as pair, *_]:
                texts = pair.prompt, pair.before, pair.after
            case [Columns() as pair, *_]:
                texts = pair.prompt, pair.answers[0], pair.answers[1]
            case [Before() as pair]:
                texts = pair.prompt, pair.answer, None
            case _:
                return None
        return dict(zip(("prompt", "before", "after"), map(_begin, texts), strict=True))


def _begin(text: str | None) -> str | None:
    return text if text is None or len(text) <= STRIP_CHARACTERS else f"{text[:STRIP_CHARACTERS]}…"


def summarize(events: Sequence[Event]) -> RunState:
    """Return the state of a run after these events, which begin with its first."""
    state = RunState.beginning()
    notes: list[str] = []
    arm: Arm | None = None
    for event in events:
        match event:
            case Queued():
                _wait(state, event)
            case Phase(name="limit" | "memory"):
                notes.append(event.message)
            case Phase():
                state.phase = _named(arm, event.message)
                state.tell("working", state.phase, "", event.fraction, notes)
            case Model():
                notes.append(f"{model_words(event.name)} · {event.copy} · {say(event.device)}, {event.dtype}")
            case Arm():
                arm = event
                state.arm_names = [column_name(weight) for weight in event.weights]
            case Prepared():
                state.total = event.steps
                if arm is None or arm.index == 0:
                    notes.extend(_prepared(event))
            case Step():
                state.losses.append((event.step, event.loss))
                title = _named(arm, f"Training: step {event.step} of {event.total}")
                detail = f"loss {event.loss:.3f} · about {duration(event.remaining)} of training left"
                state.phase = _named(arm, "Training")
                state.tell("working", title, detail, _fraction(arm, event), notes)
            case Checkpoint() if event.problem:
                notes.append(f"No checkpoint after step {event.step}: {event.problem}")
            case HeldOut() if arm is not None:  # of a training by itself the conclusion says it
                state.held_out.append((column_name(arm.prompt_loss_weight), event))
            case Before():
                state.before.append(event)
            case Comparison() | Columns():
                state.comparisons.append(event)
            case Figures():
                state.figures.append(event)
            case Conclusion():
                state.conclusion = event.words
            case Weights():
                notes.append(weights_sentence(event))
            case Saved():
                state.saved = event.path
            case Finished():
                state.done = True
                _end(state, event, notes)
            case Failed():
                state.done = True
                state.tell("failed", event.message, "", None, notes)
    state.arms = [figures.prompt_loss_weight for figures in state.figures if figures.prompt_loss_weight is not None]
    state.losses = thin(state.losses, POINTS)
    return state


def _wait(state: RunState, event: Queued) -> None:
    state.waits, state.phase = True, event.message
    soon = "any moment now" if event.seconds == 0 else f"starts in about {duration(event.seconds or 0)}"
    when = "starts when the runs before it have ended" if event.seconds is None else soon
    state.tell("working", event.message, when)
    if event.waiting > CROWDED and (address := duplicate_address()):
        words = f"{event.waiting} wait here. Duplicate this Space to have one of your own."
        state.told["link"] = {"words": words, "address": address}


def _named(arm: Arm | None, words: str) -> str:
    return words if arm is None else f"{arm_name(arm)}: {words}"


def _fraction(arm: Arm | None, step: Step) -> float:
    done = step.step / step.total
    return done if arm is None else (arm.index + done) / len(arm.weights)


def _prepared(event: Prepared) -> list[str]:
    learns = (
        f"{event.examples} examples, {event.tokens:,} tokens, {trained_words(event)}; "
        f"{event.trainable_parameters / 1e6:.1f} million weights learn"
    )
    # a run of an earlier version tells no rows
    seen = [epochs(event.steps, event.rows_a_step, event.rows, event.rows < event.examples)] if event.rows else []
    return [learns, *seen, *(f"left out: {reason}" for reason in event.left_out[:10])]


def _end(state: RunState, event: Finished, notes: list[str]) -> None:
    if not event.steps:
        state.tell("idle", "Stopped before the first step; nothing was trained.", "", None, notes)
        return
    title = f"Stopped after step {event.steps} of {event.total}; what it learned is kept" if event.stopped else "Done"
    state.tell(
        "done", title, f"{event.steps} {plural(event.steps, 'step')}, {duration(event.seconds)} in all", None, notes
    )
