"""What bf16 must show beside float32. No model is trained."""

from dataclasses import replace

import pytest

from sftdemo.bench import precision
from sftdemo.bench.precision import PRECISIONS, SEEDS, Learned, bench_precision, judged
from sftdemo.bench.report import section
from sftdemo.bench.samples import SampleResult
from sftdemo.core.errors import SftdemoError
from sftdemo.core.events import Failed, HeldOut, Phase, Prepared, Step

RUNS = [
    Learned("pirate", seed, each, held_out=6, styled=5, loss=0.8 + 0.1 * seed, mask_hash="a", seconds=10.0)
    for seed in SEEDS
    for each in PRECISIONS
]


def changed(**values):
    """The runs, with other values for the last, which is in bf16."""
    return [*RUNS[:-1], replace(RUNS[-1], **values)]


def test_the_same_passes():
    found = judged(RUNS)
    assert found["passed"]
    assert found["samples"] == [
        {
            "sample": "pirate",
            "held_out": 18,
            "styled": {"float32": 15, "bf16": 15},
            "loss": {"float32": 0.9, "bf16": 0.9},
            "apart": 0.0,
            "spread": 0.2,
            "same_mask": True,
        }
    ]
    assert found["ratios"] == {"training_float32_vs_bf16": 1.0}


@pytest.mark.parametrize("worse", [{"styled": 4}, {"loss": 1.7}, {"mask_hash": "b"}])
def test_what_does_not_pass(worse):
    assert not judged(changed(**worse))["passed"]


@pytest.mark.parametrize("better", [{"styled": 6}, {"loss": 1.1}, {"seconds": 5.0}])
def test_what_does(better):
    assert judged(changed(**better))["passed"]


def test_report():
    text = section({"precision": judged(changed(styled=4, loss=1.1))}, "precision")
    assert "| pirate | 15 of 18 | 14 of 18 | 0.9 | 0.9333 | 0.0333 | 0.2 |" in text
    assert text.endswith("Passed: NO.")


class TestMeasured:
    @staticmethod
    def fake(names, seeds, config):
        yield Prepared(1, 1, 1, 12, 1, [], mask_hash="a")
        yield HeldOut(0, 4.0, 3.0, 10, 10)
        yield Step(12, 12, 0.1, 6.0 if config.precision == "bf16" else 12.0, 0.0)
        yield HeldOut(12, 0.8, 3.0, 10, 10)
        yield SampleResult(names[0], seeds[0], 6, 0, 5, 30.0)

    def test_each_sample_with_each_seed_in_both(self, monkeypatch):
        monkeypatch.setattr(precision, "measure", self.fake)
        *phases, found = bench_precision("a model")
        assert len(phases) == len(found["runs"]) == 30
        assert all(isinstance(phase, Phase) for phase in phases)
        assert found["runs"][0] | {"sample": "", "precision": "", "seconds": 0} == {
            "sample": "",
            "seed": 0,
            "precision": "",
            "held_out": 6,
            "styled": 5,
            "loss": 0.8,
            "mask_hash": "a",
            "seconds": 0,
        }
        assert found["ratios"] == {"training_float32_vs_bf16": 2.0}

    def test_a_run_that_fails(self, monkeypatch):
        monkeypatch.setattr(precision, "measure", lambda *_: iter([Failed("no memory.")]))
        with pytest.raises(SftdemoError, match="the run on pirate failed: no memory"):
            list(bench_precision("a model"))

    def test_stopped_at_once_it_has_no_result(self, monkeypatch):
        monkeypatch.setattr(precision, "measure", self.fake)
        assert list(bench_precision("a model", stop=lambda: True)) == [{}]
        assert "Stopped before" in section({"precision": {}}, "precision")

    def test_stopped_later_it_judges_what_is_finished(self, monkeypatch):
        monkeypatch.setattr(precision, "measure", self.fake)
        asked = iter(range(100))
        *_, found = bench_precision("a model", stop=lambda: next(asked) == 13)
        assert {run["seed"] for run in found["runs"]} == {0}
        assert len(found["runs"]) == 10
