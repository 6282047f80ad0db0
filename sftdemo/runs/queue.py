"""Run jobs one at a time; those who come meanwhile wait in a queue."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Generator
from contextlib import contextmanager
from dataclasses import dataclass

from ..core.events import Event, Phase
from ..core.text import duration, ordinal
from .jobs import BusyError, Job, Start, Work, start_child

_KEPT = 20  # jobs that can still be watched
_LOOK = 1.0  # seconds between two looks at a place in the queue


@dataclass(frozen=True)
class Queued(Phase):
    """The job waits, as one of so many (`waiting`), and will begin in about so many `seconds`, if that is known. The
    message tells its place."""

    waiting: int = 1
    seconds: float | None = None


@dataclass(frozen=True)
class Turn:
    """What is asked of a job that is queued.

    Args:
        seconds (`float`, *optional*):
            How long it will take, for those who wait behind it.
        own (`Collection[str]`):
            The ids of the same visitor's jobs, of which only one may wait or run.
    """

    seconds: float | None = None
    own: Collection[str] = ()


ANY_TURN = Turn()


class Jobs:
    """Run one job at a time, let others wait in a queue, and keep the last few so that they can be watched again.

    Args:
        grace (`float`, *optional*):
            After how many seconds without a watcher a job that was queued is stopped. By default, never.
    """

    def __init__(self, grace: float | None = None):
        self._jobs: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._grace = grace

    def start(self, job_id: str, work: Work, *arguments: object) -> Job:
        """Start a job and register it as `job_id`.

        Raises:
            BusyError: if another job is running.
        """
        with self._lock:
            if self._under_way():
                raise BusyError("another run is under way on this machine; wait for its end, then press again.")
            return self._keep(job_id, Job(work, *arguments, ended=self._advance))

    def queue(self, job_id: str, work: Work, most: int, turn: Turn, start: Start = start_child) -> Job:
        """Start a job, by `start`, once all that were queued before it have ended, and register it as `job_id`. At most
        so many (`most`) may wait.

        Raises:
            BusyError: if they do, or if another of the visitor's jobs runs or waits.
        """
        with self._lock:
            under_way = self._under_way()
            mine = [job for name, job in under_way.items() if name in turn.own]
            if mine:
                state = "waits in the queue" if mine[0].waits else "is under way"
                raise BusyError(f"a run of yours {state} already; stop it or wait for its end, then press again.")
            waiting = sum(job.waits for job in under_way.values())
            if waiting >= most:
                raise BusyError(f"the queue is full: {waiting} wait, the limit here is {most}. Press again later.")
            job = Job(work, waits=bool(under_way), seconds=turn.seconds, ended=self._advance, start=start)
            self._watch_out(job)
            return self._keep(job_id, job)

    def _under_way(self) -> dict[str, Job]:
        """Return the jobs that run or wait, in the order of their turns."""
        return {name: job for name, job in self._jobs.items() if not job.done}

    def _keep(self, job_id: str, job: Job) -> Job:
        self._jobs.pop(job_id, None)  # one that is gone on with takes its turn at the end
        self._jobs[job_id] = job
        for old in [name for name in list(self._jobs)[:-_KEPT] if self._jobs[name].done]:
            del self._jobs[old]
        return job

    def _advance(self) -> None:
        """Begin the next job of the queue, if none runs."""
        with self._lock:
            for job in self._under_way().values():
                if not job.waits:
                    return
                job.begin()

    @property
    def is_busy(self) -> bool:
        """Return whether a job runs or waits."""
        with self._lock:
            return bool(self._under_way())

    def place(self, job_id: str) -> Queued | None:
        """Return the place of a job in the queue; None if it does not wait."""
        with self._lock:
            under_way = self._under_way()
        if job_id not in under_way or not under_way[job_id].waits:
            return None
        before = list(under_way.values())[: list(under_way).index(job_id)]
        left = [job.remaining for job in before]
        known = [seconds for seconds in left if seconds is not None]
        place = 1 + sum(job.waits for job in before)
        waiting = sum(job.waits for job in under_way.values())
        seconds = round(sum(known)) if len(known) == len(left) else None
        return Queued("queue", f"{ordinal(place)} in the queue", None, waiting, seconds)

    def watch(self, job_id: str) -> Generator[list[Event]]:
        """Yield the place of a job as long as it waits, once a second, and then all its events as `Job.watch` does."""
        job = self._jobs[job_id]
        with self._watched(job):
            while (place := self.place(job_id)) is not None:
                yield [place]
                job.wait(_LOOK)
            yield from job.watch()

    @contextmanager
    def _watched(self, job: Job) -> Generator[None]:
        with self._lock:
            job.watchers += 1
        try:
            yield
        finally:
            with self._lock:
                job.watchers -= 1
                job.last_watched = time.monotonic()
            self._watch_out(job)

    def _watch_out(self, job: Job) -> None:
        """Stop a job that nobody has watched when the time of grace is over."""
        if self._grace is None or job.done:
            return
        timer = threading.Timer(self._grace, self._forsake, [job, self._grace])
        timer.daemon = True
        timer.start()

    def _forsake(self, job: Job, grace: float) -> None:
        if job.watchers == 0 and time.monotonic() - job.last_watched >= grace:
            job.leave(f"Its page was closed for {duration(grace)}, so it was stopped.")

    def close(self, seconds: float) -> None:
        """Ask all jobs to end and to keep their results, and wait for that as long as so many seconds. Those that have
        not ended are ended when this process does."""
        deadline = time.monotonic() + seconds
        with self._lock:
            running = list(self._under_way().values())
        for job in reversed(running):  # or the next one would begin
            job.stop()
        while time.monotonic() < deadline and not all(job.done for job in running):
            time.sleep(0.02)

    def get(self, job_id: str | None) -> Job | None:
        """Return the job with this id, or None if it is unknown."""
        return self._jobs.get(job_id or "")
