"""Runs from the page: their updates from the click to the download, after a reload, and those that come to nothing."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from zipfile import ZipFile

import gradio as gr
import pytest
from desk import ROWS, Busy, build_page, event, made, merged, named, scanned, tiny

from sftdemo.core.events import Before
from sftdemo.runs.estimate import pace_for
from sftdemo.runs.folder import FILM
from sftdemo.ui.backend import Backend
from sftdemo.ui.downloads import size_of_zip
from sftdemo.ui.panels.train import HIDDEN, TO_COME


def finish(ui, values) -> tuple[list, str]:
    looks = list(ui.running.train(values))
    return looks, named(ui, looks[0])["run_id"]


def status_of(shown: dict) -> tuple[str, str]:
    """The state of a run and its title."""
    status = json.loads(shown["run_status"])
    return status["state"], status["title"]


def test_a_run_from_the_click_to_the_download(ui, values, gpt2_folder):
    asked = values(prompts="Why?\n\n  How?  ")
    looks, run_id = finish(ui, asked | {ui.desk.session.audit: scanned(ui, asked)[-1].kept})
    begun = named(ui, looks[0])
    assert (begun["train"]["interactive"], begun["stop"]["visible"]) == (False, True)
    ended = merged(ui, looks)
    assert status_of(ended)[0] == "done"
    assert (ended["train"]["interactive"], ended["stop"]["visible"]) == (True, False)
    compared = json.loads(ended["compare"])
    pairs = compared["rows"]
    assert compared["columns"] == ["before", "after"]
    assert [(pair["prompt"], pair["source"]) for pair in pairs] == [
        ("Why?", "typed"),
        ("How?", "typed"),
        ("Capital of Italy?", "held out"),
    ]
    assert all(isinstance(answer["text"], str) for pair in pairs for answer in pair["answers"])
    while_training = [json.loads(named(ui, look)["compare"])["rows"] for look in looks if "compare" in named(ui, look)]
    assert [None, None, None] in [[pair["answers"][-1]["text"] for pair in rows] for rows in while_training]
    assert list(ended["curve"]["value"]["step"]) == [1, 2]
    arms = [shown["arm"] for look in looks if "arm" in (shown := named(ui, look))]
    assert len(arms) == 2
    assert not any("choices" in arm for arm in arms), "the browser may still send one of the run before"
    with ZipFile(made(ui, ended["download"])) as archive:
        names = {Path(name).name for name in archive.namelist()}
        assert {"run.json", "adapter_model.safetensors", "examples.jsonl"} <= names
        assert "events.jsonl" not in names  # which name places of this machine
        assert not [name for name in archive.namelist() if str(gpt2_folder).encode() in archive.read(name)]
        assert [json.loads(line) for line in archive.read("examples.jsonl").splitlines()] == ROWS
    assert pace_for(ui.desk.controls.config(values()), "cpu")["load"] > 0

    _, *after_a_reload = [named(ui, look) for look in ui.running.resume(run_id)]
    assert len(after_a_reload) == 1
    for name in ("run_status", "compare", "train", "stop"):
        assert after_a_reload[0][name] == ended[name], name


def test_both_ways_from_the_click_to_the_download(ui, values, gpt2_folder):
    asked = values(prompts="Why?", prompt_loss_weight=0.1, against=0.75)
    looks = list(ui.running.train_both(asked))
    begun = named(ui, looks[0])
    assert begun["command"].endswith("--prompt 'Why?' --weights 0.1 0.75")
    assert "sftdemo ablate " in begun["command"]
    assert begun["own_runs"] == [begun["run_id"]]
    ended = merged(ui, looks)
    assert status_of(ended)[0] == "done", ended["run_status"]
    arms = ["prompt weight 0.1", "prompt weight 0.75"]
    for picture, y in (("answers_curve", "answers"), ("prompts_curve", "prompts")):
        frame = ended[picture]["value"]
        assert sorted(set(frame["arm"])) == arms
        assert all(list(frame[frame["arm"] == arm]["step"]) == [0, 1, 2] for arm in arms)
        assert frame[frame["step"] == 0][y].nunique() == 1, "both begin as the base"
    assert [ended[name]["visible"] for name in ("arm_curves", "answers_curve", "prompts_curve")] == [True] * 3
    assert ended["curve"]["visible"] == HIDDEN
    compared = json.loads(ended["compare"])
    assert compared["columns"] == ["base", *arms]
    assert all(len(pair["answers"]) == 3 for pair in compared["rows"])
    assert json.loads(ended["figures"])["columns"] == ["base", *arms]
    assert ended["arm"] == gr.update(choices=[(arms[0], 0.1), (arms[1], 0.75)], value=0.1, visible=True)
    assert any("unchanged" in note for note in json.loads(ended["run_status"])["notes"])
    with ZipFile(made(ui, ended["download"])) as archive:
        names = set(archive.namelist())
        assert not [name for name in names if str(gpt2_folder).encode() in archive.read(name)]
        unpacked = sum(file.file_size for file in archive.infolist())
    run_id = named(ui, looks[0])["run_id"]
    run = ui.desk.backend.saved_run(run_id)
    shown = asked | {ui.desk.run_id: run_id}
    commands = [ui.desk.command(shown, ui.desk.config(shown), *weights)[0] for weights in ((), ((),))]
    assert ["sftdemo ablate " in each for each in commands] == [True, False], "of what is shown, and of a run one way"
    assert len(list(run.folder.rglob(FILM))) == 2, "a poor test of the size that is told"
    assert size_of_zip(run.folder) == pytest.approx(unpacked, rel=0.05)
    assert {f"weight-{weight}/adapter_model.safetensors" for weight in ("0.1", "0.75")} <= names
    again = merged(ui, ui.running.resume(named(ui, looks[0])["run_id"]))
    for name in ("compare", "figures", "arm", "run_status"):
        assert again[name] == ended[name], name


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"examples": json.dumps([ROWS[0], ROWS[2]])}, "at least two"),
        ({"examples": json.dumps(ROWS[:2])}, "no row is held out"),
        ({"examples": json.dumps([row | {"instruction": "Say hello"} for row in ROWS])}, "all rows ask the same"),
    ],
    ids=["one row", "nothing held out", "one question"],
)
def test_what_cannot_be_compared_is_a_sentence_and_no_chart(ui, values, changed, says):
    ended = merged(ui, ui.running.train_both(values(**changed)))
    state, title = status_of(ended)
    assert (state, says in title.lower()) == ("failed", True)
    assert "arm_curves" not in ended
    assert ended["answers_curve"]["visible"] == ended["prompts_curve"]["visible"] == HIDDEN
    assert json.loads(ended["compare"])["rows"] == []


def test_a_mask_made_by_hand_is_what_is_trained(ui, values):
    """The one token marked is the only one trained, and the download holds the mask."""
    before = values()
    ignored = ui.masking.toggle(before, event(row=0, tokens=list(range(200)), trained=False))
    marked = ui.masking.toggle(values(masks=ignored), event(row=0, tokens=[3], trained=True))
    second = ui.masking.toggle(values(masks=marked), event(row=1, tokens=list(range(200)), trained=False))
    ended = merged(ui, ui.running.train(values(masks=second, anyway=True)))
    status = json.loads(ended["run_status"])
    assert status["state"] == "done"
    told = re.compile(r"1 examples, \d+ tokens, 1 of them trained")
    assert any(told.match(note) for note in status["notes"]), status["notes"]
    with ZipFile(made(ui, ended["download"])) as archive:
        records = [json.loads(line) for line in archive.read("examples.jsonl").splitlines()]
    assert [record.pop("mask", None) is not None for record in records] == [True, True, False]
    assert records == ROWS


def test_in_a_process_of_its_own(gpt2_folder):
    ui = build_page(Backend())
    looks, run_id = finish(ui, tiny(ui, gpt2_folder))
    ended = merged(ui, looks)
    assert status_of(ended)[0] == "done", ended["run_status"]
    again = merged(ui, ui.running.resume(run_id))
    assert again["compare"] == ended["compare"]
    ui.running.stop(run_id)


CUT = {"examples": json.dumps([{"instruction": "Say hello", "output": "Hello " * 40}]), "max_length": 40}


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"max_new_tokens": 300}, "over the model's 256 positions"), (CUT, "cut by max length")],
    ids=["in the middle", "by the audit"],
)
def test_a_failed_run(ui, values, changed, says):
    ended = merged(ui, ui.running.train(values(**changed)))
    state, title = status_of(ended)
    assert (state, says in title) == ("failed", True), title
    assert (ended["train"]["interactive"], ended["stop"]["visible"]) == (True, False)
    assert not ended["download"]["interactive"]


def test_errors_that_the_audit_finds_do_not_refuse_a_run_that_is_asked_for_anyway(ui, values):
    assert status_of(merged(ui, ui.running.train(values(anyway=True, **CUT))))[0] == "done"


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"steps": 0}, ""),
        ({"examples": "Dear diary"}, ""),
        ({"learning_rate": "fast"}, ""),
        ({"device": "cuda"}, "no cuda device here"),
    ],
    ids=str,
)
def test_wrong_settings_are_a_sentence(ui, values, changed, says):
    (look,) = ui.running.train(values(**changed))
    assert named(ui, look).keys() == {"run_status"}
    state, title = status_of(named(ui, look))
    assert (state, says in title) == ("failed", True)


def test_a_second_visitor_waits_and_leaves(gpt2_folder, monkeypatch):
    monkeypatch.setattr("sftdemo.ui.run_state.CROWDED", 0)
    ui = build_page(Backend())
    one, two = (ui.running.train(tiny(ui, gpt2_folder, steps=200)) for _ in range(2))
    first_id, second_id = (named(ui, next(looks))["run_id"] for looks in (one, two))
    monkeypatch.setenv("SPACE_ID", "someone/sftdemo")
    waiting = named(ui, next(two))
    status = json.loads(waiting["run_status"])
    assert (status["state"], status["title"]) == ("working", "1st in the queue")
    assert status["detail"] == "starts when the runs before it have ended"
    assert status["link"]["address"] == "https://huggingface.co/spaces/someone/sftdemo?duplicate=true"
    assert json.loads(waiting["strip"])["title"] == "1st in the queue"
    assert (waiting["stop"]["value"], waiting["train"]["interactive"]) == ("Leave the queue", False)
    reloaded = ui.running.resume(second_id)
    assert [named(ui, next(reloaded)), named(ui, next(reloaded))][1]["run_status"] == waiting["run_status"]
    ui.running.stop(first_id)
    shown = next(look for look in (named(ui, each) for each in two) if "queue" not in look["run_status"])
    assert shown["stop"]["value"] == "Stop, keep what it has"
    ui.running.stop(second_id)
    assert status_of(merged(ui, two))[0] in ("done", "idle")


def test_two_clicks_in_one_moment_start_one_run(gpt2_folder):
    ui, visit = build_page(Backend()), SimpleNamespace(session_hash="one")
    clicks = [ui.running.train(tiny(ui, gpt2_folder, steps=200), visit) for _ in range(2)]
    first = named(ui, next(clicks[0]))
    with pytest.warns(UserWarning, match="A run of yours is under way already"):
        second = named(ui, next(clicks[1]))
    assert second.keys() == {"run_status"}
    ui.running.stop(first["run_id"])
    assert status_of(merged(ui, clicks[0]))[0] in ("done", "idle")


@pytest.mark.parametrize("known", [[], [Before("Why?", "So", "EOS", "typed")]], ids=["none", "one"])
def test_answers_that_are_known_stay_at_the_click(ui, values, monkeypatch, known):
    monkeypatch.setattr(ui.desk.backend, "answered", lambda config, data: known)
    monkeypatch.setattr(ui.desk.backend, "start", lambda *asked: "0a" * 16)
    shown = json.loads(named(ui, next(ui.running.train(values())))["compare"])
    assert ([row["prompt"] for row in shown["rows"]], shown["message"]) == (["Why?"] * len(known), TO_COME * len(known))


def test_a_busy_machine_changes_nothing(gpt2_folder, warned):
    ui = build_page(Busy())
    looks = list(ui.running.train(tiny(ui, gpt2_folder)))
    assert looks == [ui.running.unchanged()]
    assert warned == ["Another run is under way."]


def test_a_run_is_asked_to_stop(monkeypatch):
    asked = []
    ui = build_page(Backend())
    monkeypatch.setattr(ui.desk.backend, "stop", asked.append)
    update = ui.running.stop("0a" * 8)
    assert asked == ["0a" * 8]
    assert (update["interactive"], update["value"]) == (False, "Stopping after this step…")


@pytest.mark.parametrize("run_id", [None, "", "0b" * 8, "../../etc"])
def test_a_browser_without_a_run_sees_none(ui, run_id):
    assert list(ui.running.resume(run_id)) == [ui.running.unchanged()]


def test_a_run_that_cannot_be_read_any_more(ui, values, tmp_path):
    _, run_id = finish(ui, values())
    events = tmp_path / "cache" / "runs" / run_id / "events.jsonl"
    events.write_text('{"event": "arm", "arms": 2}\n')
    *_, look = ui.running.resume(run_id)
    state, title = status_of(named(ui, look))
    assert (state, "cannot be read" in title) == ("failed", True)


def test_nothing_is_started_on_a_public_page_beyond_its_limits(ui, monkeypatch, tmp_path):
    monkeypatch.setenv("SPACE_ID", "someone/space")
    (look,) = ui.running.train(ui.values(steps=201))
    assert "this public page allows" in status_of(named(ui, look))[1]
    assert not list((tmp_path / "cache").glob("runs/*"))
