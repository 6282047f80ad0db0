from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from math import isfinite

import pytest

from sftdemo.core.config import SETTINGS, RunConfig, check_limit
from sftdemo.core.errors import ConfigError


def test_defaults():
    config = RunConfig()
    assert (config.steps, config.epochs, config.learning_rate) == (12, None, 2e-3)
    assert (config.turns, config.anyway) == ("all", False)
    assert RunConfig(full=True).learning_rate == 1e-4
    assert RunConfig(learning_rate=5e-5).learning_rate == 5e-5
    assert (RunConfig(epochs=1).steps, RunConfig(epochs=1).epochs) == (None, 1)


def test_is_frozen():
    with pytest.raises(FrozenInstanceError):
        RunConfig().steps = 3


NUMBERS = [name for name, setting in SETTINGS.items() if setting.kind in (int, float)]


def test_every_number_has_limits():
    assert NUMBERS
    assert all(isfinite(end) for name in NUMBERS for end in SETTINGS[name].limits[:2])


@pytest.mark.parametrize("name", NUMBERS)
def test_limits(name):
    low, high, _ = SETTINGS[name].limits
    other = {"steps": None} if name == "epochs" else {}
    for value in (low, high):
        assert getattr(RunConfig(**{name: value}, **other), name) == value
    for value in (low / 2 if low else -1, high * 2, float("nan"), float("inf"), -1):
        with pytest.raises(ConfigError, match=f"^{name} is .*it must lie between {low:g}"):
            RunConfig(**{name: value}, **other)


def test_a_limit_says_its_range_and_unit():
    with pytest.raises(ConfigError, match=r"^steps is 0; it must lie between 1 and 1,000,000 optimizer steps\.$"):
        check_limit("steps", 0)
    check_limit("steps", None)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"steps": 3, "epochs": 1}, "give one of them"),
        ({"full": True, "merge": True}, "no adapter to merge"),
        ({"device": "tpu"}, "'tpu'; choose one of auto, cuda, mps, cpu"),
        ({"turns": "first"}, "turns is 'first'; choose one of all, last"),
        ({"model": "  "}, "model is empty"),
        ({"template": "\ud800{instruction}"}, r"^template has half of a character at position 0 \(\\ud800\); write"),
        ({"prompts": ("a", "b\udcff")}, r"^prompts has half of a character at position 1 \(\\udcff\); write"),
        ({"chat_template_kwargs": "[" * 100_000}, r"is '\[{60}'; write a JSON object"),
        *(
            ({"chat_template_kwargs": json.dumps({name: 1})}, f"names '{name}', which is set in another way")
            for name in ("self", "conversations", "tools")
        ),
    ],
)
def test_refused(settings, says):
    with pytest.raises(ConfigError, match=says):
        RunConfig(**settings)


def test_to_dict_is_json_and_reads_back():
    config = RunConfig(prompts=("a", "b"), epochs=2, turns="last", anyway=True)
    record = json.loads(json.dumps(config.to_dict()))
    assert RunConfig(**record | {"prompts": tuple(record["prompts"])}) == config


def test_the_command_names_how_the_rows_are_read():
    command = RunConfig().command_line("hub:a/b@c", limit=5, columns={"prompt": "my question", "output": "a"})
    assert command == ("python -m sftdemo train hub:a/b@c --limit 5 --columns 'prompt=my question' output=a --steps 12")
