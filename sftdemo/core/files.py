"""Write files and folders atomically, and locate the cache folder."""

from __future__ import annotations

import errno
import os
import re
import shutil
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path

from .errors import ConfigError
from .held import KEPT, abandoned, held_folder, sweep

_OS_ERROR = re.compile(r"\(os error (\d+)\)$")
_WHOLE, _OLD = "whole", KEPT  # what `written_whole` moves into place, and what it moves away


def cache_folder() -> Path:
    """Return `$SFTDEMO_CACHE` if set, else the platform's cache folder for `sftdemo`. On Linux that is
    `$XDG_CACHE_HOME/sftdemo`, by default `~/.cache/sftdemo`.

    Raises:
        ConfigError: if this user has no home folder.
    """
    if os.environ.get("SFTDEMO_CACHE"):
        return Path(os.environ["SFTDEMO_CACHE"])
    folder = user_cache_path("sftdemo", appauthor=False)
    if not folder.is_absolute():  # a path that begins with ~, which nothing says the meaning of
        raise ConfigError("this user has no home folder, so there is no place for a cache; set HOME or SFTDEMO_CACHE.")
    return folder


def write_whole(path: Path, text: str) -> None:
    """Write `text` to a temporary file next to `path`, flush it to disk, and move it to `path`.

    Readers of `path` see the old text or the new one, never a part, even if the program or the machine dies. A link
    stays, and what it points to is replaced. What is no file, such as a pipe or `/dev/stdout`, stays and is written to.

    Raises:
        OSError: if the file cannot be written. `path` is then unchanged and the temporary file is removed.
    """
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    place = _real(path)
    prefix = f".{place.name}-"
    sweep(place.parent, prefix)
    with held_folder(place.parent, prefix) as held:
        beside = held / "partial"
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(place)


def files_below(folder: Path) -> list[Path]:
    """Return the files in a folder and in those below it. What goes meanwhile is passed over, unlike by `rglob`."""
    return [Path(place, name) for place, _, names in os.walk(folder) for name in names]


def size_of_file(path: Path) -> int:
    """Return how many bytes a file has; 0 if it has just gone."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def flush_folder(folder: Path) -> None:
    """Flush all files of a folder to the disk, so that they are whole even if the machine dies.

    Raises:
        OSError: if that fails, as on a full disk.
    """
    mode = "rb+" if sys.platform == "win32" else "rb"  # a copied file may not be written, and need not be but there
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open(mode) as file:
                os.fsync(file.fileno())


def link_folder(folder: Path, other: Path) -> None:
    """Let `other` be a folder with the same files, without copying them where the file system can share them."""

    def link(source: str, target: str) -> None:
        try:
            os.link(source, target)
        except OSError:  # not every file system has hard links
            shutil.copy2(source, target)

    shutil.copytree(folder, other, copy_function=link)


@contextmanager
def written_whole(folder: Path) -> Generator[Path]:
    """Yield an empty folder, and move it to `folder` when the block succeeds and all is on the disk.

    Until then, and if the block fails, `folder` stays unchanged. A link stays as well; what it points to is replaced.
    If the process is killed, the next one that writes `folder` or calls `recover` removes what it left.

    Raises:
        OSError: if it cannot be written.
    """
    place = _real(folder)
    place.parent.mkdir(parents=True, exist_ok=True)
    recover(place)
    with held_folder(place.parent, f".{place.name}-") as held:
        partial, whole = held / "partial", held / _WHOLE
        partial.mkdir()
        with _as_os_errors():
            yield partial
        flush_folder(partial)
        recover(place)  # what another process finished meanwhile is older
        partial.rename(whole)
        _take_place(whole, place, held / _OLD)


@contextmanager
def _as_os_errors() -> Generator[None]:
    """Raise what a library in Rust says of the file system as the OSError that it is: safetensors has an error of its
    own for it, tokenizers a bare one."""
    try:
        yield
    except OSError:
        raise
    except Exception as error:
        found = _OS_ERROR.search(str(error))
        if found is None:
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1]))) from error


def recover(folder: Path) -> None:
    """Finish what a process began that was killed while it wrote `folder` with `written_whole`: what was whole takes
    its place, and of all else nothing stays.

    Raises:
        OSError: if it cannot take its place.
    """
    place = _real(folder)
    for held in abandoned(place.parent, f".{place.name}-"):
        whole, old = held / _WHOLE, held / _OLD
        if whole.exists() and not (old.exists() and place.exists()):
            _take_place(whole, place, old)
        elif old.exists() and not place.exists():
            old.rename(place)


def check_replaceable(folder: Path) -> None:
    """Check that `written_whole` can replace an existing folder, which it moves away: not where something is mounted,
    nor where this process stands.

    Raises:
        OSError: with the reason.
    """
    place = _real(folder)
    if Path.cwd().is_relative_to(place):
        raise OSError(errno.EBUSY, "it is the folder that you are in")
    with held_folder(place.parent, f".{place.name}-") as held:
        taken = held / "taken"
        taken.mkdir()
        (taken / "file").touch()
        try:
            place.rename(taken)  # never succeeds: what is there is not empty
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise OSError(errno.EBUSY, "something is mounted there") from error
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) and sys.platform != "win32":
                raise


def _take_place(whole: Path, place: Path, old: Path) -> None:
    if not place.exists():
        whole.rename(place)
        return
    place.rename(old)
    try:
        whole.rename(place)
    except BaseException:
        old.rename(place)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))
