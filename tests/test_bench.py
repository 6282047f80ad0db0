"""The bench on a tiny model: what it finds must be there and add up; its times are nobody's business here."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from copy import deepcopy

import pytest
import torch
from tiny import tiny_llama, tokenizer_named

from sftdemo import training
from sftdemo.bench import bench
from sftdemo.bench.figures import spread
from sftdemo.bench.growth import GRID
from sftdemo.bench.recipes import Subject
from sftdemo.bench.report import plot, report, write_report
from sftdemo.bench.steps import bench_steps
from sftdemo.errors import ConfigError
from sftdemo.examples import parse_examples
from sftdemo.models import ModelSource, load_tokenizer
from sftdemo.training import _shared_logits

ROWS = "\n".join(
    json.dumps({"instruction": f"Say {word} twice", "output": f"{word} {word}"})
    for word in ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Two threads that wait for each other at each of a tiny model's operations take ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("model"), deepcopy(tokenizer_named("chatml"))
    tokenizer.pad_token = tokenizer.eos_token
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    source = ModelSource("tiny", folder, "made here")
    return source, load_tokenizer(source), parse_examples(ROWS)


def run(subject, *parts: str, **settings) -> dict:
    *phases, result = bench(*subject, parts, **settings)
    assert phases
    return json.loads(json.dumps(result))


class TestSteps:
    @pytest.fixture(scope="class")
    def result(self, subject):
        *_, result = bench_steps(Subject(*subject), repeats=2, templates=("instruction",))
        return json.loads(json.dumps(result))

    def test_ratios(self, result):
        medians = {(arm["group"], arm["arm"]): arm["seconds"]["median"] for arm in result["arms"]}
        for group in ("lora", "full"):
            best = min(medians[group, "trl_padded"], medians[group, "trl_joined"])
            assert result["ratios"][f"step_{group}_vs_trl"] == pytest.approx(best / medians[group, "ours"], rel=0.1)
            assert result["ratios"][f"step_{group}_vs_floor"] > 0
        assert {"memory_vs_trl", "vs_seed_recipe"} <= result["ratios"].keys()

    def test_the_arms_learn_the_same(self, result):
        for arms in result["differences"].values():
            assert arms["ours"]["losses_relative"] < 1e-3
            assert arms["ours"]["weights_absolute"] < 1e-2

    def test_losses_and_memory_of_each_arm(self, result):
        assert [arm["arm"] for arm in result["arms"][:3]] == ["trl_padded", "trl_joined", "ours"]
        for arm in result["arms"]:
            assert len(arm["losses"]) >= 5
            assert arm["memory_mb"] >= 0
            assert arm["seconds"]["least"] <= arm["seconds"]["median"] <= arm["seconds"]["most"]

    def test_the_profile_adds_up(self, result):
        for profile in result["profiles"].values():
            parts = sum(seconds for part, seconds in profile.items() if part != "step")
            assert parts == pytest.approx(profile["step"], rel=0.5)
            assert {"embed", "attention", "mlp", "head", "backward", "clip", "optimizer", "rest"} <= profile.keys()

    def test_the_floor_counts_multiply_adds(self, subject, result):
        lora, full = result["floors"]["lora"], result["floors"]["full"]
        assert lora["positions"] == full["positions"]
        assert lora["kept"] < lora["positions"]
        assert full["gflop"] >= lora["gflop"]


class TestEqualities:
    def test_are_met(self, subject):
        found = run(subject, "equalities", quick=True)["equalities"]
        assert found["equal"]
        assert found["isolation_nats"] == 0
        assert set(found["differences"]) == {"instruction_lora", "instruction_full", "chat_lora", "chat_full"}

    def test_a_wrong_loss_is_seen(self, subject, monkeypatch):
        def wrong(model, inputs):
            logits, targets = _shared_logits(model, inputs)
            return 3 * logits, targets

        monkeypatch.setattr(training, "_shared_logits", wrong)
        assert not run(subject, "equalities", quick=True)["equalities"]["equal"]


def test_answers(subject):
    found = run(subject, "answers", repeats=1)
    assert found["answers"]["tokens"]["ours"] > 0
    assert found["ratios"]["answers_vs_one_at_a_time"] > 0


def test_mask(subject):
    found = run((subject[0], subject[1], None), "mask", repeats=1, rows=40)
    assert found["mask"]["rows"] == 40
    assert found["ratios"]["mask_vs_tokenizers"] > 0


@pytest.mark.parametrize(
    ("parts", "settings", "says"),
    [
        (("steps", "speed"), {}, "'speed' is no part of the bench; choose of equalities, steps,"),
        (("mask",), {"rows": 7}, "at least 8 --rows"),
        (("mask",), {"repeats": 0}, "1 of --repeats"),
    ],
)
def test_refused(subject, parts, settings, says):
    with pytest.raises(ConfigError, match=says):
        run(subject, *parts, **settings)


def test_spread():
    assert spread([3, 1, 2]) == {"median": 2, "least": 1, "most": 3, "all": [3, 1, 2]}


class TestReport:
    @pytest.fixture
    def growth(self):
        point = {"tokens": 512, "seconds": spread([1.0, 2.0]), "memory_mb": 3.0}
        return [{"axis": axis, "value": value} | point for axis, value, _ in GRID]

    def test_everything_found_is_in_it(self, subject, growth, tmp_path):
        result = run((*subject[:2], None), "mask", "equalities", quick=True, repeats=1, rows=8) | {"growth": growth}
        text = report(result)
        for title in ("## Equal to TRL", "## The mask", "## How the cost of a step grows", "## Ratios"):
            assert title in text
        assert "mask_vs_tokenizers" in text
        write_report(result, tmp_path / "performance.md", "python -m sftdemo bench --only mask")
        written = (tmp_path / "performance.md").read_text(encoding="utf-8")
        assert "Made by `python -m sftdemo bench --only mask`" in written
        assert "![Seconds a step](performance.svg)" in written
        assert json.loads((tmp_path / "performance.json").read_text(encoding="utf-8")) == result
        assert sorted(file.name for file in tmp_path.iterdir()) == [
            "performance.json",
            "performance.md",
            "performance.svg",
        ]

    def test_the_plot_is_a_picture(self, growth, tmp_path):
        plot(growth, tmp_path / "plot.svg")
        assert ElementTree.parse(tmp_path / "plot.svg").getroot().tag.endswith("svg")
