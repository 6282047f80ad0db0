"""When a job ends before its last step: because it is asked to, or because its time is up."""

from __future__ import annotations

import time
from collections.abc import Callable

AFTERWARDS = 10.0  # seconds in which a training that was stopped answers its prompts, so that what it has can be judged


class Stopped(Exception):
    """A job was stopped before it had anything to keep. `streams.event_stream` tells it."""


class Until:
    """Returns true once a job is to end.

    Args:
        asked (`Callable[[], bool]`):
            Whether it is asked to.
        seconds (`float`, *optional*):
            How long it may take.
    """

    def __init__(self, asked: Callable[[], bool], seconds: float | None = None):
        self._asked, self._seconds, self._begin = asked, seconds, time.monotonic()

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


def afterwards(stop: Callable[[], bool]) -> Callable[[], bool]:
    """Return when what follows a training ends: at once if `stop` returns true from now on; if it did before, which
    ended the training, after a few seconds."""
    return Until(lambda: False, AFTERWARDS) if stop() else stop
