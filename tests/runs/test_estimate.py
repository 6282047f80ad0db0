from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tiny import tokenizer_named

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Failed, Finished, Model, Prepared, Step
from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.audit import Audit
from sftdemo.mask.labels import Masker
from sftdemo.runs.estimate import Rate, estimate_seconds, planned_steps, rate_for, save_rate
from sftdemo.runs.run import run

ROWS = [{"instruction": f"Say {word}", "output": word} for word in ("hello", "one", "two", "three", "four")]


def counted(rows=ROWS, max_length=128) -> tuple[int, int]:
    """Examples and tokens that will be trained, as the audit counts them."""
    train, audit = parse_examples(json.dumps(rows)).train, Audit(8, max_length)
    masked = Masker(tokenizer_named("gpt2"), get_template("instruction"), max_length).mask(train)
    for example, (row,) in zip(train, masked, strict=True):
        audit.add(example, row)
    return len(audit.rows), sum(min(length, max_length) for length in audit.lengths)


def finished_run(examples=4, tokens=100, steps=10, training=20.0, overhead=5.0, stopped=False):
    return [
        Model("m", "local folder", "CPU", "float32", 1),
        Prepared(examples, tokens, 10, steps, 1, []),
        Step(steps, steps, 1.0, training, 0.0),
        Finished(steps, steps, training + overhead, stopped),
    ]


def test_the_first_guess_is_for_the_default_model_on_a_cpu():
    rate = rate_for(RunConfig(), "cpu")
    assert not rate.measured
    assert rate_for(RunConfig(full=True), "cpu").per_token > rate.per_token > 0
    assert rate_for(RunConfig(), "cuda") is None
    assert rate_for(RunConfig(model="gpt2"), "cpu") is None


def test_a_finished_run_is_learned():
    config = RunConfig("m", batch_size=2)
    save_rate(config, "cuda", finished_run())
    assert rate_for(config, "cuda") == Rate(20 / 10 / 50, 5.0, measured=True)
    assert rate_for(replace(config, steps=500), "cuda").measured
    for other, device in ((config, "cpu"), (replace(config, full=True), "cuda"), (RunConfig("n"), "cuda")):
        assert rate_for(other, device) is None


def test_the_last_run_wins_over_the_guess_and_over_earlier_ones():
    save_rate(RunConfig(), "cpu", finished_run())
    save_rate(RunConfig(full=True), "cpu", finished_run())
    save_rate(RunConfig(), "cpu", finished_run(overhead=7.0))
    assert (rate_for(RunConfig(), "cpu").overhead, rate_for(RunConfig(full=True), "cpu").overhead) == (7.0, 5.0)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [Failed("no")],
        finished_run()[:-1],
        finished_run(stopped=True),
        [*finished_run()[:2], Finished(0, 0, 1, True)],
    ],
    ids=["nothing", "failed", "going on", "stopped", "no step"],
)
def test_other_runs_are_not_learned(events):
    save_rate(RunConfig("m"), "cpu", events)
    assert rate_for(RunConfig("m"), "cpu") is None


def test_a_spoilt_file_is_as_good_as_none(tmp_path):
    save_rate(RunConfig("m"), "cpu", finished_run())
    (file,) = (tmp_path / "cache").iterdir()
    key = "cpu|m|lora"
    assert json.loads(file.read_text()) == {key: [20 / 10 / 100, 5.0]}
    spoilt = ["{not json", "null", "[1, 2]", "7"]
    spoilt += [json.dumps({key: rate}) for rate in (None, 3, [1], [1, 2, 3], ["1", 2], [1, None], {"a": 1})]
    spoilt += [f'{{"{key}": [NaN, 1]}}', f'{{"{key}": [1, Infinity]}}', f'{{"{key}": [-1, 1]}}']
    for text in spoilt:
        file.write_text(text)
        assert rate_for(RunConfig("m"), "cpu") is None, text
        save_rate(RunConfig("m"), "cpu", finished_run())
        assert rate_for(RunConfig("m"), "cpu").measured, text


