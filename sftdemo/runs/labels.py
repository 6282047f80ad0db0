"""Give a saved run a name and a note, kept in its folder."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from ..core.errors import UNREADABLE, ConfigError, ModelError, unread
from ..core.files import write_whole
from .output import LABEL

MOST_NAME, MOST_NOTE = 80, 1000  # characters


@dataclass(frozen=True)
class Label:
    """What a person calls a run, on one line, and what they say of it. Either may be empty.

    Raises:
        ConfigError: if one is too long.
    """

    name: str = ""
    note: str = ""

    def __post_init__(self) -> None:
        for what, text, most in (("name", self.name, MOST_NAME), ("note", self.note, MOST_NOTE)):
            if len(text) > most:
                raise ConfigError(f"the {what} of a run has {len(text):,} characters; it may have {most:,}.")


def read_label(folder: Path) -> Label:
    """Return the label of the run in `folder`, which is empty if it has none.

    Raises:
        ModelError: if there is one that cannot be read.
    """
    if not (folder / LABEL).is_file():
        return Label()
    try:
        found = json.loads((folder / LABEL).read_text(encoding="utf-8"))
        return Label(_text(found["name"]), _text(found["note"]))
    except UNREADABLE as error:
        raise ModelError(f"{folder / LABEL} cannot be read: {unread(error)}. Delete it.") from error


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ModelError("the name and the note must be texts.")
    return value


def write_label(folder: Path, name: str, note: str) -> None:
    """Keep a name and a note in a run's folder; two empty ones take them away.

    Raises:
        ConfigError: if one is too long, or if they cannot be written.
    """
    label = Label(" ".join(name.split()), note.strip())
    try:
        if label == Label():
            (folder / LABEL).unlink(missing_ok=True)
        else:
            write_whole(folder / LABEL, json.dumps(asdict(label), ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise ConfigError(f"the name of the run cannot be kept: {error.strerror or error}.") from error
