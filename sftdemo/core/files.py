"""The cache folder, and writing a folder completely or not at all."""

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
    """Return `$SFTDEMO_CACHE`, or `sftdemo` in the user's cache folder."""
    if os.environ.get("SFTDEMO_CACHE"):
        return Path(os.environ["SFTDEMO_CACHE"])
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sftdemo"


@contextmanager
def written_whole(folder: Path) -> Iterator[Path]:
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
