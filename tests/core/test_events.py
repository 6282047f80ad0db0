from __future__ import annotations

import json

import pytest

from sftdemo.core.events import (
    Answer,
    Arm,
    Before,
    Checkpoint,
    Columns,
    Comparison,
    Conclusion,
    Event,
    Failed,
    Figures,
    FilmEnded,
    FilmRow,
    Finished,
    Frame,
    HeldOut,
    Isolation,
    Model,
    Phase,
    Prepared,
    Saved,
    Step,
    StudyCell,
    TokenLosses,
    Upload,
    Weights,
    from_dict,
)

EVERY = [
    Phase("model", "Looking for it"),
    Phase("model", "Downloading", 0.5),
    Model("gpt2", "local folder", "CPU (2 threads)", "float32", 124),
    Prepared(2, 40, 11, 12, 7, ["row 3: no answer"]),
    Step(1, 12, 2.5, 0.25, 2.75),
    Checkpoint(1, "No space left on device"),
    Before("Naïve ⚠?", "", "length", "held out"),
    Comparison("Naïve ⚠?", "", "Arr\n", "length", "EOS", "held out"),
    Answer("Why?", "Because.", "stopped", 3),
    HeldOut(4, 0.5, 2.25, 60, 97),
    Arm(1, [0.0, 0.25]),
    Columns("Naïve ⚠?", "typed", ["", "Arr\n", "So"], ["length", "EOS", "stopped"]),
    Figures(None, 2.5, 1.5, 60, 97, 6, 2, None, 24.5),
    StudyCell(8, 0, 12, {"completion_loss": 2.5, "ran_on": None}, [{"prompt": "Naïve ⚠?", "stop": "EOS"}], 14.5),
    Weights("00ff", "00ff", False),
    TokenLosses(
        3, "held out", "Why ⚠?", [["⚠", "prompt", 7, False, 0]] * 2, [None, 0.5], [[0.5], [1e-7]], [[2], [1]], [[], []]
    ),
    FilmRow(3, "Why ⚠?", [["⚠", "prompt", 7, False, 0]]),
    Frame(4, 0.5, [["Naïve ⚠?", "held out", "Arr\n", "EOS"]], 0.5, 2.25, 1, 0, [[0.5, 1e-7]], [[2, 1]]),
    FilmEnded(4, "No space left on device"),
    Isolation("wrapped", 1.5e-7, 3, 2, 40),
    Conclusion("Masking lowered the loss."),
    Saved("outputs", "adapter"),
    Upload("owner/name", True, ["README.md"], 1200, ["README.md"], ["events.jsonl"], ["old.bin"]),
    Finished(12, 12, 3.5, False),
    Failed("No example to train on."),
]


def test_every_kind_of_event_is_here():
    assert {type(event) for event in EVERY} == set(Event.__subclasses__())


@pytest.mark.parametrize("event", EVERY, ids=lambda event: type(event).__name__)
def test_round_trip_through_json(event):
    record = json.loads(json.dumps(event.to_dict()))
    assert from_dict(record) == event
    assert record["event"] == type(event).__name__.lower()


def test_the_json_form_is_flat():
    assert Step(1, 12, 2.5, 0.25, 2.75).to_dict() == {
        "event": "step",
        "step": 1,
        "total": 12,
        "loss": 2.5,
        "seconds": 0.25,
        "remaining": 2.75,
    }


@pytest.mark.parametrize("record", [{}, {"event": "nothing"}, {"event": "saved"}, {"event": "failed", "other": 1}])
def test_other_records_are_refused(record):
    with pytest.raises((KeyError, TypeError)):
        from_dict(record)
