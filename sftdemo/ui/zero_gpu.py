"""Run work on the GPU that a Space with ZeroGPU lends for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ..core.events import Event

SECONDS = 120  # of GPU time that a run may take; an anonymous visitor has about as many per day


def on_zero_gpu() -> bool:
    """Return whether the page runs on a Space with ZeroGPU."""
    return "SPACES_ZERO_GPU" in os.environ


def gpu_work() -> Callable[..., Iterator[Event]]:
    """Return a generator function that runs `work(*arguments)` on ZeroGPU. Call this at start-up, which is when ZeroGPU
    looks for such functions."""
    import spaces

    @spaces.GPU(duration=SECONDS)
    def work_on_gpu(work: Callable[..., Iterator[Event]], *arguments: object) -> Iterator[Event]:
        yield from work(*arguments)

    return work_on_gpu
