"""What the page says of a run, told from its events so far."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..events import Before, Comparison, Event, Failed, Finished, Model, Phase, Prepared, Saved, Step
from .widgets import progress

POINTS = 300  # the curve's, at most: drawing more costs the browser more than it shows


@dataclass
class Story:
    """The run's state, ready for the page's components."""

    status: str = ""
    losses: list[tuple[int, float]] = field(default_factory=list)
    total: int = 0
    before: list[Before] = field(default_factory=list)
    comparisons: list[Comparison] = field(default_factory=list)
    saved: str | None = None
    done: bool = False


def tell(events: Sequence[Event]) -> Story:
    """Reads the events from the first one on."""
    story = Story(status=progress("working", "Starting", ""))
    notes: list[str] = []
    for event in events:
        match event:
            case Phase():
                story.status = progress("working", event.message, "", event.fraction, notes)
            case Model():
                notes.append(f"{event.name} · {event.copy} · {event.device}, {event.dtype}")
            case Prepared():
                story.total = event.steps
                notes.append(
                    f"{event.examples} examples, {event.trained_tokens:,} of {event.tokens:,} tokens trained; "
                    f"{event.trainable_parameters / 1e6:.1f} million weights learn"
                )
                notes.extend(f"left out: {reason}" for reason in event.left_out[:10])
            case Step():
                story.losses.append((event.step, event.loss))
                title = f"Training: step {event.step} of {event.total}"
                detail = f"loss {event.loss:.3f} · about {event.remaining:.0f} s of training left"
                story.status = progress("working", title, detail, event.step / event.total, notes)
            case Before():
                story.before.append(event)
            case Comparison():
                story.comparisons.append(event)
            case Saved():
                story.saved = event.path
            case Finished():
                story.done = True
                story.status = _ending(event, notes)
            case Failed():
                story.done = True
                story.status = progress("failed", event.message, "", None, notes)
    story.losses = _thinned(story.losses)
    return story


def _ending(event: Finished, notes: list[str]) -> str:
    if not event.steps:
        return progress("idle", "Stopped before the first step; nothing was trained.", "", None, notes)
    title = f"Stopped after step {event.steps} of {event.total}; what it learned is kept" if event.stopped else "Done"
    return progress("done", title, f"{event.steps} steps, {event.seconds:.0f} s in all", None, notes)


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    every = -(-len(points) // POINTS) or 1
    return [*points[:-1:every], *points[-1:]]
