"""Several measurements of one thing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import median

Stop = Callable[[], bool]


def repetitions(repeats: int, stop: Stop, warm_up: int = 0) -> Iterator[int]:
    """Counts the `warm_up` and then the timed repetitions, from 0. Once `stop` is true it ends, but not before one
    repetition is timed."""
    for number in range(warm_up + repeats):
        if stop() and number > warm_up:
            return
        yield number


def spread(seconds: Sequence[float]) -> dict[str, float | list[float]]:
    """The median, the least and the most of some measurements, and all of them."""
    return {
        "median": round(median(seconds), 4),
        "least": round(min(seconds), 4),
        "most": round(max(seconds), 4),
        "all": [round(value, 4) for value in seconds],
    }
