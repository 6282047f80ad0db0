"""What Ctrl-C does to a job of the command line."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable

from ..core import distributed


def stop_on_interrupt(after: str = "this step") -> Callable[[], bool]:
    """Tells whether the job is asked to end, which the first Ctrl-C does: it goes on to the end of what `after` names,
    and keeps what it has. A second one ends the program."""
    interrupted: list[int] = []

    def handle(number, frame) -> None:
        if interrupted:
            raise KeyboardInterrupt
        interrupted.append(number)
        if distributed.is_first():
            print(f"sftdemo: stopping after {after}; press Ctrl-C again to give up", file=sys.stderr)

    signal.signal(signal.SIGINT, handle)
    return lambda: bool(interrupted)
