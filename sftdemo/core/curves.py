"""Curves of no more points than can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Point = TypeVar("Point")
# At most, of the held-out rows after the first step of an ablation's training, with that after its last.
EVALUATIONS = 6


def thin(curve: Sequence[Point], most: int) -> list[Point]:
    """Every n-th point of a curve and its last one: at most one more than `most`."""
    every = -(-len(curve) // most) or 1
    return [*curve[:-1:every], *curve[-1:]]