def test_what_is_spoilt_does_not_hide_the_rest(tmp_path):
    save_rate(RunConfig("m"), "cpu", finished_run())
    (file,) = (tmp_path / "cache").iterdir()
    file.write_text(json.dumps(json.loads(file.read_text()) | {"cpu|n|lora": None}))
    assert rate_for(RunConfig("m"), "cpu").measured
    assert rate_for(RunConfig("n"), "cpu") is None


def test_a_folder_that_cannot_be_written_is_told_and_fails_no_run(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SFTDEMO_CACHE", str(tmp_path / "file" / "cache"))
    save_rate(RunConfig("m"), "cpu", finished_run())
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "cannot be kept" in record.getMessage()
    assert rate_for(RunConfig("m"), "cpu") is None


def test_a_failing_write_leaves_what_was_known(monkeypatch, caplog):
    def full(_):
        raise OSError(28, "No space left on device")

    save_rate(RunConfig("m"), "cpu", finished_run())
    monkeypatch.setattr("sftdemo.core.files.os.fsync", full)
    save_rate(RunConfig("m"), "cpu", finished_run(overhead=9.0))
    assert rate_for(RunConfig("m"), "cpu").overhead == 5.0
    assert "No space left on device" in caplog.text


@pytest.mark.parametrize(
    "settings",
    [
        {"batch_size": 2},
        {"batch_size": 64},
        {"batch_size": 1, "max_length": 32, "packing": True},
        {"batch_size": 64, "max_length": 32, "packing": True},
    ],
    ids=str,
)
def test_the_same_run_again_is_estimated_as_it_was(settings):
    config, (examples, tokens) = RunConfig("m", steps=10, **settings), counted(max_length=32)
    save_rate(config, "cpu", finished_run(examples, tokens))
    assert estimate_seconds(config, examples, tokens, rate_for(config, "cpu")) == pytest.approx(25.0)
    twice = estimate_seconds(replace(config, steps=20), examples, tokens, rate_for(config, "cpu"))
    assert twice == pytest.approx(45.0)


def test_a_larger_batch_takes_longer_up_to_all_examples():
    (examples, tokens), rate = counted(), Rate(1.0, 0.0, measured=True)
    assert examples == 5
    seconds = [estimate_seconds(RunConfig(steps=1, batch_size=b), examples, tokens, rate) for b in (1, 5, 50)]
    assert seconds == pytest.approx([tokens / 5, tokens, tokens])


def test_rows_without_a_trained_token_do_not_count():
    long = {"instruction": "word " * 200, "output": "x"}
    config, with_it = RunConfig(epochs=1, batch_size=1), counted([*ROWS, long])
    assert with_it == counted()
    assert planned_steps(config, *with_it) == 5


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        pytest.param({"steps": 7}, 7, marks=pytest.mark.thorough),
        ({"epochs": 3, "batch_size": 2}, 9),
        pytest.param({"epochs": 0.5, "batch_size": 1}, 3, marks=pytest.mark.thorough),
        pytest.param({"epochs": 0.01, "batch_size": 2}, 1, marks=pytest.mark.thorough),
        ({"epochs": 2, "batch_size": 1, "packing": True}, 2),
    ],
)
def test_planned_steps_are_the_trainers(gpt2_folder, tmp_path, settings, steps):
    """The run itself is asked, so that the button cannot promise another number than the one that is trained."""
    config = RunConfig(str(gpt2_folder), **{"max_length": 128, "max_new_tokens": 1} | settings)
    examples, tokens = counted(max_length=config.max_length)
    assert planned_steps(config, examples, tokens) == steps
    events = run(config, parse_examples(json.dumps(ROWS)), tmp_path / "out")
    prepared = next(event for event in events if isinstance(event, Prepared))
    assert (prepared.steps, prepared.examples, prepared.tokens) == (steps, examples, tokens)
    events.close()


@pytest.mark.parametrize("settings", [{}, {"epochs": 1}, {"packing": True}, {"packing": True, "epochs": 1}])
def test_nothing_to_train_takes_the_overhead_only(settings):
    assert estimate_seconds(RunConfig(**settings), 0, 0, Rate(1.0, 2.0, measured=True)) == 2.0
