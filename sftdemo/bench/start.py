"""Measure the start: to `--help`, to the first page next to an empty Gradio app, to the first mask and to the same as
it is drawn anew; and the memory of the idle app."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from ..core.config import DEFAULT_MODEL
from ..core.events import Phase
from ..model.sources import resolve
from .figures import Stop, repetitions, seconds_of, spread
from .processes import process_tree, python_process
from .visitor import Visitor

if TYPE_CHECKING:
    import psutil

TIMEOUT = 120  # seconds until a page that does not come counts as an error
IDLE = 20  # seconds from the first page until the memory is read: the app has imported everything by then
_APP = ["-m", "sftdemo", "app", "--no-browser"]
_BARE = """import os, gradio as gr
with gr.Blocks() as page:
    gr.Textbox()
page.launch(server_port=int(os.environ["GRADIO_SERVER_PORT"]), quiet=True)
"""


@dataclass(frozen=True)
class Server:
    """A server that has answered its first request.

    Args:
        process (`subprocess.Popen`), address (`str`):
            Its process and its URL.
        begin (`float`):
            `time.perf_counter()` at the start of its process.
        served (`float`):
            Seconds from there to its first answer.
    """

    process: subprocess.Popen
    address: str
    begin: float
    served: float


def bench_start(repeats: int, stop: Stop = lambda: False) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, the seconds from the start of the process to `--help`, to the two pages, to the
    first mask, which the page brings along from an earlier start, and until that is drawn anew; and the MB that the
    idle app holds, with its fork server and once that is given back. The default model is fetched beforehand, and the
    app was started once.

    Raises:
        RuntimeError: if `--help` fails, or if a page or its mask does not come.
        ModelError: if the default model cannot be fetched.
    """
    yield from resolve(DEFAULT_MODEL)
    yield Phase("bench", "memory of the idle app", 0.0)
    with _server(_APP) as app:
        Visitor(app.address).draw_mask()
        time.sleep(IDLE)
        page, *others = process_tree(app.process.pid)
        memory = _memory([page, *others])
        _end(others)
        page_memory = _memory([page])
    names = ("help", "bare_gradio", "first_page", "first_mask", "drawn_anew")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in repetitions(repeats, stop):
        yield Phase("bench", f"repetition {number + 1} of {repeats}", (number + 1) / (repeats + 1))
        seconds["help"].append(seconds_of(_help))
        with _server(["-c", _BARE]) as bare:
            seconds["bare_gradio"].append(bare.served)
        with _server(_APP) as app:
            visitor = Visitor(app.address)
            here = time.perf_counter()
            visitor.draw_mask()
            drawn = time.perf_counter()
        seconds["first_page"].append(app.served)
        seconds["first_mask"].append((drawn if visitor.brought_mask is None else here) - app.begin)
        seconds["drawn_anew"].append(drawn - app.begin)
    later = median(seconds["first_page"]) - median(seconds["bare_gradio"])
    after = (mask - page for page, mask in zip(seconds["first_page"], seconds["first_mask"], strict=True))
    yield {
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "first_page_after_bare_gradio": round(later, 2),
        "first_mask_after_first_page": round(median(after), 2),
        "idle_memory_mb": memory,
        "page_memory_mb": page_memory,
    }


def _help() -> None:
    with python_process(["-m", "sftdemo", "--help"], stdout=subprocess.DEVNULL) as process:
        if process.wait():
            raise RuntimeError("--help failed")


@contextmanager
def _server(arguments: list[str]) -> Iterator[Server]:
    """Start a server, wait for its first answer and, at the end of the block, kill it with all its descendants."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    begin = time.perf_counter()
    settings = os.environ | {"GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with python_process(arguments, env=settings, **quiet) as process:
        while not _answers(address):
            if process.poll() is not None or time.perf_counter() - begin > TIMEOUT:
                raise RuntimeError(f"no page came from {' '.join(arguments)[:60]}")
            time.sleep(0.02)
        yield Server(process, address, begin, time.perf_counter() - begin)


def _answers(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as page:
            return page.status == 200
    except OSError:
        return False


def _end(processes: list[psutil.Process]) -> None:
    """End what the app gives back by itself after `runs.jobs.IDLE` seconds. It goes on to list them as dead."""
    import psutil

    for each in processes:
        each.kill()
    while any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in processes):
        time.sleep(0.1)


def _memory(processes: list[psutil.Process]) -> int:
    """Return the MB that processes hold. On Linux, shared memory is counted once."""
    import psutil

    counted = "pss" if psutil.LINUX else "uss"
    return round(sum(getattr(each.memory_full_info(), counted) for each in processes) / 1e6)
