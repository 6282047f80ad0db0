"""Lessons: cards with things to do on the living page. Each is a YAML file in `lessons/`, checked when it is read.

docs/lessons.md tells how to write one."""

# what a file holds is not known until it is checked
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ..core.config import RunConfig
from ..core.errors import ConfigError
from ..core.settings_file import check_values
from ..core.yaml_text import read_yaml
from ..data.samples import SAMPLES
from ..mask.audit import Audit
from ..mask.checks import CHECKS
from .link import DOORS, LINKED_SETTINGS

FOLDER = "SFTDEMO_LESSONS"
LESSONS = Path(__file__).parent / "lessons"
ORDER = ("masking", "stop", "museum")  # at the page's head; others follow by name
REFUSED = "refused"  # in place of a check: rows that are refused
# What a step can point at: the id of a part of the page.
PLACES = {
    "examples": "examples",
    "mask": "mask",
    "weight": "weight",
    "audit": "audit",
    "settings": "mask-settings",
    "laboratory": "laboratory",
    "train": "train",
    "compare": "compare",
    "losses": "losses-door",
}
LESSON_SETTINGS = (*LINKED_SETTINGS, "seed")

Words = Annotated[str, Field(min_length=1, max_length=2_000)]
Rows = Annotated[tuple[dict[str, Any], ...], Field(min_length=1, max_length=50)]


_WORDS = {"missing": "it is missing", "extra_forbidden": "there is no such field"}  # in place of pydantic's


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Question(_Part):
    """A question of several choices; `right` is the place of the right one, from 0."""

    question: Words
    choices: Annotated[tuple[Words, ...], Field(min_length=2, max_length=6)]
    right: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _is_there(self) -> Question:
        if self.right >= len(self.choices):
            raise ValueError(
                f"right is {self.right}; it counts the choices from 0, so it is at most {len(self.choices) - 1}"
            )
        return self


class Answers(_Part):
    """What a model answered before and after a training that was recorded."""

    prompt: Words
    before: Words
    after: Words


class Filled(_Part):
    """What fills the page: a sample's name, or rows, and settings."""

    sample: str | None = None
    rows: Rows | None = None
    settings: dict[str, Any] = {}

    @property
    def content(self) -> str | None:
        """Return the text for the page; None where it stays as it is."""
        if self.rows is not None:
            return "\n".join(json.dumps(row, ensure_ascii=False) for row in self.rows)
        sample = next((each for each in SAMPLES if each.name == self.sample), None)
        return sample and sample.path.read_text(encoding="utf-8")

    @field_validator("sample")
    @classmethod
    def _known_sample(cls, name: str) -> str:
        return _one_of(name, [sample.name for sample in SAMPLES])

    @field_validator("settings")
    @classmethod
    def _good_settings(cls, settings: dict[str, Any]) -> dict[str, Any]:
        for name in settings:
            _one_of(name, LESSON_SETTINGS)
        try:
            own = {name: value for name, value in settings.items() if name not in ("custom", "against")}
            given = own | ({"template": settings.get("custom", "")} if own.get("template") == "custom" else {})
            RunConfig(**check_values(given))
        except ConfigError as error:
            raise ValueError(str(error).rstrip(".")) from error
        return settings

    @model_validator(mode="after")
    def _one_source(self) -> Filled:
        if self.sample is not None and self.rows is not None:
            raise ValueError("sample and rows stand together; keep one of them")
        return self


class Mend(Filled):
    """A change that the learner can choose, good or not: the audit tells which."""

    says: Words


class Step(Filled):
    """A card.

    Args:
        title, text (`str`):
            What stands on it; a blank line in the text begins a paragraph.
        point, open (`str`):
            A key of `PLACES` and one of `link.DOORS`: what the page shows.
        guess (`int`):
            A row whose trained tokens are to be guessed.
        moves (`str`):
            A setting that is to be changed.
        trains (`bool`):
            Whether a training is to be run; `recorded` are the answers of one that was, and `losses` the loss of each
            of its steps.
        ask (`Question`), write (`str`):
            A question with choices, and what is to be written down.
        finding (`str`), mends (`tuple[Mend, ...]`):
            The check whose finding is to be mended, or "refused", and what is offered for it.
        then (`str`):
            What is told once all of that is done.
    """

    title: Words
    text: Words
    point: str | None = None
    open: str | None = None
    guess: Annotated[int, Field(ge=0)] | None = None
    moves: str | None = None
    trains: bool = False
    recorded: tuple[Answers, ...] = ()
    losses: Annotated[tuple[Annotated[float, Field(ge=0, allow_inf_nan=False)], ...], Field(max_length=1000)] = ()
    ask: Question | None = None
    write: Words | None = None
    finding: str | None = None
    mends: Annotated[tuple[Mend, ...], Field(max_length=4)] = ()
    then: Words | None = None

    @field_validator("point", "open", "moves", "finding")
    @classmethod
    def _known(cls, name: str, about: Any) -> str:
        known = {"point": PLACES, "open": DOORS, "moves": LESSON_SETTINGS, "finding": (*CHECKS, REFUSED)}
        return _one_of(name, known[about.field_name])

    @property
    def fills(self) -> bool:
        """Return whether the step brings rows or settings of its own."""
        return bool(self.sample or self.rows or self.settings)


