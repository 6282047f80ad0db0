"""Files and folders that appear whole or not at all, and where the program keeps what it makes once."""

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
    """`$SFTDEMO_CACHE`, else this system's cache folder for `sftdemo`: on Linux `~/.cache/sftdemo`, or below
    `$XDG_CACHE_HOME`."""
    if os.environ.get("SFTDEMO_CACHE"):
        return Path(os.environ["SFTDEMO_CACHE"])
    return user_cache_path("sftdemo", appauthor=False)


def write_whole(path: Path, text: str) -> None:
    """Writes `text` to a file beside `path`, which takes its place when it is on the disk.

    Who reads `path` finds the old text or the new one, never a part, whatever ends the program or the machine.

    Raises:
        OSError: where it cannot be written; `path` is then as it was, and nothing is left beside it.
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


@contextmanager
def written_whole(folder: Path) -> Generator[Path]:
    """Yield an empty folder next to `folder`, and move it into its place when the block succeeds.

    Until then, and if the block fails, `folder` stays as it was.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    beside.chmod(0o755)  # mkdtemp makes it private to its owner
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
