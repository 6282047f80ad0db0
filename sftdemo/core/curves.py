"""Curves of no more points than can be seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Point = TypeVar("Point")


def thin(curve: Sequence[Point], most: int) -> list[Point]:
    """Every n-th point of a curve and its last one: at most one more than `most`."""
    every = -(-len(curve) // most) or 1
    return [*curve[:-1:every], *curve[-1:]]
