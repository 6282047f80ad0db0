"""Repeat a measurement, time it and summarize its results."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median

Stop = Callable[[], bool]


def repetitions(repeats: int, stop: Stop, warm_up: int = 0) -> Iterator[int]:
    """Count the `warm_up` and then the timed repetitions, from 0. End early once `stop` returns True, but not before
    one repetition is timed."""
    for number in range(warm_up + repeats):
        if stop() and number > warm_up:
            return
        yield number


def seconds_of(work: Callable[[], object]) -> float:
    """Return the wall time of one call of `work`, in seconds."""
    begin = now()
    work()
    return now() - begin


def now() -> float:
    """Return the time on the clock, in seconds, once a GPU has done what it was given: it works on while Python does.
    Where torch is not imported, it has been given nothing."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


def spread(seconds: Sequence[float]) -> dict[str, float | list[float]]:
    """Return the "median", the "least" and the "most" of some measurements, and "all" of them."""
    return {
        "median": round(median(seconds), 4),
        "least": round(min(seconds), 4),
        "most": round(max(seconds), 4),
        "all": [round(value, 4) for value in seconds],
    }
