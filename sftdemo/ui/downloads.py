"""Files that the page offers: each is written when it is asked for, once, and removed with what it was made of."""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from gradio.context import LocalContext
from gradio.utils import get_upload_folder

from ..core.errors import DataError
from ..core.files import files_below, size_of_file
from ..core.held import held_folder, sweep
from ..model.sources import RUN_RECORD
from ..runs.disk import remove
from ..runs.folder import EVENTS, FILM, public_texts
from ..runs.output import CHECKPOINT

MOST = 256  # files that are offered at the same time, beside those of runs


@dataclass(frozen=True)
class Offer:
    """A file that is offered.

    Args:
        owner (`str`):
            What it is made of: a run, or what a visitor works on.
        write (`Callable[[Path], None]`, *optional*):
            Writes it to a path; None for one that is there already and cannot be made again.
    """

    owner: str
    path: Path
    write: Callable[[Path], None] | None
    making: threading.Lock = field(default_factory=threading.Lock)


class Downloads:
    """All files that are offered, by their paths in the folder from where Gradio serves files without a copy."""

    def __init__(self):
        self._offers: dict[str, Offer] = {}
        self._lock = threading.Lock()

    def offer(self, owner: str, name: str, write: Callable[[Path], None] | None) -> Path:
        """Return where a file of this name will lie once it is asked for. It is the same as long as it is offered."""
        with self._lock:
            for offer in self._offers.values():
                if (offer.owner, offer.path.name) == (owner, name):
                    return offer.path
            path = _folder() / secrets.token_hex(16) / name
            self._offers[str(path)] = Offer(owner, path, write)
            return path

    def offer_own(self, kind: str, name: str, write: Callable[[Path], None]) -> Path:
        """Return where a file will lie that is made of what this visitor works on, in place of the last of its kind."""
        request = LocalContext.request.get(None)
        owner = f"{kind} {getattr(request, 'session_hash', '')}"
        self.withdraw(owner)
        path = self.offer(owner, name, write)
        for old in [each.owner for each in list(self._offers.values()) if " " in each.owner][:-MOST]:
            self.withdraw(old)
        return path

    def make(self, path: str) -> None:
        """Write a file that is offered, unless it is there. Paths elsewhere are left alone.

        Raises:
            OSError: if it cannot be written.
            SftdemoError: if what it is made of cannot be read, or if it is offered no more.
        """
        offer = self._offers.get(path)
        if offer is None and path.startswith(f"{_folder()}{os.sep}"):
            raise DataError(
                "this file is not offered any more: its run was deleted, or what it was made of is another now. Ask "
                "for it anew on the page."
            )
        if offer is None or offer.write is None:
            return
        with offer.making:
            if not offer.path.exists():
                write_whole(offer.path, offer.write)

    def withdraw(self, owner: str) -> None:
        """Remove the files that are made of this, and offer them no more."""
        with self._lock:
            gone = [path for path, offer in self._offers.items() if offer.owner == owner]
            for path in gone:
                remove(self._offers.pop(path).path.parent)


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` write a file beside its place, and move it there when it is done.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    sweep(path.parent, ".")
    with held_folder(path.parent, ".") as held:
        write(held / path.name)
        (held / path.name).replace(path)


def _folder() -> Path:
    return Path(get_upload_folder()).resolve() / "offered"


def zip_folder(folder: Path, made: Path) -> None:
    """Zip a folder. Of a run, what names places of this machine is left out or given public names, since a zip is
    handed to others.

    Raises:
        OSError: if it cannot be written.
        ModelError: if a run's record cannot be read.
    """
    runs = [record.parent for record in folder.rglob(RUN_RECORD) if CHECKPOINT not in record.parts]
    texts = {run / name: text for run in runs for name, text in public_texts(run).items()}
    with ZipFile(made, "w", ZIP_DEFLATED) as archive:
        for file in _handed_on(folder):
            name = file.relative_to(folder)
            if file in texts:
                archive.writestr(str(name), texts[file])
            else:
                archive.write(file, name)


def size_of_zip(folder: Path) -> int:
    """Return how many bytes a zip of a folder has once it is unpacked."""
    return sum(map(size_of_file, _handed_on(folder)))


def _handed_on(folder: Path) -> list[Path]:
    """Return the files that a zip of a folder has: a run's events, checkpoint and film's adapters stay here."""
    stay = {EVENTS, CHECKPOINT, FILM}
    return sorted(file for file in files_below(folder) if not stay.intersection(file.relative_to(folder).parts))
