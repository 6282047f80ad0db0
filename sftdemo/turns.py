"""A function that calls back, turned into a generator, on the same thread."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from greenlet import getcurrent, greenlet

Item, Result = TypeVar("Item"), TypeVar("Result")


def in_turns(work: Callable[[Callable[[Item], None]], Result]) -> Generator[Item, None, Result]:
    """Calls `work(emit)` and yields what it emits; while the caller has an item, `work` stands still.

    A generator that is closed before its end lets `work` go on to its end and discards what it emits; so `work` should
    ask in between whether it is to stop. Every item must be asked for by the same thread.

    The work has a stack of its own, not a thread of its own. GNU OpenMP keeps a team of threads for each thread that
    computes, and once the teams together outnumber the cores, they sleep between any two operations: a training step in
    a second thread took 1.4 s, and 1.1 s in the one thread that does all the computing (LoRA, 2 cores).
    """
    worker = greenlet(lambda: work(emit))

    def emit(item: Item) -> None:
        worker.parent.switch(item)

    def resume():
        worker.parent = getcurrent()
        return worker.switch()

    item = resume()
    try:
        while not worker.dead:
            yield item
            item = resume()
    finally:
        while not worker.dead:
            resume()
    return item
