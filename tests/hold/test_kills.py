"""A training that is killed at any time leaves the newest complete run, and at the next start nothing else."""

from __future__ import annotations

import json
import multiprocessing
import random
import tempfile
import time
from pathlib import Path

import pytest
from saved import load_saved

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Finished
from sftdemo.core.files import recover
from sftdemo.core.held import PREFIX, sweep
from sftdemo.data.examples import parse_examples
from sftdemo.runs.checkpoint import begun_runs
from sftdemo.runs.folder import load_events
from sftdemo.runs.run import run

ROWS = [{"instruction": f"Say {word}", "output": word} for word in ("one", "two", "three")]
KILLS = 25


def train(folder: Path, model: str, seed: int, temporary: str) -> None:
    tempfile.tempdir = temporary
    config = RunConfig(model, steps=6, batch_size=2, max_length=64, max_new_tokens=2, seed=seed, save_every="1")
    for _ in run(config, parse_examples(json.dumps(ROWS)), folder, overwrite=True):
        pass


@pytest.mark.hold
def test_25_kills(tmp_path, gpt2_folder):
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sftdemo.runs.preload"])
    folder, temporary = tmp_path / "runs" / "out", tmp_path / "tmp"
    temporary.mkdir()
    whole, last, took = 0, -1, 0.0
    drawn = random.Random(7)
    for seed in range(-1, KILLS):
        process = context.Process(target=train, args=(folder, str(gpt2_folder), seed + 1, str(temporary)))
        begin = time.monotonic()
        process.start()
        if seed < 0:
            process.join()
            took = time.monotonic() - begin
        else:
            process.join(drawn.uniform(0.3, 1.1) * took)
            process.kill()
            process.join()
        recover(folder)
        sweep(temporary, PREFIX)
        begun, problems = begun_runs(folder.parent)
        assert problems == []
        assert [path.name for path in folder.parent.iterdir()] == ["out"]
        assert list(temporary.iterdir()) == []
        if begun:
            continue
        record = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        assert load_saved(folder)
        assert isinstance(load_events(folder)[-1], Finished)
        assert record["config"]["seed"] >= last
        whole, last = whole + (record["config"]["seed"] == seed + 1), record["config"]["seed"]
    assert whole > 0
