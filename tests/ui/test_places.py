"""A public page tells no place of its server; a page on a machine of one's own tells them as they are."""

from __future__ import annotations

import ast
import json
from dataclasses import fields
from pathlib import Path
from typing import get_type_hints

import gradio as gr
import pytest
from desk import TEXT, OnLentGpu

import sftdemo
from sftdemo.core.errors import ModelError
from sftdemo.core.events import Event, Failed, Phase, Saved
from sftdemo.ui.api import Api
from sftdemo.ui.places import sentence, told, without_places
from sftdemo.ui.start import runs_folder

UI = Path(sftdemo.__file__).parent / "ui"
RUN, OTHER = "0a" * 16, "0b" * 16


@pytest.fixture
def public(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "someone/sftdemo")


def planted(kind: type[Event], text: str) -> Event:
    """An event with the text in each field that can hold one."""
    values = {str: text, list[str]: [text], list[list[str]]: [[text]]}
    hints = get_type_hints(kind)
    return kind(**{each.name: values.get(hints[each.name]) for each in fields(kind)})


# of `Saved` this server reads the path, and the API leaves it out
KINDS = [kind for kind in Event.__subclasses__() if kind is not Saved]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_event(kind, public):
    event, place = planted(kind, f"Saving to {runs_folder() / RUN}."), str(runs_folder())
    written = {"prompt", "answer", "answers", "before", "after", "question", "tokens", "likeliest"}
    shown = vars(told(event, RUN))
    kept = {name for name, value in shown.items() if place in str(value)}
    assert kept <= written
    assert all(value == vars(event)[name] for name, value in shown.items() if name in kept)
    assert all(
        "Saving to this run." in str(shown[name]) for name, value in vars(event).items() if value and name not in kept
    )


def test_what_stands_in_place_of_a_path(public, monkeypatch):
    monkeypatch.setenv("HOME", "/home/somebody")  # which is in no other folder of the server
    run, home = runs_folder() / RUN, Path.home()
    shown = {
        f"{run} has no adapter.": "This run has no adapter.",
        f"the run in {run} was stopped. See {run}/run.json.": "This run was stopped. See run.json.",
        f"{run}/weight-0.1 holds '{run / 'model.safetensors'}'": "weight-0.1 holds 'model.safetensors'",
        f"OSError: [Errno 28] No space left: {home}/.cache/x/blobs/ab12": "OSError: [Errno 28] No space left: ab12",
        f"row 3: 'see {home}/a/notes.txt, and /etc/hosts' is long": "row 3: 'see notes.txt, and /etc/hosts' is long",
    }
    shown |= {text: text for text in (f"https://example.org{home}/a", f"{home}less", f"1{home}")}
    assert {text: without_places(text) for text in shown} == shown
    assert without_places(f"train {runs_folder() / OTHER} on", RUN) == "train an earlier run on"
    assert sentence(ModelError(f"the run in {run} is cut.")) == "This run is cut."
    assert sentence(ModelError(f"of {run} a part is cut.")) == "Of this run a part is cut."


def test_on_a_machine_of_ones_own_the_path_helps():
    event, run = planted(Phase, str(runs_folder())), runs_folder() / RUN
    assert told(event) is event
    assert sentence(ModelError(f"{run} has no adapter.")) == f"{run} has no adapter."


def test_a_run_by_the_api_and_what_fails(public, gpt2_folder, monkeypatch, tmp_path):
    monkeypatch.setattr("sftdemo.core.limits.MODELS", (str(gpt2_folder),))
    monkeypatch.setenv("SFTDEMO_CACHE", str(tmp_path / "cache"))
    backend, short = OnLentGpu(), {"steps": 1, "max_length": 64, "max_new_tokens": 2}
    api = Api(backend)
    events = list(api.train(TEXT, str(gpt2_folder), settings=short))
    key = events[-1]["run"]
    assert any(event.get("message") == "Saving to this run" for event in events)
    (runs_folder() / key / "adapter_model.safetensors").unlink()
    assert (runs_folder() / key / "run.json").is_file()
    with pytest.raises(gr.Error) as caught:
        api.generate(key, ["Hi"])
    tried = [event for event in backend.export(key, None, "merged", "f16") if isinstance(event, Event)]
    tried += backend.token_losses(key, "cpu")
    assert sum(isinstance(event, Failed) for event in tried) == 2
    (runs_folder() / key / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(gr.Error) as unread:
        api.result(key)
    said = json.dumps([events, caught.value.message, [each.to_dict() for each in tried], unread.value.message])
    assert str(tmp_path / "cache") not in said
    assert backend.past_runs([key])[1] == [unread.value.message]


def test_each_sentence_of_the_page_passes_here():
    """No module of the page makes a sentence of an error itself, or tells an error's own words."""
    for path in UI.rglob("*.py"):
        if path.name == "places.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").endswith("core.errors"):
                assert "sentence" not in [name.name for name in node.names], path
