"""The folder that a run leaves: whole, with its events, or not at all."""

from __future__ import annotations

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import pytest
from crash import kill, refuse, with_fault, writes_of
from saved import load_saved

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Event, Failed, Finished, Model, Saved
from sftdemo.core.palette import LINES
from sftdemo.core.settings_file import parse_settings
from sftdemo.data.examples import parse_examples
from sftdemo.model.loading import load_tokenizer
from sftdemo.model.sources import find_local
from sftdemo.runs.ablation import ablate
from sftdemo.runs.card import LOSS_PICTURE, loss_svg
from sftdemo.runs.folder import ModelToSave, load_events, save_run
from sftdemo.runs.output import check_writable
from sftdemo.runs.revisit import read_run
from sftdemo.runs.run import run
from sftdemo.terminal.cli import main

DATA = parse_examples(
    json.dumps(
        [
            {"instruction": "Say hello", "output": "Hello world!"},
            {"instruction": "Count to 3", "output": "1 2 3"},
            {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
        ]
    )
)


@pytest.fixture(params=[run, ablate], ids=["run", "ablation"])
def work(request, gpt2_folder):
    config = RunConfig(str(gpt2_folder), steps=1, batch_size=2, max_length=128, max_new_tokens=2)
    return lambda folder, **options: request.param(config, DATA, folder, **options)


def until_saved(events) -> list[Event]:
    """The events of a run that is given up as soon as it is saved."""
    seen = []
    for event in events:
        seen.append(event)
        if isinstance(event, Saved):
            events.close()
    return seen


def test_the_loss_is_drawn(gpt2_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("sftdemo.runs.folder.loss_svg", loss_svg)
    config = RunConfig(str(gpt2_folder), steps=2, batch_size=2, max_length=128, max_new_tokens=2)
    assert isinstance([*run(config, DATA, tmp_path / "out")][-1], Finished)
    picture = (tmp_path / "out" / LOSS_PICTURE).read_text(encoding="utf-8")
    assert ElementTree.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"
    assert ">loss, nats a trained token<" in picture
    assert len(re.findall(f"<use [^>]*fill: {LINES[0]}", picture)) == 2  # a marker for each step
    assert f"]({LOSS_PICTURE})" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")


def test_the_events_are_there_as_soon_as_the_folder_is(work, tmp_path):
    seen = until_saved(work(tmp_path / "out"))
    *saved, last = load_events(tmp_path / "out")
    assert saved == seen
    assert isinstance(last, Finished)
    assert not last.stopped
    assert last.seconds > 0


def test_the_last_one_is_the_one_that_is_told(work, tmp_path):
    events = list(work(tmp_path / "out"))
    assert load_events(tmp_path / "out") == events
    assert [type(event) for event in events[-2:]] == [Saved, Finished]


def test_events_that_cannot_be_written_leave_the_folder_as_it_was(work, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    monkeypatch.setattr("sftdemo.runs.folder.EVENTS", "nowhere/events.jsonl")
    *events, last = work(tmp_path / "out")
    assert isinstance(last, Failed)
    assert "could not be saved" in last.message
    assert not any(isinstance(event, Saved | Finished) for event in events)
    assert [list(folder.iterdir()) for folder in tmp_path.iterdir()] == [[]]


@pytest.mark.parametrize(
    ("place", "name"),
    [("models--org--tiny/snapshots/0a1b", "org/tiny"), ("models--tiny/snapshots/0a1b", "tiny"), ("tiny", None)],
)
def test_the_settings_name_a_model_of_the_hub_without_its_place(tmp_path, gpt2_folder, place, name):
    folder = shutil.copytree(gpt2_folder, tmp_path / place)
    config = RunConfig(str(folder), steps=1, batch_size=2, max_length=128, max_new_tokens=2, anyway=True)
    assert isinstance(list(run(config, DATA, tmp_path / "out"))[-1], Finished)
    text = (tmp_path / "out" / "config.yaml").read_text(encoding="utf-8")
    assert RunConfig(**parse_settings(text, "config.yaml")) == replace(config, model=name or str(folder))
    assert (name is None) == (str(tmp_path) in text)
    assert "# the rows: examples.jsonl" in text


@pytest.mark.parametrize(
    ("place", "message"),
    [("here", "the folder that you are in"), ("loop", "leads back to itself"), ("x" * 300, "too long")],
)
def test_a_place_that_could_not_be_taken_at_the_end_is_refused_before_the_work(
    work, tmp_path, monkeypatch, place, message
):
    (tmp_path / "here").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    monkeypatch.chdir(tmp_path / "here")
    (event,) = work(tmp_path / place)
    assert message in event.message


def test_a_run_that_was_killed_while_it_took_its_place_is_there_at_the_next_start(tmp_path, gpt2_folder):
    """Between the two renames neither the old run nor the new one is in place."""
    config = RunConfig(str(gpt2_folder), steps=1, batch_size=2, max_length=128, max_new_tokens=2)
    list(run(config, DATA, tmp_path / "out"))
    left = tmp_path / ".out-0a1b2c3d"
    left.mkdir()
    (left / ".held").touch()
    (tmp_path / "out").rename(left / "whole")
    assert read_run(tmp_path / "out").config == config
    assert not left.exists()


@pytest.mark.parametrize("fault", [kill, refuse], ids=["killed", "refused"])
def test_a_fault_at_a_write_of_a_run_leaves_the_old_run_or_the_new_one(tmp_path, gpt2_folder, fault):
    config = RunConfig(str(gpt2_folder), steps=1, batch_size=2, max_length=128, max_new_tokens=2)
    list(run(config, DATA, tmp_path / "out"))
    old = read_run(tmp_path / "out").folder.joinpath("run.json").read_text()
    record = json.loads(old)
    model = load_saved(tmp_path / "out")
    trained = ModelToSave(model, load_tokenizer(find_local(str(gpt2_folder))), [0], "x", (0, 0))
    folder = tmp_path / "deep" / "out"

    def save():
        save_run(folder, record | {"new": True}, DATA, trained)

    writes = writes_of(save, tmp_path)
    for at in range(2, writes + 2, max(1, writes // 4)):
        shutil.rmtree(folder.parent, ignore_errors=True)
        shutil.copytree(tmp_path / "out", folder)
        with_fault(save, folder.parent, at, fault)
        check_writable(folder)
        assert load_saved(folder)
        known = json.loads((folder / "run.json").read_text())
        names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        assert names == {*known["files"]}
        assert list(folder.parent.iterdir()) == [folder]


class TestEarlierRun:
    WHEN = "2026-03-07T09:05:00+02:00"

    @pytest.fixture
    def earlier(self, tmp_path):
        """A folder with something like an earlier run."""
        folder = tmp_path / "outputs"
        folder.mkdir()
        record = {"sftdemo": "0.1.0", "model": {"name": "SmolLM2"}, "finished": self.WHEN}
        record["files"] = ["run.json", "adapter_model.safetensors"]
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "adapter_model.safetensors").write_text("weeks of work")
        return folder

    def test_it_is_refused_before_any_work_and_stays(self, work, earlier):
        (event,) = work(earlier)
        assert event == Failed(
            f"There is an earlier run in {earlier}: SmolLM2, finished 07 Mar 2026, 07:05 UTC. Save to another folder "
            "with --output, or replace the earlier run with --overwrite."
        )
        assert (earlier / "adapter_model.safetensors").read_text() == "weeks of work"

    @pytest.mark.parametrize("record", ["{", "[]", "null", "{}", '{"finished": 1, "model": {"name": "m"}}'])
    def test_one_whose_record_cannot_be_read(self, work, earlier, record):
        (earlier / "run.json").write_text(record)
        (event,) = work(earlier)
        assert event.message.startswith(f"There is an earlier run in {earlier}. Save to another folder")

    def test_it_is_replaced_where_that_is_wanted(self, work, earlier):
        assert isinstance(list(work(earlier, overwrite=True))[-1], Finished)
        assert json.loads((earlier / "run.json").read_text())["sftdemo"]
        assert not [file for file in earlier.rglob("*.safetensors") if file.read_bytes() == b"weeks of work"]

    def test_what_is_no_run_is_never_replaced(self, work, earlier):
        (earlier / "run.json").unlink()
        (event,) = work(earlier, overwrite=True)
        assert "holds files that are not an earlier run's" in event.message
        assert [file.name for file in earlier.iterdir()] == ["adapter_model.safetensors"]

    @pytest.mark.parametrize("name", ["thesis.txt", "deep/thesis.txt", "checkpoint/thesis.txt", ".hidden"])
    def test_what_someone_put_into_it_is_never_replaced(self, work, earlier, name):
        (earlier / name).parent.mkdir(exist_ok=True)
        (earlier / name).write_text("years of work")
        (event,) = work(earlier, overwrite=True)
        assert "which the run in it has not written" in event.message
        assert (earlier / name).read_text() == "years of work"

    @pytest.mark.parametrize("record", ["{", "[]", "{}", '{"name": "of another program"}', '{"sftdemo": "0.1.0"}'])
    def test_a_record_that_another_program_wrote_is_never_replaced(self, work, earlier, record):
        (earlier / "run.json").write_text(record)
        (event,) = work(earlier, overwrite=True)
        assert event.message.startswith(f"{earlier} is not replaced: ")
        assert (earlier / "adapter_model.safetensors").read_text() == "weeks of work"

    @pytest.mark.parametrize("command", ["train", "ablate"])
    def test_in_the_terminal(self, capsys, tmp_path, monkeypatch, gpt2_folder, command):
        monkeypatch.chdir(tmp_path)
        rows = [{"instruction": f"Say {word}", "output": word} for word in ("a", "b")]
        (tmp_path / "rows.json").write_text(json.dumps([*rows, rows[0] | {"instruction": "c", "held_out": True}]))
        words = [command, "rows.json", "--model", str(gpt2_folder), "--steps", "1", "--max-new-tokens", "2"]
        assert main(words) == 0
        capsys.readouterr()
        assert main(words) == 1
        out, err = capsys.readouterr()
        assert out == ""
        told = " ".join(err.split())
        assert re.fullmatch(r"sftdemo: There is an earlier run in outputs: .*, finished .* UTC\. .*--overwrite\.", told)
        assert main([*words, "--overwrite", "--json"]) == 0
        assert Model.__name__.lower() in {json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()}
