"""Run a generator of events in a child process and relay the events. The job can be stopped, killed and watched again.

The child is forked from a server that has already done the heavy imports, so it starts in about 0.03 s instead of 10 s.
On platforms without a fork server, and beside bitsandbytes, the child is spawned.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess

from ..core.environment import prepare
from ..core.errors import SftdemoError
from ..core.events import Event, Failed, Finished, Phase
from ..model.four_bits import is_installed

_PRELOAD = ["sftdemo.runs.preload"]
# A process that has looked at a GPU leaves it to no child that is forked from it, and bitsandbytes looks at it as soon
# as peft imports it.
_FORKS = "forkserver" in multiprocessing.get_all_start_methods() and not is_installed()
_METHOD = "forkserver" if _FORKS else "spawn"
_CONTEXT = multiprocessing.get_context(_METHOD)
if _METHOD == "forkserver":
    _CONTEXT.set_forkserver_preload(_PRELOAD)
_NICE = 10  # by how much a job gives way to the process that serves the page
_LINGER = 10.0  # seconds that the next job waits for the process of the last one to give its memory back
IDLE = 600.0  # seconds without a process after which the fork server gives its memory back: 350 MB

Work = Callable[..., Iterator[Event]]
Started = tuple[BaseProcess, Connection]  # a child process and the end of a pipe that its events come from
Start = Callable[[Work, tuple], Started]


class BusyError(SftdemoError):
    """Another job is already running on this machine, or too many wait in its queue."""


class Job:
    """A child process that runs `work(*arguments, stop=...)`. Its events are kept for any number of watchers.

    Args:
        work (`Callable`):
            A module-level generator function. `stop` is a function that returns true once the job is asked to end.
        waits (`bool`, *optional*, defaults to False):
            Whether the process waits for `begin`.
        seconds (`float`, *optional*):
            How long it will take, as far as that is known.
        ended (`Callable`, *optional*):
            Called once the process has ended.
        start (`Callable`, *optional*):
            Starts `work(*arguments, stop=...)` in a child process. By default, in a new one.
    """

    def __init__(
        self,
        work: Work,
        *arguments: object,
        waits: bool = False,
        seconds: float | None = None,
        ended: Callable[[], None] = lambda: None,
        start: Start | None = None,
    ):
        self.events: list[Event] = []
        self.watchers, self.last_watched = 0, time.monotonic()
        self._work, self._arguments, self._seconds, self._ended = work, arguments, seconds, ended
        self._start = start or start_child
        self._asked_to_stop = False
        self._changed = threading.Condition()
        self._begun: float | None = None
        if not waits:
            self.begin()

    def begin(self) -> None:
        """Start the process, unless the job was stopped while it waited."""
        with self._changed:
            if self.done:
                return
            self._process, receiver = self._start(self._work, self._arguments)
            self._begun = time.monotonic()
            self._changed.notify_all()
        threading.Thread(target=self._receive, args=(receiver,), daemon=True).start()

    def _receive(self, receiver: Connection) -> None:
        with receiver:
            while not self.done:
                try:
                    event = receiver.recv()
                except (EOFError, ConnectionResetError):
                    self._process.join()
                    event = self._ending()
                self._tell(event)
        self._process.join(_LINGER)
        self._ended()

    def _tell(self, *events: Event) -> None:
        with self._changed:
            self.events.extend(events)
            self._changed.notify_all()

    def _ending(self) -> Event:
        """Return the last event of a process that died without sending one."""
        if self._asked_to_stop and self._process.exitcode == -signal.SIGTERM:  # before its handler was installed
            return Finished(0, 0, 0.0, stopped=True)
        return Failed(_obituary(self._process.exitcode))

    @property
    def done(self) -> bool:
        """Return whether the last event has arrived."""
        return bool(self.events) and isinstance(self.events[-1], Finished | Failed)

    @property
    def waits(self) -> bool:
        """Return whether the job has not begun, and will."""
        return self._begun is None and not self.done

    @property
    def remaining(self) -> float | None:
        """Return the seconds until the job ends, as far as they are known."""
        if self._seconds is None or self._begun is None:
            return self._seconds
        return max(0.0, self._seconds - (time.monotonic() - self._begun))

    def wait(self, seconds: float) -> None:
        """Wait until the job begins or ends, as long as so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self.waits, seconds)

    def watch(self, interval: float = 0.3) -> Iterator[list[Event]]:
        """Yield all events so far, again every `interval` seconds if there are new ones, until the job ends."""
        seen = -1
        while True:
            with self._changed:
                events = list(self.events)
                done = self.done
            if len(events) != seen:
                yield events
                seen = len(events)
            if done:
                return
            with self._changed:
                if len(self.events) == seen:
                    self._changed.wait(timeout=interval)
            if not self.done:
                threading.Event().wait(interval)

    def new_events(self, interval: float = 0.3) -> Iterator[Event]:
        """Yield the events one by one as `watch` sees them, until the job ends."""
        seen = 0
        for events in self.watch(interval):
            yield from events[seen:]
            seen = len(events)

    def stop(self) -> None:
        """Ask the job to end after the current step and keep its result. One that waits ends now."""
        with self._changed:
            self._asked_to_stop = True
            if self.waits:
                self._tell(Finished(0, 0, 0.0, stopped=True))
            elif self._begun is not None and self._process.is_alive():
                self._process.terminate()

    def leave(self, reason: str) -> None:
        """Stop the job and say why."""
        with self._changed:
            if not self.done:
                self._tell(Phase("limit", reason))
                self.stop()

    def kill(self) -> None:
        """End the job at once. Its result is lost."""
        self._process.kill()