class Lesson(_Part):
    """A lesson: `settings` hold for each of its steps that brings rows or settings."""

    title: Words
    settings: dict[str, Any] = {}
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=30)]

    _good_settings = field_validator("settings")(Filled._good_settings.__func__)


def _one_of(name: str, known: Sequence[str] | Mapping[str, object]) -> str:
    if name not in known:
        raise ValueError(f"{name!r} is none of {', '.join(known)}")
    return name


def read_lesson(path: Path) -> Lesson:
    """Return the lesson in a file.

    Raises:
        ConfigError: naming the file, the step and the field, for one that cannot be used.
    """
    try:
        found = read_yaml(path.read_text(encoding="utf-8"), path.name)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path.name} is not UTF-8 at byte {error.start:,}; save it as UTF-8.") from error
    try:
        return Lesson.model_validate(found)
    except ValidationError as error:
        found_wrong = error.errors()
        # a misspelt name is told, and not that the right one is missing
        first = next((each for each in found_wrong if each["type"] == "extra_forbidden"), found_wrong[0])
        reason = _WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
        raise ConfigError(f"{path.name}: {_place(first['loc'])}{reason}. See docs/lessons.md.") from error


def _place(where: Sequence[int | str]) -> str:
    """Return the place of an error as words: a step's number counts from 1, as on its card."""
    words: list[str] = []
    for index, part in enumerate(where):
        if index and where[index - 1] == "steps":
            words.append(f"step {int(part) + 1}")
        elif part != "steps" or index + 1 == len(where):
            words.append(str(part))
    return f"{', '.join(words)}: " if words else ""


def lessons() -> dict[str, Lesson]:
    """Return all lessons by the names of their files: the program's, then those in the folder `$SFTDEMO_LESSONS`.

    Raises:
        ConfigError: if there are none in that folder, or one cannot be used or has the name of another.
    """
    return _lessons(os.environ.get(FOLDER) or None)


@cache
def _lessons(folder: str | None) -> dict[str, Lesson]:
    names = sorted(path.stem for path in LESSONS.glob("*.yaml"))
    ours = (*ORDER, *[each for each in names if each not in ORDER])
    return {name: read_lesson(LESSONS / f"{name}.yaml") for name in ours} | ({} if folder is None else _own(folder))


def _own(folder: str) -> dict[str, Lesson]:
    if not Path(folder).is_dir():
        raise ConfigError(f"{folder} is no folder; name one that holds lessons, each a file such as mine.yaml.")
    paths = sorted(Path(folder).glob("*.yaml"))
    if not paths:
        raise ConfigError(f"{folder} holds no lesson; write each into a file such as mine.yaml. See docs/lessons.md.")
    for path in paths:
        if (LESSONS / path.name).is_file():
            raise ConfigError(f"{path} has the name of a lesson of the program; call it otherwise.")
    return {path.stem: read_lesson(path) for path in paths}


def is_mended(step: Step, audit: Audit | None, refused: int) -> bool:
    """Return whether no row is missing or refused, and the audit finds neither an error nor a warning any more."""
    if audit is None or refused or audit.examples < _trained_rows(step):
        return False
    return all(finding.severity == "note" and finding.check != step.finding for finding in audit.findings())


def is_found(step: Step, audit: Audit | None, refused: int) -> bool:
    """Return whether what the step is about is found."""
    if step.finding == REFUSED:
        return refused > 0
    return audit is not None and any(finding.check == step.finding for finding in audit.findings())


def _trained_rows(step: Step) -> int:
    return sum(not row.get("held_out") for row in step.rows or ({},))
