"""Bound what a server keeps on its disk: the limits, the order in which runs were begun, and what goes first."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import ConfigError, ModelError
from ..core.files import cache_folder, files_below, size_of_file, write_whole
from ..core.json_files import read_object

MAX_DISK, KEEP_DAYS = "SFTDEMO_MAX_DISK", "SFTDEMO_KEEP_DAYS"
ORDER = "runs.json"  # in the cache: the runs in the order of their beginning, since a clock may be set back
FRESH = 600.0  # seconds in which a copy or an upload counts as in use
_REMEMBERED = 1000  # runs in the order


@dataclass(frozen=True)
class DiskLimits:
    """What a server keeps.

    Args:
        bytes (`int`, *optional*, defaults to 20 GB):
            The most for runs, uploads and files to download, all together: `$SFTDEMO_MAX_DISK`, in GB.
        days (`float`, *optional*, defaults to 0):
            After how many days a run is deleted: `$SFTDEMO_KEEP_DAYS`. 0 stands for never; on a public page it is 1.
    """

    bytes: int = 20_000_000_000
    days: float = 0.0

    @classmethod
    def from_environment(cls, is_public: bool) -> DiskLimits:
        """Return the limits that the environment sets.

        Raises:
            ConfigError: for one that is no number above 0.
        """
        days = 1.0 if is_public else 0.0
        return cls(int(_number(MAX_DISK, cls.bytes / 1e9, "gigabytes") * 1e9), _number(KEEP_DAYS, days, "days"))


def _number(name: str, default: float, unit: str) -> float:
    text = os.environ.get(name, "").strip()
    with suppress(ValueError):
        if not text or 0 < float(text) < 1e9:
            return float(text or default)
    raise ConfigError(f"{name} is {text!r}; it must be a number of {unit} above 0.")


def note_begun(run_id: str) -> None:
    """Write down that a run has begun, after all others.

    Raises:
        OSError: if that cannot be done.
    """
    path = cache_folder() / ORDER
    path.parent.mkdir(parents=True, exist_ok=True)
    names = [name for name in _order() if name != run_id]
    write_whole(path, json.dumps({"begun": [*names, run_id][-_REMEMBERED:]}))


def oldest_first(folders: Iterable[Path]) -> list[Path]:
    """Return run folders in the order in which their runs were begun. Those of which nothing is known come first, by
    their times."""
    places = {name: number for number, name in enumerate(_order())}
    return sorted(folders, key=lambda folder: (places.get(folder.name, -1), _time(folder)))


def _order() -> list[str]:
    try:
        found = read_object(cache_folder() / ORDER).get("begun")
    except ModelError:  # there is none yet, or it cannot be read: then the times count
        return []
    return [name for name in found if isinstance(name, str)] if isinstance(found, list) else []


def is_expired(folder: Path, limits: DiskLimits) -> bool:
    """Return whether a run is older than it may be."""
    return bool(limits.days) and time.time() - _time(folder) > limits.days * 86_400


def make_room(
    limits: DiskLimits,
    copies: Path,
    runs: Sequence[Path],
    used: Collection[str],
    delete: Callable[[Path], None],
    more: int = 0,
) -> bool:
    """Delete copies and uploads and then runs, each from the oldest on, until all that is kept, with `more` bytes to
    come, is within the limits. Return whether it is.

    Args:
        copies (`Path`):
            The folder with uploads and files to download. What was touched in the last `FRESH` seconds stays.
        runs (`Sequence[Path]`), used (`Collection[str]`):
            The folders of the runs, the oldest first, and the names of those that must stay.
        delete (`Callable`):
            Deletes a run with all its copies.
    """
    files = files_below(copies)
    total = more + sum(map(size_of_file, files)) + sum(map(size_of, runs))
    for file in sorted(files, key=_time):
        if total <= limits.bytes:
            return True
        if abs(time.time() - _time(file)) > FRESH:
            total -= size_of_file(file)
            file.unlink(missing_ok=True)
    for run in runs:
        if total <= limits.bytes:
            return True
        if run.name not in used:
            total -= size_of(run)
            delete(run)
    return total <= limits.bytes


def size_of(folder: Path) -> int:
    """Return the bytes that the files of a folder have."""
    return sum(map(size_of_file, files_below(folder)))


def remove(folder: Path) -> None:
    """Remove a folder with all that is in it, whether or not it is there."""
    shutil.rmtree(folder, ignore_errors=True)


def _time(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
