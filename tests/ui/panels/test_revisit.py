"""The panel that asks the shown run again, over a backend that works in this process."""

from __future__ import annotations

import json

import pytest
from desk import leaves_with_its_run, merged, named, parts


@pytest.fixture
def run(ui, values):
    """A finished run: its id, and the page after it."""
    looks = list(ui.running.train(values(prompts="Why?", learning_rate="5e-2", steps=4)))
    return named(ui, looks[0])["run_id"], merged(ui, looks)


@pytest.fixture
def both(ui, values):
    looks = list(ui.running.train_both(values(prompts="Why?", learning_rate="5e-2", steps=4)))
    return named(ui, looks[0])["run_id"], merged(ui, looks)


def asked(ui, values) -> tuple[list[dict], dict]:
    """What the status said, one after the other, and the answers in the end."""
    looks = [parts(ui, updates, "status", "answers") for updates in ui.revisit.ask(values)]
    return [json.loads(status) for status, _ in looks], json.loads(looks[-1][1] or "{}")


def texts(compared: dict) -> list[list[str]]:
    return [[answer["text"] for answer in row["answers"]] for row in compared["rows"]]


class TestStrength:
    def test_off_is_the_base_and_on_what_was_trained(self, ui, values, run):
        run_id, ended = run
        expected = texts(json.loads(ended["compare"]))
        assert any(before != after for before, after in expected), "nothing was learned: a poor test"
        for changed, strength, column in (
            ({"strength": 0.0}, "0", 0),
            ({"strength": 1.0}, "1", 1),
            ({"strength": 1.0, "on": False}, "0", 0),
        ):
            said, compared = asked(ui, values(run_id=run_id, **changed))
            assert said[-1]["state"] == "idle"
            assert compared["columns"] == ["off: the base", f"at {strength}", "on: as it was trained"]
            assert texts(compared) == [[row[0], row[column], row[1]] for row in expected]

    def test_something_else_is_asked_too(self, ui, values, run):
        _, compared = asked(ui, values(run_id=run[0], prompt="  What else? ", strength=0.5))
        assert [row["prompt"] for row in compared["rows"]] == ["What else?", "Why?", "Capital of Italy?"]

    def test_the_chosen_arm(self, ui, values, both):
        run_id, ended = both
        expected = texts(json.loads(ended["compare"]))
        _, compared = asked(ui, values(run_id=run_id, strength=1.0, arm=1.0))
        assert texts(compared) == [[row[0], row[2], row[2]] for row in expected]

    @pytest.mark.parametrize("run_id", [None, "0c" * 8, "../../etc"])
    def test_no_run(self, ui, values, run_id):
        said, compared = asked(ui, values(run_id=run_id))
        assert said[-1]["state"] == "failed"
        assert "run" in said[-1]["title"]
        assert not compared

    def test_trained_whole(self, ui, values):
        looks = list(ui.running.train(values(full=True)))
        said, _ = asked(ui, values(run_id=named(ui, looks[0])["run_id"], strength=0.5))
        assert "no adapter" in said[-1]["title"]


def test_another_run_takes_the_answers_of_the_last_away(ui):
    assert leaves_with_its_run(ui, ui.revisit.ask, ui.revisit.reset)
    status, answers = parts(ui, ui.revisit.reset(), "status", "answers")
    assert (json.loads(status)["state"], json.loads(answers)["rows"]) == ("idle", [])
