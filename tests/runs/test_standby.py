"""A process that stands by for a run: what it is asked meanwhile, and the run that it becomes."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Before, Failed, Finished, Phase
from sftdemo.core.limits import Limits
from sftdemo.data.examples import parse_examples
from sftdemo.runs.estimate import Ready
from sftdemo.runs.jobs import Job
from sftdemo.runs.standby import Standby

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
]
DATA = parse_examples(json.dumps(ROWS))
PATIENCE = 120


def telling(base=None, stop=None):
    """A job that tells whether it knows of a model."""
    yield Phase("pid", str(os.getpid()))
    yield Phase("knows", str(base is not None and base._model is not None))
    yield Finished(1, 1, 0.0, stopped=False)


@pytest.fixture
def config(gpt2_folder):
    return RunConfig(str(gpt2_folder), max_length=64, max_new_tokens=6, device="cpu")


@pytest.fixture
def standby(config):
    standby = Standby(config)
    yield standby
    standby.end()


def last(asked) -> list:
    *_, told = asked
    return told


def job_in(standby) -> tuple[int, str]:
    """The process of a job that `standby` starts, and whether it knows of a model."""
    job = Job(telling, start=standby.start)
    *_, (pid, knows, _) = job.watch(interval=0.01)
    return int(pid.message), knows.message


def test_a_run_begins_in_the_process_that_was_asked(standby, config):
    told = last(standby.ask(config, DATA))
    assert [event.source for event in told if isinstance(event, Before)] == ["held out"]
    pid = standby.pid
    assert job_in(standby) == (pid, "True")
    assert standby.pid is None
    assert job_in(standby)[1] == "False", "another run has a process of its own"
    assert last(standby.ask(config, DATA))[-2].source == "held out"
    assert standby.pid not in (None, pid)


def test_what_was_told_is_known_to_who_asks_the_same(standby, config):
    assert standby.told(config, DATA) == []
    assert last(standby.ask(config, DATA)) == standby.told(config, DATA) != []
    assert standby.told(replace(config, max_new_tokens=3), DATA) == []


def test_the_same_question_is_asked_once(standby, config):
    first, second = standby.ask(config, DATA), standby.ask(config, DATA)
    next(first)
    assert last(second) == last(first) == last(standby.ask(config, DATA))


def test_another_question_ends_the_first(standby, config):
    long = replace(config, max_new_tokens=50)
    first = standby.ask(long, DATA)
    next(first)
    told = last(standby.ask(config, DATA))
    assert isinstance(told[-1], Finished)
    assert list(first) == []


def test_nobody_listens_any_more(standby, config):
    """As when the person types on: the process is free for the next question at once."""
    asked = standby.ask(replace(config, max_new_tokens=60), DATA)
    next(asked)
    asked.close()
    assert isinstance(last(standby.ask(config, DATA))[-1], Finished)


def test_what_cannot_be_asked_is_told(standby, config):
    told = last(standby.ask(config, DATA, Limits(questions=0)))
    assert isinstance(told[-1], Failed)
    assert "prompts to answer before and after" in told[-1].message
    assert isinstance(last(standby.ask(config, DATA))[-1], Finished)


def test_a_process_that_died_is_replaced(standby, config):
    last(standby.ask(config, DATA))
    died = standby.pid
    os.kill(died, 9)
    deadline = time.monotonic() + PATIENCE
    while standby.pid == died and time.monotonic() < deadline:
        time.sleep(0.01)
    assert job_in(standby)[1] == "False"
    assert last(standby.ask(config, DATA))[-2].source == "held out"


def test_one_that_dies_while_it_is_asked_is_replaced(standby, config, monkeypatch):
    last(standby.ask(config, DATA))
    died = standby.pid
    os.kill(died, 9)
    standby._standing.process.join()
    monkeypatch.setattr(standby._standing.process, "is_alive", lambda: True)  # as a moment ago
    assert last(standby.ask(replace(config, max_new_tokens=3), DATA))[-2].source == "held out"
    assert standby.pid != died


def test_it_is_given_back(config):
    standby = Standby(config, idle=0.3)
    last(standby.ask(config, DATA))
    deadline = time.monotonic() + PATIENCE
    while standby.pid is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    assert standby.pid is None


def test_it_is_for_one_model_on_one_device(standby, config):
    assert standby.fits(replace(config, steps=3, lora_r=4))
    assert not standby.fits(replace(config, model="other"))
    assert not standby.fits(replace(config, device="auto"))


def test_what_is_done_of_a_run_is_known(standby, config):
    assert standby.readiness(config, DATA) == Ready()
    ended = last(standby.ask(config, DATA))[-1]
    assert set(ended.parts) == {"answers before", "first step"}
    assert standby.readiness(config, DATA) == Ready(stands_by=True, answered=True)
    assert standby.readiness(replace(config, max_new_tokens=3), DATA) == Ready(stands_by=True)
    job_in(standby)
    assert standby.readiness(config, DATA) == Ready()
