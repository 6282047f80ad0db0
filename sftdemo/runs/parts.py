"""Tell what a run spends its time on, by the events with which its parts begin."""

from __future__ import annotations

import time

from ..core.events import Before, Columns, Comparison, Event, Phase, Prepared, Step

LOAD, BEFORE, JUDGE_BEFORE, SET_UP = "load", "answers before", "judge before", "set up"
FIRST_STEP, STEPS, JUDGE_AFTER, AFTER, SAVE = "first step", "later steps", "judge after", "answers after", "save"
PARTS = (LOAD, BEFORE, JUDGE_BEFORE, SET_UP, FIRST_STEP, STEPS, JUDGE_AFTER, AFTER, SAVE)
_PHASES = {"before": BEFORE, "train": SET_UP, "after": AFTER}
_OTHERS: dict[type[Event], str] = {Before: JUDGE_BEFORE, Prepared: FIRST_STEP, Comparison: SAVE, Columns: SAVE}


def part_after(event: Event) -> str | None:
    """Return the one of `PARTS` that begins with this event, if one does. With an ablation, the parts from `SET_UP` to
    `AFTER` return for each arm; between two of them, `AFTER` has the saving as well."""
    if isinstance(event, Phase):
        return _PHASES.get(event.name)
    if isinstance(event, Step):
        return JUDGE_AFTER if event.step == event.total else STEPS
    return _OTHERS.get(type(event))


class PartClock:
    """Measure the parts of a run that begins now.

    `begin` is the time of that, by `time.perf_counter()`.
    """

    def __init__(self) -> None:
        self.begin = self._last = time.perf_counter()
        self._part, self._seconds = LOAD, dict[str, float]()

    def note(self, event: Event) -> None:
        """Take note of an event as it comes."""
        self._add()
        self._part = part_after(event) or self._part

    def seconds(self) -> dict[str, float]:
        """Return the seconds of each part that has begun."""
        self._add()
        return {part: round(seconds, 4) for part, seconds in self._seconds.items()}

    def _add(self) -> None:
        now = time.perf_counter()
        self._seconds[self._part] = self._seconds.get(self._part, 0.0) + now - self._last
        self._last = now
