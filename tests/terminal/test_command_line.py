"""The command that the page shows for a run, read back by the command line."""

from __future__ import annotations

import json
import shlex
import signal
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from sftdemo.core.config import SETTINGS, RunConfig
from sftdemo.core.events import Finished
from sftdemo.terminal.cli import main


@pytest.fixture(scope="module", autouse=True)
def data_here(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    (folder / "d.jsonl").write_text('{"instruction": "a", "output": "b"}')
    handler = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        yield
    signal.signal(signal.SIGINT, handler)


def read_back(config: RunConfig) -> RunConfig:
    """The settings with which the command line would start the run."""
    started = []

    def run(config, data, output, stop, overwrite):
        started.append(config)
        yield Finished(0, 0, 0.0, False)

    words = shlex.split(config.command_line("d.jsonl"))
    assert words[:5] == ["python", "-m", "sftdemo", "train", "d.jsonl"]
    with patch("sftdemo.runs.run.run", run):
        try:
            code = main([*words[3:], "--json"])
        except SystemExit as error:
            code = error.code
    assert code == 0, f"{words} is refused"
    return started[0]


def as_trained(config: RunConfig) -> RunConfig:
    """Without a setting that full fine-tuning does not look at."""
    return replace(config, lora_r=16) if config.full else config


def values(name: str):
    """What the setting may be."""
    setting = SETTINGS[name]
    if setting.choices:
        return st.sampled_from([*setting.choices])
    if setting.kind is bool:
        return st.booleans()
    low, high, _ = setting.limits
    return st.integers(low, high) if setting.kind is int else st.floats(low, high)


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=20)
LENGTH = st.one_of(
    st.fixed_dictionaries({"steps": values("steps")}), st.fixed_dictionaries({"epochs": values("epochs")}), st.just({})
)
METHOD = st.sampled_from([{}, {"full": True}, {"merge": True}])
TEXTS = {
    "model": st.sampled_from(["gpt2", "my models/it's here", "C:\\new\\tiny", "naïve/$HOME"]),
    "template": st.one_of(st.sampled_from(["alpaca", "chat"]), st.tuples(TEXT, TEXT).map("{instruction}".join), TEXT),
    "chat_template_kwargs": st.dictionaries(TEXT, TEXT | st.booleans(), max_size=2).map(json.dumps) | st.just(""),
    "prompts": st.lists(TEXT, max_size=3).map(tuple),
    "save_every": st.sampled_from([None, "1", "250", "10m", "0.5m"]),
}
EXCLUSIVE = ("steps", "epochs", "full", "merge")
OTHERS = st.fixed_dictionaries(
    {}, optional=TEXTS | {name: values(name) for name in SETTINGS if name not in (*TEXTS, *EXCLUSIVE)}
)


@given(LENGTH, METHOD, OTHERS)
@example({}, {}, {})
@example({"epochs": 1}, {"full": True}, {"learning_rate": 1e-4})
def test_any_settings(length, method, others):
    config = RunConfig(**length, **method, **others)
    assert as_trained(read_back(config)) == as_trained(config)


@pytest.mark.parametrize(
    "others",
    [
        {"template": "Q: {instruction}\nA:\n"},
        {"template": "\tQ: {instruction}\r\n"},
        {"template": r"in LaTeX: {instruction} \newline"},
        {"template": "--{instruction}"},
        {"template": "{instruction}\\"},
        {"prompts": ("two words", "it's", '"$HOME" `x` \\', "a\nb")},
        {"prompts": ("-5 or 5?", "-x", "--help")},
        {"prompts": (r"What does \n mean?",)},
        {"full": True, "lora_r": 8},
        {"full": True, "learning_rate": 2e-3},
        {"learning_rate": 0.00123456789},
        {"epochs": 1 / 3},
        {"epochs": 1.0},
        {"merge": True, "packing": True, "lora_r": 8},
        {"turns": "last", "anyway": True},
    ],
    ids=str,
)
def test_settings_that_need_care(others):
    config = RunConfig(**others)
    assert as_trained(read_back(config)) == as_trained(config)


def test_what_is_at_its_default_is_left_out():
    assert RunConfig().command_line("d.jsonl") == "python -m sftdemo train d.jsonl --steps 12"
    assert RunConfig(full=True).command_line("my d.jsonl") == "python -m sftdemo train 'my d.jsonl' --steps 12 --full"
    told = RunConfig(turns="last", anyway=True).command_line("d.jsonl")
    assert told == "python -m sftdemo train d.jsonl --turns last --steps 12 --anyway"
