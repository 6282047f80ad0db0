"""Write files and folders atomically, and locate the cache folder."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from platformdirs import user_cache_path


def cache_folder() -> Path:
    """Return `$SFTDEMO_CACHE` if set, else the platform's cache folder for `sftdemo`. On Linux that is
    `$XDG_CACHE_HOME/sftdemo`, by default `~/.cache/sftdemo`."""
    if os.environ.get("SFTDEMO_CACHE"):
        return Path(os.environ["SFTDEMO_CACHE"])
    return user_cache_path("sftdemo", appauthor=False)


def write_whole(path: Path, text: str) -> None:
    """Write `text` to a temporary file next to `path`, flush it to disk, and move it to `path`.

    Readers of `path` see the old text or the new one, never a part, even if the program or the machine dies.

    Raises:
        OSError: if the file cannot be written. `path` is then unchanged and the temporary file is removed.
    """
    beside = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    try:
        with beside.open("x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise


def flush_folder(folder: Path) -> None:
    """Flush all files of a folder to the disk, so that they are whole even if the machine dies.

    Raises:
        OSError: if that fails, as on a full disk.
    """
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
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
    """Yield an empty folder next to `folder`, and move it to `folder` when the block succeeds.

    Until then, and if the block fails, `folder` stays unchanged.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    beside.chmod(0o755)  # mkdtemp makes it accessible to its owner only
    try:
        yield beside
        if folder.exists():
            old = Path(tempfile.mkdtemp(prefix=f".{folder.name}-old-", dir=folder.parent))
            folder.rename(old / folder.name)
            try:
                beside.rename(folder)
            except BaseException:
                (old / folder.name).rename(folder)
                raise
            finally:
                shutil.rmtree(old)
        else:
            beside.rename(folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
