"""A generator of events run in a child process and relayed: it can be stopped, killed and watched again.

The child is forked from a server that has the heavy imports done: about 0.03 s from the call to running code, against
10 s for a cold start. Where the platform has no fork server, it is spawned.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection

from ..core.environment import prepare
from ..core.errors import SftdemoError
from ..core.events import Event, Failed, Finished

_PRELOAD = ["sftdemo.runs.preload"]
_METHOD = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
_CONTEXT = multiprocessing.get_context(_METHOD)
if _METHOD == "forkserver":
    _CONTEXT.set_forkserver_preload(_PRELOAD)
_KEPT = 20  # jobs that can still be watched

Work = Callable[..., Iterator[Event]]


class BusyError(SftdemoError):
    """Another job holds the machine."""


class Job:
    """A child process that runs `work(*arguments, stop=...)`; its events are kept, for as many watchers as come.

    Args:
        work (`Callable`):
            A module-level generator function; `stop` is a function that turns true once the job is asked to end.
    """

    def __init__(self, work: Work, *arguments: object):
        self.events: list[Event] = []
        self._asked_to_stop = False
        self._changed = threading.Condition()
        receiver, sender = _CONTEXT.Pipe(duplex=False)
        # typeshed knows it of each method's context only
        process = _CONTEXT.Process  # pyright: ignore[reportAttributeAccessIssue]
        self._process = process(target=_child, args=(sender, work, arguments), daemon=True)
        self._process.start()
        sender.close()  # the child's end is then the only one, and its death closes the pipe
        threading.Thread(target=self._receive, args=(receiver,), daemon=True).start()

    def _receive(self, receiver: Connection) -> None:
        with receiver:
            while not self.done:
                try:
                    event = receiver.recv()
                except (EOFError, ConnectionResetError):
                    self._process.join()
                    event = self._ending()
                with self._changed:
                    self.events.append(event)
                    self._changed.notify_all()
        self._process.join()

    def _ending(self) -> Event:
        """What to say of a process that died without saying it itself."""
        if self._asked_to_stop and self._process.exitcode == -signal.SIGTERM:  # before it could listen
            return Finished(0, 0, 0.0, stopped=True)
        return Failed(_obituary(self._process.exitcode))

    @property
    def done(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Finished | Failed)

    def watch(self, interval: float = 0.3) -> Iterator[list[Event]]:
        """Yields the events so far, and again after each `interval` seconds in which new ones came, until the end."""
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

    def stop(self) -> None:
        """Asks the job to end after the step it is in, and to keep what it has."""
        self._asked_to_stop = True
        if self._process.is_alive():
            self._process.terminate()

    def kill(self) -> None:
        """Ends the job at once; what it has is lost."""
        self._process.kill()


class Jobs:
    """One running job at a time, and the last few that ran."""

    def __init__(self):
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()

    def start(self, job_id: str, work: Work, *arguments: object) -> Job:
        """Starts a job that can be found by `job_id`.

        Raises:
            BusyError: while another is running.
        """
        with self._lock:
            if any(not job.done for job in self._jobs.values()):
                raise BusyError("another run is under way on this machine; wait for its end, then press again.")
            job = Job(work, *arguments)
            self._jobs[job_id] = job
            for old in list(self._jobs)[:-_KEPT]:
                del self._jobs[old]
            return job

    def get(self, job_id: str | None) -> Job | None:
        return self._jobs.get(job_id or "")


def warm() -> None:
    """Starts the fork server, so that the imports are done before the first job asks for them."""
    if _METHOD == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()


def _child(sender: Connection, work: Work, arguments: tuple) -> None:
    prepare()  # a spawned child has not; a forked one has it from its server
    asked = threading.Event()
    signal.signal(signal.SIGTERM, lambda number, frame: asked.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the whole group; the parent decides
    threading.Thread(target=_die_with_parent, daemon=True).start()
    last = None
    try:
        for last in work(*arguments, stop=asked.is_set):
            sender.send(last)
    except Exception as error:
        import traceback

        traceback.print_exc()
        last = Failed(f"The run failed unexpectedly: {type(error).__name__}: {error}. The terminal shows where.")
        sender.send(last)
    if not isinstance(last, Finished | Failed):
        sender.send(Failed("The run ended without a result."))


def _die_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # this is a child
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
