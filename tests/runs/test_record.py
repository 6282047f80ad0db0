"""A record that was cut or changed is refused in a sentence that names the first value that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ModelError
from sftdemo.runs.record import check_record

PLACE = Path("out/run.json")
RECORD = {
    "sftdemo": "0.1.0",
    "finished": "2026-01-01T00:00:00+00:00",
    "kind": "adapter",
    "model": {"name": "/m", "copy": "local folder", "hub_id": None, "public_name": "m", "base": None},
    "from": None,
    "config": RunConfig("m", set=("weight_decay=0.1",), prompts=("Why?",), hold_out=2).to_dict(),
    "shape": "instruction",
    "data": None,
    "command": "python -m sftdemo train examples.jsonl --model /m",
    "steps": 3,
    "loss": 6.0,
    "losses": [7.0, 6.0],
    "mask": {"examples": 3, "tokens": 58, "trained_tokens": 13, "sha256": "c0ffee"},
}


def test_a_whole_one_and_one_of_an_ablation():
    check_record(PLACE, RECORD)
    others = {name: value for name, value in RECORD.items() if name not in ("from", "losses", "mask")}
    check_record(PLACE, others | {"kind": "ablation", "arms": ["weight-0"], "conclusion": "Nothing."})


@pytest.mark.parametrize("name", RECORD)
def test_a_value_of_another_kind(name):
    for value in ([[]], {"a": 5}, True):
        with pytest.raises(ModelError, match=rf"^out/run\.json does not say what was trained: .*{name}[^\n]*$"):
            check_record(PLACE, RECORD | {name: value})


@pytest.mark.parametrize("name", ["sftdemo", "finished", "kind", "model", "config", "shape", "command", "steps"])
def test_a_value_that_is_missing(name):
    with pytest.raises(ModelError, match=f": {name} is missing or of another kind; it may have been changed"):
        check_record(PLACE, {key: value for key, value in RECORD.items() if key != name})


@pytest.mark.parametrize(("name", "value"), [("kind", "nonsense"), ("mask", None), ("losses", None)])
def test_a_value_that_no_run_has(name, value):
    with pytest.raises(ModelError, match=f": {name} is missing or of another kind"):
        check_record(PLACE, RECORD | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("batch_size", None, "batch_size is empty; write a whole number"),
        ("model", 7, "config.model is missing or of another kind"),
        ("steps", "x", "steps is x; write a whole number"),
        ("seed", -1, "seed is -1; it must lie between"),
        ("set", "weight_decay=0.1", "set is weight_decay=0.1; write a list of texts"),
        ("prompts", [5], "prompts is "),
        ("full", None, "config.full is missing or of another kind"),
        ("of_tomorrow", 1, "'of_tomorrow' is no setting"),
    ],
)
def test_settings_that_cannot_be(name, value, says):
    with pytest.raises(ModelError, match=rf"^out/run\.json does not say what was trained: {says}"):
        check_record(PLACE, RECORD | {"config": RECORD["config"] | {name: value}})
