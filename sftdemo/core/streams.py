"""Let a job be a generator of events: how it ends, and how its result is kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from functools import wraps
from typing import Generic, ParamSpec, TypeVar

from . import distributed
from .errors import SftdemoError, sentence
from .events import Event, Failed, Finished
from .until import Stopped

Parameters = ParamSpec("Parameters")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Outcome:
    """How a job ended, as reported by `Finished`: `steps` of `total` optimizer steps were done (0 if the job does not
    train), `stopped` is true if it was asked to end early, and `parts` are the seconds of each of its parts, if they
    are known."""

    steps: int = 0
    total: int = 0
    stopped: bool = False
    parts: dict[str, float] = field(default_factory=dict[str, float])

    @classmethod
    def of(cls, steps: int, total: int) -> Outcome:
        """Return the outcome of a training run. It counts as stopped if steps are missing or none was done."""
        return cls(steps, total, stopped=not steps or steps < total)

    def finished(self, begin: float) -> Finished:
        """Return the last event of a job that began at `begin`, a value of `time.perf_counter()`."""
        return Finished(self.steps, self.total, time.perf_counter() - begin, self.stopped, self.parts)


def event_stream(
    work: Callable[Parameters, Generator[Event, None, Outcome | None]],
) -> Callable[Parameters, Iterator[Event]]:
    """Decorate a generator function of events so that its last event is `Finished` or `Failed`.

    The function returns an `Outcome`, from which `Finished` is made with the elapsed seconds, or None if it has already
    yielded `Finished`. If it raises a `SftdemoError`, the stream ends in `Failed` with the error's message; if it
    raises `Stopped`, in a `Finished` without a step. With several processes, only the first one that fails reports it.
    """

    @wraps(work)
    def stream(*arguments: Parameters.args, **settings: Parameters.kwargs) -> Iterator[Event]:
        begin = time.perf_counter()
        try:
            outcome = yield from work(*arguments, **settings)
            if outcome is not None:
                yield outcome.finished(begin)
        except Stopped:
            yield Outcome(stopped=True).finished(begin)
        except SftdemoError as error:
            if distributed.speaks():
                yield Failed(sentence(error))

    return stream


class Relay(Generic[Item, Result]):
    """Iterate over a generator and keep its return value in `result`, for callers that need both."""

    result: Result

    def __init__(self, work: Generator[Item, None, Result]):
        self._work = work

    def __iter__(self) -> Iterator[Item]:
        self.result = yield from self._work
