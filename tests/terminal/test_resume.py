"""`train --save-every` and `train --resume`, as a person calls them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Checkpoint, Step
from sftdemo.data.examples import parse_examples
from sftdemo.runs.run import run
from sftdemo.terminal.run import EventPrinter

from .test_cli import called, in_a_plain_terminal, of, one_line

__all__ = ["in_a_plain_terminal"]  # a fixture that every test here uses

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
]


@pytest.fixture(scope="module")
def killed(gpt2_folder, tmp_path_factory) -> Path:
    """The folder of a run as it was after its third step."""
    folder = tmp_path_factory.mktemp("killed")
    config = RunConfig(str(gpt2_folder), steps=4, batch_size=2, max_new_tokens=2, save_every="2")
    for event in run(config, parse_examples(json.dumps(ROWS)), folder / "out"):
        if event == Checkpoint(2):
            shutil.copytree(folder / "out", folder / "killed")
    return folder / "killed"


@pytest.fixture
def resume(killed, capsys, tmp_path):
    """Calls `train --resume` on that folder; options follow."""
    shutil.copytree(killed, tmp_path / "out")
    (tmp_path / "rows.json").write_text(json.dumps(ROWS))
    (tmp_path / "others.json").write_text(json.dumps(ROWS[1:]))
    return lambda *options: called(capsys, "train", "--resume", "out", *options)


def test_the_folder_is_enough(resume, tmp_path):
    code, out, _ = resume("--json")
    assert code == 0
    assert [event["step"] for event in of("step", out)] == [1, 2, 3, 4]
    assert of("saved", out)
    code, _, err = resume()
    assert code == 1
    assert one_line(err) == "sftdemo: the run in out is finished. Train on from what it has learned with --model out."


def test_its_own_settings_and_rows_may_be_repeated(resume, gpt2_folder):
    assert resume("rows.json", "--batch-size", "2", "--model", gpt2_folder, "--save-every", "1m", "--json")[0] == 0


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--steps", "9"], 1, "steps is 9, and the run in out was begun with 4."),
        (["--batch-size", "8"], 1, "batch_size is 8, and the run in out was begun with 2."),  # the default, but given
        (["--prompt", "Why?"], 1, "prompts is ['Why?'], and the run in out was begun with []."),
        (["others.json"], 1, "Row 0 is not as it was when the run in out was begun."),
        (["--output", "outputs"], 2, "--output is of no use with --resume"),
        (["--limit", "3"], 2, "--limit is of no use with --resume"),
    ],
)
def test_what_is_refused(resume, options, code, says):
    found, _, err = resume(*options)
    assert found == code
    assert says in one_line(err)


def test_neither_rows_nor_a_run(capsys):
    code, _, err = called(capsys, "train")
    assert code == 2
    assert err[-1].endswith("error: name DATA to train on or, with --resume, the folder of a run to go on with")


@pytest.mark.parametrize("command", ["ablate", "study"])
def test_only_a_single_training_has_the_option(capsys, command):
    code, _, err = called(capsys, command, "rows.json", "--save-every", "2")
    assert code == 2
    assert "unrecognized arguments: --save-every 2" in err[-1]


def test_what_is_printed(capsys):
    with EventPrinter() as printer:
        for event in (Step(2, 4, 0.5, 1.0, 1.0), Checkpoint(2), Checkpoint(4, "No space left on device")):
            printer.print(event)
    _, first, second = capsys.readouterr().out.splitlines()
    assert first == "checkpoint after step 2"
    assert second.startswith("no checkpoint after step 4: No space left on device. The training goes on")
