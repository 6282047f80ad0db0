"""One job at a time: those who come meanwhile wait, are told their place, and begin by themselves."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from sftdemo.core.events import Finished, Phase, Step
from sftdemo.runs.jobs import BusyError
from sftdemo.runs.queue import ANY_TURN, Jobs, Queued, Turn

from .test_jobs import EXPECTED, PATIENCE, counting, first, until_stopped, watched


def put(jobs: Jobs, job_id: str, seconds: float | None = None, own=(), most: int = 9, work=until_stopped):
    return jobs.queue(job_id, work, most, Turn(seconds, own))


def places(jobs: Jobs, *names: str) -> list[tuple[str, int, float | None] | None]:
    found = [jobs.place(name) for name in names]
    return [place and (place.message, place.waiting, place.seconds) for place in found]


def until(holds) -> None:
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_who_comes_next_waits_is_told_how_long_and_begins_by_itself():
    jobs = Jobs()
    running, second = put(jobs, "a", 6000.0), put(jobs, "b", 3000.0)
    third = jobs.queue("c", lambda stop: iter(()), 9, ANY_TURN)
    fourth = put(jobs, "d")
    first(running, Step)
    places_now = places(jobs, "a", "b", "c", "d")
    assert [place and (place[0], place[1]) for place in places_now] == [
        None,
        ("1st in the queue", 3),
        ("2nd in the queue", 3),
        ("3rd in the queue", 3),
    ]
    assert 5000 < places_now[1][2] <= 6000
    assert places_now[2][2] == pytest.approx(places_now[1][2] + 3000, abs=1000)
    assert places_now[3][2] is None, "nobody knows how long the third takes"
    with pytest.raises(BusyError, match="another run is under way"):
        jobs.start("proof", counting, 1)
    third.stop()
    assert watched(third) == [Finished(0, 0, 0.0, stopped=True)]
    running.stop()
    looks = jobs.watch("b")
    assert isinstance(next(looks)[0], Queued)
    until(lambda: not second.waits)
    assert places(jobs, "b", "d")[0] is None
    assert not isinstance(next(looks)[:1], Queued)
    second.stop()
    assert isinstance(list(looks)[-1][-1], Finished)
    fourth.stop()
    assert isinstance(watched(fourth)[-1], Finished)


def test_a_quick_job_refuses_no_run():
    jobs = Jobs()
    quick = jobs.start("proof", until_stopped)
    job = put(jobs, "a", work=lambda stop: iter(()))
    assert places(jobs, "a") == [("1st in the queue", 1, None)]
    job.stop()
    quick.stop()
    watched(quick)
    assert watched(jobs.start("again", counting, 50)) == EXPECTED
    assert (jobs.get("proof"), jobs.get("c"), jobs.get(None)) == (quick, None, None)


def test_one_place_a_visitor_and_no_more_than_may_wait():
    jobs = Jobs()
    running = put(jobs, "a")
    with pytest.raises(BusyError, match="a run of yours is under way already; stop it or wait"):
        put(jobs, "b", own=["x", "a"])
    waits = put(jobs, "b", most=1)
    with pytest.raises(BusyError, match="a run of yours waits in the queue already"):
        put(jobs, "c", own=["b"])
    with pytest.raises(BusyError, match=r"the queue is full: 1 wait, the limit here is 1\. Press again later\."):
        put(jobs, "c", most=1)
    assert jobs.get("c") is None
    for number in range(30):
        put(jobs, f"left {number}").stop()
    assert jobs.get("a") is running, "a job under way is never forgotten"
    jobs.close(PATIENCE)
    assert running.done
    assert waits.events == [Finished(0, 0, 0.0, stopped=True)], "or it would begin at the end"


def test_what_nobody_watches_any_more_ends_and_says_why():
    jobs = Jobs(grace=0.2)
    running, waits, seen = put(jobs, "a"), put(jobs, "b"), put(jobs, "c")
    watching = jobs.watch("c")
    assert next(watching)
    until(lambda: waits.done and running.done)
    reason = Phase("limit", "Its page was closed for 0 s, so it was stopped.")
    assert waits.events == [reason, Finished(0, 0, 0.0, stopped=True)]
    assert reason in running.events
    assert running.events[-1] == replace(running.events[-1], stopped=True)
    until(lambda: not seen.waits)
    assert not seen.done
    watching.close()
    assert isinstance(watched(seen)[-1], Finished)
