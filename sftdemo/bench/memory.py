"""Measure how much memory some work takes."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..core.environment import release_memory

if TYPE_CHECKING:
    import torch


def memory_growth(work: Callable[[], object], device: torch.device | None = None) -> float:
    """Return by how many MB the process grew at most during `work`. Its resident memory is read every 5 ms; free memory
    is released first. On a GPU, return by how many MB the tensors there grew at most."""
    if device is not None and device.type == "cuda":
        return _cuda_growth(work, device)
    import psutil

    process, done = psutil.Process(), threading.Event()
    release_memory()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return round((peak - before) / 1e6, 1)


def _cuda_growth(work: Callable[[], object], device: torch.device) -> float:
    import torch

    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    return round((torch.cuda.max_memory_allocated(device) - before) / 1e6, 1)
