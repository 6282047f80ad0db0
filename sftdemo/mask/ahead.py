"""Let threads work ahead of whoever takes their results."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

# Python does one thing at a time, but a tokenizer encodes beside it: one thread encodes while the other, or the caller,
# has Python to itself. A third thread gains nothing on two cores, and takes a few MB.
THREADS, AHEAD = 2, 3


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
