"""What stands on a terminal's screen: results whole, in lines of their own, and no bar left over."""

from __future__ import annotations

import json
import os
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pyte
import pytest

from sftdemo.core.events import Answer, Comparison, Event, Failed, Finished, Frame, Phase, Saved, StudyCell
from sftdemo.terminal.cli import main
from sftdemo.terminal.mask import Status
from sftdemo.terminal.remarks import remark
from sftdemo.terminal.run import EventPrinter
from sftdemo.terminal.study import StudyPrinter
from terminal.test_losses import ROW
from terminal.test_printing import ABLATED, TOLD

WORDS = "remembering everything that stands within narrow columns without breaking whatever training generates"
PATH = "/home/someone/" + "folder/" * 20 + "outputs"


class Screen:
    """A terminal of so many columns, whose lines can be read after what was printed while it was `open`."""

    def __init__(self, columns: int, monkeypatch):
        self._screen, self._patch = pyte.Screen(columns, 300), monkeypatch
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm-256color")
        for name in ("NO_COLOR", "FORCE_COLOR"):
            monkeypatch.delenv(name, raising=False)

    @contextmanager
    def open(self, out: bool = True) -> Iterator[None]:
        """Put the terminal in the place of stderr and, with `out`, of stdout."""
        theirs, ours = os.openpty()
        termios.tcsetwinsize(ours, (300, self._screen.columns))
        reader = threading.Thread(target=self._read, args=(theirs,))
        reader.start()
        stdout, stderr = (os.fdopen(end, "w", encoding="utf-8") for end in (os.dup(ours), ours))
        with stdout, stderr, self._patch.context() as patch:
            patch.setattr(sys, "stderr", stderr)
            if out:
                patch.setattr(sys, "stdout", stdout)
            yield
        reader.join()
        os.close(theirs)

    def _read(self, theirs: int) -> None:
        stream = pyte.ByteStream(self._screen)
        try:
            while chunk := os.read(theirs, 1 << 16):
                stream.feed(chunk)
        except OSError:  # nobody holds the other end any more
            pass

    @property
    def lines(self) -> list[str]:
        lines = [line.rstrip() for line in self._screen.display]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    def show(self, events: list[Event], printer_of=EventPrinter) -> list[str]:
        """Print the events, with the bar drawn after each, and return the lines."""
        with self.open(), printer_of() as printer:
            for event in events:
                printer.print(event)
                printer._bar.refresh()
        return self.lines


@pytest.fixture(params=[80, 120])
def screen(request, monkeypatch) -> Screen:
    return Screen(request.param, monkeypatch)


def assert_words_are_whole(lines: list[str], words: str = WORDS) -> None:
    seen = {word.strip("│┃ ") for line in lines for word in line.split()}
    assert set(words.split()) <= seen


CELL = {"completion_loss": 0.8, "prompt_loss": 3.0, "ended": 6, "answers": 6}
FRAME = Frame(0, 0.0, [["Why?", "held out", WORDS, "EOS"]], 3.0, 2.5, 0, 1, [], [])
JOBS = {
    "film": [FRAME, Finished(0, 0, 2.0, False)],
    "train": [*TOLD[:5], Comparison("Why?", WORDS, WORDS, "length", "EOS", "training"), *TOLD[6:]],
    "ablate": ABLATED,
    "generate": [Phase("answer", "Answering 1 prompts"), Answer("Why?", WORDS, "EOS", 9), Finished(0, 0, 1.0, False)],
    "losses": [Phase("score", "Looking"), ROW, Phase("score", "Looking", 0.5), ROW, Finished(0, 0, 1.0, False)],
    "export": [Phase("export", "Merging"), Saved(PATH, "merged"), Finished(0, 0, 4000.0, False)],
    "study": [Phase("cell", "cell 1 of 6", 0.5), StudyCell(4, 0, 12, CELL | {"prompt_loss_weight": 0.0}, [], 9.0)],
}
LINES = {
    "film": ["Why? (held out)", "step    0  remembering everything", "Done in 2 s."],
    "train": ["step    1  loss 2.5000     0.2 s", "Done in 3 s."],
    "ablate": ["Arm masked (1 of 2)", "step    1  loss 2.5000     0.2 s", "step    1  loss 3.5000     0.2 s"],
    "generate": ["Why?"],
    "losses": ["row 3 · held out · 1 of 3 tokens trained", "base, 2.00 nats a trained token"] * 2,
    "export": ["Done in 1.1 h."],
    "study": ["weight 0, seed 0, 4 rows: completion loss 0.800, prompt loss 3.000, 6 of 6"],
}


@pytest.mark.parametrize("job", JOBS)
def test_results_stand_in_lines_of_their_own(screen, job):
    lines = screen.show(JOBS[job], StudyPrinter if job == "study" else EventPrinter)
    print(*lines, sep="\n")
    for line in LINES[job]:
        assert [shown for shown in lines if shown.startswith(line)]
    for left in ("⠋", "━ ", "Starting", "Answering", "Training", "Looking", "Merging", "left  "):
        assert not [line for line in lines if left in line]
    if job in ("train", "generate", "film"):
        assert_words_are_whole(lines)
    if job in ("train", "ablate"):
        assert_words_are_whole(lines, "before and after the training, unchanged")
    if job == "export":
        assert PATH in "".join(lines)


def test_a_remark_stands_above_the_bar(screen):
    with screen.open(), Status() as status:
        status.show(Phase("audit", "Masked 1,000 rows", 0.5))
        status._progress.refresh()
        remark(f"sftdemo: refused row 1: {WORDS}")
        status._progress.refresh()
    assert screen.lines[0].startswith("sftdemo: refused row 1: remembering ")
    assert_words_are_whole(screen.lines)
    assert len(screen.lines) == 2


def test_json_in_a_pipe_is_not_the_bars(screen, capsys):
    """A bar takes what is printed for its own terminal, unless it is told that stdout goes elsewhere."""
    with screen.open(out=False), Status() as status:
        status.show(Phase("samples", "Measuring"))
        print('{"name": "pirate"}')
    assert capsys.readouterr().out == '{"name": "pirate"}\n'
    assert screen.lines == []


def test_a_failure_is_told_below_all_else(screen):
    lines = screen.show([*TOLD[:4], Failed(f"The loss became nan. {WORDS}")])
    (at,) = [index for index, line in enumerate(lines) if line.startswith("sftdemo: The loss became nan. ")]
    assert lines[at - 1].startswith("step    1")
    assert len(lines) == at + 2
    assert_words_are_whole(lines)


def test_the_tokens_of_a_row_and_what_is_wrong_with_it(screen, gpt2_folder, tmp_path):
    rows = [{"instruction": "Say hello", "output": WORDS}] * 9 + [{"instruction": WORDS}]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call = ["mask", str(tmp_path / "rows.jsonl"), "--model", str(gpt2_folder)]
    with screen.open():
        assert main([*call, "--rows", "0"]) == 0
        assert main([*call, "--audit"]) == 0
    lines = screen.lines
    refused = [line for line in lines if line.startswith("sftdemo: refused row 9 (line 10): has no ")]
    assert len(refused) == 2
    words = WORDS.split()[:-1]  # behind the last one stands EOS
    shown = next(index for index, line in enumerate(lines) if line.endswith("Response:↵"))
    assert " ".join(lines[shown + 1 : shown + 3]).replace("␣", " ").split()[: len(words)] == words
    assert_words_are_whole(lines, "the same example stands there more than once (rows 0, 1, 2, 3, 4 and 4 more)")
