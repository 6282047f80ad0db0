"""Summarize a run for the page from its events so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

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
from ..runs.wording import arm_name, column_name, weights_sentence
from .start import model_words
from .widgets import progress

POINTS = 300  # of a curve, at most: more would cost the browser more than they show


@dataclass
class RunState:
    """The state of a run, ready for the components of the page.

    Args:
        status (`str`):
            The value of the status widget.
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
        saved (`str | None`), done (`bool`):
            The output folder, once it is written, and whether the run has ended.
    """

    status: str = ""
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
    done: bool = False


def summarize(events: Sequence[Event]) -> RunState:
    """Return the state of a run after these events, which begin with its first."""
    state = RunState(status=progress("working", "Starting", ""))
    notes: list[str] = []
    arm: Arm | None = None
    for event in events:
        match event:
            case Phase():
                state.status = progress("working", _named(arm, event.message), "", event.fraction, notes)
            case Model():
                notes.append(f"{model_words(event.name)} · {event.copy} · {event.device}, {event.dtype}")
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
                detail = f"loss {event.loss:.3f} · about {event.remaining:.0f} s of training left"
                state.status = progress("working", title, detail, _fraction(arm, event), notes)
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
                state.status = _ending(event, notes)
            case Failed():
                state.done = True
                state.status = progress("failed", event.message, "", None, notes)
    state.arms = [figures.prompt_loss_weight for figures in state.figures if figures.prompt_loss_weight is not None]
    state.losses = thin(state.losses, POINTS)
    return state


def _named(arm: Arm | None, words: str) -> str:
    return words if arm is None else f"{arm_name(arm)}: {words}"


def _fraction(arm: Arm | None, step: Step) -> float:
    done = step.step / step.total
    return done if arm is None else (arm.index + done) / len(arm.weights)


def _prepared(event: Prepared) -> list[str]:
    learns = (
        f"{event.examples} examples, {event.trained_tokens:,} of {event.tokens:,} tokens trained; "
        f"{event.trainable_parameters / 1e6:.1f} million weights learn"
    )
    return [learns, *(f"left out: {reason}" for reason in event.left_out[:10])]


def _ending(event: Finished, notes: list[str]) -> str:
    if not event.steps:
        return progress("idle", "Stopped before the first step; nothing was trained.", "", None, notes)
    title = f"Stopped after step {event.steps} of {event.total}; what it learned is kept" if event.stopped else "Done"
    return progress("done", title, f"{event.steps} steps, {event.seconds:.0f} s in all", None, notes)
