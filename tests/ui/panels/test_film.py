"""The film on the page, over a backend that works in this process."""

from __future__ import annotations

import json

import pytest
from desk import leaves_with_its_run, merged, named


def played(ui, run_id) -> list[dict]:
    """What the widget shows, one after the other."""
    panel = ui.film.panel
    looks = list(ui.film.play(run_id, "cpu"))
    assert looks[0][panel.develop]["interactive"] is False
    assert looks[-1][panel.develop]["interactive"] is True
    return [json.loads(look[panel.film]) for look in looks]


@pytest.mark.parametrize("way", ["train", "train_both"])
def test_frame_by_frame_from_before_to_after(ui, values, way):
    looks = list(getattr(ui.running, way)(values(learning_rate="5e-2", steps=2)))
    run_id, ended = named(ui, looks[0])["run_id"], merged(ui, looks)
    shown = played(ui, run_id)
    whole, arms = shown[-1], {"train": ["masked"], "train_both": ["masked", "unmasked"]}[way]
    assert [sum(len(arm["frames"]) for arm in each["arms"]) for each in shown if each["arms"] and not each["message"]]
    assert [arm["name"] for arm in whole["arms"]] == arms
    assert [[frame["step"] for frame in arm["frames"]] for arm in whole["arms"]] == [[0, 1, 2]] * len(arms)
    compared = [[answer["text"] for answer in row["answers"]] for row in json.loads(ended["compare"])["rows"]]
    for number, arm in enumerate(whole["arms"]):
        first, *_, last = ([answer for _, _, answer, _ in frame["answers"]] for frame in arm["frames"])
        assert first == [row[0] for row in compared]
        assert last == [row[number + 1] for row in compared]
        assert len(arm["moments"]) == 2
    (row,) = whole["rows"]
    assert row["question"] == "Capital of Italy?"
    assert len(row["tokens"]) == len(whole["arms"][0]["frames"][0]["losses"][0]) + 1
    assert played(ui, run_id)[-1] == whole


def test_weights_that_are_trained_whole_have_no_film(ui, values):
    run_id = named(ui, next(iter(ui.running.train(values(full=True, steps=1)))))["run_id"]
    list(ui.running.resume(run_id))
    *_, shown = played(ui, run_id)
    assert shown["failed"]
    assert "has kept no film" in shown["message"]


def test_without_a_run_it_says_so(ui):
    (_, shown) = played(ui, None)
    assert shown["message"].startswith("No finished run is shown yet")


def test_another_run_takes_the_film_of_the_last_away(ui):
    assert leaves_with_its_run(ui, ui.film.play, ui.film.reset)
    reset = ui.film.reset()
    assert reset[ui.film.panel.develop]["interactive"], "a film that was cut off leaves the button free"
    assert json.loads(reset[ui.film.panel.film])["arms"] == []
