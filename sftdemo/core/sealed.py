"""Know a folder again, so that one that was cut or changed on the disk is never used: of the cache it is made anew."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import cast

from .errors import ModelError
from .json_files import read_object

SEAL = ".seal.json"  # in the folder: for each file its size, its time and its SHA-256


def seal(folder: Path) -> None:
    """Write down what the files of a folder are, once all are written.

    Raises:
        OSError: if that fails, as on a full disk.
    """
    files = [path for path in folder.rglob("*") if path.is_file() and path != folder / SEAL]
    known = {path.relative_to(folder).as_posix(): stamp(path) for path in files}
    (folder / SEAL).write_text(json.dumps(known, indent=1), encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Return whether a folder is there with all its files as they were sealed. One that an earlier version left has no
    seal; there the files must be as long as they say themselves."""
    if not folder.is_dir():
        return False
    if not (folder / SEAL).exists():
        return all(map(_is_sound, folder.iterdir()))
    return changed_file(folder) is None


def changed_file(folder: Path) -> str | None:
    """Return the name of a file in a sealed folder that is missing or not as it was, the seal's own where that cannot
    be read; None if there is none."""
    try:
        files = read_object(folder / SEAL)
    except ModelError:
        return SEAL
    return next((name for name, known in files.items() if not is_same(folder / name, known)), None)


def stamp(path: Path) -> tuple[int, int, str]:
    """Return the size of a file in bytes, its time in nanoseconds, and its SHA-256.

    Raises:
        OSError: if it cannot be read.
    """
    found = path.stat()
    return found.st_size, found.st_mtime_ns, _sha256(path)


def is_same(path: Path, known: object) -> bool:
    """Return whether a file is there as it was when `known` was its `stamp`, which JSON has as a list. It is only read
    if it has been written or copied since."""
    if not (isinstance(known, list | tuple) and len(cast("list[object]", known)) == 3):
        return False
    size, time, sha256 = cast("list[object]", known)
    try:
        found = path.stat()
        return found.st_size == size and (found.st_mtime_ns == time or _sha256(path) == sha256)
    except (OSError, ValueError):
        return False


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_sound(path: Path) -> bool:
    try:
        if path.suffix == ".json":
            read_object(path)
        elif path.suffix == ".safetensors":
            return _length(path) == path.stat().st_size
    except (ModelError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
    return True


def _length(path: Path) -> int:
    """Return how long the header of a safetensors file says that the file is, in bytes."""
    with path.open("rb") as file:
        begin = 8 + int.from_bytes(file.read(8), "little")
        if begin > path.stat().st_size:
            return begin
        header = json.loads(file.read(begin - 8))
    return begin + max((each["data_offsets"][1] for name, each in header.items() if name != "__metadata__"), default=0)
