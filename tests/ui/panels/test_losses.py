"""Every token's loss, over a backend that works in this process."""

from __future__ import annotations

import json

import pytest
from desk import Busy, build_page, named, tiny


@pytest.fixture
def run(ui, values) -> str:
    """The id of a finished run."""
    return named(ui, next(ui.running.train(values(prompts="Why?", learning_rate="5e-2", steps=4))))["run_id"]


@pytest.fixture
def both(ui, values) -> str:
    looks = list(ui.running.train_both(values(learning_rate="5e-2", steps=4, prompt_loss_weight=1.0, against=1.0)))
    return named(ui, looks[0])["run_id"]


def seen(ui, updates: dict) -> dict:
    """What the view shows, and the other updates by name."""
    found = named(ui, updates)
    return found | {"shown": json.loads(found["losses"])}


def test_they_come_for_every_row(ui, values):
    looks = list(ui.running.train(values(prompts="Why?", learning_rate="5e-2", steps=4)))
    run_id = named(ui, looks[0])["run_id"]
    first, *_, last = ui.losses.follow(values(run_id=run_id, losses_open=True))
    assert named(ui, first)["of"] == run_id
    shown = seen(ui, last)["shown"]
    assert (shown["names"], shown["opens"]) == (["before", "after"], [1, 0])
    assert [row["source"] for row in shown["rows"]] == ["held out", "training", "training"]
    assert list(ui.losses.follow(values(run_id=run_id, losses_open=True, losses_of=run_id))) == [
        {ui.losses.panel.of: {"__type__": "update"}}
    ]
    assert len(list(ui.losses.follow(values(run_id=run_id)))) == 1, "nothing is computed for a closed door"
    assert "accordion" not in named(ui, ui.losses.open(run_id))


def test_both_ways_it_opens_with_the_difference_of_the_heavier_prompts_and_the_lighter(ui, values, both):
    assert named(ui, ui.losses.open(both)) == {"accordion": {"open": True, "__type__": "update"}, "is_open": True}
    *_, last = ui.losses.follow(values(run_id=both, losses_open=True))
    shown = seen(ui, last)["shown"]
    assert (shown["names"], shown["opens"]) == (["base", "unmasked", "masked"], [1, 2])
    for row in shown["rows"]:
        assert {len(row["losses"][model]) for model in range(3)} == {len(row["tokens"]) - 1}
    parted = {False: [], True: []}
    for row in shown["rows"]:
        for token, more, less in zip(row["tokens"][1:], row["losses"][1], row["losses"][2], strict=True):
            parted[bool(token[3])].append(more - less)
    for of, what in ((False, "prompts"), (True, "answers")):
        mean = f"{sum(parted[of]) / len(parted[of]):+.2f} on the {what}".replace("-", "\N{MINUS SIGN}")
        assert mean in shown["idea"]


@pytest.mark.parametrize("run_id", [None, "0c" * 8])
def test_no_run(ui, values, run_id):
    (only,) = ui.losses.follow(values(run_id=run_id, losses_open=True))
    assert "No finished run" in seen(ui, only)["shown"]["message"]


def test_a_busy_machine_can_be_tried_again(gpt2_folder):
    ui = build_page(Busy())
    *_, last = ui.losses.look(tiny(ui, gpt2_folder, run_id="0a" * 8))
    found = seen(ui, last)
    assert (found["again"]["visible"], found["of"]) == (True, None)
    assert "Another run is under way" in found["shown"]["message"]
