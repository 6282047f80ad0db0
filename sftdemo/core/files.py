"""Folders that appear whole or not at all, where the program keeps what it makes once, and rows that stay on disk."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    pass


def cache_folder() -> Path:
    """`$SFTDEMO_CACHE`, else `sftdemo` in the user's cache folder."""
    if os.environ.get("SFTDEMO_CACHE"):
        return Path(os.environ["SFTDEMO_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sftdemo"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
    """Gives an empty folder beside `folder` to write into, which takes its place when the block ends well.

    What was in `folder` stays until then, and stays for good if the block fails.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    beside.chmod(0o755)  # mkdtemp's is for its owner only
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
