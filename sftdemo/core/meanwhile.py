"""Yield an event now and then while something slow goes on, so that who waits for it can be told, and can end it."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

EVERY = 0.5  # seconds from one event to the next
_LOOK = 0.05  # seconds between two looks at a process
Item = TypeVar("Item")
Result = TypeVar("Result")


def in_thread(work: Callable[[], Result], tell: Callable[[], Item]) -> Generator[Item, None, Result]:
    """Do some work in a thread and return its result. Of a job that is stopped meanwhile the work ends with its
    process."""
    from concurrent.futures import Future
    from concurrent.futures import wait as wait_for

    future = Future[Result]()

    def do() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # raised below, where the result is asked for
            future.set_exception(error)

    threading.Thread(target=do, name="meanwhile", daemon=True).start()  # an executor's would be waited for
    while not wait_for([future], timeout=EVERY).done:
        yield tell()
    return future.result()


def in_process(
    command: Sequence[str], tell: Callable[[], Item], folder: Path | None = None, env: Mapping[str, str] | None = None
) -> Generator[Item, None, tuple[int, str]]:
    """Run a command, and return its exit code and all that it has written. It is killed if nobody waits any more.

    Args:
        folder (`Path`, *optional*):
            Where it runs.
        env (`Mapping[str, str]`, *optional*):
            Its environment. By default, this process's.

    Raises:
        OSError: if it cannot be started.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env, cwd=folder)
        try:
            told = time.monotonic()
            while process.poll() is None:
                if time.monotonic() - told >= EVERY:
                    told = time.monotonic()
                    yield tell()
                time.sleep(_LOOK)
        finally:
            process.kill()
            process.wait()
        log.seek(0)
        return process.returncode, log.read()
