"""What generators of this program return."""

from __future__ import annotations

from collections.abc import Generator
from typing import TypeVar

Result = TypeVar("Result")


def result(generator: Generator[object, None, Result]) -> Result:
    """What a generator returns, whatever it yields."""
    while True:
        try:
            next(generator)
        except StopIteration as end:
            return end.value
