from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from sftdemo.core.events import Failed, Finished, Phase, Saved, Step
from sftdemo.runs import jobs
from sftdemo.runs.jobs import Job
from sftdemo.runs.queue import Jobs

PATIENCE = 120  # seconds; nothing here takes more than one or two, unless other tests keep the cores busy


def counting(count, pause=0.0, stop=None):
    for step in range(1, count + 1):
        time.sleep(pause)
        yield Step(step, count, 1 / step, 0.0, 0.0)
    yield Finished(count, count, 0.0, stopped=False)


def until_stopped(stop):
    yield Phase("pid", str(os.getpid()))
    step = 0
    while not stop():
        step += 1
        yield Step(step, 1000, 0.0, 0.0, 0.0)
        time.sleep(0.02)
    yield Saved("outputs", "adapter")
    yield Finished(step, 1000, 0.0, stopped=True)


def silent(stop):
    yield Phase("pid", str(os.getpid()))
    time.sleep(PATIENCE)


def raising(stop):
    yield Phase("a", "Going well")
    raise ValueError("seven is no colour")


def ending_early(stop):
    yield Phase("a", "Going well")


def shot(stop):
    yield Phase("a", "Going well")
    os.kill(os.getpid(), signal.SIGKILL)


def exiting(stop):
    yield Phase("a", "Going well")
    os._exit(7)


def telling_what_is_loaded(stop):
    yield Phase("loaded", " ".join(sys.modules))
    yield Finished(0, 0, 0.0, stopped=False)


def watched(job) -> list:
    """The events of a job that ends, by its watcher; a hanging one is killed."""
    timer = threading.Timer(PATIENCE, job.kill)
    timer.start()
    try:
        *_, events = job.watch(interval=0.01)
        return events
    finally:
        timer.cancel()


def first(job, kind):
    for events in job.watch(interval=0.01):
        for event in events:
            if isinstance(event, kind):
                return event
    raise AssertionError(f"the job ended without a {kind.__name__}: {events}")


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    stat = Path(f"/proc/{pid}/stat")  # a dead process that nobody has asked after is still listed
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z"


EXPECTED = [*counting(50)]


def test_events_come_in_order():
    assert watched(Job(counting, 50)) == EXPECTED


def test_a_job_begins_with_all_loaded():
    """Or the first click takes ten seconds longer: a name that cannot be imported is passed over without a word."""
    loaded, _ = watched(Job(telling_what_is_loaded))
    names = {"sftdemo.runs.ablation", "sftdemo.model.generation", "sftdemo.train.loop", "torch", "transformers"}
    names |= {"matplotlib.figure", "matplotlib.backends.backend_svg"}  # with which a saved run's loss is drawn
    assert names <= set(loaded.message.split())


def test_each_look_goes_on_where_the_last_one_was():
    job, looks = Job(until_stopped), []
    for look in job.watch(interval=0.01):
        looks.append(look)
        if len(looks) == 3:
            job.stop()
    for look in looks:
        assert look == job.events[: len(look)]
    lengths = [len(look) for look in looks]
    assert lengths == sorted(set(lengths))
    assert lengths[-1] == len(job.events)


def test_a_late_watcher_sees_all():
    job = Job(counting, 50)
    watched(job)
    assert list(job.watch()) == [EXPECTED]
    assert job.done


def test_two_watchers():
    job = Job(counting, 50, 0.005)
    seen = []
    other = threading.Thread(target=lambda: seen.append(watched(job)))
    other.start()
    assert watched(job) == EXPECTED
    other.join(PATIENCE)
    assert seen == [EXPECTED]


def test_what_a_watcher_got_does_not_change_under_it():
    job = Job(until_stopped)
    looks = job.watch(interval=0.01)
    look = next(look for look in looks if look)
    count = len(look)
    next(looks)
    job.stop()
    watched(job)
    assert len(look) == count < len(job.events)


def test_stop_ends_a_job_that_keeps_what_it_has():
    job = Job(until_stopped)
    first(job, Step)
    job.stop()
    *_, saved, finished = watched(job)
    assert saved == Saved("outputs", "adapter")
    assert finished.stopped
    job.stop()
    assert job.events[-1] == finished


