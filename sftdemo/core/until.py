"""When a job ends before its last step: because it is asked to, or because its time is up."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from typing import TypeVar

HASTE = 1.0  # seconds in which a training that was stopped is judged; with the saving it answers in two
AFTERWARDS = 10.0  # the same of one whose time was up, for which nobody waits

Item = TypeVar("Item")
Result = TypeVar("Result")


class Stopped(Exception):
    """A job was stopped before it had anything to keep. `streams.event_stream` tells it."""


class Until:
    """Returns true once a job is to end.

    Args:
        asked (`Callable[[], bool]`):
            Whether it is asked to.
        seconds (`float`, *optional*):
            How long it may take.
        in_haste (`bool`, *optional*, defaults to `False`):
            Whether it works in small pieces, so as not to exceed them.
    """

    def __init__(self, asked: Callable[[], bool], seconds: float | None = None, in_haste: bool = False):
        self._asked, self._seconds, self._begin, self.in_haste = asked, seconds, time.monotonic(), in_haste

    def __call__(self) -> bool:
        return self._asked() or self.is_late

    @property
    def is_late(self) -> bool:
        """Whether its time is up."""
        return self._seconds is not None and time.monotonic() - self._begin > self._seconds

    def check(self) -> None:
        """End the job if it is to end, and has nothing to keep.

        Raises:
            Stopped: if so.
        """
        if self():
            raise Stopped

    def afterwards(self) -> Until:
        """Return when what follows a training ends: when this says so, or if it has said so already, which ended the
        training, after a moment."""
        if self._asked():
            return Until(lambda: False, HASTE, in_haste=True)
        return Until(self._asked, AFTERWARDS, in_haste=True) if self.is_late else self

    def heeded(self, work: Generator[Item, None, Result]) -> Generator[Item, None, Result]:
        """Yield what `work` yields, return what it returns, and close it once the job is to end.

        Raises:
            Stopped: if so.
        """
        with closing(work):
            while True:
                try:
                    item = next(work)
                except StopIteration as end:
                    return end.value
                yield item
                self.check()
