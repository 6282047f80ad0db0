"""On a ZeroGPU Space the GPU is lent to one decorated generator at a time, which does the whole run.

https://huggingface.co/docs/hub/spaces-zerogpu: arguments and yields are pickled between the processes, and off ZeroGPU
the decorator returns the function as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ..events import Event

SECONDS = 120  # of GPU time that a run may take; an anonymous visitor has about as many a day


def on_zero_gpu() -> bool:
    return "SPACES_ZERO_GPU" in os.environ


def gpu_work() -> Callable[..., Iterator[Event]]:
    """A generator function that runs `work(*arguments)` as one `@spaces.GPU` generator. To be made at start-up, where
    ZeroGPU looks for it."""
    import spaces

    @spaces.GPU(duration=SECONDS)
    def work_on_gpu(work: Callable[..., Iterator[Event]], *arguments: object) -> Iterator[Event]:
        yield from work(*arguments)

    return work_on_gpu
