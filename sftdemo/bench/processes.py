"""Programs that are measured from outside, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any


@contextmanager
def python_process(arguments: Sequence[str], **options: Any) -> Generator[subprocess.Popen[Any]]:
    """Starts a Python program, and ends it with all its children. Ctrl-C in the terminal does not reach it."""
    process = subprocess.Popen([sys.executable, *arguments], start_new_session=True, **options)
    try:
        yield process
    finally:
        _end(process)


def family(pid: int) -> list:
    """A process and all that it has started, as `psutil` has them."""
    import psutil

    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _end(process: subprocess.Popen) -> None:
    import psutil

    running = family(process.pid) if process.poll() is None else []
    for each in running:
        each.kill()
    psutil.wait_procs(running)
    process.wait()
