"""Zips of saved runs, in the temporary folder, from where Gradio may serve them."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

from ..model.sources import RUN_RECORD
from ..runs.folder import EVENTS, FILM, public_texts
from ..runs.output import CHECKPOINT


def archive_of(folder: Path, form: str = "") -> Path:
    """Return where the zip of a run's folder lies, or that of another form of it."""
    return Path(tempfile.gettempdir()) / f"sftdemo-{folder.name}{form}.zip"


def zipped(folder: Path, archive: Path) -> Path:
    """Zip a folder, unless the archive is there, and return the archive. Of a run, what names places of this machine is
    left out or given public names, since a zip is handed to others."""
    if not archive.is_file():
        with tempfile.TemporaryDirectory(prefix="sftdemo-") as scratch:
            made = Path(scratch) / "made.zip"
            _zip(folder, made)
            shutil.move(made, archive)
    return archive


def _zip(folder: Path, made: Path) -> None:
    runs = [record.parent for record in folder.rglob(RUN_RECORD) if CHECKPOINT not in record.parts]
    texts = {run / name: text for run in runs for name, text in public_texts(run).items()}
    with ZipFile(made, "w", ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            name = file.relative_to(folder)
            if file in texts:
                archive.writestr(str(name), texts[file])
            elif file.is_file() and file.name != EVENTS and not {CHECKPOINT, FILM}.intersection(name.parts):
                archive.write(file, name)


def delete_run(folder: Path) -> None:
    """Delete a run's folder and its zips."""
    shutil.rmtree(folder, ignore_errors=True)
    delete_archives(folder)


def delete_archives(folder: Path) -> None:
    """Delete the zips of a run's folder, which is about to change."""
    for archive in Path(tempfile.gettempdir()).glob(f"sftdemo-{folder.name}*.zip"):
        archive.unlink(missing_ok=True)
