"""Check before any work that a run can be saved to a folder, and that nothing of anyone else's is replaced."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from ..core.characters import half_at
from ..core.errors import ModelError, TrainingError, unwritten
from ..core.files import check_replaceable, recover
from ..core.json_files import read_object
from ..model.sources import RUN_RECORD as RECORD

CHECKPOINT = "checkpoint"  # a folder, while a run is under way and where one was stopped
LABEL = "label.json"  # the name and the note that a person gave a run
LATER = ("certificate.json", "film.json", LABEL)  # what comes into a run's folder after the run
_OF_CHECKPOINT = re.compile(r"\.partial|step-\d+|rows-[0-9a-f]{8}\.(jsonl|partial)")


def check_output(output: Path, overwrite: bool = False) -> None:
    """Check that a run can be saved to `output`, which it may replace as a whole.

    Raises:
        TrainingError: if the folder cannot be written or replaced, if it holds an earlier run, finished or not, and
            `overwrite` is false, or if it holds anything that a run of this program has not written.
    """
    found = check_writable(output)
    if CHECKPOINT in found and not overwrite:
        raise TrainingError(
            f"there is a run in {output} that was not finished. Go on with it with --resume {output}, save to another "
            "folder with --output, or replace it with --overwrite."
        )
    if RECORD in found and not overwrite:
        raise TrainingError(
            f"there is an earlier run in {output}{_what(output)}. Save to another folder with --output, or replace the "
            "earlier run with --overwrite."
        )
    if found:
        _check_own(output)
    try:
        if output.exists():
            check_replaceable(output)
    except OSError as error:
        raise TrainingError(
            f"{output} cannot be replaced as a whole when the run is done: {error.strerror or error}. Name a folder in "
            f"it, such as {output / 'run'}."
        ) from error


def check_writable(output: Path) -> set[str]:
    """Check that a folder can be written, finish what a killed run left of it, and return the names in it.

    Raises:
        TrainingError: if it cannot, or if it holds files but no run.
    """
    if half_at(os.path.realpath(output)) is not None:  # neither safetensors nor tokenizers writes there
        raise TrainingError(f"{output} has a name that is not UTF-8; name another folder to save to.")
    try:
        output.absolute().parent.mkdir(parents=True, exist_ok=True)
        recover(output)
        with tempfile.TemporaryFile(dir=output.absolute().parent):
            pass
        if Path(os.path.realpath(output)).is_symlink():
            raise TrainingError(f"{output} is a link that leads back to itself; name another folder to save to.")
        if output.exists() and not output.is_dir():
            raise TrainingError(f"{output} is a file; name a folder to save to.")
        found = {path.name for path in output.iterdir()} if output.exists() else set[str]()
    except (OSError, ValueError) as error:
        raise TrainingError(f"{output} cannot be written: {unwritten(error, 'folder')}") from error
    if found - {CHECKPOINT} and RECORD not in found:
        raise TrainingError(f"{output} holds files that are not an earlier run's; name another folder to save to.")
    return found


def with_files(folder: Path, record: dict) -> dict:
    """Return a run's record with the list of the folder's files, by which `check_output` knows them again."""
    names = {RECORD, *(_name(path, folder) for path in folder.rglob("*") if not path.is_dir())}
    return record | {"files": sorted(n for n in names if n != LABEL and not n.startswith(f"{CHECKPOINT}/"))}


def _check_own(output: Path) -> None:
    """Refuse a folder with anything in it that a run has not written."""
    other = [path.name for path in _listed(output / CHECKPOINT) if not _OF_CHECKPOINT.fullmatch(path.name)]
    if not other and (output / RECORD).exists():
        known = _known(output)
        files = (path for path in output.rglob("*") if not path.is_dir() or path.is_symlink())
        names = (_name(path, output) for path in files)
        other = [name for name in names if name not in known and not name.startswith(f"{CHECKPOINT}/")]
    if other:
        raise TrainingError(
            f"{output} holds {sorted(other)[0]!r}, which the run in it has not written, and would be lost. Move it "
            "away, or name another folder to save to."
        )


def _known(output: Path) -> set[str]:
    """Return the files that the record of a run names as its own."""
    try:
        record = read_object(output / RECORD)
    except ModelError as error:
        raise TrainingError(f"{output} is not replaced: {error}") from error
    files = record.get("files")
    if "sftdemo" not in record or not isinstance(files, list):
        raise TrainingError(
            f"{output} is not replaced: its {RECORD} does not say which files this program wrote there. Delete the "
            "folder yourself, or name another one to save to."
        )
    return {*map(str, files), *LATER}


def _listed(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


def _name(path: Path, folder: Path) -> str:
    return path.relative_to(folder).as_posix()


def _what(folder: Path) -> str:
    """Return a run's model and when it finished, for a message; empty if its record cannot be read."""
    try:
        record = read_object(folder / RECORD)
        when = datetime.fromisoformat(record["finished"]).astimezone(UTC)
        return f": {record['model']['name']}, finished {when:%d %b %Y, %H:%M} UTC"
    except (ModelError, ValueError, KeyError, TypeError):
        return ""
