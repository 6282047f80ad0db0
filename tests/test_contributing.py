"""CONTRIBUTING.md's worked examples work: applied to a copy of the package, each shows up wherever it should."""

from __future__ import annotations

from pathlib import Path

import pytest
from package_copy import copy_package, run_script
from pages import ROOT, blocks

CHANGES = blocks(ROOT / "CONTRIBUTING.md", "diff")
ROWS = """problem,solution,source
Say hello,HELLO!,me
Say bye,Goodbye.,me
"""
SCRIPT = """
from dataclasses import replace
from sftdemo.data.examples import parse_examples, to_record

model, path = sys.argv[1:]

row = {"problem": "Say hello", "solution": ["HELLO!"], "held_out": True, "other": 1}
parsed = parse_examples(json.dumps([row, {"solution": "a"}, {"problem": 1, "solution": "a"}]))
parts = build().get_config_file()["components"]
asked = {part["props"].get("elem_id"): part["props"] for part in parts}
command = replace(RunConfig(), model=model, template="question").command_line(path)
found = {
    "held out": [to_record(example) for example in parsed.held_out],
    "problems": list(map(str, parsed.problems)),
    "notes": parsed.notes,
    "mask": said("mask", path, "--model", model, "--template", "question", "--rows", "0"),
    "audit": said("mask", path, "--model", model, "--audit"),
    "help": said("mask", "--help")[1],
    "unknown": said("mask", path, "--model", model, "--template", "none"),
    "choices": [[value for _, value in asked[name]["choices"]] for name in ("template", "other-template")],
    "command": command,
}
"""


def apply(change: str, root: Path) -> None:
    """Applies a change in the form of CONTRIBUTING.md: `+++ FILE` names the file of what follows, `@@` begins a place
    in it, lines with + are new and all others stand there already."""
    for part in change.split("+++ ")[1:]:
        name, *places = part.split("@@\n")
        file = root / name.strip()
        text = file.read_text(encoding="utf-8")
        for place in places:
            lines = place.splitlines()
            there = "\n".join(line[1:] for line in lines if not line.startswith("+"))
            assert text.count(there) == 1, f"CONTRIBUTING.md: {name.strip()} has changed, write this anew:\n{place}"
            text = text.replace(there, "\n".join(line[1:] for line in lines))
        file.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def found(tmp_path_factory, gpt2_folder) -> dict:
    """What the program says after all changes."""
    folder = tmp_path_factory.mktemp("copy")
    copy_package(folder)
    for change in CHANGES:
        apply(change, folder)
    (folder / "rows.csv").write_text(ROWS, encoding="utf-8")
    return run_script(SCRIPT, folder, str(gpt2_folder), "rows.csv")


def test_a_shape_a_check_and_a_template_are_shown():
    assert len(CHANGES) == 3
    assert [change.splitlines()[0] for change in CHANGES] == [
        "+++ sftdemo/data/shapes.py",
        "+++ sftdemo/mask/checks.py",
        "+++ sftdemo/data/templates.py",
    ]


class TestAShape:
    def test_is_read_and_exported(self, found):
        assert found["held out"] == [{"instruction": "Say hello", "output": "HELLO!", "held_out": True}]

    def test_is_told_by_a_csv_header(self, found):
        code, text = found["mask"]
        assert code == 0
        assert "columns not used: 'source' (2 rows)." in text
        assert "1 example" in text

    def test_refusals_list_it(self, found):
        first, second = found["problems"]
        assert first.startswith(
            'row 1: has "solution"; expected "instruction" and "output", "prompt" and "completion", '
        )
        assert ', "problem" and "solution", ' in first
        assert second == 'row 2: "problem" is the number 1; write a string: "problem": "…".'

    def test_its_columns_are_used_and_no_others(self, found):
        assert found["notes"] == ["columns not used: 'other' (1 row)."]


def test_a_check_is_among_the_findings(found):
    code, text = found["audit"]
    assert code == 0
    assert "⚠ warning: the answer is in capitals (row 0) The model learns to shout. → Write it in" in text


class TestATemplate:
    def test_is_used(self, found):
        assert "Q:␣" in found["mask"][1]

    def test_is_listed_by_help_and_by_the_error(self, found):
        assert "--template T instruction, alpaca, question, chat (the model's own), or a text with" in found["help"]
        assert found["unknown"][0] == 1
        assert "or name one of instruction, alpaca, question, chat." in found["unknown"][1]

    def test_is_a_choice_on_the_page(self, found):
        assert found["choices"][0] == ["instruction", "alpaca", "question", "chat", "custom"]
        assert found["choices"][1] == ["instruction", "alpaca", "question", "chat"]

    def test_the_command_that_repeats_a_run_names_it(self, found):
        assert "--template question" in found["command"]


def test_a_change_that_no_longer_fits_is_told(tmp_path):
    (tmp_path / "sftdemo" / "data").mkdir(parents=True)
    (tmp_path / "sftdemo" / "data" / "shapes.py").write_text("SHAPES = ()\n")
    with pytest.raises(AssertionError, match="has changed, write this anew"):
        apply(CHANGES[0], tmp_path)
