"""Training with several processes (two on this machine's CPU, which speak through gloo), and on rows that stay on the
disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file
from two_processes import in_two_processes

from sftdemo.core import distributed
from sftdemo.core.config import RunConfig
from sftdemo.core.errors import DataError
from sftdemo.core.events import Failed
from sftdemo.data import examples
from sftdemo.data.examples import StreamedExamples, open_examples, read_examples
from sftdemo.data.row_file import RowFile, StoredRow
from sftdemo.runs.run import run

ROOT = Path(__file__).parents[2]


def written(folder: Path) -> Path:
    """11 rows of several lengths, and one held out."""
    rows = [
        {"instruction": f"Say {'word ' * (i % 5)}{i}", "output": f"{'answer ' * (i % 4)}{i * 7}"} for i in range(11)
    ]
    rows.append({"instruction": "Say hi", "output": "hi", "held_out": True})
    file = folder / "data.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


@pytest.fixture
def data(tmp_path) -> Path:
    return written(tmp_path)


def weights_of(folder: Path) -> dict:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


# The last batch of an epoch has 3 rows of 4, 1 of 2, 11 of 24: some processes get fewer rows than others, or none.
WAYS = {
    "lora": {"batch_size": 4, "epochs": 2},
    "full": {"batch_size": 2, "epochs": 1, "full": True},
    "packed": {"batch_size": 2, "epochs": 2, "packing": True},
    "accumulated": {"batch_size": 4, "epochs": 2, "set": ("gradient_accumulation_steps=2",)},
    "weighted": {"batch_size": 4, "epochs": 2, "prompt_loss_weight": 0.25},
    "one batch": {"batch_size": 24, "steps": 3, "full": True, "packing": True},
}
# float32 with Adam, which divides a gradient by its own size: a small learning rate, so that what it makes of the
# rounding of gradients that are nearly zero stays below the tolerance
SETTINGS = {"learning_rate": 1e-4, "max_new_tokens": 4, "max_length": 96, "device": "cpu"}
ROUNDING = 1e-5  # of a weight that moves by 1e-4 a step; on a CPU without AVX-512 it came to 3.5e-6
OTHERS = {
    "not to be shared": {"batch_size": 3},
    "no data": {},
    "stopped": {"steps": 6, "batch_size": 6, "save_every": "100"},  # after step 3, in the middle of the second epoch
    "out of memory": {"steps": 6, "batch_size": 2},
}


@dataclass(frozen=True)
class Launch:
    """What two processes did with each command, which saved its run in the folder of its name, and how they ended."""

    folder: Path
    data: Path
    codes: list[int]

    def printed(self, name: str, kind: str = "out") -> list[str]:
        return [line for rank in "01" for line in (self.folder / f"{name}.{rank}.{kind}").read_text().splitlines()]

    def events(self, name: str) -> list[dict]:
        return [json.loads(line) for line in self.printed(name)]

    def failed(self, name: str) -> bool:
        """Whether one of the processes has, without a traceback of ours."""
        codes = [(self.folder / f"{name}.{rank}.code").read_text() for rank in "01"]
        assert f"{ROOT / 'sftdemo'}{os.sep}" not in "".join(self.printed(name, "err"))
        return codes != ["0", "0"]


@pytest.fixture(scope="module")
def launch(llama_folder, gpt2_folder, tmp_path_factory) -> Launch:
    """All commands, in two processes."""
    folder = tmp_path_factory.mktemp("launch")
    data, commands = written(folder), {}
    for name, settings in (WAYS | OTHERS).items():
        words = {f"--{key.replace('_', '-')}": value for key, value in (SETTINGS | settings).items()}
        words |= {key: value[0] for key, value in words.items() if isinstance(value, tuple)}
        options = [key if value is True else f"{key}={value}" for key, value in words.items()]
        model = f"--model={llama_folder if name in WAYS else gpt2_folder}"
        rows = folder / "none.jsonl" if name == "no data" else data
        if name == "out of memory":
            commands["resumed"] = ["train", f"--resume={folder / 'stopped'}", "--json"]
        commands[name] = ["train", str(rows), model, f"--output={folder / name}", "--json", *options]
    codes = in_two_processes(folder, commands)
    assert len([*folder.glob("*.code")]) == 2 * len(commands)
    return Launch(folder, data, codes)


@pytest.mark.thorough  # `launch` shows the same of processes that are forked, which come sooner
def test_the_program_itself_in_two_processes(gpt2_folder, tmp_path):
    """As `docs/scale.md` starts it: one of the processes tells what is wrong, in one line."""
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "-m", "sftdemo"]
    words = ["train", str(tmp_path / "none.jsonl"), f"--model={gpt2_folder}", "--device=cpu"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([*command, *words], env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    told = [line for line in done.stderr.splitlines() if "none.jsonl cannot be read" in line]
    assert [line[:8] for line in told] == ["sftdemo:"]


@pytest.mark.parametrize("way", WAYS)
def test_two_processes_learn_what_one_learns(llama_folder, launch, tmp_path, way):
    config = RunConfig(str(llama_folder), **SETTINGS | WAYS[way])
    alone = [event.to_dict() for event in run(config, read_examples(launch.data), tmp_path / "alone")]
    assert not launch.failed(way)
    together = launch.events(way)
    assert [event["event"] for event in together] == [event["event"] for event in alone]
    losses = [[event["loss"] for event in events if event["event"] == "step"] for events in (together, alone)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    before, found, expected = weights_of(llama_folder), weights_of(launch.folder / way), weights_of(tmp_path / "alone")
    assert found.keys() == expected.keys()
    assert max((found[name] - expected[name]).abs().max().item() for name in expected) <= ROUNDING
    moved = [(found[name] - before.get(name, 0)).abs().max().item() for name in found if "lora_A" not in name]
    assert max(moved) > 5e-5  # a step of Adam's moves a weight by the learning rate


def test_a_batch_that_cannot_be_shared(launch):
    assert launch.failed("not to be shared")
    (event,) = launch.events("not to be shared")
    assert event["message"] == "batch_size is 3, which 2 processes cannot share evenly; choose a multiple of 2."


def test_data_that_cannot_be_read(launch):
    assert launch.failed("no data")
    assert launch.events("no data") == []
    told = [line for line in launch.printed("no data", "err") if "none.jsonl cannot be read" in line]
    assert [line[:8] for line in told] == ["sftdemo:"]


def test_one_that_stops_stops_all_after_the_same_step(launch):
    assert not launch.failed("stopped")
    events = launch.events("stopped")
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3]
    assert (events[-1]["event"], events[-1]["steps"], events[-1]["stopped"]) == ("finished", 3, True)
    assert [event["kind"] for event in events if event["event"] == "saved"] == ["adapter"]


def test_what_was_stopped_goes_on_to_what_one_process_learns(gpt2_folder, launch, tmp_path):
    assert not launch.failed("resumed")
    config = RunConfig(str(gpt2_folder), **SETTINGS, steps=6, batch_size=6)
    alone = [event.to_dict() for event in run(config, read_examples(launch.data), tmp_path / "alone")]
    resumed, losses = launch.events("resumed"), []
    for events in (resumed, alone):
        losses.append([event["loss"] for event in events if event["event"] == "step"])
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    found, expected = weights_of(launch.folder / "stopped"), weights_of(tmp_path / "alone")
    assert max((found[name] - expected[name]).abs().max().item() for name in expected) <= ROUNDING
    assert not (launch.folder / "stopped" / "checkpoint").exists()


def test_an_error_in_one_ends_all_with_one_message(launch):
    assert launch.failed("out of memory")
    assert any(launch.codes)
    (failed,) = [event for event in launch.events("out of memory") if event["event"] == "failed"]
    assert failed["message"].startswith("The memory does not suffice for batches of 2")


def test_only_what_was_trained_is_left(launch):
    assert {file.name for file in launch.folder.iterdir() if file.is_dir()} - {"cache"} == {*WAYS, "stopped"}


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
            for varies in ("seconds", "remaining", "parts", "path", "message"):
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
