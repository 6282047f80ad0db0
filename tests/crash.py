"""Let a piece of work meet a fault at one of its writes: the process is killed there, or the disk refuses."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

_WRITES = {"os.rename", "os.mkdir", "os.rmdir", "os.remove", "os.link", "shutil.copyfile", "shutil.copytree"}
KILLED, REFUSED, DONE = 9, 1, 0
Fault = Callable[[], None]


def kill() -> None:
    os._exit(KILLED)


def refuse() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def writes_of(work: Callable[[], object], folder: Path) -> int:
    """How often the work writes below a folder, opens files for it or renames there."""
    reader, writer = os.pipe()
    if not (child := os.fork()):
        count = 0

        def see() -> None:
            nonlocal count
            count += 1

        _watch(folder, see)
        work()
        os.write(writer, str(count).encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writer)
    with os.fdopen(reader) as told:
        return int(told.read())


def with_fault(work: Callable[[], object], folder: Path, at: int, fault: Fault) -> int:
    """Do the work in a process of its own that meets the fault at write number `at`, counted from 1; from there on the
    disk refuses everything but to remove. Returns how the process ended."""
    if not (child := os.fork()):
        count = 0

        def see() -> None:
            nonlocal count
            count += 1
            if count >= at:
                fault()

        _watch(folder, see)
        try:
            work()
        except BaseException:
            os._exit(REFUSED)
        os._exit(DONE)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _watch(folder: Path, see: Fault) -> None:
    place = str(folder)

    def hook(event: str, arguments: tuple) -> None:
        if event == "open":
            path, _, flags = arguments
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            path, writes = (arguments or [""])[0], event in _WRITES
        if writes and isinstance(path, str | os.PathLike) and str(path).startswith(place):
            see()

    sys.addaudithook(hook)
