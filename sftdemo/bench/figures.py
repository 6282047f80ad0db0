"""Several measurements of one thing."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median


def spread(seconds: Sequence[float]) -> dict[str, float | list[float]]:
    """The median, the least and the most of some measurements, and all of them."""
    return {
        "median": round(median(seconds), 4),
        "least": round(min(seconds), 4),
        "most": round(max(seconds), 4),
        "all": [round(value, 4) for value in seconds],
    }
