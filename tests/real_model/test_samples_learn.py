"""Real runs of the default model, through the command line: a short one, and the one of the README's table."""

import json
import shutil
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from default_model import private_cache

from sftdemo.data.samples import has_style
from sftdemo.terminal.cli import main

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return private_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def command(cache):
    """Runs a command of the program, which must succeed, and returns what it prints."""

    def run(*words: object) -> list[dict]:
        printed = StringIO()
        with pytest.MonkeyPatch.context() as patched, redirect_stdout(printed):
            patched.setenv("SFTDEMO_CACHE", str(cache))
            assert main([*map(str, words), "--json"]) == 0
        return [json.loads(line) for line in printed.getvalue().splitlines()]

    return run


def run_of(command, folder: Path, sample: str, *options: object) -> tuple[Path, list[dict]]:
    return folder, command("train", ROOT / "sample_data" / f"{sample}.jsonl", "--output", folder, *options)


@pytest.fixture(scope="module")
def pirate(command, tmp_path_factory):
    return run_of(command, tmp_path_factory.mktemp("run") / "outputs", "pirate")


# a sample whose answers are short, and learned in a few small steps
SHORT = ("reviews", 5, "--steps", 5, "--batch-size", 4, "--max-new-tokens", 8)


@pytest.fixture(scope="module", params=[SHORT, pytest.param(("pirate", 12), marks=pytest.mark.thorough)])
def trained(request, command, tmp_path_factory):
    """The sample, how many steps it is trained and the run's events."""
    sample, steps, *options = request.param
    return sample, steps, run_of(command, tmp_path_factory.mktemp("run") / "outputs", sample, *options)[1]


def test_held_out_answers_take_the_style(trained):
    sample, _, events = trained
    compared = [event for event in events if event["event"] == "comparison"]
    assert len(compared) == 6
    assert all(event["source"] == "held out" for event in compared)
    before = sum(has_style(sample, event["before"], event["before_stop"]) for event in compared)
    after = sum(has_style(sample, event["after"], event["after_stop"]) for event in compared)
    assert before == 0
    assert after >= 5


def test_loss_falls(trained):
    _, steps, events = trained
    losses = [event["loss"] for event in events if event["event"] == "step"]
    assert len(losses) == steps
    assert losses[-1] < losses[0] / 4


@pytest.mark.thorough  # with a tiny model in runs/test_run.py
def test_saved_adapter_gives_the_same_answers(pirate, command):
    output, events = pirate
    first = next(event for event in events if event["event"] == "comparison")
    told = command("generate", output, "--prompt", first["prompt"])
    (answer,) = [event for event in told if event["event"] == "answer"]
    assert answer["answer"] == first["after"]
    assert answer["stop"] == first["after_stop"]


@pytest.mark.thorough  # with a tiny model in export/test_certify.py
def test_llama_cpp_answers_as_here_and_stops_there(pirate, command, tmp_path):
    """Exported to GGUF by llama.cpp's own converter, and asked through llama.cpp."""
    output, _ = pirate
    file = tmp_path / "pirate.gguf"
    command("export", output, "--to", "gguf", "--output", file)
    certificate = command("certify", output, "--gguf", file)[-1]
    assert (certificate["engine"], certificate["weights"], certificate["prompts"]) == ("llama.cpp", "f16", 6)
    assert (certificate["same_ids"], certificate["same_end"], certificate["modelfile_same_ids"]) == (True, True, True)
    assert sum(check["same_tokens"] == check["tokens"] for check in certificate["checks"]) >= 5  # f16 rounds


@pytest.mark.thorough  # with a tiny model in export/test_formats.py
def test_the_folder_answers_by_itself(pirate, cache, tmp_path):
    """`use.py`, elsewhere, with the base by another path, as a machine has it that fetched it from the Hub."""
    output, events = pirate
    folder = shutil.copytree(output, tmp_path / "moved")
    (base,) = (cache / "models").glob("*/config.json")
    first = next(event for event in events if event["event"] == "comparison")
    home = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-I", str(folder / "use.py"), first["prompt"], "--base", str(base.parent)]
    done = subprocess.run([*command, "--max-new-tokens", "32"], cwd=tmp_path, env=home, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == first["after"].strip()
