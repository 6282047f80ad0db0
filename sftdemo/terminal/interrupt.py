"""What Ctrl-C does to a job of the command line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from ..core import distributed


def stop_on_interrupt() -> Callable[[], bool]:
    """Tells whether the job is asked to end, which the first Ctrl-C does: it keeps what it has. A second one ends the
    program."""
    interrupted: list[int] = []

    def handle(number, frame) -> None:
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(number)
        if distributed.is_first():
            print("sftdemo: stopping after this step; press Ctrl-C again to give up", file=sys.stderr)

    signal.signal(signal.SIGINT, handle)
    return lambda: bool(interrupted)
