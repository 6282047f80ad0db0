"""Measure the default run from the click to the compared answers, in a warm program as the page's: in a new process,
in one that stands by, and both ways in one that stands by."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from itertools import pairwise
from pathlib import Path
from statistics import median

from ..core.config import RunConfig
from ..core.errors import TrainingError
from ..core.events import Event, Failed, Phase, Prepared, Saved, Step
from ..core.held import scratch_folder
from ..data.examples import ParsedExamples
from ..runs.ablation import ablate
from ..runs.jobs import Job, start_child, warm
from ..runs.run import run
from ..runs.standby import Standby
from .figures import Stop, repetitions

WARM_UP = 1  # the first run waits for the fork server's imports
NEW, READY, BOTH = "new process", "standing by", "both ways, standing by"
_NAMES = {"load": "load", "before": "answers before", "train": "set up", "after": "answers after", "save": "save"}
_ALL = "all"
_Parts = dict[str, float]


def bench_click(
    data: ParsedExamples, repeats: int, stop: Stop = lambda: False, device: str = "cpu"
) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, the seconds of each part of each way to run, medians of runs by turns, and ratios.
    "first step" is from the click to the end of the first step.

    Raises:
        TrainingError: if a run fails.
    """
    warm()
    runs: dict[str, list[_Parts]] = {NEW: [], READY: [], BOTH: []}
    for number in repetitions(repeats, stop, WARM_UP):
        yield Phase("bench", f"from the click to the answers: run {number} of {repeats}", number / (WARM_UP + repeats))
        for name, found in runs.items():
            found.append(_run(name, data, device))
    medians = {name: _medians(found[WARM_UP:]) for name, found in runs.items()}
    whole = {name: found[_ALL] for name, found in medians.items()}
    ratios = {
        "click_standing_by": round(whole[NEW] / whole[READY], 2),
        "click_both_ways_of_one": round(whole[BOTH] / whole[READY], 2),
    }
    yield {"seconds": medians, "all": {name: [run[_ALL] for run in found] for name, found in runs.items()}} | {
        "ratios": ratios
    }


def _medians(runs: list[_Parts]) -> _Parts:
    return {name: round(median(run[name] for run in runs), 2) for name in runs[0]}


def _run(name: str, data: ParsedExamples, device: str) -> _Parts:
    """Run once and return the seconds of each part, of "first step" and of "all"."""
    config = RunConfig(device=device)
    standby = Standby(config)
    if name != NEW:
        for _ in standby.ask(config, data):
            pass
    try:
        with scratch_folder() as folder:
            work = partial(ablate if name == BOTH else run, config, data, Path(folder) / "run")
            marks: list[tuple[str, float]] = [("process", time.perf_counter())]
            first_step = 0.0
            job = Job(work, start=start_child if name == NEW else standby.start)
            for event in job.new_events(interval=0.01):
                if isinstance(event, Failed):
                    raise TrainingError(event.message)
                if isinstance(event, Step) and not first_step:
                    first_step = time.perf_counter() - marks[0][1]
                if part := _part_after(event):
                    marks.append((part, time.perf_counter()))
    finally:
        standby.end()
    parts: _Parts = {}
    for (part, before), (_, after) in pairwise(marks):
        parts[part] = parts.get(part, 0.0) + after - before
    return parts | {"first step": first_step, _ALL: marks[-1][1] - marks[0][1]}


def _part_after(event: Event) -> str | None:
    """Return the name of the part that begins with this event, if one does."""
    if isinstance(event, Phase):
        return _NAMES.get(event.name)
    return {Prepared: "steps", Saved: "end"}.get(type(event))