class _ForkServer:
    """When a process of the fork server was last seen, and the lock that keeps one from being started as it ends."""

    def __init__(self) -> None:
        self.lock, self.last_used = threading.Lock(), time.monotonic()


_SERVER = _ForkServer()


def warm() -> None:
    """Start the fork server early, so that the imports are done before the first job needs them."""
    if _METHOD == "forkserver":
        from multiprocessing import forkserver

        _SERVER.last_used = time.monotonic()
        forkserver.ensure_running()


def await_imports() -> None:
    """Wait until the fork server has done its imports, and can start a process at once."""
    if _METHOD == "forkserver":
        start_process(int).join()


def give_back(idle: float = IDLE) -> None:
    """End the fork server, and so give its memory back, if no call has seen a process of it for `idle` seconds. The
    next process starts another, and waits for its imports."""
    with _SERVER.lock:
        if multiprocessing.active_children():
            _SERVER.last_used = time.monotonic()
        elif _METHOD == "forkserver" and time.monotonic() - _SERVER.last_used >= idle:
            from multiprocessing import forkserver

            forkserver._forkserver._stop()  # pyright: ignore[reportAttributeAccessIssue] - typeshed does not have it


def start_child(work: Work, arguments: tuple) -> Started:
    """Start a child process that runs `work(*arguments, stop=...)` and sends its events."""
    receiver, sender = pipe()
    return start_process(_child, sender, work, arguments), receiver


def pipe() -> tuple[Connection, Connection]:
    """Return the end of a pipe to receive from and the end to send to."""
    return _CONTEXT.Pipe(duplex=False)


def start_process(target: Callable[..., object], *arguments: object) -> BaseProcess:
    """Start a child process that calls `target(*arguments)`. The ends of pipes among the arguments are closed here:
    only the child holds them then, so a pipe closes when the child dies."""
    # typeshed declares `Process` only for the contexts of specific start methods
    process = _CONTEXT.Process(target=target, args=arguments, daemon=True)  # pyright: ignore[reportAttributeAccessIssue]
    with _SERVER.lock:
        _SERVER.last_used = time.monotonic()
        process.start()
    for argument in arguments:
        if isinstance(argument, Connection):
            argument.close()
    return process


def _child(sender: Connection, work: Work, arguments: tuple) -> None:
    prepare_child()
    run_job(sender, work, arguments)


def run_job(sender: Connection, work: Work, arguments: tuple) -> None:
    """Run `work(*arguments, stop=...)` in this child process and send its events."""
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    for event in events_of(work, *arguments, stop=asked.is_set):
        sender.send(event)


def events_of(work: Work, *arguments: object, stop: Callable[[], bool]) -> Iterator[Event]:
    """Yield the events of `work(*arguments, stop=...)`. The last is `Finished` or `Failed`, whatever goes wrong."""
    last = None
    try:
        for last in work(*arguments, stop=stop):
            yield last
    except Exception as error:
        import traceback

        traceback.print_exc()
        last = Failed(f"The run failed unexpectedly: {type(error).__name__}: {error}. The terminal shows where.")
        yield last
    if not isinstance(last, Finished | Failed):
        yield Failed("The run ended without a result.")


def prepare_child() -> None:
    """Let a child process end with its parent, leave it to the parent what Ctrl-C ends, and let the page, which people
    wait for, have a core first."""
    if sys.platform != "win32":
        os.nice(_NICE)
    prepare()  # for a spawned child; a forked one inherits this from its server
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole process group, but the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in a child process
    parent.join()
    os._exit(1)


def _obituary(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        name = signal.Signals(-exitcode).name
        hint = (
            " Most often the system does that when memory runs out: lower the batch size or max_length, or train with "
            "LoRA."
            if name == "SIGKILL"
            else ""
        )
        return f"The training process was ended by {name}.{hint} The next run starts afresh."
    return f"The training process ended unexpectedly (exit code {exitcode}). The next run starts afresh."
