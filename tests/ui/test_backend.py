"""What the page's handlers share: models, from many threads at once, and runs by their ids."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from desk import TEXT, OnLentGpu
from tiny import tokenizer_named

from sftdemo.core.config import DEFAULT_MODEL, RunConfig
from sftdemo.core.errors import DataError, ModelError
from sftdemo.core.events import Failed, Finished, Isolation, Phase, Step
from sftdemo.data.examples import parse_examples
from sftdemo.model.sources import ModelSource
from sftdemo.runs.disk import note_begun
from sftdemo.runs.jobs import BusyError
from sftdemo.runs.run import run
from sftdemo.ui import models as models_module
from sftdemo.ui.backend import Backend
from sftdemo.ui.saved_runs import KEPT_RUNS
from sftdemo.ui.zero_gpu import gpu_work, on_zero_gpu

SCRIPT = """
import sys
from concurrent.futures import ThreadPoolExecutor
from sftdemo.ui.backend import Backend

backend = Backend()
with ThreadPoolExecutor(8) as pool:
    told = list(pool.map(lambda _: [phase.message for phase in backend.prepare(sys.argv[1])], range(8)))
print(len(told), len(backend.tokenizer(sys.argv[1])))
"""


def test_the_first_visitors_may_come_all_at_once(gpt2_folder, tmp_path):
    """In a fresh process, since importing is what they would collide in."""
    environment = os.environ | {"SFTDEMO_CACHE": str(tmp_path)}
    command = [sys.executable, "-c", SCRIPT, str(gpt2_folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("8 ")


class TestRuns:
    def saved(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        lines = [json.dumps(event.to_dict()) for event in (Phase("a", "b"), Finished(1, 1, 1.0, False))]
        (folder / "events.jsonl").write_text("\n".join(lines))
        return folder

    def test_a_saved_run_is_found_again(self, tmp_path):
        self.saved(tmp_path / "cache" / "runs" / ("0a" * 8))
        assert list(Backend().watch("0a" * 8)) == [[Phase("a", "b"), Finished(1, 1, 1.0, False)]]

    @pytest.mark.parametrize(
        "run_id",
        [
            "../../etc",
            "../elsewhere",
            "..",
            ".",
            "",
            None,
            "short",
            "0A" * 8,
            "0a" * 8 + "\n",
            "0a" * 8 + "/",
            "0b" * 8,
        ],
    )
    def test_other_ids_yield_nothing(self, tmp_path, run_id):
        self.saved(tmp_path / "cache" / "elsewhere")
        for name in ("0a" * 8, "0A" * 8, "short"):
            if not (tmp_path / "cache" / "runs" / name).exists():
                self.saved(tmp_path / "cache" / "runs" / name)
        backend = Backend()
        assert list(backend.watch(run_id)) == []
        backend.stop(run_id)

    def test_an_absolute_path_is_no_id(self, tmp_path):
        assert list(Backend().watch(str(self.saved(tmp_path / "elsewhere")))) == []

    def test_old_runs_make_room(self, tmp_path):
        backend = OnLentGpu()
        for number in range(KEPT_RUNS + 5):
            self.saved(tmp_path / "cache" / "runs" / f"{number:016x}")
        run_id = backend.start(RunConfig("no/such/folder"), parse_examples(TEXT))
        assert isinstance(list(backend.watch(run_id))[-1][-1], Failed)
        assert len(list((tmp_path / "cache" / "runs").iterdir())) == KEPT_RUNS - 1


class TestZeroGpu:
    def test_the_real_decorator_changes_nothing_elsewhere(self, gpt2_folder, tmp_path, monkeypatch):
        monkeypatch.setattr("sftdemo.runs.memory.free_memory", lambda: 8_000_000_000)  # which two runs would tell
        pytest.importorskip("spaces")
        assert not on_zero_gpu()
        config = RunConfig(str(gpt2_folder), steps=2, batch_size=2, max_new_tokens=4)
        data = parse_examples(TEXT)

        def told(events):
            timed = ("seconds", "remaining", "parts")
            each = [{k: v for k, v in event.to_dict().items() if k not in timed} for event in events]
            return [event for event in each if event.get("name") != "memory"]  # what is free now

        expected = told(run(config, data, tmp_path / "out"))
        assert expected[-1]["event"] == "finished"
        again = partial(run, config, data, tmp_path / "out", overwrite=True)
        assert told(gpu_work()(60, bool, again)) == expected

    def test_a_failure_is_an_event(self, tmp_path):
        pytest.importorskip("spaces")
        *_, last = gpu_work()(60, bool, run, RunConfig("no/such/folder"), parse_examples(TEXT), tmp_path / "out")
        assert isinstance(last, Failed)


class TestProof:
    def test_its_events_come_one_by_one_to_the_end(self, gpt2_folder):
        told = list(Backend().prove(RunConfig(str(gpt2_folder)), parse_examples(TEXT)))
        assert isinstance(told[-1], Finished), told[-1]
        assert [event.packing for event in told if isinstance(event, Isolation)] == ["bfd", "wrapped"]
        assert sum(isinstance(event, Finished) for event in told) == 1

    def test_it_waits_for_no_run_that_is_under_way(self, gpt2_folder):
        backend, config = Backend(), RunConfig(str(gpt2_folder), steps=1000, max_new_tokens=4)
        run_id = backend.start(config, parse_examples(TEXT))
        try:
            with pytest.raises(BusyError):
                next(backend.prove(config, parse_examples(TEXT)))
        finally:
            backend.stop(run_id)
        *_, events = backend.watch(run_id)
        assert isinstance(events[-1], Finished), events[-1]
        assert isinstance([*backend.prove(config, parse_examples(TEXT))][-1], Finished)

    def test_a_failure_is_its_last_event(self):
        *_, last = Backend().prove(RunConfig("no/such/folder"), parse_examples(TEXT))
        assert isinstance(last, Failed)


class TestTheEnd:
    def test_a_run_under_way_is_kept_as_stopped(self, gpt2_folder):
        backend, config = Backend(), RunConfig(str(gpt2_folder), steps=100_000, max_new_tokens=2)
        run_id = backend.start(config, parse_examples(TEXT))
        next(True for events in backend.watch(run_id) if any(isinstance(event, Step) for event in events))
        backend.close(120)
        *_, last = next(iter(Backend().watch(run_id)))
        assert (last.stopped, last.steps > 0) == (True, True)
        assert backend.checkpoint(run_id) == last.steps

    def test_all_that_a_run_left_goes_with_it(self, tmp_path, gpt2_folder):
        backend = OnLentGpu()
        run_id = backend.start(RunConfig(str(gpt2_folder), steps=1, max_new_tokens=2), parse_examples(TEXT))
        list(backend.watch(run_id))
        archive = backend.archive(backend.folder(run_id, None))
        backend.downloads.make(str(archive))
        assert archive.is_file()
        backend.delete(run_id)
        left = [path for path in tmp_path.rglob("*") if run_id in str(path)]
        assert left == []
        with pytest.raises(DataError, match="not offered any more: its run was deleted"):
            backend.downloads.make(str(archive))
        assert not archive.exists()

    def test_the_newest_stay_whatever_the_clock_says(self, tmp_path, monkeypatch):
        backend, runs = OnLentGpu(), tmp_path / "cache" / "runs"
        for number in range(KEPT_RUNS + 2):
            (runs / f"{number:032x}").mkdir(parents=True)
            note_begun(f"{number:032x}")
            os.utime(runs / f"{number:032x}", (1e9 - number,) * 2)
        assert backend.tidy()
        assert sorted(int(path.name, 16) for path in runs.iterdir()) == list(range(2, KEPT_RUNS + 2))

    def test_a_run_expires_and_no_key_can_be_guessed(self, tmp_path, monkeypatch):
        monkeypatch.setenv("SFTDEMO_KEEP_DAYS", "1")
        backend, runs = OnLentGpu(), tmp_path / "cache" / "runs"
        for name, age in (("a" * 32, 90_000), ("b" * 32, 80_000)):
            (runs / name).mkdir(parents=True)
            os.utime(runs / name, (time.time() - age,) * 2)
        backend.tidy()
        assert [path.name[:1] for path in runs.iterdir()] == ["b"]
        keys = {backend.start(RunConfig("no/such/folder"), parse_examples(TEXT)) for _ in range(3)}
        assert {len(key) for key in keys} == {32}
        assert len(keys) == 3


class TestHubModel:
    """Of a model on the Hub the mask needs the tokenizer, and a training the weights."""

    NAME = "someone/something"

    @pytest.fixture
    def fetched(self, monkeypatch, gpt2_folder) -> list[bool]:
        """For each fetch, whether it was for the weights. The cache has the tokenizer from the first on."""
        jobs: list[bool] = []

        class Fetch:
            done = True
            watched_to_the_end = False
            ending = Finished(0, 0, 0.0, False)

            def __init__(self, work):
                jobs.append(work.keywords["weights"])

            def watch(self):
                yield [Phase("model", "Downloading")]
                self.watched_to_the_end = True
                yield [Phase("model", "Downloading"), self.ending]

        monkeypatch.setattr(models_module, "Job", Fetch)
        found = ModelSource(self.NAME, gpt2_folder, "tokenizer", hub_id=self.NAME)
        monkeypatch.setattr(models_module, "find_tokenizer", lambda name: found if jobs else None)
        return jobs

    def test_the_tokenizer_first_and_the_weights_when_they_are_asked_for(self, fetched):
        backend = Backend()
        assert backend.source(self.NAME) is None
        told = [phase.message for phase in backend.prepare(self.NAME)]
        assert told == [f"Looking for {self.NAME}", "Downloading", "Loading the tokenizer"]
        assert backend.source(self.NAME)
        assert list(backend.prepare(self.NAME))
        assert fetched == [False]
        assert [phase.message for phase in backend.fetch_weights(self.NAME)] == ["Downloading"]
        assert fetched == [False, True]
        assert backend.source(self.NAME), "who waits for the weights goes on seeing masks"

    def test_a_tokenizer_in_the_cache_is_enough_without_the_hub(self, fetched, monkeypatch):
        monkeypatch.setattr(models_module.Job, "ending", Failed("the Hub did not answer."))
        backend = Backend()
        assert list(backend.prepare(self.NAME))
        with pytest.raises(ModelError, match="did not answer"):
            list(backend.fetch_weights(self.NAME))

    def test_a_conversion_goes_on_while_its_tokenizer_is_used(self, fetched, monkeypatch, gpt2_folder):
        found = ModelSource(DEFAULT_MODEL, gpt2_folder, "its weights follow")
        monkeypatch.setattr(models_module, "find_local", lambda name: None)
        monkeypatch.setattr(models_module, "find_converted_tokenizer", lambda name: found if fetched else None)
        monkeypatch.setattr(models_module.Job, "done", False)
        monkeypatch.setattr(models_module.Job, "ending", Failed("the disk is full."))
        backend = Backend()
        assert "Downloading" in [phase.message for phase in backend.prepare(DEFAULT_MODEL)]
        assert backend.source(DEFAULT_MODEL) is not None
        (job,) = backend._fetches.values()
        assert not job.watched_to_the_end
        with pytest.raises(ModelError, match="the disk is full"):
            list(backend.fetch_weights(DEFAULT_MODEL))
        assert fetched == [True], "one job for both"

    def test_what_is_here_is_not_fetched(self, fetched, gpt2_folder):
        assert list(Backend().fetch_weights(str(gpt2_folder))) == []
        assert fetched == []


def test_a_model_folder_that_is_written_anew_has_its_new_tokenizer(tmp_path):
    """The page's mask and the training read the same files."""
    backend, folder = Backend(), tmp_path / "model"
    tokenizer_named("gpt2").save_pretrained(folder)
    first = backend.tokenizer(str(folder))
    assert backend.tokenizer(str(folder)) is first
    tokenizer_named("chatml").save_pretrained(folder)
    assert backend.tokenizer(str(folder)).eos_token == "<|im_end|>" != first.eos_token
