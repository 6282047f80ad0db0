"""What a training needs is told before it begins, is about what it takes, and is refused where it cannot fit."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from tiny import tokenizer_named

from sftdemo.bench.memory import memory_growth
from sftdemo.bench.recipes import random_llama
from sftdemo.core import machine
from sftdemo.core.config import RunConfig
from sftdemo.core.events import Failed, Phase, Saved
from sftdemo.core.machine import free_memory
from sftdemo.data.examples import parse_examples
from sftdemo.data.row_file import RowFile
from sftdemo.mask.labels import MaskedExample
from sftdemo.model.sources import ModelSource
from sftdemo.runs import memory
from sftdemo.runs.memory import ModelShape, tell_memory, training_bytes
from sftdemo.runs.run import run
from sftdemo.train.loop import train

GB = 1_000_000_000
ROWS = [{"instruction": "Say hello", "output": "Hello!"}, {"instruction": "Count", "output": "1 2 3"}]


def rows_of(count: int, length: int, trained: int) -> list[MaskedExample]:
    ids = torch.randint(5, 900, (count, length), generator=torch.Generator().manual_seed(0)).tolist()
    return [
        MaskedExample(row, tuple(each), (-100,) * (length - trained) + tuple(each[length - trained :]), (), ())
        for row, each in enumerate(ids)
    ]


@pytest.fixture
def source(gpt2_folder):
    return ModelSource("tiny", gpt2_folder, "local folder")


@pytest.mark.parametrize("full", [False, pytest.param(True, marks=pytest.mark.thorough)])
def test_it_is_about_what_a_training_takes(tmp_path, full):
    model, rows = random_llama(1000, 256, 768, layers=8, heads=8, key_value_heads=4), rows_of(8, 400, 200)
    config = RunConfig(steps=1 + full, batch_size=8, full=full, max_length=512, precision="float32", device="cpu")
    shape = ModelShape(model.num_parameters(), 8, 256, 768, 128, 1000)
    tokenizer = tokenizer_named("gpt2")
    taken = 1e6 * memory_growth(lambda: list(train(model, tokenizer, rows, config, lambda: False, str(tmp_path))))
    told = training_bytes(config, shape, 8 * 400, 8 * 200) - memory._PROCESS - 4 * shape.weights
    assert 0.6 * told < taken < 1.15 * told


def test_a_shape_is_read_from_the_files(source, llama_folder):
    written = json.loads((llama_folder / "config.json").read_text())
    shape = ModelShape.of(ModelSource("tiny", llama_folder, "local folder"))
    assert shape is not None
    assert (shape.layers, shape.hidden) == (written["num_hidden_layers"], written["hidden_size"])
    assert shape.weights > written["vocab_size"] * written["hidden_size"]
    gpt2 = ModelShape.of(source)
    assert gpt2 is not None
    assert gpt2.intermediate == 4 * gpt2.hidden


def test_more_of_anything_needs_more():
    shape, config = ModelShape(10**8, 24, 800, 2000, 400, 32_000), RunConfig(precision="float32")
    usual = training_bytes(config, shape, 1000, 500)
    assert usual > 4 * 10**8
    assert training_bytes(config, shape, 2000, 500) > usual
    assert training_bytes(config, shape, 1000, 600) > usual
    assert training_bytes(replace(config, full=True), shape, 1000, 500) > usual + 7 * 10**8
    assert training_bytes(replace(config, lora_r=64), shape, 1000, 500) == usual + 48 * 24 * 4 * 4 * 14_000
    assert training_bytes(replace(config, precision="auto"), shape, 1000, 500) == usual + 2 * 10**8
    assert training_bytes(replace(config, set=("activation_checkpointing=true",)), shape, 1000, 500) < usual


def test_the_answers_count_where_there_is_room_for_their_copies(monkeypatch):
    shape, config = ModelShape(10**9, 24, 2000, 5000, 1000, 32_000), RunConfig(precision="float32", max_length=64)
    monkeypatch.setattr(ModelShape, "of", lambda source: shape)
    rows = rows_of(2, 20, 5)

    def needed(config: RunConfig, gigabytes: float) -> float:
        return memory.needed_bytes(config, cast("ModelSource", None), rows, "cpu", int(gigabytes * GB)) / GB

    assert needed(config, 12.2) < 5
    assert 8.3 < needed(config, 12.4) < 9  # 0.3, weights of 4 GB, their copies, for which twice the room is wanted
    assert needed(replace(config, full=True), 40) > 16  # the step takes more


def test_the_largest_batch_counts(source, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(memory, "training_bytes", lambda config, shape, *sizes: asked.append(sizes[:2]) or 1)
    mixed = [*rows_of(3, 100, 60), *rows_of(3, 20, 20)]
    config = RunConfig(batch_size=4)
    tell_memory(config, source, mixed, "cpu")
    tell_memory(replace(config, prompt_loss_weight=0.5), source, mixed, "cpu")
    for length in (64, 1024):
        tell_memory(replace(config, packing=True, max_length=length), source, mixed, "cpu")
    stored = RowFile(tmp_path / "rows.arrow")
    for row in mixed:
        stored.add(row.input_ids, row.labels, row.trained)
    tell_memory(config, source, stored, "cpu")
    assert asked == [(320, 200), (320, 320), (256, 240), (360, 240), (360, 240)]


class TestRun:
    @pytest.fixture
    def config(self, gpt2_folder):
        return RunConfig(str(gpt2_folder), steps=1, batch_size=2, max_length=64, max_new_tokens=2, device="cpu")

    def test_it_is_told_before_the_model_is_loaded(self, config, tmp_path):
        told = list(run(config, parse_examples(json.dumps(ROWS)), tmp_path / "out"))
        places = [place for place, event in enumerate(told) if isinstance(event, Phase) and event.name == "memory"]
        (place,) = places
        assert told[place].message.startswith("A training needs about 0.3 GB of memory; ")
        assert type(told[place + 1]).__name__ == "Model"

    def test_what_cannot_fit_is_refused_but_by_force(self, config, tmp_path, monkeypatch):
        monkeypatch.setattr(memory, "free_memory", lambda: 100_000_000)
        data = parse_examples(json.dumps(ROWS))
        (*_, failed) = run(config, data, tmp_path / "out")
        assert failed == Failed(
            "A training needs about 0.3 GB of memory, and 0.1 GB are free here; lower batch_size or max_length, or "
            "choose a smaller model. Or train anyway (--anyway)."
        )
        (*_, failed) = run(replace(config, full=True), data, tmp_path / "out")
        assert "train with LoRA, lower batch_size" in failed.message
        told = list(run(replace(config, anyway=True), data, tmp_path / "out"))
        assert any(isinstance(event, Saved) for event in told)

    def test_nothing_is_told_where_nothing_is_known(self, source, tmp_path):
        assert tell_memory(RunConfig(), source, rows_of(2, 20, 5), "mps") is None
        (tmp_path / "config.json").write_text('{"n_embd": 8, "vocab_size": "many"}')
        assert tell_memory(RunConfig(), ModelSource("other", tmp_path, ""), rows_of(2, 20, 5), "cpu") is None


@pytest.mark.parametrize(
    ("most", "expected"), [("max", 8 * GB), (f"{3 * GB}", 2.5 * GB), (f"{40 * GB}", 8 * GB), ("?", 8 * GB)]
)
def test_a_container_has_less(tmp_path, monkeypatch, most, expected):
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=8 * GB))
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    assert free_memory() == 8 * GB
    (tmp_path / "memory.max").write_text(f"{most}\n")
    (tmp_path / "memory.current").write_text(f"{GB}\n")
    (tmp_path / "memory.stat").write_text(f"anon 1\ninactive_file {GB // 2}\n")
    assert free_memory() == expected
