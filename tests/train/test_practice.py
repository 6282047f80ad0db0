"""A step that is taken ahead leaves nothing behind that a run, or an answer, could tell."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from generators import result
from tiny import tiny_gpt2, tiny_llama, tokenizer_named

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import TrainingError
from sftdemo.core.events import Step, Weights
from sftdemo.data.examples import parse_examples
from sftdemo.data.questions import questions_of
from sftdemo.model import prefix_sharing
from sftdemo.model.loading import load_model, weights_sha256
from sftdemo.model.sources import find_local
from sftdemo.runs.base import Base
from sftdemo.runs.run import run
from sftdemo.runs.standby import rehearse
from sftdemo.train import practice
from sftdemo.train.practice import practise

ROWS = [
    {"instruction": "Say hello", "output": "Hello!"},
    {"instruction": "Count", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
]
DATA = parse_examples(json.dumps(ROWS))
MODELS = {"chatml": tiny_llama, "gpt2": tiny_gpt2}


def state_of(model) -> dict:
    """Everything of a model that a training may change, but for the values of its weights."""
    return {
        "own": {name: value for name, value in vars(model).items() if not name.startswith("_")},
        "configs": (deepcopy(model.config).to_dict(), deepcopy(model.generation_config).to_dict()),
        "kinds": [type(module) for module in model.modules()],
        "learning": [weight.requires_grad for weight in model.parameters()],
        "gradients": [weight.grad for weight in model.parameters()],
        "modes": [module.training for module in model.modules()],
    }


@pytest.mark.parametrize("name", MODELS)
def test_the_model_stays_as_it_is(name):
    tokenizer = tokenizer_named(name)
    model = MODELS[name](tokenizer)
    before, sha256 = state_of(model), weights_sha256(model)
    practise(model, tokenizer, RunConfig(device="cpu", max_length=16))
    assert state_of(model) == before
    assert weights_sha256(model) == sha256


def test_a_step_is_taken(monkeypatch):
    taken = []

    def watched(*arguments):
        for event in train(*arguments):
            taken.append(event)
            yield event

    train = practice.train
    monkeypatch.setattr(practice, "train", watched)
    tokenizer = tokenizer_named("chatml")
    practise(tiny_llama(tokenizer), tokenizer, RunConfig(device="cpu"))
    assert [event.step for event in taken if isinstance(event, Step)] == [1]


@pytest.mark.parametrize("full", [False, True])
def test_a_run_is_the_same_with_practice_and_without(full, llama_folder, tmp_path):
    config = RunConfig(str(llama_folder), steps=3, full=full, device="cpu", max_length=64, max_new_tokens=4)
    found = {}
    for name in ("without", "with"):
        base = Base()
        opened = result(base.open(config))
        result(base.model(opened))
        if name == "with":
            base.practise()
        events = list(run(config, DATA, tmp_path / name, base=base))
        found[name] = (
            [event.loss for event in events if isinstance(event, Step)],
            [event for event in events if isinstance(event, Weights)],
        )
    assert found["with"] == found["without"] != ([], [])


def test_what_can_be_shared_is_known_for_the_run_that_follows(llama_folder, monkeypatch, tmp_path):
    config = RunConfig(str(llama_folder), steps=1, device="cpu", max_length=64, max_new_tokens=4)
    base = Base()
    questions = questions_of(config, DATA)
    list(rehearse(config, questions, DATA.held_out, None, base=base, stop=lambda: False))
    monkeypatch.setattr(prefix_sharing, "_agrees", lambda model: pytest.fail("it was looked at again"))
    events = run(config, DATA, tmp_path / "run", base=base)
    assert next(event for event in events if isinstance(event, Step))


def test_once_with_each_model(llama_folder, monkeypatch):
    practised = []
    monkeypatch.setattr(practice, "practise", lambda model, *_: practised.append(model))
    config, base = RunConfig(str(llama_folder), device="cpu"), Base()
    base.practise()
    assert practised == [], "there is none yet"
    model = result(base.model(result(base.open(config))))
    base.practise()
    base.practise()
    assert practised == [model]
    result(base.take(result(base.open(replace(config)))))
    base.practise()
    assert practised == [model], "it belongs to a run"


def test_not_on_top_of_an_adapter(llama_folder, tmp_path, monkeypatch):
    config = RunConfig(str(llama_folder), steps=1, device="cpu", max_length=64, max_new_tokens=4)
    list(run(config, DATA, tmp_path / "run"))
    assert find_local(str(tmp_path / "run")).base is not None
    monkeypatch.setattr(practice, "practise", lambda *_: pytest.fail("it was practised with"))
    base = Base()
    result(base.model(result(base.open(replace(config, model=str(tmp_path / "run"))))))
    base.practise()


def test_the_weights_of_the_twin_are_those_of_the_model(llama_folder, monkeypatch):
    """Not a copy of them, which would take as much memory again."""
    shared = []

    def looked_at(twin, *_):
        shared.extend(weight.data_ptr() for weight in twin.parameters())
        return iter(())

    monkeypatch.setattr(practice, "train", looked_at)
    model = load_model(find_local(str(llama_folder)), torch.device("cpu"))
    practise(model, tokenizer_named("chatml"), RunConfig(device="cpu"))
    assert shared == [weight.data_ptr() for weight in model.parameters()]


def test_not_without_the_memory_for_it(llama_folder, monkeypatch):
    """It is refused as the run itself would be."""
    monkeypatch.setattr(practice, "practise", lambda *_: pytest.fail("it was practised"))
    monkeypatch.setattr("sftdemo.runs.memory.free_memory", lambda: 1)
    base = Base()
    result(base.model(result(base.open(RunConfig(str(llama_folder), device="cpu")))))
    with pytest.raises(TrainingError, match="a training needs about"):
        base.practise()
