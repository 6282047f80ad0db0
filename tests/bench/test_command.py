"""`python -m sftdemo bench`: what is printed and kept, part by part, to the end or to an interrupt."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import psutil
import pytest

from sftdemo.bench import parts
from sftdemo.bench.figures import spread
from sftdemo.bench.parts import QUICK, THOROUGH, USUAL, Measured
from sftdemo.bench.processes import python_process
from sftdemo.core.config import BENCH_PARTS
from sftdemo.core.errors import TrainingError
from sftdemo.core.events import Phase
from sftdemo.terminal.cli import main

CLICK = {"seconds": {"new process": {"load": 1.5, "all": 2.5}, "standing by": {"all": 2.0}}, "all": {}}
ANSWERS = {
    "prompts": 8,
    "tokens": {"ours": 70},
    "floor_seconds": 0.5,
    "tokens_per_second": {"ours": spread([30.0])},
    "bandwidth_gb_per_second": 31.0,
}
FIRST = {"machine": {"cores": 2}, "arms": [], "ratios": {"answers_vs_floor": 6.2}, "answers": ANSWERS}
BOTH = FIRST | {"click": CLICK}


@pytest.fixture
def bench(monkeypatch, gpt2_folder, capsys):
    """Runs the command with a bench whose second part is what is given, such as one that is interrupted."""

    def call(*words, second=lambda: None):
        asked = []

        def fake(source, tokenizer, data, effort, rows, stop, device, begun):
            asked.append(effort)
            yield Phase("bench", "answers, part 1 of 2: repetition", 0.0)
            yield Measured("answers", 1.0, FIRST | {"unfinished": ["click"]})
            if stop():
                return
            yield Phase("bench", "click, part 2 of 2: run", 0.5)
            second()
            left = {"unfinished": ["click"]} if stop() else {}
            yield Measured("click", 2.0, BOTH | left)

        monkeypatch.setattr("sftdemo.terminal.bench.bench", fake)
        before = signal.getsignal(signal.SIGINT)
        try:
            code = main(["bench", "--model", str(gpt2_folder), *words])
        finally:
            signal.signal(signal.SIGINT, before)
        return code, *capsys.readouterr(), asked[0]

    return call


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)


def fail() -> None:
    raise TrainingError("no memory")


def test_each_part_is_printed(bench):
    code, out, err, _ = bench()
    assert code == 0
    assert [line for line in out.splitlines() if line.startswith("#")] == [
        "## Answers",
        "## From the click to the compared answers",
        "## Ratios",
    ]
    assert out.startswith("Machine: cores 2.\n\n## Answers")
    assert out.endswith("| answers_vs_floor | 6.2 |\n")
    assert [line for line in err.splitlines() if line] == ["sftdemo: answers took 1 s", "sftdemo: click took 2 s"]


def test_json_is_one_object(bench):
    code, out, _, _ = bench("--json")
    assert (code, json.loads(out)) == (0, BOTH)


@pytest.mark.parametrize(
    ("second", "code", "unfinished"),
    [(interrupt, 0, "click"), (fail, 1, "click"), (lambda: [interrupt(), interrupt()], 130, "click")],
    ids=["interrupted", "failed", "interrupted twice"],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_an_end_before_the_end_prints_what_there_is(bench, second, code, unfinished, form):
    found, out, err, _ = bench(*form, second=second)
    assert found == code
    if form:
        result = json.loads(out)
        assert (result["answers"], result["unfinished"]) == (ANSWERS, [unfinished])
    else:
        assert out.count("## Answers") == out.count("## Ratios") == 1
        assert out.endswith(f"Not measured, or not in full: {unfinished}.\n")
        assert ("From the click" in out) == (code == 0)  # asked once, it goes on to the end of what it measures
    assert ("stopping after what is being measured" in err) == (second is not fail)


def test_what_is_written_after_each_part(bench, tmp_path):
    file, seen = tmp_path / "report.md", []

    def look() -> None:
        seen.append((file.read_text(encoding="utf-8"), json.loads(file.with_suffix(".json").read_text())))

    code, *_ = bench("--write", str(file), second=look)
    assert code == 0
    ((text, result),) = seen
    assert "## Answers" in text
    assert "From the click" not in text
    assert "Not measured, or not in full: click." in text
    assert result == FIRST | {"unfinished": ["click"]}
    assert "From the click" in file.read_text(encoding="utf-8")
    assert json.loads(file.with_suffix(".json").read_text()) == BOTH
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == ["report.json", "report.md"]


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_measured(capsys, tmp_path):
    assert main(["bench", "--write", str(tmp_path / "nowhere" / "report.md")]) == 2
    assert "nowhere is no folder" in capsys.readouterr().err.replace("\n", " ")


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_measured(capsys, tmp_path, monkeypatch):
    def refuse(**_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("tempfile.TemporaryFile", refuse)
    assert main(["bench", "--write", str(tmp_path / "report.md")]) == 2
    assert "report.md: Read-only file system. Name another file." in capsys.readouterr().err.replace("\n", " ")


def test_how_much_is_measured(bench):
    efforts = {words: bench(*words)[-1] for words in [(), ("--quick",), ("--thorough",)]}
    assert list(efforts.values()) == [USUAL, QUICK, THOROUGH]
    effort = bench("--thorough", "--only", "mask", "steps", "--repeats", "2")[-1]
    assert (effort.parts, effort.repeats, effort.templates) == (("mask", "steps"), 2, THOROUGH.templates)
    with pytest.raises(SystemExit):
        main(["bench", "--quick", "--thorough"])


class TestProcesses:
    def test_an_interrupt_of_the_terminal_does_not_reach_them(self):
        with python_process(["-c", "input()"], stdin=subprocess.PIPE) as process:
            assert os.getpgid(process.pid) != os.getpgrp()

    def test_they_end_with_all_that_they_started(self):
        child = "subprocess.Popen([sys.executable, '-c', 'input()'])"
        code = f"import subprocess, sys; print({child}.pid, flush=True); input()"
        with python_process(["-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
            child = psutil.Process(int(process.stdout.readline()))
        assert not child.is_running()


class TestResume:
    def test_what_is_measured_is_not_measured_again(self, monkeypatch, gpt2_folder, tmp_path, capsys):
        measured = []

        def measure(part, *_):
            measured.append(part)
            yield {"equal": True, "ratios": {part: 1.0}, "arms": []}

        monkeypatch.setattr(parts, "_measure", measure)
        monkeypatch.setattr(parts, "share_heap", lambda: None)
        monkeypatch.setattr("sftdemo.bench.report._SECTIONS", dict.fromkeys(BENCH_PARTS, lambda _: "found"))
        file = tmp_path / "report.md"
        words = ["bench", "--model", str(gpt2_folder), "--only", "answers", "film", "--write", str(file)]
        assert main(words) == 0
        whole = json.loads(file.with_suffix(".json").read_text())
        file.with_suffix(".json").write_text(json.dumps(whole | {"unfinished": ["film"]}))
        measured.clear()
        assert main([*words, "--resume"]) == 0
        assert measured == ["film"]
        assert json.loads(file.with_suffix(".json").read_text()) == whole
        assert main([*words, "--resume", "--rows", "99"]) == 2
        assert "begun with other settings: rows was 40000 and is 99. Measure anew" in said(capsys)
        file.with_suffix(".json").unlink()
        assert main([*words, "--resume"]) == 2
        assert "nothing to go on with; leave out --resume" in said(capsys)
        assert main([*words[:3], "--resume"]) == 2
        assert "name the file" in said(capsys)


def said(capsys) -> str:
    return capsys.readouterr().err.replace("\n", " ")
