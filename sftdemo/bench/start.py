"""From the shell to the first page, beside an empty Gradio app by turns; `--help`; and the idle app's memory."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from ..events import Phase
from .figures import spread

TIMEOUT = 120  # seconds until a page that does not come counts as an error
IDLE = 20  # seconds after the first page until the app's memory is looked at: its imports are done then
_BARE = """import os, gradio as gr
with gr.Blocks() as page:
    gr.Textbox()
page.launch(server_port=int(os.environ["GRADIO_SERVER_PORT"]), quiet=True)
"""


def bench_start(repeats: int) -> Iterator[Phase | dict]:
    """Phases, and at the end seconds to `--help` and to the two pages, and the idle app's MB."""
    seconds: dict[str, list[float]] = {"help": [], "bare_gradio": [], "first_page": []}
    for number in range(repeats):
        yield Phase("bench", f"start: repetition {number + 1} of {repeats}", number / (repeats + 1))
        seconds["help"].append(_help())
        for name, arguments in (
            ("bare_gradio", ["-c", _BARE]),
            ("first_page", ["-m", "sftdemo", "app", "--no-browser"]),
        ):
            with _server(arguments) as (_, waited):
                seconds[name].append(waited)
    yield Phase("bench", "start: memory of the idle app", repeats / (repeats + 1))
    with _server(["-m", "sftdemo", "app", "--no-browser"]) as (process, _):
        time.sleep(IDLE)
        memory = _memory(process.pid)
    later = median(seconds["first_page"]) - median(seconds["bare_gradio"])
    yield {
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "first_page_after_bare_gradio": round(later, 2),
        "idle_memory_mb": memory,
    }


def _help() -> float:
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-m", "sftdemo", "--help"], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


@contextmanager
def _server(arguments: list[str]) -> Iterator[tuple[subprocess.Popen, float]]:
    """A server that has answered its first request, and the seconds that took."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    begin = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *arguments],
        env=os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while not _answers(port):
            if process.poll() is not None or time.perf_counter() - begin > TIMEOUT:
                raise RuntimeError(f"no page came from {' '.join(arguments)[:60]}")
            time.sleep(0.02)
        yield process, time.perf_counter() - begin
    finally:
        _end(process)


def _answers(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as page:
            return page.status == 200
    except OSError:
        return False


def _family(pid: int) -> list:
    import psutil

    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _memory(pid: int) -> int:
    """MB of the app and of its children. On Linux what they share is counted once."""
    import psutil

    counted = "pss" if psutil.LINUX else "uss"
    return round(sum(getattr(each.memory_full_info(), counted) for each in _family(pid)) / 1e6)


def _end(process: subprocess.Popen) -> None:
    import psutil

    family = _family(process.pid) if process.poll() is None else []
    for each in family:
        each.kill()
    psutil.wait_procs(family)
    process.wait()
