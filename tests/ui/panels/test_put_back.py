"""An earlier run that is shown brings back what it was trained with."""

from __future__ import annotations

import json

import pytest
from desk import ROWS, drawn, event, merged, named

from sftdemo.ui.panels.put_back import PutBackHandlers
from sftdemo.ui.panels.start import StartHandlers


@pytest.fixture
def owners(ui) -> dict[type, object]:
    return {type(owner): owner for fn in ui.blocks.fns.values() if (owner := getattr(fn.fn, "__self__", None))}


@pytest.fixture
def put_back(ui, owners):
    """The page's inputs after a run is shown, before which they held something else."""

    def show(run_id: str, before: dict, own=None) -> dict:
        updates = owners[PutBackHandlers].put_back(own, event(run=run_id))
        values = {
            part: update["value"] if isinstance(update, dict) and "value" in update else update
            for part, update in updates.items()
        }
        return before | {part: value for part, value in values.items() if part in before} | {ui.desk.run_id: run_id}

    return show


def test_rows_settings_and_command_of_an_ablation(ui, values, put_back):
    looks = list(ui.running.train_both(values(prompts="Why?", seed=3, prompt_loss_weight=0.1, against=0.75)))
    run_id, command = named(ui, looks[0])["run_id"], named(ui, looks[0])["command"]
    assert json.loads(merged(ui, looks)["run_status"])["state"] == "done"
    shown = put_back(run_id, values(examples=json.dumps(ROWS[:1]), seed=5, masks={"gone": ()}))
    assert [json.loads(line) for line in shown[ui.desk.controls.examples].splitlines()] == ROWS
    assert ui.desk.controls.config(shown) == ui.desk.controls.config(
        values(prompts="Why?", seed=3, prompt_loss_weight=0.1)
    )
    assert drawn(ui, shown)[2] == command
    assert "sftdemo ablate " in command
    assert "sftdemo train " in drawn(ui, shown | {ui.desk.controls.seed: 4})[2], (
        "another run than the one that is shown"
    )


def test_the_run_that_it_started_from(ui, values, put_back, owners, monkeypatch):
    first = named(ui, next(iter(list(ui.running.train(values())))))["run_id"]
    start = owners[StartHandlers].take(first, None, None)[ui.desk.session.start]
    second = named(ui, next(iter(list(ui.running.train(values(start=start))))))["run_id"]
    assert put_back(second, values())[ui.desk.session.start] == start
    assert put_back(first, values(start=start))[ui.desk.session.start] is None
    monkeypatch.setenv("SPACE_ID", "someone/space")
    assert put_back(first, values(start=start), own=[second])[ui.desk.session.start] == start, "not one's own"
