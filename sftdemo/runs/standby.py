"""Keep a process that stands by for a run: the model is loaded in it, and answers the questions that stand there.

From the click on, such a run needs neither to load the model nor to answer before the training.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from ..core.config import RunConfig
from ..core.errors import TrainingError
from ..core.events import Before, Event, Failed, Finished, Model
from ..core.limits import Limits
from ..core.streams import Outcome, event_stream
from ..data.examples import Example, ParsedExamples
from ..data.hold_out import hold_out
from ..data.questions import Question, questions_of
from .base import Base
from .estimate import NEW, Ready
from .jobs import IDLE, Started, Work, pipe, prepare_child, run_job, start_child, start_process
from .parts import BEFORE, FIRST_STEP
from .run import answers_before
from .setup import ask

MOST = 32  # questions that are answered ahead: what takes long is worth the waiting only once it is asked for
_LOOK = 0.1  # seconds between two looks at a process


@event_stream
def rehearse(
    config: RunConfig,
    questions: list[Question],
    held_out: Sequence[Example],
    limits: Limits | None,
    base: Base,
    stop: Callable[[], bool],
) -> Generator[Event, None, Outcome]:
    """Load the model, answer the questions of a run that may follow, and score the rows that it holds out, unless they
    are many; then take a step of a training ahead. Yields a `Before` for each answer; the last event is `Failed`, or
    `Finished` with the seconds of the answers and of the step. What was computed stays in `base`."""
    opened = yield from base.open(config)
    asked = ask(opened, questions, limits)
    model = yield from base.model(opened)
    spent = dict[str, float]()
    if len(questions) <= MOST:
        begin = time.perf_counter()
        yield from answers_before(asked, model, base, stop)
        spent[BEFORE] = time.perf_counter() - begin
        rows = asked.held_out_rows(held_out)
        if rows and not stop():
            base.scores(model, rows, stop)
    if not stop():
        with suppress(TrainingError):  # the run itself will meet it, and tell
            seconds = base.practise()
            spent |= {FIRST_STEP: seconds} if seconds else {}
    return Outcome(stopped=stop(), parts=spent)


@dataclass(frozen=True)
class _Rehearsal:
    """What is asked of the process before there is a run: the arguments of `rehearse`."""

    config: RunConfig
    questions: list[Question]
    held_out: tuple[Example, ...]
    limits: Limits | None


@dataclass
class _Standing:
    """A process that stands by. `told` are the events of the latest rehearsal, which so many follow (`followers`);
    `loaded` says whether the model is."""

    process: BaseProcess
    requests: Connection
    events: Connection
    last_asked: float
    number: int = 0
    rehearsal: _Rehearsal | None = None
    followers: int = 0
    told: tuple[Event, ...] = ()
    loaded: bool = False

    def send(self, request: object) -> int:
        """Ask something else, and return its number.

        Raises:
            BrokenPipeError: if the process has died.
        """
        self.number, self.followers, self.told, self.last_asked = self.number + 1, 0, (), time.monotonic()
        self.rehearsal = request if isinstance(request, _Rehearsal) else None
        self.requests.send((self.number, request))
        return self.number


class Standby:
    """Keep one process that stands by for the runs of one model, for all visitors. The latest question counts.

    Args:
        config (`RunConfig`):
            Which model, on which device.
        idle (`float`, *optional*, defaults to `IDLE`):
            After how many seconds without a question the process ends, and its memory is given back.
    """

    def __init__(self, config: RunConfig, idle: float = IDLE):
        self._config, self._idle = config, idle
        self._changed = threading.Condition()
        self._standing: _Standing | None = None

    def fits(self, config: RunConfig) -> bool:
        """Return whether this is for runs of this model on this device."""
        return (config.model, config.device) == (self._config.model, self._config.device)

    @property
    def pid(self) -> int | None:
        """Return the id of the process that stands by; None if there is none."""
        standing = self._standing
        return standing.process.pid if standing is not None and standing.process.is_alive() else None

    def ask(self, config: RunConfig, data: ParsedExamples, limits: Limits | None = None) -> Iterator[list[Event]]:
        """Let the model answer the questions of a run that may follow, and yield all events so far as they come, until
        the last. It ends early where others are asked, or the run begins. Once nobody follows, the answering ends."""
        rehearsal = _rehearsal(config, data, limits)
        with self._changed:
            standing = self._asked(rehearsal)
            number = standing.number
            standing.followers += 1
            self._changed.notify_all()
        try:
            yield from self._follow(standing, number)
        finally:
            with self._changed:
                if standing.number == number:
                    standing.followers -= 1
                    if not standing.followers and not _is_over(standing.told):
                        with suppress(BrokenPipeError):
                            standing.send(None)

    def _asked(self, rehearsal: _Rehearsal) -> _Standing:
        """Return the process that rehearses this: the one that stands by or, if that has died, a new one."""
        standing = self._standing
        if standing is not None and standing.process.is_alive():
            with suppress(BrokenPipeError):  # it dies this very moment
                if standing.rehearsal != rehearsal:
                    standing.send(rehearsal)
                return standing
        standing = self._begin()
        with suppress(BrokenPipeError):  # so does the new one, and who follows it hears nothing
            standing.send(rehearsal)
        return standing

    def _follow(self, standing: _Standing, number: int) -> Iterator[list[Event]]:
        seen = 0
        while standing.number == number and standing.process.is_alive():
            with self._changed:
                if len(standing.told) == seen:
                    self._changed.wait(_LOOK)
            time.sleep(_LOOK)  # answers come several at a time, and are shown together
            with self._changed:
                told = list(standing.told) if standing.number == number else []
            if len(told) > seen:
                seen = len(told)
                yield told
            if _is_over(told):
                return

    def told(self, config: RunConfig, data: ParsedExamples, limits: Limits | None = None) -> list[Event]:
        """Return the events so far of what `ask` asks with these arguments, without asking anything."""
        rehearsal = _rehearsal(config, data, limits)
        with self._changed:
            standing = self._standing
            return list(standing.told) if standing is not None and standing.rehearsal == rehearsal else []

    def readiness(self, config: RunConfig, data: ParsedExamples, limits: Limits | None = None) -> Ready:
        """Return what is done of a run with these arguments, if it began now."""
        standing, told = self._standing, self.told(config, data, limits)
        if standing is None or not standing.process.is_alive():
            return NEW
        is_over = bool(told) and isinstance(told[-1], Finished) and not told[-1].stopped
        return Ready(standing.loaded, is_over and any(isinstance(event, Before) for event in told))

    def start(self, work: Work, arguments: tuple) -> Started:
        """Start a run in the process that stands by, if there is one, else in a new one. `work` takes what is known of
        the model as `base`."""
        with self._changed:
            standing, self._standing = self._standing, None
            if standing is None or not standing.process.is_alive():
                return start_child(work, arguments)
            try:
                standing.send((work, arguments))
            except BrokenPipeError:  # it has died this very moment
                return start_child(work, arguments)
            self._changed.notify_all()
            return standing.process, standing.events

    def end(self) -> None:
        """End the process that stands by."""
        with self._changed:
            standing, self._standing = self._standing, None
            if standing is not None:
                standing.process.kill()
                self._changed.notify_all()

    def _begin(self) -> _Standing:
        asked, requests = pipe()
        told, teller = pipe()
        events, sender = pipe()
        process = start_process(_stand_by, asked, teller, sender)
        standing = self._standing = _Standing(process, requests, events, time.monotonic())
        threading.Thread(target=self._receive, args=(standing, told), daemon=True).start()
        return standing

    def _receive(self, standing: _Standing, told: Connection) -> None:
        """Keep what the process tells, until it begins a run, or dies, or is given back."""
        with told:
            while True:
                try:
                    if told.poll(self._idle / 10):
                        number, event = told.recv()
                        standing.loaded |= isinstance(event, Model)
                        with self._changed:
                            if number == standing.number:
                                standing.told = (*standing.told, event)
                                self._changed.notify_all()
                except (EOFError, ConnectionResetError):
                    return
                idle = time.monotonic() - standing.last_asked
                if self._standing is standing and not standing.followers and idle > self._idle:
                    self.end()


def _rehearsal(config: RunConfig, data: ParsedExamples, limits: Limits | None) -> _Rehearsal:
    data = hold_out(data, config)
    return _Rehearsal(config, questions_of(config, data), data.held_out[:MOST], limits)


def _is_over(events: tuple[Event, ...] | list[Event]) -> bool:
    return bool(events) and isinstance(events[-1], Finished | Failed)


def _stand_by(asked: Connection, teller: Connection, sender: Connection) -> None:
    prepare_child()
    base = Base()
    while True:
        try:
            number, request = asked.recv()
        except EOFError:
            return
        if isinstance(request, _Rehearsal):
            for event in rehearse(**vars(request), base=base, stop=asked.poll):
                teller.send((number, event))
        elif request is not None:
            work, arguments = request
            teller.close()
            run_job(sender, partial(work, base=base), arguments)
            return
