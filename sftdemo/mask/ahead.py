"""Let threads work ahead of whoever takes their results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Python does one thing at a time, but a tokenizer encodes beside it. With three threads there is nearly always one that
# encodes on each of two cores while another, or the caller, has Python to itself.
THREADS, AHEAD = 3, 4


def work_ahead(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield what `work` returns for each of the items, in their order. `THREADS` threads work on at most `AHEAD` items
    besides the one whose result comes next. Items are taken in the caller's thread."""
    pool, coming = ThreadPoolExecutor(THREADS), deque[Future[Result]]()
    try:
        for item in items:
            coming.append(pool.submit(work, item))
            if len(coming) > AHEAD:
                yield coming.popleft().result()
        while coming:
            yield coming.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
