"""The table of docs/trl.md is what its command prints."""

from __future__ import annotations

import importlib.util

import datasets
import pytest
from pages import ROOT

PAGE = (ROOT / "docs" / "trl.md").read_text(encoding="utf-8")
TABLE = [line for line in PAGE.splitlines() if line.startswith("| ")]


@pytest.fixture(scope="module")
def command():
    spec = importlib.util.spec_from_file_location("compare_with_trl", ROOT / "docs" / "compare_with_trl.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    datasets.disable_progress_bars()
    yield module
    datasets.enable_progress_bars()


def test_the_table_has_every_template_that_trl_changes(command):
    assert [line.split(" ")[1] for line in TABLE if line.split(" ")[1] in command.templates()] == command.templates()
    assert f"on the {len(command.templates())} stored templates" in PAGE


def test_every_kind_of_difference_is_explained(command):
    named = {kind for line in TABLE for kind in command.KINDS if kind in line}
    explained = {line.split(" | ")[0].removeprefix("| ") for line in TABLE if line.count(" | ") == 2}
    assert named <= explained


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "name",
    [
        *("llama3", "gptoss", "qwen3", "diffusion_gemma"),
        *(pytest.param(name, marks=pytest.mark.thorough) for name in ("glm4moe", "nemotron_3_nano", "qwen3_8")),
    ],
)
def test_a_line_is_what_the_command_prints(command, name):
    assert command.line(name) in TABLE
