"""Measuring what the samples teach. No model is loaded."""

from dataclasses import replace

import pytest

from sftdemo.bench import samples
from sftdemo.bench.samples import SampleResult, measure
from sftdemo.core.config import RunConfig
from sftdemo.core.errors import DataError
from sftdemo.core.events import Comparison, Failed, Finished, Phase


def test_an_unknown_name_is_refused_before_anything_runs():
    with pytest.raises(DataError, match="'parrot'"):
        next(measure(["parrot"], [0]))


def test_measure_passes_events_on_and_counts(monkeypatch):
    runs = []

    def fake_run(config, data, output):
        runs.append((config, output))
        yield Phase("train", "Training")
        yield Comparison("a", "Rambling", "Arr, aye, matey!", "length", "EOS", "held out")
        yield Comparison("b", "Arr, matey!", "Arr, matey!", "EOS", "length", "held out")
        yield Comparison("c", "Arr, matey!", "Arr, matey!", "EOS", "EOS", "typed")
        yield Finished(12, 12, 1.0, stopped=False)

    monkeypatch.setattr(samples, "run", fake_run)
    items = list(measure(["pirate"], [3, 4]))
    results = [item for item in items if isinstance(item, SampleResult)]
    assert len(items) == 2 * 6
    assert [(r.name, r.seed, r.held_out, r.before, r.after) for r in results] == [
        ("pirate", 3, 2, 1, 1),
        ("pirate", 4, 2, 1, 1),
    ]
    assert all(result.seconds >= 0 for result in results)
    assert [config for config, _ in runs] == [RunConfig(seed=3), RunConfig(seed=4)]
    assert not any(output.parent.exists() for _, output in runs)


def test_measure_takes_other_settings(monkeypatch):
    seen = []
    monkeypatch.setattr(samples, "run", lambda config, data, output: seen.append(config) or iter(()))
    list(measure(["pirate"], [7], RunConfig(steps=3)))
    assert seen == [replace(RunConfig(steps=3), seed=7)]


def test_a_failed_run_has_no_result(monkeypatch):
    monkeypatch.setattr(samples, "run", lambda config, data, output: iter([Failed("No.")]))
    assert list(measure(["pirate", "greek"], [0])) == [Failed("No."), Failed("No.")]
