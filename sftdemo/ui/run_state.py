"""What the page says of a run, told from its events so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..core.curves import thin
from ..core.events import (
    Arm,
    Before,
    Columns,
    Comparison,
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
from .widgets import progress

POINTS = 300  # the curve's, at most: drawing more costs the browser more than it shows


@dataclass
class Story:
    """The run's state, ready for the page's components. Of an ablation, `held_out` are (the arm's name, what it told),
    `contestants` the names of all its arms, and `arms` the prompt-loss weights of the models that it saved."""

    status: str = ""
    losses: list[tuple[int, float]] = field(default_factory=list)
    held_out: list[tuple[str, HeldOut]] = field(default_factory=list)
    contestants: list[str] = field(default_factory=list)
    total: int = 0
    before: list[Before] = field(default_factory=list)
    comparisons: list[Comparison | Columns] = field(default_factory=list)
    figures: list[Figures] = field(default_factory=list)
    arms: list[float] = field(default_factory=list)
    saved: str | None = None
    done: bool = False


def tell(events: Sequence[Event]) -> Story:
    """Reads the events from the first one on."""
    story = Story(status=progress("working", "Starting", ""))
    notes: list[str] = []
    arm: Arm | None = None
    for event in events:
        match event:
            case Phase():
                story.status = progress("working", _named(arm, event.message), "", event.fraction, notes)
            case Model():
                notes.append(f"{event.name} · {event.copy} · {event.device}, {event.dtype}")
            case Arm():
                arm = event
                story.contestants = [column_name(weight) for weight in event.weights]
            case Prepared():
                story.total = event.steps
                if arm is None or arm.index == 0:
                    notes.extend(_prepared(event))
            case Step():
                story.losses.append((event.step, event.loss))
                title = _named(arm, f"Training: step {event.step} of {event.total}")
                detail = f"loss {event.loss:.3f} · about {event.remaining:.0f} s of training left"
                story.status = progress("working", title, detail, _fraction(arm, event), notes)
            case HeldOut():
                story.held_out.append((column_name(arm and arm.prompt_loss_weight), event))
            case Before():
                story.before.append(event)
            case Comparison() | Columns():
                story.comparisons.append(event)
            case Figures():
                story.figures.append(event)
            case Weights():
                notes.append(weights_sentence(event))
            case Saved():
                story.saved = event.path
            case Finished():
                story.done = True
                story.status = _ending(event, notes)
            case Failed():
                story.done = True
                story.status = progress("failed", event.message, "", None, notes)
    story.arms = [figures.prompt_loss_weight for figures in story.figures if figures.prompt_loss_weight is not None]
    story.losses = thin(story.losses, POINTS)
    return story


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
