"""Zips of saved runs, in the temporary folder, from where Gradio may serve them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path


def archive_of(folder: Path, form: str = "") -> Path:
    """Return where the zip of a run's folder lies, or that of another form of it."""
    return Path(tempfile.gettempdir()) / f"sftdemo-{folder.name}{form}.zip"


def zipped(folder: Path, archive: Path) -> Path:
    """Zip a folder, unless the archive is there, and return the archive."""
    if not archive.is_file():
        with tempfile.TemporaryDirectory(prefix="sftdemo-") as scratch:
            made = shutil.make_archive(f"{scratch}/{folder.name}", "zip", folder)
            shutil.move(made, archive)
    return archive


def delete_run(folder: Path) -> None:
    """Delete a run's folder and its zips."""
    shutil.rmtree(folder, ignore_errors=True)
    delete_archives(folder)


def delete_archives(folder: Path) -> None:
    """Delete the zips of a run's folder, which is about to change."""
    for archive in Path(tempfile.gettempdir()).glob(f"sftdemo-{folder.name}*.zip"):
        archive.unlink(missing_ok=True)
