"""What the record of a run holds, which may have been cut or changed since it was written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ..core.errors import ConfigError, ModelError
from ..core.settings_file import read_recorded

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class _Model:
    name: str
    copy: str
    hub_id: str | None
    public_name: str
    base: str | None = None  # a run of an earlier version names none


@dataclass(frozen=True)
class _Settings:
    """The settings that are read by their names; a run of an earlier version is without some of the others."""

    model: str
    template: str
    full: bool
    prompt_loss_weight: float


@dataclass(frozen=True)
class _Rows:
    source: str


@dataclass(frozen=True)
class _Mask:
    examples: int
    tokens: int
    trained_tokens: int
    sha256: str


@dataclass(frozen=True)
class _Record:
    """A record. An ablation, an arm of one, or a run of an earlier version is without what has a default."""

    sftdemo: str
    finished: str
    kind: Literal["adapter", "merged", "full", "ablation"]
    model: _Model
    config: _Settings
    shape: str
    data: _Rows | None
    command: str
    steps: int
    loss: float
    begun: str | None = None  # which a record calls `from`
    losses: tuple[float, ...] = ()
    mask: _Mask = _Mask(0, 0, 0, "")
    comparisons: tuple[dict[str, Any], ...] = ()
    conclusion: str = ""
    same_ids: tuple[int, ...] = ()
    chat_template: str | None = None
    arms: tuple[str, ...] = ()


def check_record(path: Path, record: dict[str, Any]) -> None:
    """Check that the record of a run (`folder.record_of`), which lies at `path`, holds all that is read of it.

    Raises:
        ModelError: with the first value that is missing or of another kind.
    """
    from pydantic import ValidationError

    try:
        _adapter().validate_json(json.dumps(record | {"begun": record.get("from")}), strict=True)
        read_recorded(record["config"])
    except ConfigError as error:
        raise ModelError(f"{path} does not say what was trained: {error}") from error
    except ValidationError as error:
        names = ["from" if name == "begun" else str(name) for name in error.errors()[0]["loc"]]
        raise ModelError(
            f"{path} does not say what was trained: {'.'.join(names) or 'a text'} is missing or of another kind; it "
            "may have been changed."
        ) from error


@cache
def _adapter() -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(_Record)
