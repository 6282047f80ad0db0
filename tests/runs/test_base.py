"""What is known of a model before a run is what the run would find by itself, and is found anew where it changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from generators import result

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Before, Finished, HeldOut, Model, Step, Weights
from sftdemo.data.examples import parse_examples
from sftdemo.data.questions import questions_of
from sftdemo.model import generation, loading, scoring
from sftdemo.model.loading import weights_sha256
from sftdemo.runs import base as base_module
from sftdemo.runs.ablation import ablate
from sftdemo.runs.base import Base
from sftdemo.runs.run import run
from sftdemo.runs.standby import MOST, rehearse

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
]
DATA = parse_examples(json.dumps(ROWS))


@pytest.fixture
def config(gpt2_folder, tmp_path):
    folder = shutil.copytree(gpt2_folder, tmp_path / "model")
    return RunConfig(str(folder), steps=2, batch_size=2, max_length=64, max_new_tokens=6, device="cpu")


def rehearsed(config, base, data=DATA, stop=lambda: False) -> list:
    return list(rehearse(config, questions_of(config, data), data.held_out, None, base=base, stop=stop))


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture
def counted(monkeypatch):
    """Counts what is loaded and computed."""
    counts = dict.fromkeys(("tokenizer", "model", "hash", "answers", "losses"), 0)

    def count(name, module, function):
        own = getattr(module, function)

        def counting(*arguments, **settings):
            counts[name] += 1
            return own(*arguments, **settings)

        monkeypatch.setattr(module, function, counting)

    count("tokenizer", loading, "load_tokenizer")
    count("model", loading, "load_model")
    count("hash", base_module, "weights_sha256")
    count("answers", generation, "generate")
    count("losses", scoring, "judge")
    return counts


@pytest.mark.parametrize("kind", [{}, {"full": True}])
def test_a_run_after_a_rehearsal_is_the_same_run(config, tmp_path, kind):
    config = replace(config, **kind)
    base = Base()
    told = rehearsed(config, base)
    alone, after = (list(run(config, DATA, tmp_path / name, base=known)) for name, known in (("a", None), ("b", base)))
    assert isinstance(after[-1], Finished)
    for of_kind in (Model, Before, HeldOut, Weights):
        assert of(of_kind, after) == of(of_kind, alone)
    assert [step.loss for step in of(Step, after)] == [step.loss for step in of(Step, alone)]
    assert of(Before, told) == of(Before, alone)


def test_what_is_known_is_computed_once(config, tmp_path, counted):
    base = Base()
    rehearsed(config, base)
    rehearsed(config, base)
    assert counted == {"tokenizer": 1, "model": 1, "hash": 1, "answers": 1, "losses": 1}
    list(run(config, DATA, tmp_path / "out", base=base))
    assert (counted["tokenizer"], counted["model"], counted["hash"]) == (1, 1, 1)
    assert (counted["answers"], counted["losses"]) == (2, 2), "after the training"


def test_both_ways_begin_with_it(config, tmp_path, counted):
    base = Base()
    rehearsed(config, base)
    events = list(ablate(config, DATA, tmp_path / "out", base=base))
    assert isinstance(events[-1], Finished)
    assert events[-1].steps == 4
    assert (counted["tokenizer"], counted["answers"]) == (1, 3)


def test_a_model_that_was_handed_out_is_loaded_anew(config, counted):
    base = Base()
    opened = result(base.open(config))
    first, known = result(base.take(opened))
    with torch.no_grad():
        next(first.parameters()).add_(1)
    second, again = result(base.take(opened))
    assert first is not second
    assert known == again == weights_sha256(second)
    assert counted["model"] == 2


def test_files_that_change_are_read_anew(config, counted):
    base = Base()
    rehearsed(config, base)
    (Path(config.model) / "model.safetensors").touch()
    rehearsed(config, base)
    assert counted["tokenizer"] == counted["model"] == counted["answers"] == 2


def test_other_questions_are_answered_anew(config, counted):
    base = Base()
    rehearsed(config, base)
    told = rehearsed(replace(config, prompts=("Capital of Japan?",)), base)
    assert [event.source for event in of(Before, told)] == ["typed", "held out"]
    rehearsed(replace(config, max_new_tokens=3), base)
    assert (counted["answers"], counted["model"]) == (3, 1)


def test_what_was_stopped_is_not_kept(config, counted):
    base, data = Base(), parse_examples(json.dumps([*ROWS, ROWS[2] | {"instruction": "Of France?"}]))
    stopped = rehearsed(config, base, data, stop=lambda: True)
    assert [event.stop for event in of(Before, stopped)] == ["stopped"] * 2
    assert "stopped" not in [event.stop for event in of(Before, rehearsed(config, base, data))]
    assert (counted["answers"], counted["losses"]) == (2, 1)


def test_many_questions_wait_until_they_are_asked_for(config, counted):
    rows = [*ROWS[:2], *({"instruction": f"Count to {n}", "output": "1", "held_out": True} for n in range(MOST + 1))]
    told = rehearsed(config, Base(), parse_examples(json.dumps(rows)))
    assert of(Before, told) == []
    assert (counted["model"], counted["answers"]) == (1, 0)
