"""Training with several processes (torchrun starts two on this machine's CPU, which speak through gloo), and on rows
that stay on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file

from sftdemo.core import distributed
from sftdemo.core.config import RunConfig
from sftdemo.core.errors import DataError
from sftdemo.core.events import Failed
from sftdemo.data import examples
from sftdemo.data.examples import StreamedExamples, open_examples, read_examples
from sftdemo.data.row_file import RowFile, StoredRow
from sftdemo.runs.run import run

ROOT = Path(__file__).parents[2]

# float32 with Adam, which divides a gradient by its own size: a small learning rate, so that what it makes of the
# rounding of gradients that are nearly zero stays below the tolerance
SETTINGS = ["--device=cpu", "--learning-rate=1e-4", "--max-new-tokens=4", "--max-length=96", "--json"]


@pytest.fixture
def data(tmp_path) -> Path:
    """11 rows of several lengths, and one held out."""
    rows = [
        {"instruction": f"Say {'word ' * (i % 5)}{i}", "output": f"{'answer ' * (i % 4)}{i * 7}"} for i in range(11)
    ]
    rows.append({"instruction": "Say hi", "output": "hi", "held_out": True})
    file = tmp_path / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def launched(*words: str, count: int = 2) -> subprocess.CompletedProcess:
    """What `torchrun` does with a command line, in so many processes."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(count), "--standalone", *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)


def events_of(result: subprocess.CompletedProcess) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def weights_of(folder: Path) -> dict:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


