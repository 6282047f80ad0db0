"""A setting is written once: one field, added to a copy of the package, is there wherever a setting has to be."""

from __future__ import annotations

import pytest
from package_copy import copy_package, run_script

FIELDS = """
    warmup_steps: int = setting(
        3, "steps in which the rate rises", title="Warm-up, steps", limits=(0, 50, "steps of warm-up"), metavar="K"
    )
    bold: bool = setting(True, "be bold", title="Boldly")

    def __post_init__"""
SCRIPT = """
import sftdemo.runs.run
from sftdemo.core.errors import ConfigError
from sftdemo.core.events import Finished
from sftdemo.ui.panels.mask import MaskHandlers

def run(config, data, output, stop, overwrite):
    started.append(config)
    yield Finished(0, 0, 0.0, False)

started, sftdemo.runs.run.run = [], run
page = build()
parts = page.get_config_file()["components"]
labels = [part["props"].get("label") for part in parts]
accordion = next(part["id"] for part in parts if part["props"].get("label") == "Training settings")
def below(node, inside=False):
    inside = inside or node["id"] == accordion
    return [node["id"]] * inside + [id for child in node.get("children", []) for id in below(child, inside)]
ids = below(page.get_config_file()["layout"])
owners = [getattr(fn.fn, "__self__", None) for fn in page.fns.values()]
controls = next(owner.desk.controls for owner in owners if isinstance(owner, MaskHandlers))
values = {part: part.value for part in controls.all()}
told = RunConfig(warmup_steps=7, bold=False).command_line("d.jsonl")
try:
    controls.config(values | {controls.warmup_steps: 51})
except ConfigError as error:
    refused = str(error)
found = {
    "help": {name: said(name, "--help")[1] for name in ("train", "ablate", "study", "mask")},
    "in the accordion": [part["props"].get("label") for part in parts if part["id"] in ids],
    "first": controls.warmup_steps.value,
    "told": told,
    "plain": RunConfig().command_line("d.jsonl"),
    "trained": said(*told.split()[3:], "--json")[0],
    "from the terminal": [started[0].warmup_steps, started[0].bold],
    "from the page": controls.config(values | {controls.warmup_steps: 8}).warmup_steps,
    "refused by the page": refused,
    "refused by the terminal": said("train", "d.jsonl", "--warmup-steps", "-1"),
}
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory) -> dict:
    """What a program that has the two new fields says."""
    folder = tmp_path_factory.mktemp("copy")
    copy_package(folder)
    config = folder / "sftdemo" / "core" / "config.py"
    text = config.read_text(encoding="utf-8")
    assert text.count("\n    def __post_init__") == 1
    config.write_text(text.replace("\n    def __post_init__", FIELDS), encoding="utf-8")
    (folder / "d.jsonl").write_text('{"instruction": "a", "output": "b"}')
    return run_script(SCRIPT, folder)


def test_it_is_an_option_of_each_training(found):
    for name in ("train", "ablate", "study"):
        assert "--warmup-steps K steps in which the rate rises, defaults to 3" in found["help"][name]
        assert "--bold, --no-bold be bold" in found["help"][name]
    assert "warmup" not in found["help"]["mask"]


def test_it_is_among_the_training_settings_of_the_page(found):
    assert {"Warm-up, steps", "Boldly", "Steps"} <= set(found["in the accordion"])
    assert "Max length, tokens a row" not in found["in the accordion"]
    assert found["first"] == 3


def test_the_command_repeats_it(found):
    assert found["told"] == "python -m sftdemo train d.jsonl --warmup-steps 7 --steps 12 --no-bold"
    assert found["plain"] == "python -m sftdemo train d.jsonl --steps 12"


def test_it_reaches_the_run_from_both_surfaces(found):
    assert (found["trained"], found["from the terminal"], found["from the page"]) == (0, [7, False], 8)


def test_its_range_is_kept_on_both_surfaces(found):
    says = "it must lie between 0 and 50 steps of warm-up."
    assert found["refused by the page"] == f"warmup_steps is 51; {says}"
    assert found["refused by the terminal"] == [2, f"sftdemo: warmup_steps is -1; {says}"]
