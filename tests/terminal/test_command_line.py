"""The command that the page shows for a run, read back by the command line."""

from __future__ import annotations

import shlex
import signal
from dataclasses import replace
from unittest.mock import patch

import pytest
from hypothesis import example, given
from run_settings import configs

from sftdemo.core.config import RunConfig
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


@given(configs())
@example(RunConfig())
@example(RunConfig(epochs=1, full=True, learning_rate=1e-4))
def test_any_settings(config):
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
        {"set": ("weight_decay=0.01", "lora.target_modules=[q_proj, v_proj]", "lr_scheduler_kwargs={'a b': '1e-3'}")},
        {"report_to": "trackio", "set": ("run_name='-x'", 'project=it\'s "mine"')},
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
