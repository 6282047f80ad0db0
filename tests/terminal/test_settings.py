"""Settings from options, from a file, and by default; and the file that a run leaves, which repeats it."""

from __future__ import annotations

import json
import shlex
import signal

import pytest
from pages import ROOT, blocks, sessions
from safetensors.torch import load_file

from sftdemo.core.config import RunConfig
from sftdemo.core.settings_file import parse_settings
from sftdemo.core.trl_settings import ALLOWED, REFUSED
from sftdemo.terminal.cli import _parser, main
from sftdemo.terminal.settings import run_config

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS)))
    handler = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, handler)


def written(text: str) -> str:
    with open("run.yaml", "w", encoding="utf-8") as file:
        file.write(text)
    return "run.yaml"


def chosen(*words: str) -> RunConfig:
    return run_config(_parser().parse_args([*words]))


@pytest.mark.parametrize("command", ["mask", "lint", "train", "ablate", "study"])
def test_options_go_before_the_file_and_the_file_before_the_defaults(command):
    file = written("max_length: 64\nbatch_size: 4\nturns: last\nlearning_rate: 1e-3\n")
    config = chosen(command, "rows.jsonl", "--config", file, "--max-length", "512")
    assert config == RunConfig(max_length=512, batch_size=4, turns="last", learning_rate=1e-3)


def test_an_option_goes_before_what_it_excludes():
    file = written("steps: 3\nfull: true\nlearning_rate: 1e-3\n")
    assert chosen("train", "rows.jsonl", "--config", file).full
    config = chosen("train", "rows.jsonl", "--config", file, "--epochs", "2", "--lora-r", "4")
    assert config == RunConfig(epochs=2, lora_r=4, learning_rate=1e-3)


def test_of_set_each_name_counts_by_itself():
    file = written("set: {weight_decay: 0.1, lora.alpha: 8}\nprompts: [a]\n")
    words = ["--set", "lora.alpha=4", "--set", "warmup_steps=1", "--prompt", "b"]
    config = chosen("train", "rows.jsonl", "--config", file, *words)
    assert config.set == ("weight_decay=0.1", "lora.lora_alpha=4", "warmup_steps=1")
    assert config.prompts == ("b",)


def test_what_a_command_does_not_use_is_told(capsys):
    file = written("prompt_loss_weight: 0.5\nmerge: true\nbatch_size: 4\n")
    assert chosen("ablate", "rows.jsonl", "--config", file) == RunConfig(batch_size=4, merge=True)
    assert (
        capsys.readouterr().err == "sftdemo: settings in run.yaml that this command does not use: prompt_loss_weight.\n"
    )
    chosen("study", "rows.jsonl", "--config", file)
    assert "does not use: prompt_loss_weight, merge." in capsys.readouterr().err
    chosen("train", "rows.jsonl", "--config", file)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--config", "nowhere.yaml"], "sftdemo: nowhere.yaml cannot be read: No such file or directory."),
        (["--config", "run.yaml"], "sftdemo: run.yaml: 'batchsize' is no setting; the nearest is batch_size."),
        (
            ["--set", "learning_rate=1"],
            "sftdemo: set names learning_rate, which this program sets itself; use --learning-rate.",
        ),
        (
            ["--set", "weight_decay"],
            "sftdemo: set is 'weight_decay'; write a name, = and a value, such as weight_decay=0.01.",
        ),
    ],
    ids=lambda part: " ".join(part) if isinstance(part, list) else "",
)
def test_refused(capsys, words, says):
    written("batchsize: 4")
    assert main(["train", "rows.jsonl", *words]) == 2
    out, err = capsys.readouterr()
    assert (out, err.strip()) == ("", says)


SHORT = ["--steps", "2", "--max-new-tokens", "2", "--batch-size", "2", "--hold-out", "1", "--max-length", "96"]
MORE = ["--set", "lr_scheduler_type=cosine", "--set", "lora.alpha=8", "--template", "Q: {instruction}\\nA:\\n"]


def test_a_run_is_repeated_from_its_folder(tmp_path, capsys, gpt2_folder):
    words = ["train", "rows.jsonl", "--model", str(gpt2_folder), *SHORT, *MORE, "--output", "first"]
    assert main(words) == 0
    first = (tmp_path / "first" / "config.yaml").read_text(encoding="utf-8")
    assert first.splitlines()[:2] == [
        "# python -m sftdemo train examples.jsonl --config config.yaml",
        "# the rows of rows.jsonl, as trained: examples.jsonl",
    ]
    assert main(["train", "rows.jsonl", "--config", "first/config.yaml", "--output", "second"]) == 0
    weights = [load_file(tmp_path / name / "adapter_model.safetensors") for name in ("first", "second")]
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    records = [json.loads((tmp_path / name / "run.json").read_text()) for name in ("first", "second")]
    assert records[0]["config"] == records[1]["config"]
    assert records[0]["config"]["set"] == ["lr_scheduler_type=cosine", "lora.lora_alpha=8"]
    capsys.readouterr()


def test_an_ablation_names_its_weights(tmp_path, capsys, gpt2_folder):
    words = ["ablate", "rows.jsonl", "--model", str(gpt2_folder), *SHORT, "--weights", "0", "0.5", "--output", "both"]
    assert main(words) == 0
    line, *_ = (tmp_path / "both" / "config.yaml").read_text(encoding="utf-8").splitlines()
    parsed = _parser().parse_args(shlex.split(line)[4:])
    assert (parsed.config, parsed.weights) == ("config.yaml", [0.0, 0.5])
    arm = (tmp_path / "both" / "weight-0.5" / "config.yaml").read_text(encoding="utf-8")
    assert "prompt_loss_weight: 0.5\n" in arm
    capsys.readouterr()


def test_a_value_that_trl_refuses_is_told_before_the_model_is_loaded(capsys, gpt2_folder):
    words = ["train", "rows.jsonl", "--model", str(gpt2_folder), *SHORT, "--set", "weight_decay=much", "--json"]
    assert main(words) == 1
    (event,) = map(json.loads, capsys.readouterr().out.splitlines())
    assert event["message"] == 'set gives weight_decay the value "much"; it should be a valid number.'


PAGE = ROOT / "docs" / "settings.md"
FILES = {each.command.removeprefix("cat "): each.output for each in sessions(PAGE) if not each.words}


@pytest.mark.parametrize(
    "session", [each for each in sessions(PAGE) if each.words], ids=lambda session: session.command
)
def test_the_docs_print_what_is_said(session, tmp_path, capsys):
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert main(session.words) == 2
    out, err = capsys.readouterr()
    assert (out, err) == ("", session.output)


def test_the_docs_name_what_is_taken_and_why_others_are_not():
    text = PAGE.read_text(encoding="utf-8")
    assert [name for name in ALLOWED if f"`{name}`" not in text] == []
    assert [reason for reason in set(REFUSED.values()) if f"| {reason} | `" not in text] == []
    (printed,) = blocks(PAGE, "yaml")
    assert RunConfig(**parse_settings(printed, "run.yaml")).epochs == 2
