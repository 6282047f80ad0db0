"""On a ZeroGPU Space the GPU is lent to one decorated generator at a time, which does the whole run.

https://huggingface.co/docs/hub/spaces-zerogpu: arguments and yields are pickled between the processes, and off ZeroGPU
the decorator returns the function as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from ..events import Event
from ..runs import run

SECONDS = 120  # of GPU time that a run may take; an anonymous visitor has about as many a day


def on_zero_gpu() -> bool:
    return "SPACES_ZERO_GPU" in os.environ


def gpu_run() -> Callable[..., Iterator[Event]]:
    """`runs.run` as one `@spaces.GPU` generator. To be made at start-up, where ZeroGPU looks for it."""
    import spaces

    @spaces.GPU(duration=SECONDS)
    def run_on_gpu(config, data, output) -> Iterator[Event]:
        yield from run(config, data, output)

    return run_on_gpu
