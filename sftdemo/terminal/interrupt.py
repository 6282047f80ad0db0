"""Handle Ctrl-C while a job runs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from ..core import distributed


def stop_on_interrupt(after: str = "this step") -> Callable[[], bool]:
    """Return a function that is true once Ctrl-C was pressed. The job then finishes what `after` names and keeps its
    result. A second Ctrl-C ends the program."""
    interrupted: list[int] = []

    def handle(number, frame) -> None:
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(number)
        if distributed.is_first():
            print(f"sftdemo: stopping after {after}; press Ctrl-C again to give up", file=sys.stderr)

    signal.signal(signal.SIGINT, handle)
    return lambda: bool(interrupted)
