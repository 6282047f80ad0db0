"""Many visitors at the same time: each sees their own rows and runs and nobody else's, soon, without an error.

A few visit with all tests; `make hold` lets 8 sessions do 20 rounds, and then 30 visitors train.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from default_model import hub_cache
from desk import OnLentGpu
from serving import first_page, free_port
from visitor import Visitor, plain

from sftdemo.core.config import DEFAULT_MODEL
from sftdemo.ui import build
from sftdemo.ui.serve import _listen

ROOT = Path(__file__).parents[2]
SESSIONS, ROUNDS, SETTLED, VISITORS = 8, 20, 5, 30
FIRST_MASK, FLAT, APART, PATIENCE = 3.0, 1.05, 2.0, 400.0  # seconds, times, seconds, seconds


def rows(word: str, number: int) -> str:
    """Rows in which a word stands in every place, one of them twice, one refused, and one held out."""
    told = [{"instruction": f"Say {word} {number} {row}", "output": f"{word} {row}"} for row in range(60)]
    held_out = {"instruction": word, "output": word, "held_out": True}
    return json.dumps([*told, told[0], told[1] | {"held_out": word}, held_out])


def mask_and_audit(visitor: Visitor, number: int) -> None:
    """Paste rows, turn the page, look at a refusal, mark a token, take the files, open a file, ask the endpoints."""
    word, text = visitor.canary, rows(visitor.canary, number)
    visitor.set("examples", text)
    visitor.do("mask", "turn", {"page": 1})
    assert [row["row"] for row in visitor.rows()] == list(range(50, 61))
    assert all(word in each for each in visitor.drawn())
    visitor.do("audit", "only", {"check": "duplicates"})
    visitor.do("audit", "goto", {"row": 3})
    visitor.do("mask", "read", {"row": 61, "line": None})
    assert word in visitor.values[visitor.ids["mask"]]
    visitor.do("mask", "toggle", {"row": 2, "part": 0, "tokens": [0], "trained": True})
    for button in ("refusals", "export"):
        assert word.encode() in visitor.download(button)
    visitor.upload("rows.json", text.encode())
    visitor.do("past-door", "expand")
    assert visitor.ask("mask", text, DEFAULT_MODEL, "instruction", None, 0)["rows"]
    assert visitor.ask("audit", text, DEFAULT_MODEL, "instruction", None)["findings"]


def train(visitor: Visitor) -> None:
    """Ask for a run until there is room in the queue, watch it, and take the model."""
    for name, value in {"steps": 2, "max-new-tokens": 8, "max-length": 64, "prompts": visitor.canary}.items():
        visitor.set(name, value)
    begin = time.monotonic()
    while not visitor.values[visitor.ids["download"]]:
        assert visitor.errors == []
        assert time.monotonic() - begin < PATIENCE, visitor.toasts
        visitor.do("train", "click")
        time.sleep(0.2)
    assert visitor.canary in visitor.values[visitor.ids["compare"]]
    model = plain(visitor.download("download"))
    assert visitor.canary.encode() in model or len(model) < 200  # a refusal, where ten runs have ended since
    visitor.do("past-door", "expand")


def together(visitors: list[Visitor], work: Callable[[Visitor], None]) -> None:
    with ThreadPoolExecutor(len(visitors)) as threads:
        list(threads.map(work, visitors))


def check(visitors: list[Visitor]) -> None:
    assert [visitor.errors for visitor in visitors if visitor.errors] == []
    assert [(visitor.canary, visitor.seen) for visitor in visitors if visitor.seen != {visitor.canary}] == []


@contextmanager
def served(folder: Path, model: Path) -> Generator[tuple[str, subprocess.Popen]]:
    """A public page in a process of its own, which must end when it is told to, without a traceback."""
    port, log = free_port(), folder / "log"
    own = {"SPACE_ID": "someone/sftdemo", "HF_HUB_CACHE": str(hub_cache(folder / "hub", model)), "HF_HUB_OFFLINE": "1"}
    own |= {"SFTDEMO_CACHE": str(folder / "cache")}
    command = [sys.executable, "-m", "sftdemo", "app", "--no-browser", "--port", str(port)]
    with log.open("w") as file, TemporaryDirectory() as short:  # sockets lie there, whose names may not be long
        environment = os.environ | own | {"TMPDIR": short, "GRADIO_TEMP_DIR": short}
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
        try:
            first_page(f"http://127.0.0.1:{port}", process)
            yield f"http://127.0.0.1:{port}", process
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=120) == 0
        finally:
            process.kill()
            process.wait()
    told = log.read_text()
    assert "Traceback" not in told, told


def resident(process: subprocess.Popen) -> float:
    """The MiB of memory that a process has."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


