"""Run work on the GPU that a Space with ZeroGPU lends for it, and say what it refuses."""

from __future__ import annotations

import logging
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from math import ceil
from pathlib import Path

from ..core.events import Event, Failed, Finished, Phase
from ..core.limits import Limits
from ..core.text import duration
from ..core.until import AFTERWARDS
from ..runs.jobs import Work, events_of

# Seconds of a GPU that are asked for. An anonymous visitor has about two minutes a day, and the fewer are asked for,
# the sooner there is one. Without an estimate it is what ZeroGPU itself takes.
LEAST, MOST, UNKNOWN = 30, 120, 60
_DOUBT = 1.5  # by which a run may be slower than it was estimated
PATIENCE = 60.0  # seconds in which a page or a program that has started a run begins to watch it
_SAVING = AFTERWARDS + 5  # seconds that a run needs once its time is up, to answer and to be saved
_QUOTA = re.compile(r"\((\d+)s requested vs\. (-?\d+)s left\)\. Try again in (?:(\d+) days?, )?(\d+):(\d+):(\d+)")
_LOG = logging.getLogger(__name__)

# What the package says, in parts of its titles and messages, and what we do. The first that is found counts.
_WORDS = (
    ("pending credits", "Other runs of yours have all the GPU time that you may use at once. Wait for their end."),
    ("illegal duration", "ZeroGPU lends you no GPU for as long as {asked}. Take fewer steps, or shorter rows."),
    (
        "Space app has reached",
        "ZeroGPU does not know who asks, and this Space's GPU time is used up. Sign in to Hugging Face, and reload.",
    ),
    ("runs limit", "Your runs on ZeroGPU are used up for now. Try again later."),
    ("No GPU was available", "No GPU was free for this run. Press again, or come back later."),
    ("proxy token", "This page has been open for too long to ask for a GPU. Reload it, and press again."),
    (
        "GPU task aborted",
        "The GPU was taken away in the middle of the work: more than {asked} went by, or its process died. "
        "Take fewer steps, or a smaller batch.",
    ),
    ("worker error", "The GPU could not be made ready for this run. The log of the Space shows why."),
)
_OTHER = "ZeroGPU could not be asked for a GPU. The log of the Space shows why; press again."


def on_zero_gpu() -> bool:
    """Return whether the page runs on a Space with ZeroGPU."""
    return "SPACES_ZERO_GPU" in os.environ


def gpu_seconds(estimate: float | None) -> int:
    """Return for how many seconds a GPU is asked for, for work that is estimated to take so many (`estimate`)."""
    return UNKNOWN if estimate is None else min(max(LEAST, ceil(estimate * _DOUBT)), MOST)


def within(limits: Limits, estimate: float | None) -> Limits:
    """Return the limits of a run that ends, and keeps what it has, before its GPU is taken away."""
    return replace(limits, seconds=min(limits.seconds, gpu_seconds(estimate) - int(_SAVING)))


def gpu_work() -> Callable[..., Iterator[Event]]:
    """Return a generator function that runs `work(*arguments, stop=...)` on ZeroGPU, for as many seconds as come before
    it. Call this at start-up, which is when ZeroGPU looks for such functions."""
    import spaces

    @spaces.GPU(duration=lambda seconds, *_: seconds)
    def work_on_gpu(seconds: int, stop: Callable[[], bool], work: Work, *arguments: object) -> Iterator[Event]:
        yield from events_of(work, *arguments, stop=stop)

    return work_on_gpu


class LentGpu:
    """Runs on the GPU that ZeroGPU lends, which has a queue of its own. A run is asked for when its page watches it.

    Args:
        patience (`float`, *optional*, defaults to `PATIENCE`):
            For how many seconds a run is kept that no page has watched yet.
    """

    def __init__(self, patience: float = PATIENCE):
        self._patience = patience
        self._work = gpu_work()
        self._begun: dict[str, Iterator[Event]] = {}
        self._stops: dict[str, Path] = {}

    def __contains__(self, run_id: str) -> bool:
        """Return whether a run waits or is under way."""
        return run_id in self._stops

    def begin(self, run_id: str, work: Work, estimate: float | None) -> None:
        """Keep a run until its page watches it. `estimate` is how many seconds it will take, if that is known."""
        # The worker shares neither memory nor events with this process, but the disk.
        self._stops[run_id] = stop = Path(tempfile.gettempdir()) / f"stop-{run_id}"
        self._begun[run_id] = self.relay(work, estimate=estimate, stop=stop.exists)
        timer = threading.Timer(self._patience, self._let_go, [run_id])
        timer.daemon = True
        timer.start()

    def _let_go(self, run_id: str) -> None:
        """Forget a run whose page has gone before it watched it; or its visitor could have no other."""
        if self._begun.pop(run_id, None) is not None:
            self._forget(run_id)

    def _forget(self, run_id: str) -> None:
        if stop := self._stops.pop(run_id, None):
            stop.unlink(missing_ok=True)

    def watch(self, run_id: str) -> Iterator[list[Event]]:
        """Run what was kept, and yield all its events so far, again and again. Nothing, if it is watched elsewhere."""
        events: list[Event] = []
        begun = self._begun.pop(run_id, None)
        if begun is None:
            return
        try:
            for event in begun:
                events.append(event)
                if isinstance(event, Finished | Failed):  # what ZeroGPU does after it may take minutes
                    self._forget(run_id)
                yield events
        finally:
            self._forget(run_id)

    def stop(self, run_id: str) -> None:
        """Ask a run to end after the current step, and to keep what it has."""
        if stop := self._stops.get(run_id):
            stop.touch()

    def relay(
        self, work: Work, *arguments: object, estimate: float | None = None, stop: Callable[[], bool] = bool
    ) -> Iterator[Event]:
        """Run `work(*arguments, stop=...)` and yield its events. What ZeroGPU refuses is the last, in a sentence; what
        fails there after the last is only logged. `stop`, by default never, must be a function that can be pickled."""
        import gradio as gr

        seconds, last = gpu_seconds(estimate), None
        yield Phase("gpu", f"Asking for a GPU for {duration(seconds)}")
        try:
            for last in self._work(seconds, stop, work, *arguments):
                yield last
            return
        except gr.Error as error:
            _LOG.warning("ZeroGPU refused a run: %s: %s", error.title, error)
            said = refusal(error.title, str(error), seconds)
        except Exception:  # the package raises all kinds for an answer that is none
            _LOG.exception("ZeroGPU could not be asked for a GPU.")
            said = _OTHER
        if not isinstance(last, Finished | Failed):
            yield Failed(said)


def refusal(title: str, message: str, seconds: int) -> str:
    """Return what the package refuses a run for as a sentence of ours, without the HTML that it may have.

    Args:
        title, message (`str`):
            The package's own words.
        seconds (`int`):
            How long the GPU was asked for.
    """
    if quota := _QUOTA.search(message):
        asked, left, days, hours, minutes, rest = (int(number or 0) for number in quota.groups())
        wait = duration(((days * 24 + hours) * 60 + minutes) * 60 + rest)
        return (
            f"Your GPU time on ZeroGPU does not suffice: it takes {duration(asked)}, and {duration(max(left, 0))} is "
            f"left. Take fewer steps, sign in to Hugging Face for more, or try again in {wait}."
        )
    found = (words for part, words in _WORDS if part in f"{title} {message}")
    return next(found, _OTHER).format(asked=duration(seconds))
