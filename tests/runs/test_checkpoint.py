"""A run that was stopped or killed goes on from its checkpoint, and comes to what it would have come to."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_gpt2, tokenizer_named

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import TrainingError
from sftdemo.core.events import Checkpoint, Comparison, Failed, Finished, Phase, Prepared, Saved, Step
from sftdemo.core.sealed import SEAL, seal
from sftdemo.data import examples
from sftdemo.data.examples import Origin, parse_examples
from sftdemo.runs.ablation import ablate
from sftdemo.runs.checkpoint import read_begun
from sftdemo.runs.folder import load_events
from sftdemo.runs.jobs import Job
from sftdemo.runs.labels import read_label, write_label
from sftdemo.runs.run import run
from sftdemo.study.cells import study

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
    {"instruction": "No answer"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Name a colour", "output": "Blue, as the sea is."},
    {"prompt": "Q: a\nA:", "completion": " b", "mask": {"text": "Q: a\nA: b", "trained": [[7, 9]], "eos": True}},
    {"instruction": "Say two words", "output": "two words"},
]
SETTINGS = {"steps": 8, "batch_size": 2, "max_length": 64, "max_new_tokens": 6, "learning_rate": 1e-2}


def data():
    return parse_examples(json.dumps(ROWS))


def of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def weights_of(folder) -> dict[str, torch.Tensor]:
    (file,) = Path(folder).glob("*model.safetensors")
    return load_file(file)


def assert_same_run(found, wanted, events, whole) -> None:
    """The same weights, losses, answers and counts, to 1e-6."""
    ours, theirs = weights_of(found), weights_of(wanted)
    assert ours.keys() == theirs.keys()
    for name, weight in theirs.items():
        torch.testing.assert_close(ours[name], weight, rtol=0, atol=1e-6)
    pairs = zip(of(Step, events), of(Step, whole), strict=True)
    for our, their in pairs:
        assert (our.step, our.total) == (their.step, their.total)
        assert our.loss == pytest.approx(their.loss, abs=1e-6)
    assert [of(kind, events) for kind in (Comparison, Prepared)] == [of(kind, whole) for kind in (Comparison, Prepared)]
    seconds = [event.seconds for event in of(Step, events)]
    assert seconds == sorted(seconds)
    records = [json.loads((folder / "run.json").read_text()) for folder in (found, wanted)]
    for record in records:
        del record["finished"]
        record["config"].pop("save_every")
        record["command"] = ""
        record["losses"] = pytest.approx(record["losses"], abs=1e-6)
        record["loss"] = pytest.approx(record["loss"], abs=1e-6)
    assert records[0] == json.loads(json.dumps(records[1], default=lambda near: near.expected))


@pytest.fixture(scope="module")
def shaky_folder(tmp_path_factory) -> Path:
    """A model with dropout, which draws random numbers at each step."""
    tokenizer, folder = tokenizer_named("gpt2"), tmp_path_factory.mktemp("models") / "shaky"
    model = tiny_gpt2(tokenizer)
    model.config.resid_pdrop = model.config.embd_pdrop = 0.2
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def config(shaky_folder) -> RunConfig:
    return RunConfig(str(shaky_folder), **SETTINGS, save_every="2")


def broken(config, folder, at: int, rows=None) -> tuple[list, Path]:
    """Run to the end, and take the folder as it was after step `at`, as a kill would have left it."""
    events, copy = [], folder / f"at-{at}"
    for event in run(config, rows or data(), folder / "whole"):
        events.append(event)
        if isinstance(event, Step) and event.step == at:
            shutil.copytree(folder / "whole", copy)
    assert isinstance(events[-1], Finished), events[-1]
    return events, copy


def resumed(folder, **changed) -> list:
    begun = read_begun(folder)
    return list(run(replace(begun.config, **changed), begun.data, folder, resume=begun))


WAYS = {
    "LoRA": ({}, 5),
    "LoRA, packed": ({"packing": True, "max_length": 32}, 5),
    "full, at an epoch's end": ({"full": True, "learning_rate": 1e-3, "batch_size": 3}, 5),
    "full, packed": ({"full": True, "learning_rate": 1e-3, "packing": True, "max_length": 32}, 7),
    "merged, with rows held out by the seed": ({"merge": True, "hold_out": 2, "save_every": "3"}, 7),
}


REPEATED = "LoRA"  # which `test_killed_and_resumed` has as well


@pytest.mark.parametrize(
    "way", [pytest.param(way, marks=[pytest.mark.thorough] if way == REPEATED else []) for way in WAYS]
)
def test_it_comes_to_the_same(config, tmp_path, way):
    settings, at = WAYS[way]
    whole, cut = broken(replace(config, **settings), tmp_path, at)
    events = resumed(cut)
    assert isinstance(events[-1], Finished), events[-1]
    assert_same_run(cut, tmp_path / "whole", events, whole)
    assert of(Step, events)[:4] == of(Step, whole)[:4]  # those before the checkpoint, with their seconds
    assert load_events(cut) == events
    assert not (cut / "checkpoint").exists()
    assert "Going on after step " in "".join(event.message for event in of(Phase, events))


def test_a_saved_adapter_that_was_trained_on(config, tmp_path):
    list(run(replace(config, steps=2, save_every=None, lora_r=4), data(), tmp_path / "first"))
    whole, cut = broken(replace(config, model=str(tmp_path / "first")), tmp_path, 5)
    assert_same_run(cut, tmp_path / "whole", resumed(cut), whole)


def killed(config, output, stop):
    for event in run(config, data(), output):
        yield event
        if isinstance(event, Step) and event.step == 5:
            os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_killed_and_resumed(config, tmp_path):
    *_, told = Job(killed, config, tmp_path / "cut").watch(0.01)
    assert "was ended by SIGKILL" in told[-1].message
    assert [path.name for path in (tmp_path / "cut").iterdir()] == ["checkpoint"]
    whole = list(run(replace(config, save_every=None), data(), tmp_path / "whole"))
    events = resumed(tmp_path / "cut")
    assert [event.step for event in of(Checkpoint, events)] == [6]
    assert_same_run(tmp_path / "cut", tmp_path / "whole", events, whole)


@pytest.fixture(scope="module")
def cut(config, tmp_path_factory) -> Path:
    """What a kill after step 5 leaves; copy it before you change it."""
    return broken(config, tmp_path_factory.mktemp("cut"), 5)[1]


@pytest.fixture
def copy(cut, tmp_path) -> Path:
    return Path(shutil.copytree(cut, tmp_path / "cut"))


class TestWhatIsKept:
    def test_the_last_checkpoint_alone_and_no_pickled_objects(self, cut):
        (step, rows) = sorted((cut / "checkpoint").iterdir(), key=lambda path: path.is_file())
        assert (step.name, rows.suffix) == ("step-4", ".jsonl")
        assert {path.name for path in step.iterdir()} == {
            *(SEAL, "README.md", "adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "rng_state.pth"),
            *("run.json", "scheduler.pt", "trainer_state.json"),
        }
        for name in ("optimizer.pt", "scheduler.pt"):
            torch.load(step / name, weights_only=True)

    def test_without_save_every_there_is_none(self, config, tmp_path):
        events = list(run(replace(config, save_every=None, steps=3), data(), tmp_path / "out"))
        assert not of(Checkpoint, events)
        assert not (tmp_path / "out" / "checkpoint").exists()

    def test_minutes(self, config, tmp_path):
        events = list(run(replace(config, save_every="0.00001m", steps=3), data(), tmp_path / "out"))
        assert [event.step for event in of(Checkpoint, events)] == [1, 2]  # not the last, after which the run is saved

    def test_a_half_written_one_is_not_taken(self, copy):
        half = copy / "checkpoint" / ".partial" / "checkpoint-6"
        half.mkdir(parents=True)
        (half / "trainer_state.json").write_text("{")
        assert read_begun(copy).step == 4
        assert isinstance(resumed(copy)[-1], Finished)

    def test_rows_from_the_hub_keep_their_commit(self, config, tmp_path):
        origin = Origin("hub:a/b@c0ffee", "c0ffee", 7, {"prompt": "q"})
        _, cut = broken(replace(config, steps=3), tmp_path, 3, replace(data(), origin=origin))
        assert read_begun(cut).data.origin == origin
        resumed(cut)
        record = json.loads((cut / "run.json").read_text())
        assert record["data"]["commit"] == "c0ffee"
        assert "hub:a/b@c0ffee --limit 7 --columns prompt=q" in record["command"]

    def test_refused_rows_are_told_again(self, cut):
        assert read_begun(cut).data.problems == data().problems

    def test_rows_that_stay_on_the_disk(self, copy, monkeypatch):
        monkeypatch.setattr(examples, "MAX_BYTES", 40)
        begun = read_begun(copy)
        assert isinstance(begun.data.train, examples.StreamedExamples)
        events = list(run(begun.config, begun.data, copy, resume=begun))
        assert isinstance(events[-1], Finished), events[-1]
        assert len((copy / "examples.jsonl").read_text().splitlines()) == 6


class TestStop:
    def stopped(self, config, folder, after: int) -> list:
        seen = []
        events = []
        for event in run(config, data(), folder, stop=lambda: len(seen) >= after, overwrite=True):
            events.append(event)
            if isinstance(event, Step):
                seen.append(event)
        return events

    def test_what_was_stopped_is_saved_and_goes_on(self, config, tmp_path):
        events = self.stopped(replace(config, save_every="100"), tmp_path / "out", 3)
        assert of(Saved, events)
        assert events[-1].stopped
        (written,) = of(Checkpoint, events)
        assert written.step == events[-1].steps < 8
        assert read_begun(tmp_path / "out").step == written.step
        (failed,) = run(config, data(), tmp_path / "out")
        assert "that was not finished. Go on with it with --resume" in failed.message
        assert (tmp_path / "out" / "adapter_model.safetensors").exists()
        whole = list(run(replace(config, save_every=None), data(), tmp_path / "whole"))
        write_label(tmp_path / "out", "mine", "")
        again = resumed(tmp_path / "out")
        assert_same_run(tmp_path / "out", tmp_path / "whole", again, whole)
        assert read_label(tmp_path / "out").name == "mine"

    def test_resuming_can_be_stopped_before_its_first_step(self, copy):
        begun = read_begun(copy)
        events = list(run(begun.config, begun.data, copy, stop=lambda: True, resume=begun))
        assert events[-1].stopped
        assert read_begun(copy).step == 4

    def test_a_stopped_run_without_a_checkpoint_says_so(self, config, tmp_path):
        self.stopped(replace(config, save_every=None), tmp_path / "out", 2)
        with pytest.raises(TrainingError, match=r"was stopped after step \d of 8 and has no checkpoint.*--model"):
            read_begun(tmp_path / "out")

    def test_another_runs_checkpoint_does_not_stay(self, config, copy):
        self.stopped(replace(config, save_every=None), copy, 1)
        assert (copy / "run.json").exists()
        assert not (copy / "checkpoint").exists()


class TestRefusal:
    def test_a_finished_run(self, config, tmp_path):
        list(run(replace(config, steps=1), data(), tmp_path / "out"))
        with pytest.raises(TrainingError, match=r"is finished\. Train on from what it has learned with --model"):
            read_begun(tmp_path / "out")

    def test_no_run(self, tmp_path):
        with pytest.raises(TrainingError, match="there is no run to go on with in"):
            read_begun(tmp_path)

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"steps": 9}, "steps is 9, and the run in"),
            ({"learning_rate": 0.5, "seed": 3}, "learning_rate is 0.5, and the run in"),
            ({"prompts": ("Why?",)}, "prompts is ['Why?'], and the run in"),
        ],
    )
    def test_other_settings(self, cut, changed, says):
        (failed,) = resumed(cut, **changed)
        assert failed.message.startswith(says)
        assert failed.message.endswith("Leave it out to go on, or begin anew in another folder.")

    @pytest.mark.parametrize(
        ("rows", "where"),
        [
            ([*ROWS[:3], ROWS[3] | {"output": "one two three"}, *ROWS[4:]], "Row 3 "),
            (ROWS[:6], "Row 6 "),
            ([*ROWS, ROWS[0]], "Row 7 "),
            ([ROWS[0], ROWS[1] | {"output": "Paris!"}, *ROWS[2:]], "Row 1 "),
        ],
    )
    def test_other_rows(self, cut, rows, where):
        begun = read_begun(cut)
        (failed,) = run(begun.config, parse_examples(json.dumps(rows)), cut, resume=begun)
        assert failed.message.startswith(f"{where}is not as it was when the run in {cut} was begun.")

    def test_the_same_rows_from_elsewhere_and_settings_that_change_no_result(self, copy):
        begun = read_begun(copy)
        config = replace(begun.config, device="cpu", save_every="5m")
        assert isinstance(list(run(config, data(), copy, resume=begun))[-1], Finished)

    def test_another_folder(self, cut, tmp_path):
        begun = read_begun(cut)
        (failed,) = run(begun.config, begun.data, tmp_path / "other", resume=begun)
        assert "goes on in its own folder, and" in failed.message
        assert not (tmp_path / "other").exists()

    def test_another_tokenizer(self, cut, config, tmp_path):
        """The mask is hashed again: what would be trained is not what was."""
        begun = replace(read_begun(cut), mask_hash="0" * 64)
        *_, failed = run(begun.config, begun.data, cut, resume=begun)
        assert failed.message.startswith("The mask of the rows is another (sha256 ")

    def test_another_model_of_that_name(self, cut):
        begun = replace(read_begun(cut), weights="0" * 64)
        *_, failed = run(begun.config, begun.data, cut, resume=begun)
        assert "has other weights (sha256 " in failed.message

    def test_an_unfinished_run_is_not_overwritten_unasked(self, config, copy):
        (failed,) = run(config, data(), copy)
        assert f"there is a run in {copy} that was not finished. Go on with it with --resume {copy}".lower() in (
            failed.message.lower()
        )
        assert isinstance(list(run(replace(config, steps=1), data(), copy, overwrite=True))[-1], Finished)
        assert not (copy / "checkpoint").exists()

    @pytest.mark.parametrize(
        "name",
        ["optimizer.pt", "rng_state.pth", "run.json", "trainer_state.json", "adapter_model.safetensors", "rows-*"],
    )
    def test_a_checkpoint_with_a_file_missing_or_changed(self, copy, name):
        """As by hand, by a disk, or with the file of another checkpoint, of which the run would come to another end."""
        (file,) = (copy / "checkpoint").rglob(name)
        whole = file.read_bytes()
        middle = len(whole) // 2
        for content in (None, b"", b"[]", whole[:middle], whole[:middle] + b"7" + whole[middle + 1 :]):
            file.unlink()
            if content is not None:
                file.write_bytes(content)
            with pytest.raises(TrainingError, match=r"cannot be read: \S+ is missing, or is not as it was written\. P"):
                read_begun(copy)
            file.write_bytes(whole)
        assert read_begun(copy).step == 4

    @pytest.mark.skipif(sys.platform == "win32", reason="there are no named pipes among the files")
    def test_a_checkpoint_with_a_pipe_in_place_of_a_file(self, copy):
        for name in ("rows-*", "run.json", SEAL):
            (file,) = (copy / "checkpoint").rglob(name)
            file.unlink()
            os.mkfifo(file)
            with pytest.raises(TrainingError, match=f"cannot be read: {file.name} is missing"):
                read_begun(copy)

    @pytest.mark.parametrize("name", ["optimizer.pt", "rng_state.pth", "adapter_model.safetensors"])
    def test_a_strangers_checkpoint_that_is_sealed_and_damaged(self, copy, name):
        (copy / "checkpoint" / "step-4" / name).write_bytes(b"nonsense")
        seal(copy / "checkpoint" / "step-4")
        *_, failed = resumed(copy)
        assert isinstance(failed, Failed)
        assert "step-4 cannot be read: " in failed.message

    def test_no_code_of_a_strangers_checkpoint_runs(self, copy, tmp_path):
        class Evil:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "ran",))

        torch.save({"state": Evil()}, copy / "checkpoint" / "step-4" / "optimizer.pt")
        seal(copy / "checkpoint" / "step-4")
        *_, failed = resumed(copy)
        assert "step-4 cannot be read: " in failed.message
        assert not (tmp_path / "ran").exists()

    def test_an_ablation_and_a_study_write_none(self, config, tmp_path):
        for work in (ablate(config, data(), tmp_path / "a"), study(config, data(), tmp_path / "b")):
            (failed,) = work
            assert failed.message.startswith("save_every is '2', and a")
            assert "writes no checkpoints; leave it out" in failed.message


class TestFullDisk:
    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("[inline_container.cc:1]")])
    def test_the_run_goes_on_and_says_so_once(self, config, tmp_path, monkeypatch, error):
        write = torch.save

        def save(state, path, *args):
            if "checkpoint-2" not in str(path):
                raise error
            write(state, path, *args)

        monkeypatch.setattr(torch, "save", save)
        whole, cut = broken(config, tmp_path, 7)
        assert isinstance(whole[-1], Finished)
        first, second = of(Checkpoint, whole)
        assert (first.step, first.problem, second.step) == (2, "", 4)
        assert "No space left on device" in second.problem or "the disk may be full" in second.problem
        assert read_begun(cut).step == 2  # the last one that is whole
        assert not (cut / "checkpoint" / ".partial").exists()

    def test_another_error_is_not_hidden(self, config, tmp_path, monkeypatch):
        def save(*args):
            raise RuntimeError("a fault of the program")

        monkeypatch.setattr(torch, "save", save)
        with pytest.raises(RuntimeError, match="a fault of the program"):
            list(run(config, data(), tmp_path / "out"))