@pytest.fixture
def here(tmp_path, gpt2_folder, monkeypatch):
    """A public page in this process."""
    monkeypatch.setenv("SPACE_ID", "someone/sftdemo")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(hub_cache(tmp_path, gpt2_folder)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    backend, port = OnLentGpu(), free_port()
    page = build(backend)
    _listen(page, backend, "127.0.0.1", port, False, mcp=False)
    yield page
    page.close()


def test_nothing_of_others_is_seen(here):
    visitors = [Visitor(here.local_url) for _ in range(2)]
    together(visitors, lambda visitor: mask_and_audit(visitor, 0))
    check(visitors)
    visits = here.app.state_holder.session_data.values()
    assert [visit.blocks_config.blocks.keys() for visit in visits] == [here.blocks.keys()] * 2
    assert here._queue.event_analytics == {}
    assert here._queue.sleep_when_free == 0.01, "its loop takes 4% of a core otherwise"


@pytest.mark.thorough
def test_nothing_of_a_run_of_others_is_seen(here):
    visitors = [Visitor(here.local_url) for _ in range(3)]
    together(visitors, lambda visitor: mask_and_audit(visitor, 0))
    train(visitors[0])
    visitors[1].do("past-door", "expand")
    visitors.append(Visitor(here.local_url))
    check(visitors[:3])
    assert visitors[3].seen == set()


@pytest.mark.hold
def test_eight_sessions_of_twenty_rounds(tmp_path, gpt2_folder, capsys):
    with served(tmp_path, gpt2_folder) as (address, process):
        time.sleep(30)  # until what is prepared in the background is there
        sizes, sessions = [resident(process)], [Visitor(address) for _ in range(SESSIONS)]
        for number in range(ROUNDS):
            together(sessions, lambda visitor, number=number: mask_and_audit(visitor, number))
            sizes.append(resident(process))
    with capsys.disabled():
        print(f"{SESSIONS} sessions: {', '.join(f'{size:.0f}' for size in sizes)} MiB")
    check(sessions)
    assert sizes[ROUNDS] < FLAT * sizes[SETTLED]


@pytest.mark.hold
def test_thirty_visitors_who_train(tmp_path, gpt2_folder, capsys):
    """One comes every two seconds; what each does, they all do at the same time as others."""

    def visit(number: int) -> tuple[Visitor, float]:
        time.sleep(number * APART)
        begin, visitor = time.monotonic(), Visitor(address)
        mask_and_audit(visitor, 0)
        train(visitor)
        return visitor, time.monotonic() - begin

    with served(tmp_path, gpt2_folder) as (address, _):
        time.sleep(30)
        with ThreadPoolExecutor(VISITORS) as threads:
            visits = list(threads.map(visit, range(VISITORS)))
        crowd, longest = [visitor for visitor, _ in visits], max(took for _, took in visits)
        masks = sorted(visitor.first_mask or PATIENCE for visitor in crowd)
        told = f"first mask {masks[0]:.2f} to {masks[-1]:.2f} s, the middle {masks[len(masks) // 2]:.2f} s"
        with capsys.disabled():
            print(f"{VISITORS} visitors: {told}; from the first click to the model at most {longest:.0f} s")
    check(crowd)
    assert masks[-1] < FIRST_MASK
