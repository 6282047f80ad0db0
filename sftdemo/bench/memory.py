"""Measure how much memory some work takes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..core.environment import release_memory


def memory_growth(work: Callable[[], object]) -> float:
    """Return by how many MB the process grew at most during `work`. Its resident memory is read every 5 ms; free memory
    is released first."""
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