# The last batch of an epoch has 3 rows of 4, 1 of 2, 11 of 24: some processes get fewer rows than others, or none.
WAYS = {
    "lora": {"batch_size": 4, "epochs": 2},
    "full": {"batch_size": 2, "epochs": 1, "full": True},
    "packed": {"batch_size": 2, "epochs": 2, "packing": True},
    "weighted": {"batch_size": 4, "epochs": 2, "prompt_loss_weight": 0.25},
    "one batch": {"batch_size": 24, "steps": 3, "full": True, "packing": True},
}


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_learn_what_one_learns(llama_folder, data, tmp_path, way):
    settings = {"learning_rate": 1e-4, "max_new_tokens": 4, "max_length": 96, "device": "cpu"} | WAYS[way]
    config = RunConfig(str(llama_folder), **settings)
    alone = [event.to_dict() for event in run(config, read_examples(data), tmp_path / "one")]
    words = [
        f"--{name.replace('_', '-')}" + ("" if value is True else f"={value}") for name, value in WAYS[way].items()
    ]
    result = launched(
        *["-m", "sftdemo", "train", str(data), f"--model={llama_folder}", f"--output={tmp_path / 'two'}"],
        *[*SETTINGS, *words],
    )
    assert result.returncode == 0, result.stderr
    together = events_of(result)
    assert [event["event"] for event in together] == [event["event"] for event in alone]
    losses = [[event["loss"] for event in events if event["event"] == "step"] for events in (together, alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    before, found, expected = weights_of(llama_folder), weights_of(tmp_path / "two"), weights_of(tmp_path / "one")
    assert found.keys() == expected.keys()
    assert max((found[name] - expected[name]).abs().max().item() for name in expected) <= 1e-6
    moved = [(found[name] - before.get(name, 0)).abs().max().item() for name in found if "lora_A" not in name]
    assert max(moved) > 5e-5  # a step of Adam's moves a weight by the learning rate
    assert sorted(file.name for file in tmp_path.glob("*")) == ["data.jsonl", "one", "two"]


def test_a_batch_that_cannot_be_shared(gpt2_folder, data, tmp_path):
    words = [f"--model={gpt2_folder}", f"--output={tmp_path / 'out'}", "--batch-size=3"]
    result = launched("-m", "sftdemo", "train", str(data), *words, *SETTINGS)
    assert result.returncode != 0
    (event,) = events_of(result)
    assert event["message"] == "Batch_size is 3, which 2 processes cannot share evenly; choose a multiple of 2."
    assert f"{ROOT / 'sftdemo'}{os.sep}" not in result.stderr  # torchrun prints a traceback, but none of ours
    assert not (tmp_path / "out").exists()


def test_data_that_cannot_be_read(gpt2_folder, tmp_path):
    result = launched("-m", "sftdemo", "train", str(tmp_path / "none.jsonl"), f"--model={gpt2_folder}", *SETTINGS)
    assert result.returncode != 0
    assert result.stdout == ""
    assert [line[:8] for line in result.stderr.splitlines() if "none.jsonl cannot be read" in line] == ["sftdemo:"]


SCRIPT = """
import json, os, sys
from sftdemo.core import distributed
from sftdemo.data import records
from sftdemo.core.config import RunConfig
from sftdemo.core.errors import DataError
from sftdemo.core.events import Failed
from sftdemo.data.examples import StreamedExamples, open_examples, read_examples
from sftdemo.runs.run import run
from sftdemo.data.row_file import RowFile, StoredRow
from sftdemo.train import trainer

model, data, output = sys.argv[1:]
second, asked = os.environ["RANK"] == "1", []
{patch}
with distributed.together():
    config = RunConfig(model, steps=6, batch_size=2, device="cpu", max_new_tokens=4)
    for event in run(config, read_examples(data), output, stop=lambda: {stop}):
        print(json.dumps(event.to_dict()), flush=True)
"""


def scripted(tmp_path, model, data, stop="False", patch="") -> subprocess.CompletedProcess:
    (tmp_path / "script.py").write_text(SCRIPT.format(stop=stop, patch=patch))
    return launched(str(tmp_path / "script.py"), str(model), str(data), str(tmp_path / "out"))


def test_one_that_stops_stops_all_after_the_same_step(gpt2_folder, data, tmp_path):
    result = scripted(tmp_path, gpt2_folder, data, stop="second and (asked.append(1) or len(asked) > 3)")
    assert result.returncode == 0, result.stderr
    events = events_of(result)
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3]
    assert (events[-1]["event"], events[-1]["steps"], events[-1]["stopped"]) == ("finished", 3, True)
    assert json.loads((tmp_path / "out" / "run.json").read_text())["steps"] == 3


OUT_OF_MEMORY = """
compute = trainer.MaskedTrainer.compute_loss
def fails(self, *args, **kwargs):
    if second and self.state.global_step == 2:
        raise MemoryError
    return compute(self, *args, **kwargs)
trainer.MaskedTrainer.compute_loss = fails
"""


def test_an_error_in_one_ends_all_with_one_message(gpt2_folder, data, tmp_path):
    result = scripted(tmp_path, gpt2_folder, data, patch=OUT_OF_MEMORY)
    assert result.returncode != 0
    events = events_of(result)
    assert [event["event"] for event in events].count("failed") == 1
    (failed,) = [event for event in events if event["event"] == "failed"]
    assert failed["message"].startswith("The memory does not suffice for batches of 2")
    assert f"{ROOT / 'sftdemo'}{os.sep}" not in result.stderr  # torchrun prints a traceback, but none of ours
    assert not (tmp_path / "out").exists()


def test_accelerate_takes_the_configuration(monkeypatch):
    """Its own loader, and its launcher as far as the environment that the processes get."""
    file = ROOT / "docs" / "fsdp.yaml"
    config = load_config_from_file(str(file))
    assert (config.distributed_type, config.num_processes % config.num_machines) == ("FSDP", 0)
    arguments = launch_command_parser().parse_args([f"--config_file={file}", "-m", "sftdemo", "train", "data.jsonl"])
    arguments, _, _ = _validate_launch_command(arguments)
    environment = prepare_multi_gpu_env(arguments)
    assert environment["ACCELERATE_USE_FSDP"] == "true"
    for name, value in config.fsdp_config.items():
        assert environment[name.upper()].lower() == str(value).lower()
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    plugin = FullyShardedDataParallelPlugin()
    assert plugin.fsdp_version == 2
    assert plugin.reshard_after_forward is True


def test_every_field_of_the_configuration_is_explained():
    text = (ROOT / "docs" / "scale.md").read_text(encoding="utf-8")
    config = yaml.safe_load((ROOT / "docs" / "fsdp.yaml").read_text())
    assert not [name for name in [*config, *config["fsdp_config"]] if f"`{name}`" not in text]


def test_without_a_launcher_there_is_one_process(monkeypatch):
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "4")  # some schedulers set it for a process that is by itself
    assert (distributed.count(), distributed.is_first(), distributed.speaks()) == (1, True, True)
    assert [distributed.anyone(True), distributed.anyone(False)] == [True, False]
    with distributed.together(), distributed.first_here_first():
        pass


