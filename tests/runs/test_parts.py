"""A run tells what it spent its time on, and nothing is left out or counted twice."""

from __future__ import annotations

import json

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Finished
from sftdemo.data.examples import parse_examples
from sftdemo.runs.ablation import ablate
from sftdemo.runs.parts import PARTS
from sftdemo.runs.run import run

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
]


@pytest.mark.parametrize("work", [run, ablate], ids=lambda work: work.__name__)
def test_the_parts_are_the_whole(work, gpt2_folder, tmp_path):
    config = RunConfig(str(gpt2_folder), steps=2, max_new_tokens=2, max_length=64)
    *_, ended = work(config, parse_examples(json.dumps(ROWS)), tmp_path / "out")
    assert isinstance(ended, Finished)
    assert tuple(ended.parts) == PARTS
    assert sum(ended.parts.values()) == pytest.approx(ended.seconds, abs=0.01)
    events = [json.loads(line) for line in (tmp_path / "out" / "events.jsonl").read_text("utf-8").splitlines()]
    assert events[-1]["parts"] == ended.parts
