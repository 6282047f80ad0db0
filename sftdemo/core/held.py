"""Temporary folders that their process holds with a lock, so that those of a process that was killed are found."""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .errors import SftdemoError

LOCK = ".held"  # in the folder
KEPT = "kept"  # in the folder: what is nowhere else, so that the folder stays, for `abandoned` to find
PREFIX = "sftdemo-"  # of the folders in the system's temporary folder
_RANDOM = "[a-z0-9_]{8}"  # what tempfile puts behind a prefix


@contextmanager
def held_folder(parent: Path, prefix: str) -> Generator[Path]:
    """Make a folder in `parent`, yield it, and remove it with all that is in it, unless that is `KEPT`. If the process
    is killed, `abandoned` finds it.

    Raises:
        OSError: if it cannot be made.
    """
    from filelock import FileLock

    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        lock = FileLock(folder / LOCK)
        try:
            lock.acquire()
        except FileNotFoundError:  # another process took it for abandoned while nothing was in it
            continue
        if (folder / LOCK).exists():
            break
        lock.release()  # the same, just before it was held
    try:
        yield folder
    finally:
        lock.release()  # first, since Windows removes no open file
        if not (folder / KEPT).exists():
            shutil.rmtree(folder, ignore_errors=True)


def abandoned(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield the folders that `held_folder` made in `parent` for a process that is dead, and remove each afterwards."""
    from filelock import FileLock, Timeout

    for folder in _made(parent, re.compile(re.escape(prefix) + _RANDOM)):
        with suppress(OSError):  # not empty, as nearly always
            folder.rmdir()
        if not (folder / LOCK).is_file():
            continue
        try:
            with FileLock(folder / LOCK, blocking=False):
                yield folder
        except Timeout:
            continue
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path, prefix: str) -> None:
    """Remove the folders that `held_folder` made in `parent` for a process that is dead."""
    for _ in abandoned(parent, prefix):
        pass


@contextmanager
def scratch_folder() -> Generator[str]:
    """Make a temporary folder, yield its path, and remove it; those of dead processes as well.

    Raises:
        SftdemoError: if it cannot be made.
    """
    with ExitStack() as stack:
        try:
            parent = Path(tempfile.gettempdir())
            sweep(parent, PREFIX)
            folder = stack.enter_context(held_folder(parent, PREFIX))
        except OSError as error:
            words = f"no temporary file can be written: {error.strerror or error}. Set TMPDIR to a folder with room."
            raise SftdemoError(words) from error
        yield str(folder)


def _made(parent: Path, name: re.Pattern[str]) -> list[Path]:
    """Return the user's own folders with such a name: others may put what they like beside them."""
    try:
        found = [each for each in parent.iterdir() if name.fullmatch(each.name) and not each.is_symlink()]
        return [each for each in found if each.is_dir() and _is_own(each)]
    except OSError:  # there is none, or it may not be read
        return []


def _is_own(folder: Path) -> bool:
    return sys.platform == "win32" or folder.lstat().st_uid == os.getuid()