def test_stop_at_once_is_no_crash():
    """Between the press of the button and the job's first event there is time to press stop."""
    job = Job(until_stopped)
    job.stop()
    assert isinstance(watched(job)[-1], Finished), job.events[-1]


def test_ctrl_c_is_left_to_the_parent():
    job = Job(until_stopped)
    os.kill(int(first(job, Phase).message), signal.SIGINT)
    time.sleep(0.1)
    job.stop()
    assert isinstance(watched(job)[-1], Finished)


@pytest.mark.parametrize(
    ("work", "says"),
    [
        (shot, "The training process was ended by SIGKILL. Most often the system does that when memory runs out"),
        (exiting, "The training process ended unexpectedly (exit code 7)."),
        (raising, "The run failed unexpectedly: ValueError: seven is no colour."),
        (ending_early, "The run ended without a result."),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_a_job_that_goes_wrong_ends_in_failed(work, says):
    jobs = Jobs()
    first_event, failed = watched(jobs.start("a", work))
    assert first_event == Phase("a", "Going well")
    assert isinstance(failed, Failed)
    assert failed.message.startswith(says)
    assert watched(jobs.start("b", counting, 50)) == EXPECTED


def test_kill_ends_it_and_the_next_one_works():
    jobs = Jobs()
    job = jobs.start("a", until_stopped)
    pid = int(first(job, Phase).message)
    job.kill()
    assert "SIGKILL" in watched(job)[-1].message
    assert is_gone(pid)
    assert watched(jobs.start("b", counting, 50)) == EXPECTED


PARENT = """
import sys, time
sys.path.insert(0, {tests!r})
from runs import test_jobs
from sftdemo.runs import jobs
from sftdemo.runs.jobs import Job

if __name__ == "__main__":
    if jobs._METHOD == "forkserver":
        jobs._CONTEXT.set_forkserver_preload([])  # this job needs none of the libraries
    job = Job(test_jobs.silent)
    print(test_jobs.first(job, test_jobs.Phase).message, flush=True)
    time.sleep(test_jobs.PATIENCE)
"""


def test_a_job_dies_with_its_parent(tmp_path):
    tests = Path(__file__).parents[1]
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(tests=str(tests)))
    environment = os.environ | {"PYTHONPATH": str(tests.parent)}
    with subprocess.Popen([sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True) as parent:
        try:
            pid = int(parent.stdout.readline())
            assert not is_gone(pid)
        finally:
            parent.kill()
    end = time.monotonic() + PATIENCE / 2
    while not is_gone(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert is_gone(pid)


IDLE = """
import sys, time
sys.path.insert(0, {tests!r})
from multiprocessing import forkserver
from runs import test_jobs
from sftdemo.runs import jobs
from sftdemo.runs.jobs import Job

def server():
    return forkserver._forkserver._forkserver_pid

if __name__ == "__main__":
    jobs._CONTEXT.set_forkserver_preload([])  # these jobs need none of the libraries
    job = Job(test_jobs.until_stopped)
    test_jobs.first(job, test_jobs.Phase)
    jobs.give_back(idle=0)
    kept = server()
    assert kept and not test_jobs.is_gone(kept)  # a process of it runs
    job.stop()
    test_jobs.watched(job)
    job._process.join()
    jobs.give_back(idle=3600)
    assert server() == kept
    jobs.give_back(idle=0)
    assert server() is None and test_jobs.is_gone(kept)
    jobs.give_back(idle=0)  # it is gone already
    jobs.await_imports()
    assert server() not in (None, kept)
    assert test_jobs.watched(Job(test_jobs.counting, 50)) == test_jobs.EXPECTED
"""


@pytest.mark.skipif(jobs._METHOD != "forkserver", reason="there is no fork server here")
def test_the_fork_server_is_given_back_once_nothing_runs_and_comes_back(tmp_path):
    tests = Path(__file__).parents[1]
    script = tmp_path / "idle.py"
    script.write_text(IDLE.format(tests=str(tests)))
    subprocess.run([sys.executable, script], env=os.environ | {"PYTHONPATH": str(tests.parent)}, check=True)
