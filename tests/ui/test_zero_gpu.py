"""Runs on ZeroGPU: the package's own workers, against a stand-in for its device API; and what is told of refusals."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from datetime import timedelta

import pytest
from device_api import HUNG_UP, LENT, device_api
from on_zero_gpu import WITHOUT_TORCH
from pages import ROOT

from sftdemo.core.events import Finished, Phase
from sftdemo.core.limits import Limits
from sftdemo.ui.zero_gpu import LEAST, MOST, UNKNOWN, LentGpu, gpu_seconds, within

QUOTA = {"left": 7, "wait": timedelta(hours=3, minutes=20).total_seconds()}
NO_GPU = "No GPU was free for this run. Press again, or come back later."
OTHER = "ZeroGPU could not be asked for a GPU. The log of the Space shows why; press again."
REFUSED = {  # by the server's answer, what is told
    "quota": (
        (429, QUOTA),
        "Your GPU time on ZeroGPU does not suffice: it takes 2 min, and 7 s is left. Take fewer steps, sign in to "
        "Hugging Face for more, or try again in 3.3 h.",
    ),
    "stranger": (
        (429, QUOTA),
        "ZeroGPU does not know who asks, and this Space's GPU time is used up. Sign in to Hugging Face, and reload.",
    ),
    "long": (
        (429, {"left": 7, "wait": -1.0}),
        "ZeroGPU lends you no GPU for as long as 2 min. Take fewer steps, or shorter rows.",
    ),
    "runs": ((429, {"left": 7, "wait": 0.0}), "Your runs on ZeroGPU are used up for now. Try again later."),
    "queue": ((200, "event: failed\n\n"), NO_GPU),
    "none": ((503, {}), NO_GPU),
    "expired": (
        (401, {}),
        "This page has been open for too long to ask for a GPU. Reload it, and press again.",
    ),
    "broken": ((500, {}), OTHER),
    "hung-up": (HUNG_UP, OTHER),
    "less": ((200, {"idle": False}), OTHER),
    "list": ((200, []), OTHER),
    "no-quota": ((429, {}), OTHER),
    "no-event": ((200, "event: unheard-of\n\n"), OTHER),
}


@pytest.fixture(scope="module")
def told():
    """Return how each run ended by its name, and the device API that was asked."""
    with device_api(*[LENT] * 5, *(answer for answer, _ in REFUSED.values())) as api:
        zero = {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": api.address}
        command = [sys.executable, "-c", WITHOUT_TORCH, *REFUSED]
        places = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        process = subprocess.run(
            command, env=os.environ | zero | {"PYTHONPATH": places}, capture_output=True, text=True, timeout=300
        )
    runs = [json.loads(line) for line in process.stdout.splitlines() if line.startswith("{")]
    assert process.returncode == 0, process.stderr
    return {run["name"]: run for run in runs}, api


def last(told, name: str) -> dict:
    return told[0][name]["events"][-1]


def test_a_run_goes_on_in_a_process_of_its_own(told):
    first, *counted, process, end = told[0]["counted"]["events"]
    assert first["message"] == "Asking for a GPU for 75 s"
    assert [event["message"] for event in counted] == ["0", "1", "2"]
    assert int(process["message"]) != told[0]["counted"]["own"]
    assert end["event"] == "finished"
    assert told[1].of("/schedule")[0]["durationSeconds"] == "75"
    assert told[1].of("/allow")[0] == {"allowToken": "token", "pid": process["message"]}


def test_a_run_that_is_stopped_keeps_what_it_has(told):
    assert last(told, "stopped")["event"] == "finished"
    assert last(told, "stopped")["stopped"] is True
    assert last(told, "stopped")["steps"] < 100


def test_a_page_that_is_closed_gives_the_gpu_back(told):
    assert last(told, "closed")["event"] == "phase"
    assert not any(run["left"] for run in told[0].values())
    released = [words["fail"] for words in told[1].of("/release")]
    assert released == ["false", "false", "false", "true", "false"]  # a worker that died has failed


def test_what_goes_wrong_there_is_told(told):
    assert "its process died" in last(told, "died")["message"]
    assert last(told, "raised")["message"].startswith("The run failed unexpectedly: ValueError: seven is no colour.")


def test_what_is_refused_is_told_in_our_words(told):
    told_of = {name: last(told, name)["message"] for name in REFUSED}
    assert told_of == {name: words for name, (_, words) in REFUSED.items()}


def test_the_time_that_is_asked_for_is_bounded():
    assert [gpu_seconds(estimate) for estimate in (None, 1.0, 60.0, 10_000.0)] == [UNKNOWN, LEAST, 90, MOST]
    assert within(Limits(seconds=900), 60.0).seconds == 75
    assert within(Limits(seconds=20), 60.0).seconds == 20


def test_a_run_that_nobody_watches_is_let_go(monkeypatch):
    monkeypatch.setattr("sftdemo.ui.zero_gpu.gpu_work", lambda: lambda _, stop, work: work(stop=stop))
    gpu, told = LentGpu(patience=0.1), Phase("train", "Training")
    for name in ("watched", "forsaken"):
        gpu.begin(name, lambda stop: iter([told]), None)
    looks = gpu.watch("watched")
    next(looks)
    end = time.monotonic() + 120
    while "forsaken" in gpu and time.monotonic() < end:
        time.sleep(0.02)
    assert ("watched" in gpu, "forsaken" in gpu) == (True, False)
    assert list(gpu.watch("forsaken")) == []
    assert [*looks][-1][-1] == told


def test_what_fails_after_a_run_has_ended_changes_nothing(monkeypatch):
    def worked(_, stop, work):
        yield Finished(2, 2, 0.1, stopped=False)
        raise RuntimeError("ZeroGPU API /release error: 500")

    monkeypatch.setattr("sftdemo.ui.zero_gpu.gpu_work", lambda: worked)
    gpu = LentGpu()
    gpu.begin("run", lambda stop: iter([]), None)
    under_way = [("run" in gpu, events[-1]) for events in gpu.watch("run")]
    assert under_way[0][0]
    assert under_way[1:] == [(False, Finished(2, 2, 0.1, stopped=False))]
