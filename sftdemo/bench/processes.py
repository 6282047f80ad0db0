"""Run Python programs that are measured from outside, each in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil


@contextmanager
def python_process(arguments: Sequence[str], **options: Any) -> Generator[subprocess.Popen[Any]]:
    """Start a Python program and, at the end of the block, kill it with all its descendants. Ctrl-C in the terminal
    does not reach it. `options` go to `subprocess.Popen`."""
    import psutil

    process = subprocess.Popen([sys.executable, *arguments], start_new_session=True, **options)
    try:
        yield process
    finally:
        running = process_tree(process.pid) if process.poll() is None else []
        for each in running:
            each.kill()
        psutil.wait_procs(running)
        process.wait()


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process and all its descendants."""
    import psutil

    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
