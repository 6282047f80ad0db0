"""What the README says of the files, the pins and the commands is so."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from sftdemo.data.samples import SAMPLES
from sftdemo.terminal.cli import _parser

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"^\$? ?python -m sftdemo .*$", README, re.MULTILINE)))


def pins(name: str) -> dict[str, str]:
    return dict(re.findall(r"^([\w-]+)==(\S+)$", (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE))


def test_the_spaces_gradio_is_the_pinned_one():
    assert re.search(r"^sdk_version: (\S+)$", README, re.MULTILINE)[1] == pins("requirements.txt")["gradio"]


def test_what_is_tested_as_one_set_is_pinned_exactly():
    assert {"gradio", "transformers", "trl", "peft", "torch", "datasets"} <= set(pins("requirements.txt"))
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_every_module_is_named():
    named = set(re.findall(r"`(?:sftdemo/)?(\w+)\.py`", README))
    modules = {file.stem for file in (ROOT / "sftdemo").glob("*.py")} - {"__init__", "__main__"}
    assert modules <= named


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command):
    words = shlex.split(command.removeprefix("$ "), comments=True)[3:]
    _parser().parse_args([word for word in words if not word.startswith("[")])


def test_there_are_commands():
    assert len(COMMANDS) >= 5


def test_every_sample_is_in_the_table():
    for sample in SAMPLES:
        assert f"| {sample.name} |" in README


def test_ci_runs_the_readmes_test_command():
    """.ci/run takes the command out of the README; here only that it finds it."""
    found = subprocess.run(
        ["sed", "-n", "/<!-- test command -->/,/^```$/p", "README.md"], cwd=ROOT, capture_output=True, text=True
    ).stdout.splitlines()
    assert found[1] == "```bash"
    assert found[2].endswith("-m pytest")
    assert len(found) == 4
