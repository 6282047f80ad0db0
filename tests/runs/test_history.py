"""Earlier runs, read from their folders."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import DataError
from sftdemo.core.events import Columns, Comparison, Figures, Finished, HeldOut, Step
from sftdemo.data.examples import parse_examples
from sftdemo.runs.ablation import ablate
from sftdemo.runs.history import POINTS, find_run, past_runs, side_by_side
from sftdemo.runs.run import run

TEXT = """{"instruction": "Say hello", "output": "Hello world!"}
{"instruction": "Count to 3", "output": "1 2 3"}
{"instruction": "Capital of Italy?", "output": "Rome!", "held_out": true}
"""


def of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def runs(gpt2_folder, tmp_path_factory):
    """A folder with a run and, later, an ablation; and the events of both."""
    folder = tmp_path_factory.mktemp("runs")
    config = RunConfig(
        str(gpt2_folder), steps=3, batch_size=2, learning_rate=5e-2, max_new_tokens=4, prompts=("Why?",), max_length=256
    )
    data = parse_examples(TEXT)
    one_way = list(run(replace(config, prompt_loss_weight=0.5), data, folder / "a"))
    both_ways = list(ablate(config, data, folder / "b", (0.0, 1.0)))
    for name, when in (("a", "2026-01-01T10:00:00+00:00"), ("b", "2026-01-02T10:00:00+00:00")):
        record = json.loads((folder / name / "run.json").read_text())
        (folder / name / "run.json").write_text(json.dumps(record | {"finished": when}))
    return folder, one_way, both_ways


def test_the_latest_comes_first(runs):
    found, problems = past_runs(runs[0])
    assert ([run.name for run in found], problems) == (["b", "a"], [])
    assert [run.finished[:10] for run in found] == ["2026-01-02", "2026-01-01"]


def test_only_those_that_are_named(runs):
    assert [run.name for run in past_runs(runs[0], ["a", "c"])[0]] == ["a"]
    assert past_runs(runs[0], [])[0] == []
    assert past_runs(runs[0], ["../" + runs[0].name + "/a"])[0] == []


def test_a_run_in_short(runs):
    folder, events, _ = runs
    found = find_run(past_runs(folder)[0], "a")
    assert found.curves == (tuple(step.loss for step in of(Step, events)),)
    assert (found.weights, found.examples, found.steps, found.figures) == ((0.5,), 2, 3, ())
    assert found.settings == {
        "steps": 3,
        "learning_rate": 5e-2,
        "batch_size": 2,
        "max_new_tokens": 4,
        "max_length": 256,
    }
    assert list(found.comparisons) == of(Comparison, events)
    assert found.seconds == of(Finished, events)[0].seconds


def test_an_ablation_in_short(runs):
    folder, _, events = runs
    found = find_run(past_runs(folder)[0], "b")
    losses = [event.completion_loss for event in of(HeldOut, events)]
    assert found.weights == (0.0, 1.0)
    assert [loss for curve in found.curves for loss in curve] == losses
    assert list(found.figures) == of(Figures, events)
    assert list(found.comparisons) == of(Columns, events)


def test_side_by_side(runs):
    folder, one_way, both_ways = runs
    first, second = (find_run(past_runs(folder)[0], name) for name in "ab")
    rows = dict(side_by_side(first, second))
    assert list(rows) == ["Why?", "Capital of Italy?"]
    for ours, theirs in zip(of(Comparison, one_way), of(Columns, both_ways), strict=True):
        assert [column[1:] for column in rows[ours.prompt]] == [
            (None, ours.before, ours.before_stop),
            (0.5, ours.after, ours.after_stop),
            (0.0, theirs.answers[1], theirs.stops[1]),
            (1.0, theirs.answers[2], theirs.stops[2]),
        ]
        assert [column[0].name for column in rows[ours.prompt]] == ["a", "a", "b", "b"]


def test_another_base_stands_beside_the_first(runs):
    first, second = (find_run(past_runs(runs[0])[0], name) for name in "ab")
    other = replace(first, comparisons=tuple(replace(each, before="Something else") for each in first.comparisons))
    assert [column[1] for column in side_by_side(other, second)[0][1]] == [None, 0.5, None, 0.0, 1.0]


def test_nothing_in_common(runs):
    first, second = (find_run(past_runs(runs[0])[0], name) for name in "ab")
    strange = replace(second, comparisons=tuple(replace(each, prompt="What else?") for each in second.comparisons))
    with pytest.raises(DataError, match="no question in common"):
        side_by_side(first, strange)


def test_a_run_that_is_gone(runs):
    with pytest.raises(DataError, match="no run 'c' any more"):
        find_run(past_runs(runs[0])[0], "c")


def test_what_cannot_be_read_is_named_and_the_others_stay(runs, tmp_path):
    folder, *_ = runs
    for name in ("broken", "unfinished", "strange"):
        (tmp_path / name).mkdir()
    (tmp_path / "broken" / "run.json").write_text("{")
    (tmp_path / "unfinished" / "run.json").write_bytes((folder / "a" / "run.json").read_bytes())
    (tmp_path / "strange" / "run.json").write_bytes((folder / "a" / "run.json").read_bytes())
    (tmp_path / "strange" / "events.jsonl").write_text('{"event": "arm", "arms": 2}\n')
    (tmp_path / "a").symlink_to(folder / "a")
    found, problems = past_runs(tmp_path)
    assert [run.name for run in found] == ["a"]
    assert len(problems) == 3
    for name in ("broken", "unfinished", "strange"):
        assert len([each for each in problems if name in each]) == 1


def test_no_folder_is_no_run(tmp_path):
    assert past_runs(tmp_path / "nothing") == ([], [])


def test_a_long_curve_keeps_both_ends(runs, tmp_path):
    folder, events, _ = runs
    (tmp_path / "long").mkdir()
    (tmp_path / "long" / "run.json").write_bytes((folder / "a" / "run.json").read_bytes())
    steps = [Step(number, 1000, 1000.0 - number, 0.0, 0.0) for number in range(1000)]
    others = [event for event in events if not isinstance(event, Step)]
    lines = [json.dumps(event.to_dict()) for event in (*others[:-1], *steps, others[-1])]
    (tmp_path / "long" / "events.jsonl").write_text("\n".join(lines))
    (curve,) = past_runs(tmp_path)[0][0].curves
    assert (curve[0], curve[-1]) == (1000.0, 1.0)
    assert POINTS // 2 < len(curve) <= POINTS + 1


@pytest.mark.parametrize("field", ["finished", "config", "model", "arms", "kind", "data"])
@pytest.mark.parametrize("value", [5, [5], {"model": 5}])
def test_a_record_of_another_kind_has_one_line_and_the_others_stay(runs, tmp_path, field, value):
    if field in ("model", "data") and isinstance(value, dict):
        value = "x"
    (tmp_path / "a").symlink_to(runs[0] / "a")
    shutil.copytree(runs[0] / "a", tmp_path / "bad")
    record = json.loads((tmp_path / "bad" / "run.json").read_text())
    (tmp_path / "bad" / "run.json").write_text(json.dumps(record | {field: value}))
    found, problems = past_runs(tmp_path)
    assert [run.name for run in found] == ["a"]
    assert [str(tmp_path / "bad") in each for each in problems] == [True]


def test_events_that_were_cut_or_changed_have_one_line(runs, tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "run.json").write_bytes((runs[0] / "a" / "run.json").read_bytes())
    lines = (runs[0] / "a" / "events.jsonl").read_text().splitlines(keepends=True)
    wrong = [lines[:cut] for cut in range(len(lines))] + [lines[-1:], ["null\n"], ["[" * 100_000], ['{"event": []}\n']]
    wrong += [[*lines[:-1], json.dumps(json.loads(lines[-1]) | {"steps": "x"})]]
    for each in wrong:
        (tmp_path / "bad" / "events.jsonl").write_text("".join(each))
        found, problems = past_runs(tmp_path)
        assert (found, len(problems)) == ([], 1), each
        assert not re.search(r"\n|pydantic|NoneType|iterable|unhashable|Error", problems[0])
    assert problems[0].endswith("Put events.jsonl back as it was; the model itself can still be asked.")


def test_an_answer_with_other_ends_of_lines(runs, tmp_path):
    shutil.copytree(runs[0] / "a", tmp_path / "a")
    events = [json.loads(line) for line in (tmp_path / "a" / "events.jsonl").read_text().splitlines()]
    for event in events:
        event |= {"after": "one\u2028two\x85three"} if event["event"] == "comparison" else {}
    text = "".join(json.dumps(event, ensure_ascii=False) + "\n" for event in events)
    (tmp_path / "a" / "events.jsonl").write_text(text, encoding="utf-8")
    (found,), problems = past_runs(tmp_path)
    assert (found.comparisons[0].after, problems) == ("one\u2028two\x85three", [])
