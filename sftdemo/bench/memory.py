"""How much memory something takes."""

from __future__ import annotations

import threading
from collections.abc import Callable

from ..core.environment import release_memory


def growth(work: Callable[[], object]) -> float:
    """MB by which the process grew at most while `work` went on, looked at every 5 ms, free memory released before."""
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
