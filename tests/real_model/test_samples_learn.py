"""One real run of the default model, through the command line, as the README's table says."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from default_model import environment, private_cache

from sftdemo.data.samples import has_style

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return private_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def pirate(cache, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "outputs"
    command = [sys.executable, "-m", "sftdemo", "train", "sample_data/pirate.jsonl", "--json", "--output", str(output)]
    done = subprocess.run(command, cwd=ROOT, env=environment(cache), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return output, [json.loads(line) for line in done.stdout.splitlines()]


def test_held_out_answers_take_the_style(pirate):
    _, events = pirate
    compared = [event for event in events if event["event"] == "comparison"]
    assert len(compared) == 6
    assert all(event["source"] == "held out" for event in compared)
    before = sum(has_style("pirate", event["before"], event["before_stop"]) for event in compared)
    after = sum(has_style("pirate", event["after"], event["after_stop"]) for event in compared)
    assert before == 0
    assert after >= 5


def test_loss_falls(pirate):
    _, events = pirate
    losses = [event["loss"] for event in events if event["event"] == "step"]
    assert len(losses) == 12
    assert losses[-1] < losses[0] / 4


def test_saved_adapter_gives_the_same_answers(pirate, cache):
    output, events = pirate
    first = next(event for event in events if event["event"] == "comparison")
    command = [sys.executable, "-m", "sftdemo", "generate", str(output), "--prompt", first["prompt"], "--json"]
    done = subprocess.run(command, cwd=ROOT, env=environment(cache), capture_output=True, text=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    (answer,) = [event for event in told if event["event"] == "answer"]
    assert answer["answer"] == first["after"]
    assert answer["stop"] == first["after_stop"]
