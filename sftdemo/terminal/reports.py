"""Keep what a package prints that a run is reported to out of the program's own results."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import redirect_stdout

from ..core.config import RunConfig
from ..core.events import Event


def aside(events: Iterator[Event], config: RunConfig) -> Iterator[Event]:
    """Yield the events; meanwhile what others print on stdout, as trackio does, goes to stderr."""
    if config.report_to == "none":
        yield from events
        return
    while True:
        with redirect_stdout(sys.stderr):
            event = next(events, None)
        if event is None:
            return
        yield event
