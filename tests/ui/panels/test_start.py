"""Train on from a run, and go on with one that was stopped or killed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from desk import event, merged, named, scanned
from safetensors.torch import load_file

from sftdemo.core.events import Step
from sftdemo.runs.run import run
from sftdemo.ui.panels.start import StartHandlers


@pytest.fixture
def starting(ui) -> StartHandlers:
    handlers = (getattr(fn.fn, "__self__", None) for fn in ui.blocks.fns.values())
    return next(each for each in handlers if isinstance(each, StartHandlers))


def trained(ui, values) -> tuple[str, dict]:
    looks = list(ui.running.train(values))
    shown = merged(ui, looks)
    assert json.loads(shown["run_status"])["state"] == "done", shown["run_status"]
    return named(ui, looks[0])["run_id"], shown


def answers(shown: dict, column: int) -> list[str]:
    return [row["answers"][column]["text"] for row in json.loads(shown["compare"])["rows"]]


class TestTrainOn:
    def test_the_answers_before_are_those_of_the_run(self, ui, values, starting):
        first = values(learning_rate="3e-2", steps=6, template="custom", custom="Q: {instruction}\nA:\n")
        run_id, shown = trained(ui, first | {ui.desk.session.audit: scanned(ui, first)[-1].kept})
        assert shown["train_on"]["visible"]
        assert answers(shown, 0) != answers(shown, 1)
        updates = starting.take(run_id, None, None)
        given = values() | {part: update for part, update in updates.items() if part is not ui.desk.controls.model}
        assert (given[ui.desk.controls.template], given[ui.desk.controls.custom]) == (
            "custom",
            "Q: {instruction}\nA:\n",
        )
        status = json.loads(updates[starting.panel.status])["title"]
        assert status.startswith("Starts from the run of ")
        assert "LoRA adapter on " in status
        assert scanned(ui, given)[-1].train["value"].startswith("Train 2 steps · about ")  # as long as the run before
        later, more = trained(ui, given)
        assert answers(more, 0) == answers(shown, 1)
        assert f"--model {Path(given[ui.desk.session.start].folder)}" in more["command"]
        (listed,) = (each for each in json.loads(ui.history.show(later, None))["runs"] if each["id"] == later)
        assert "trained on" in listed["title"]
        assert starting.leave()[ui.desk.session.start] is None

    def test_all_weights_of_an_adapter_are_refused(self, ui, values, starting):
        run_id, _ = trained(ui, values())
        start = starting.take(run_id, None, None)[ui.desk.session.start]
        (look,) = ui.running.train(values(start=start, full=True))
        assert "choose to train a LoRA adapter" in named(ui, look)["run_status"]

    def test_on_a_public_page_only_from_ones_own(self, ui, values, starting, monkeypatch, warned):
        run_id, _ = trained(ui, values())
        monkeypatch.setenv("SPACE_ID", "someone/space")
        assert starting.take(run_id, None, ["0a" * 8]).keys() == {ui.desk.session.start}
        assert "There is no run" in warned[0]
        assert starting.restore([run_id, None], [])[ui.desk.session.start] is None
        assert starting.restore([run_id, None], [run_id])[ui.desk.session.start].run_id == run_id


class TestGoOn:
    @pytest.fixture
    def stopped(self, ui, values, tmp_path) -> tuple[str, Path]:
        """A run of four steps that was stopped after the second."""
        run_id, config = "0d" * 8, replace(ui.desk.config(values()), steps=4)
        folder, steps = tmp_path / "cache" / "runs" / run_id, list[Step]()
        work = run(config, ui.desk.data(values()), folder, lambda: len(steps) == 2, may_go_on=True)
        steps.extend(told for told in work if isinstance(told, Step))
        return run_id, folder

    def test_it_comes_to_what_it_would_have_come_to(self, ui, values, stopped, tmp_path):
        run_id, folder = stopped
        shown = merged(ui, ui.running.resume(run_id))
        begun = len(shown["curve"]["value"])
        assert (shown["go_on"]["visible"], shown["go_on"]["value"]) == (True, f"Go on: {4 - begun} of 4 steps left")
        (listed,) = json.loads(ui.history.show(None, None))["runs"]
        assert listed["go_on"].startswith(f"Go on: {4 - begun} step")
        looks = list(ui.history.go_on(None, event(run=run_id)))
        assert any(f"Going on after step {begun}" in str(named(ui, look)["run_status"]) for look in looks)
        ended = merged(ui, looks)
        assert json.loads(ended["run_status"])["title"] == "Done"
        assert (list(ended["curve"]["value"]["step"]), ended["go_on"]["visible"]) == ([1, 2, 3, 4], False)
        whole = tmp_path / "whole"
        list(run(replace(ui.desk.config(values()), steps=4), ui.desk.data(values()), whole))
        ours, theirs = (load_file(each / "adapter_model.safetensors") for each in (folder, whole))
        for name, weight in theirs.items():
            torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-6)

    def test_one_that_was_killed_is_listed_and_can_be_deleted(self, ui, stopped, monkeypatch, warned):
        run_id, folder = stopped
        for name in ("run.json", "events.jsonl"):
            (folder / name).unlink()
        (listed,) = json.loads(ui.history.show(None, None))["runs"]
        assert (listed["id"], listed["go_on"], listed["is_saved"]) == (run_id, "Go on", False)
        monkeypatch.setenv("SPACE_ID", "someone/space")
        assert json.loads(ui.history.show(None, []))["runs"] == []
        ui.history.remove(None, [], event(run=run_id))
        assert folder.exists()
        ui.history.remove(None, [run_id], event(run=run_id))
        assert not folder.exists()

    def test_what_has_no_checkpoint_says_so(self, ui, values, warned):
        run_id, shown = trained(ui, values())
        assert not shown["go_on"]["visible"]
        assert list(ui.running.go_on(run_id)) == [ui.running.unchanged()]
        assert "is finished" in warned[0]
