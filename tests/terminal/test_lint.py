"""`lint`: the audit for CI and editors."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from itertools import pairwise
from pathlib import Path

import pytest
from tiny import tokenizer_named

from sftdemo.core.yaml_text import read_yaml
from sftdemo.terminal.cli import main
from sftdemo.terminal.lint import Remark, formatted

GOOD = {"instruction": "Say hello", "output": "Hello!"}
ROWS = [GOOD, {"instruction": "a"}, {"instruction": "b", "output": ""}, {"instruction": "c", "output": "", "x": 1}]


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory):
    """A tokenizer alone: no configuration, no weights."""
    folder = tmp_path_factory.mktemp("tokenizer")
    tokenizer_named("gpt2").save_pretrained(folder)
    assert not (folder / "config.json").exists()
    return folder


@pytest.fixture
def lint(tokenizer_folder, tmp_path, capsys):
    def run(rows, *options: str) -> tuple[int, str, str]:
        file = tmp_path / "rows.jsonl"
        file.write_text("\n".join(map(json.dumps, rows)))
        code = main(["lint", str(file), f"--model={tokenizer_folder}", *options])
        out, err = capsys.readouterr()
        return code, out.replace(str(tmp_path), "."), err

    return run


@pytest.mark.parametrize("kind", ["text", "json", "github", "sarif"])
@pytest.mark.parametrize(
    ("rows", "code"), [([GOOD], 0), ([GOOD, ROWS[2]], 0), (ROWS, 1), ([GOOD, GOOD | {"output": "x" * 3000}], 1)]
)
def test_the_exit_code_says_whether_there_are_errors(lint, rows, code, kind):
    assert lint(rows, "--format", kind)[0] == code


def test_a_row_that_the_settings_drop_is_a_note_and_one_they_refuse_an_error(lint):
    rows = [GOOD, GOOD | {"output": "x" * 300}]
    code, out, _ = lint(rows, "--max-length=80", "--too-long=drop")
    assert (code, out.count("[dropped]"), out.count("note: row 1: has 3")) == (0, 1, 1)
    code, out, _ = lint(rows, "--max-length=80", "--too-long=drop", "--format=sarif")
    rules = json.loads(out)["runs"][0]["tool"]["driver"]["rules"]
    assert {"id": "dropped", "shortDescription": {"text": "the row has more tokens than max length"}} in rules
    code, out, _ = lint(rows, "--max-length=80", "--too-long=refuse")
    assert (code, "error: row 1: the row has more tokens than max length" in out) == (1, True)


def test_text(lint):
    _, out, err = lint(ROWS)
    lines = out.splitlines()
    assert lines[0].startswith('./rows.jsonl:2: error: row 1: has no "output"; write')
    assert lines[0].endswith("[refused]")
    places = [re.match(r"\./rows\.jsonl:(\d): warning: row (\d): the answer is empty", line) for line in lines[1:]]
    assert [place.groups() for place in places] == [("3", "2"), ("4", "3")]
    assert "columns not used: 'x' (1 row)" in err


def test_nothing_wrong_prints_nothing(lint):
    assert lint([GOOD])[1] == ""


def test_json(lint):
    found = json.loads(lint(ROWS, "--format", "json")[1])
    assert found["file"] == "./rows.jsonl"
    assert [(each["rule"], each["severity"], each["row"], each["line"]) for each in found["remarks"]] == [
        ("refused", "error", 1, 2),
        ("empty_completion", "warning", 2, 3),
        ("empty_completion", "warning", 3, 4),
    ]


def test_github(lint):
    out = lint(ROWS, "--format", "github")[1]
    assert out.startswith("::error file=./rows.jsonl,line=2,title=refused::row 1: has no")
    assert out.count("::warning file=./rows.jsonl,line=") == 2


def test_a_message_cannot_end_a_workflow_command():
    remark = Remark("error", "refused", "50 % of\r\n::set-output name=x::y", 0, 1)
    assert formatted([remark], "a,b:c", "github") == (
        "::error file=a%2Cb%3Ac,line=1,title=refused::row 0: 50 %25 of%0D%0A::set-output name=x::y"
    )


def test_sarif(lint):
    log = json.loads(lint(ROWS, "--format", "sarif")[1])
    (run,) = log["runs"]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["refused", "empty_completion"]
    assert [each["level"] for each in run["results"]] == ["error", "warning", "warning"]
    regions = [each["locations"][0]["physicalLocation"]["region"]["startLine"] for each in run["results"]]
    assert all(first < second for first, second in pairwise(regions))


def test_without_a_place():
    remark = Remark("warning", "low_share", "few of all tokens are trained")
    assert formatted([remark], "f", "text") == "f: warning: few of all tokens are trained [low_share]"
    assert formatted([remark], "f", "github") == "::warning file=f,title=low_share::few of all tokens are trained"
    assert (
        "region"
        not in json.loads(formatted([remark], "f", "sarif"))["runs"][0]["results"][0]["locations"][0][
            "physicalLocation"
        ]
    )


def test_refused_rows_can_be_saved(lint, tmp_path):
    lint([GOOD, {"instruction": "a"}], "--save-problems", str(tmp_path / "refused.jsonl"))
    (line,) = (tmp_path / "refused.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["row"] == 1


def test_the_hook_of_the_docs_looks_at_each_of_the_files(tmp_path):
    """pre-commit gives all changed files to one call; `lint` takes one."""
    page = (Path(__file__).parents[2] / "docs" / "lint.md").read_text(encoding="utf-8")
    hook = read_yaml(page.split("```yaml\n")[2].partition("```")[0], "lint.md")["repos"][0]["hooks"][0]
    command = tmp_path / "sftdemo"
    command.write_text('#!/bin/sh\necho "$@"\ntest "$2" != bad.jsonl\n', encoding="utf-8")
    command.chmod(0o755)
    paths = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    files = ["data/a b.jsonl", "bad.jsonl", "c.jsonl"]
    done = subprocess.run([*shlex.split(hook["entry"]), *files], env=paths, capture_output=True, text=True)
    assert done.stdout.splitlines() == [f"lint {file}" for file in files]
    assert done.returncode == 1
    assert subprocess.run([*shlex.split(hook["entry"]), "c.jsonl"], env=paths, capture_output=True).returncode == 0
