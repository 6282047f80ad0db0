"""The folder that a run leaves: whole, with its events, or not at all."""

from __future__ import annotations

import json

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Event, Failed, Finished, Saved
from sftdemo.data.examples import parse_examples
from sftdemo.runs.ablation import ablate
from sftdemo.runs.folder import load_events
from sftdemo.runs.run import run

DATA = parse_examples(
    json.dumps(
        [
            {"instruction": "Say hello", "output": "Hello world!"},
            {"instruction": "Count to 3", "output": "1 2 3"},
            {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
        ]
    )
)


@pytest.fixture(params=[run, ablate], ids=["run", "ablation"])
def work(request, gpt2_folder):
    config = RunConfig(str(gpt2_folder), steps=1, batch_size=2, max_length=128, max_new_tokens=2)
    return lambda folder, **options: request.param(config, DATA, folder, **options)


def until_saved(events) -> list[Event]:
    """The events of a run that is given up as soon as it is saved."""
    seen = []
    for event in events:
        seen.append(event)
        if isinstance(event, Saved):
            events.close()
    return seen


def test_the_events_are_there_as_soon_as_the_folder_is(work, tmp_path):
    seen = until_saved(work(tmp_path / "out"))
    *saved, last = load_events(tmp_path / "out")
    assert saved == seen
    assert isinstance(last, Finished)
    assert not last.stopped
    assert last.seconds > 0


def test_the_last_one_is_the_one_that_is_told(work, tmp_path):
    events = list(work(tmp_path / "out"))
    assert load_events(tmp_path / "out") == events
    assert [type(event) for event in events[-2:]] == [Saved, Finished]


def test_events_that_cannot_be_written_leave_the_folder_as_it_was(work, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("sftdemo.runs.folder.EVENTS", "nowhere/events.jsonl")
    *events, last = work(tmp_path / "out")
    assert isinstance(last, Failed)
    assert "could not be saved" in last.message
    assert not any(isinstance(event, Saved | Finished) for event in events)
    assert [list(folder.iterdir()) for folder in tmp_path.iterdir()] == [[]]
