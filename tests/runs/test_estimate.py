"""The estimate of a run is what its counted work takes at the pace of earlier runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Before, Comparison, Event, Failed, Finished
from sftdemo.runs.estimate import NEW, Ready, estimate_seconds, learn_ahead, learn_pace, pace_for
from sftdemo.runs.parts import PARTS
from sftdemo.runs.work import Work

WORK = Work(
    steps=10,
    positions=200.0,
    trained=100.0,
    weights=(0.0,),
    questions=6,
    new_tokens=32,
    prompt=20.0,
    answer=15.0,
    held_out=180.0,
)
SPENT = dict(zip(PARTS, (1.5, 3.0, 0.4, 1.0, 3.0, 9.0, 0.5, 2.0, 0.6), strict=True))
READY = Ready(stands_by=True, answered=True)


def finished(stopped=False, cut=True, **more) -> list[Event]:
    """The events of a run, some of whose answers are cut, or none."""
    spent, stop = SPENT | more, "length" if cut else "EOS"
    return [Before("q", "a", stop, "typed"), Finished(10, 10, sum(spent.values()), stopped, spent)]


def ahead(**spent) -> list[Event]:
    return [Before("q", "a", "length", "typed"), Finished(0, 0, 5.0, False, spent)]


def estimate(config, work=WORK, ready=NEW) -> float:
    pace = pace_for(config, "cpu")
    assert pace is not None
    return estimate_seconds(config, work, pace, ready)


def test_the_first_guess_is_for_the_default_model_on_a_cpu():
    assert estimate(RunConfig(full=True)) > estimate(RunConfig()) > estimate(RunConfig(), ready=READY) > 0
    assert pace_for(RunConfig(), "cuda") is None
    assert pace_for(RunConfig(model="gpt2"), "cpu") is None


def test_the_same_run_again_is_estimated_as_it_was():
    config = RunConfig("m")
    learn_pace(config, "cpu", WORK, NEW, finished())
    judged_twice = SPENT["judge after"] - SPENT["judge before"]  # both are taken for as long as the later
    assert estimate(config) == pytest.approx(sum(SPENT.values()) + judged_twice, rel=1e-3)


@pytest.mark.parametrize("ready", [NEW, Ready(stands_by=True), READY], ids=str)
@pytest.mark.parametrize(
    ("changed", "more"),
    [
        ({"steps": 20}, 10.0),
        ({"questions": 0, "held_out": 0.0}, None),
        ({"new_tokens": 8}, None),
        ({"weights": (1.0,)}, 10 * 40 / 260),
        ({"positions": 400.0, "trained": 200.0}, 10 * 240 / 260),
    ],
    ids=str,
)
def test_one_setting_changes_its_own_part(ready, changed, more):
    """`more` is how many seconds longer it takes; where it is None, it is shorter."""
    config = RunConfig("m")
    learn_pace(config, "cpu", WORK, NEW, finished())
    found = estimate(config, replace(WORK, **changed), ready) - estimate(config, WORK, ready)
    assert found == pytest.approx(more, rel=1e-3) if more else found < -0.5


def test_what_is_done_already_is_not_promised_again():
    config = RunConfig("m")
    learn_pace(config, "cpu", WORK, NEW, finished())
    learn_pace(config, "cpu", WORK, READY, finished())
    new, standing, answered = (estimate(config, ready=ready) for ready in (NEW, Ready(stands_by=True), READY))
    assert new - standing == pytest.approx(SPENT["load"], rel=1e-3)
    assert standing - answered == pytest.approx(SPENT["answers before"] + SPENT["judge after"], rel=1e-3)


def test_both_ways_is_two_trainings_and_one_beginning():
    config, both = RunConfig("m"), replace(WORK, weights=(0.0, 1.0))
    learn_pace(config, "cpu", WORK, NEW, finished())
    one, two = estimate(config), estimate(config, both)
    unmasked = estimate(config, replace(WORK, weights=(1.0,)))
    assert one + 10 < two < one + unmasked
    held_out = estimate(config, replace(both, held_out=0.0))
    judged = SPENT["judge after"]
    assert two - held_out == pytest.approx(judged * (1 + 2 + 2 * 4), rel=1e-3), "before, after, and 4 times between"


def test_both_ways_is_learned_as_far_as_its_parts_are_told_apart():
    config, both = RunConfig("m"), replace(WORK, weights=(0.0, 0.0), held_out=0.0)
    learn_pace(config, "cpu", both, NEW, finished())
    known = pace_for(config, "cpu").measured
    assert known["step lora"] == pytest.approx(9.0 / 9 / 2 / 260, rel=1e-2)
    assert {"answer lora", "save lora", "set-up new"}.isdisjoint(known)


def test_a_change_of_one_setting_keeps_the_rest():
    learn_pace(RunConfig("m"), "cpu", WORK, NEW, finished())
    known = pace_for(RunConfig("m"), "cpu")
    full = pace_for(RunConfig("m", full=True), "cpu")
    assert full["load"] == known["load"]
    assert full["step full"] > full["step lora"] == known["step lora"]
    learn_pace(RunConfig("m", precision="bf16"), "cpu", WORK, NEW, finished(**{"later steps": 90.0}))
    assert pace_for(RunConfig("m"), "cpu")["step lora"] == known["step lora"]
    for other, device in ((RunConfig("m"), "cuda"), (RunConfig("n"), "cpu")):
        assert pace_for(other, device) is None


def test_a_quicker_machine_is_quicker_in_what_it_has_not_done():
    guessed = pace_for(RunConfig(), "cpu")
    quick = finished(**{part: seconds / 10 for part, seconds in SPENT.items()})
    learn_pace(RunConfig(), "cpu", WORK, NEW, quick)
    assert pace_for(RunConfig(), "cpu")["step full"] < guessed["step full"] / 5


def test_what_is_known_and_what_was_measured_are_averaged():
    config = RunConfig("m")
    for load in (1.0, 2.0):
        learn_pace(config, "cpu", WORK, NEW, finished(load=load))
    assert pace_for(config, "cpu")["load"] == 1.5


def test_a_process_that_stands_by_tells_the_pace_of_a_first_run_only():
    guessed = estimate(RunConfig(), ready=READY)
    learn_ahead(RunConfig(), "cpu", WORK, ahead(**{"answers before": 30.0, "first step": 30.0}))
    assert estimate(RunConfig(), ready=READY) > 5 * guessed
    known = pace_for(RunConfig(), "cpu")
    learn_ahead(RunConfig(), "cpu", WORK, ahead(**{"answers before": 1.0}))
    assert pace_for(RunConfig(), "cpu") == known


@pytest.mark.parametrize(
    "ended",
    [[], finished(stopped=True), [Finished(10, 10, 5.0, False)], [Failed("no")]],
    ids=["nothing", "stopped", "no parts", "failed"],
)
def test_other_runs_are_not_learned(ended):
    learn_pace(RunConfig("m"), "cpu", WORK, NEW, ended)
    assert pace_for(RunConfig("m"), "cpu") is None


def test_a_single_step_tells_nothing_of_the_next():
    learn_pace(RunConfig("m"), "cpu", replace(WORK, steps=1), NEW, finished())
    assert "step lora" not in pace_for(RunConfig("m"), "cpu").measured


def test_a_spoilt_file_is_as_good_as_none(tmp_path):
    config, key = RunConfig("m"), "cpu|m"
    learn_pace(config, "cpu", WORK, NEW, finished())
    (file,) = (tmp_path / "cache").iterdir()
    assert json.loads(file.read_text())[key]["load"] == SPENT["load"]
    spoilt = ["{not json", "null", "[1, 2]", "7", json.dumps({f"{key}|lora": [0.01, 13.0]})]
    spoilt += [json.dumps({key: pace}) for pace in (None, 3, [1, 2], {}, {"load": "1"}, {"load": -1}, {"sleep": 1})]
    spoilt += [f'{{"{key}": {{"load": NaN}}}}', f'{{"{key}": {{"load": Infinity}}}}', f'{{"{key}": {{"load": true}}}}']
    for text in spoilt:
        file.write_text(text)
        assert pace_for(config, "cpu") is None, text
        learn_pace(config, "cpu", WORK, NEW, finished())
        assert pace_for(config, "cpu")["load"] == SPENT["load"], text


def test_what_is_spoilt_does_not_hide_the_rest(tmp_path):
    learn_pace(RunConfig("m"), "cpu", WORK, NEW, finished())
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cpu|n": None, "cpu|n|lora": [1, 2]}))
    assert pace_for(RunConfig("m"), "cpu")["load"] == SPENT["load"]
    assert pace_for(RunConfig("n"), "cpu") is None


def test_a_folder_that_cannot_be_written_is_told_and_fails_no_run(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFTDEMO_CACHE", str(tmp_path / "file" / "cache"))
    learn_pace(RunConfig("m"), "cpu", WORK, NEW, finished())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "cannot be kept" in record.getMessage()
    assert pace_for(RunConfig("m"), "cpu") is None


def test_a_failing_write_leaves_what_was_known(monkeypatch, caplog):
    def full(_):
        raise OSError(28, "No space left on device")

    learn_pace(RunConfig("m"), "cpu", WORK, NEW, finished())
    known = pace_for(RunConfig("m"), "cpu")
    monkeypatch.setattr("sftdemo.core.files.os.fsync", full)
    learn_pace(RunConfig("m"), "cpu", WORK, NEW, finished(load=9.0))
    assert pace_for(RunConfig("m"), "cpu") == known
    assert "No space left on device" in caplog.text


def test_answers_that_ended_early_tell_no_pace_of_long_ones():
    learn_pace(RunConfig("m"), "cpu", WORK, NEW, finished(cut=False))
    assert "answer before" not in pace_for(RunConfig("m"), "cpu").measured
    ended = pace_for(RunConfig("m"), "cpu")["answer lora"]
    cut = [*finished(cut=False)[:-1], Comparison("q", "a", "b", "EOS", "length", "typed"), finished()[-1]]
    learn_pace(RunConfig("n"), "cpu", WORK, NEW, cut)
    assert pace_for(RunConfig("n"), "cpu")["answer lora"] < 0.8 * ended, "it was for more tokens"
