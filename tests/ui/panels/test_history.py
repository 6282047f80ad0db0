"""Earlier runs on the page."""

from __future__ import annotations

import json
import shutil

import gradio as gr
import pytest
from desk import event, merged, named, only_a_cpu, shared_page, tiny


@pytest.fixture(scope="module")
def two_runs(tmp_path_factory, gpt2_folder):
    """A cache with a run one way and, later, one both ways, and their ids."""
    page, cache = shared_page(), tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patched:
        only_a_cpu(patched)
        patched.setenv("SFTDEMO_CACHE", str(cache))
        first = list(page.running.train(tiny(page, gpt2_folder, prompts="Why?")))
        second = list(page.running.train_both(tiny(page, gpt2_folder, prompts="Why?", steps=1)))
    return cache, (named(page, first[0])["run_id"], named(page, second[0])["run_id"])


@pytest.fixture
def runs(two_runs, tmp_path) -> tuple[str, str]:
    """The ids of the two, which this test's own cache has."""
    cache, ids = two_runs
    shutil.copytree(cache, tmp_path / "cache")
    return ids


def shown(ui, run_id=None, own=None) -> dict:
    return json.loads(ui.history.show(run_id, own))


def test_nothing_yet(ui):
    assert (shown(ui)["runs"], shown(ui)["message"]) == ([], "No run has been saved yet.")


def test_what_is_there(ui, runs):
    found = shown(ui, runs[0])
    assert {run["id"] for run in found["runs"]} == set(runs)
    assert found["shown"] == runs[0]
    assert "last 10 runs" in found["message"]


def test_on_a_public_page_only_ones_own(ui, runs, monkeypatch, warned):
    monkeypatch.setenv("SPACE_ID", "someone/space")
    assert shown(ui)["runs"] == []
    assert [run["id"] for run in shown(ui, None, [runs[0]])["runs"]] == [runs[0]]
    for show in (ui.history.open, ui.history.go_on):
        with pytest.raises(gr.Error, match="no run"):
            list(show([runs[0]], event(run=runs[1])))
    ui.history.remove(None, [runs[0]], event(run=runs[1]))
    monkeypatch.delenv("SPACE_ID")
    assert {run["id"] for run in shown(ui)["runs"]} == set(runs)


def test_open_shows_it_as_it_ended(ui, values):
    looks = list(ui.running.train_both(values(prompts="Why?")))
    run_id = named(ui, looks[0])["run_id"]
    ended, opened = merged(ui, looks), merged(ui, ui.history.open([], event(run=run_id)))
    assert opened["run_id"] == run_id
    for name in ("compare", "figures", "run_status", "arm", "train", "stop"):
        assert opened[name] == ended[name], name


def test_remove_is_for_good(ui, runs, tmp_path):
    left = json.loads(ui.history.remove(runs[1], None, event(run=runs[0])))
    assert [run["id"] for run in left["runs"]] == [runs[1]]
    assert not (tmp_path / "cache" / "runs" / runs[0]).exists()


@pytest.mark.parametrize("name", ["0c" * 8, "..", "../..", ""])
def test_what_is_no_run_is_not_removed(ui, runs, name, warned):
    left = json.loads(ui.history.remove(None, None, event(run=name)))
    assert len(left["runs"]) == 2
    assert "There is no run" in warned[0]


def test_two_side_by_side(ui, runs):
    found = json.loads(ui.history.contrast(None, event(runs=list(runs))))
    assert found["columns"] == ["base", "1: masked", "2: masked", "2: unmasked"]
    assert [row["prompt"] for row in found["rows"]] == ["Why?", "Capital of Italy?"]
    assert all(len(row["answers"]) == 4 for row in found["rows"])
    assert found["message"].startswith("1 is ")


def test_one_that_is_gone_beside_another(ui, runs):
    found = json.loads(ui.history.contrast(None, event(runs=[runs[0], "0c" * 8])))
    assert found["rows"] == []
    assert "no run" in found["message"]


def test_a_name_and_a_note_stay_and_are_told(ui, runs, warned, monkeypatch):
    said = {"run": runs[0], "name": "<b>first</b>", "note": "warm\nup"}
    found = {run["id"]: run for run in json.loads(ui.history.label(None, None, event(**said)))["runs"]}
    assert (found[runs[0]]["name"], found[runs[0]]["note"]) == ("<b>first</b>", "warm\nup")
    assert found[runs[0]]["title"].startswith("“<b>first</b>”, ")
    assert found[runs[1]]["name"] == ""
    ui.history.label(None, None, event(**said | {"name": "x" * 200}))
    assert "may have 80" in warned[-1]
    assert shown(ui)["runs"][0]["name"] in ("", "<b>first</b>")
    monkeypatch.setenv("SPACE_ID", "someone/space")
    ui.history.label(None, [runs[1]], event(**said | {"name": "mine now"}))
    assert "no run" in warned[-1]
    monkeypatch.delenv("SPACE_ID")
    assert "mine now" not in str(shown(ui))


def test_the_settings_in_which_two_runs_differ_stand_on_top(ui, runs):
    found = json.loads(ui.history.contrast(None, event(runs=list(runs))))
    assert ["prompt loss weight", "masked", "masked and unmasked"] in found["settings"]
    differ = {name for name, *_ in found["settings"]}
    assert "steps" in differ
    assert not differ & {"model", "rows", "seed", "prompts", "film"}
    same = json.loads(ui.history.contrast(None, event(runs=[runs[0], runs[0]])))
    assert (same["settings"], same["message"].endswith("Their settings are the same.")) == ([], True)