class TestRowsOnTheDisk:
    """A JSON Lines file above the limit; the limit is lowered here."""

    @pytest.fixture
    def large(self, data, monkeypatch):
        """Rows of the file as they are, and what only holds for JSON Lines: a slip, a refused row, another column."""
        lines = data.read_text().split("\n")
        lines[3:3] = [
            "",
            "{slip}",
            json.dumps({"instruction": "a"}),
            json.dumps({"prompt": "é", "completion": "b", "x": 1}),
        ]
        data.write_text("\n".join(lines), encoding="utf-8-sig")
        parsed = read_examples(data)
        monkeypatch.setattr(examples, "MAX_BYTES", 100)
        return data, parsed

    def test_they_are_those_that_would_be_held(self, large):
        data, held = large
        opened = open_examples(data)
        assert isinstance(opened.train, StreamedExamples)
        assert tuple(opened.train) == tuple(opened.train) == held.train
        assert (opened.held_out, opened.problems, opened.notes) == (held.held_out, held.problems, held.notes)
        assert len(opened.problems) == 2
        assert len(opened.train) == 12
        assert [opened.train[0], opened.train[3]] == [held.train[0], held.train[3]]
        assert tuple(opened.train[:3]) == held.train[:3]

    def test_a_small_file_and_another_format_are_read_as_ever(self, data, tmp_path, monkeypatch):
        assert isinstance(open_examples(data).train, tuple)
        monkeypatch.setattr(examples, "MAX_BYTES", 100)
        array = tmp_path / "data.json"
        array.write_text(json.dumps([{"prompt": "a" * 200, "completion": "b"}]))
        with pytest.raises(DataError, match="the limit is 100"):
            open_examples(array)

    def test_bytes_that_are_not_utf_8(self, large):
        data, _ = large
        data.write_bytes(data.read_bytes() + b"\n{\xff}")
        with pytest.raises(DataError, match=r"is not UTF-8: byte 0xff behind line \d+\. Save the file as UTF-8"):
            open_examples(data)

    @pytest.mark.parametrize("settings", [{"epochs": 2}, {"epochs": 2, "packing": True}], ids=["padded", "packed"])
    def test_a_run_is_the_same(self, large, llama_folder, tmp_path, settings):
        data, held = large
        config = RunConfig(str(llama_folder), batch_size=4, max_length=96, max_new_tokens=4, device="cpu", **settings)
        parsed = {"held": held, "stored": open_examples(data)}
        events = {name: list(run(config, rows, tmp_path / name)) for name, rows in parsed.items()}
        kept = [[event.to_dict() for event in events[name]] for name in parsed]
        for event in (*kept[0], *kept[1]):
            for varies in ("seconds", "remaining", "path", "message"):
                event.pop(varies, None)
        assert kept[0] == kept[1]
        found, expected = weights_of(tmp_path / "stored"), weights_of(tmp_path / "held")
        assert all(found[name].equal(expected[name]) for name in expected)
        saved = [(tmp_path / name / "examples.jsonl").read_bytes() for name in parsed]
        assert saved[0] == saved[1]
        assert sorted(file.name for file in tmp_path.iterdir()) == ["data.jsonl", "held", "stored"]

    def test_what_the_trainer_gets_is_checked_against_them(self, large, llama_folder, tmp_path, monkeypatch):
        data, _ = large
        monkeypatch.setattr(RowFile, "find", lambda self, wanted: [StoredRow(ids, ids) for ids in wanted])
        config = RunConfig(str(llama_folder), batch_size=4, max_new_tokens=4, device="cpu")
        with_faults = list(run(config, open_examples(data), tmp_path / "out"))
        assert isinstance(with_faults[-1], Failed)
        assert "is not what was shown" in with_faults[-1].message

    def test_a_file_of_rows(self, tmp_path, monkeypatch):
        monkeypatch.setattr("sftdemo.data.row_file.WRITTEN_AT_ONCE", 2)
        rows = [((1, 2, 3), (-100, 2, 3)), ((4,), (-100,)), ((5, 6), (-100, 6)), ((7, 8), (-100, 8)), ((9,), (-100,))]
        file = RowFile(tmp_path / "rows.arrow")
        for input_ids, labels in rows:
            file.add(input_ids, labels, len(labels) - 1)
        stored = file.dataset()
        assert [(tuple(row["input_ids"]), tuple(row["labels"])) for row in stored] == rows
        assert (len(file), file.tokens, file.trained, file.longest) == (5, 9, 4, 3)
        assert list(file.find({(5, 6), (9,), (3,)})) == [rows[2], rows[4]]
