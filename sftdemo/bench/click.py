"""Measure the default run from the click to the compared answers, in a warm process as on the page."""

from __future__ import annotations

import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

from ..core.config import RunConfig
from ..core.errors import TrainingError
from ..core.events import Event, Failed, Phase, Prepared, Saved
from ..core.held import scratch_folder
from ..data.examples import ParsedExamples
from ..runs.jobs import Job, warm
from ..runs.run import run
from .figures import Stop, repetitions

WARM_UP = 1  # the first run waits for the fork server's imports
_NAMES = {"load": "load", "before": "answers before", "train": "set up", "after": "answers after", "save": "save"}


def bench_click(data: ParsedExamples, repeats: int, stop: Stop = lambda: False) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, the seconds of each part of the median and of the quickest run.

    Raises:
        TrainingError: if a run fails.
    """
    warm()
    runs = []
    for number in repetitions(repeats, stop, WARM_UP):
        yield Phase("bench", f"from the click to the answers: run {number} of {repeats}", number / (WARM_UP + repeats))
        runs.append(_run(data))
    counted = sorted(runs[WARM_UP:], key=lambda parts: parts["all"])
    yield {"median": counted[len(counted) // 2], "quickest": counted[0], "all": [parts["all"] for parts in counted]}


def _run(data: ParsedExamples) -> dict[str, float]:
    """Run once and return the seconds of each part and of "all"."""
    marks: list[tuple[str, float]] = [("process", time.perf_counter())]
    with scratch_folder() as folder:
        job = Job(run, RunConfig(device="cpu"), data, Path(folder) / "run")
        for event in job.new_events(interval=0.01):
            if isinstance(event, Failed):
                raise TrainingError(event.message)
            if name := _part_after(event):
                marks.append((name, time.perf_counter()))
    parts = {name: round(after - before, 2) for (name, before), (_, after) in pairwise(marks)}
    return parts | {"all": round(marks[-1][1] - marks[0][1], 2)}


def _part_after(event: Event) -> str | None:
    """Return the name of the part that begins with this event, if one does."""
    if isinstance(event, Phase):
        return _NAMES.get(event.name)
    return {Prepared: "steps", Saved: "end"}.get(type(event))
