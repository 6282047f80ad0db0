"""The earlier run that the next training starts from, in place of a model by its name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from ..core.config import SETTINGS, RunConfig
from ..core.errors import ConfigError, DataError
from ..core.files import cache_folder
from ..runs.revisit import SavedRun
from ..runs.wording import column_name
from .words import ENGLISH, language

RUN_ID = re.compile(r"[0-9a-f]{16}|[0-9a-f]{32}")  # the shorter ones are of earlier versions
EARLIER = "an earlier run"


@dataclass(frozen=True)
class Start:
    """A model that an earlier run has trained.

    Args:
        run_id (`str`), weight (`float`, *optional*):
            The run and, if it trained several models, the prompt-loss weight of this one.
        folder (`str`):
            Where the model lies.
        words (`str`):
            The run and its model, for the page.
        base (`str`), config (`RunConfig`), is_adapter (`bool`):
            The model without any adapter, the run's settings, and whether the folder holds a LoRA adapter.
    """

    run_id: str
    weight: float | None
    folder: str
    words: str
    base: str
    config: RunConfig
    is_adapter: bool

    def put_into(self, config: RunConfig) -> RunConfig:
        """Return the settings with this model in place of theirs. An adapter keeps the rank that it has.

        Raises:
            ConfigError: if all weights are to be trained, and this is an adapter.
        """
        if self.is_adapter and config.full:
            raise ConfigError(
                "the run to start from is a LoRA adapter, which cannot be trained with all weights; choose to train a "
                "LoRA adapter, or start from the model again."
            )
        rank = SETTINGS["lora_r"].default if self.is_adapter else config.lora_r
        return replace(config, model=self.folder, lora_r=rank)

    @property
    def download(self) -> str:
        """Return the name of the folder that the run's download is when it is unpacked."""
        name, folder = f"sftdemo-{self.run_id}", Path(self.folder).name
        return name if folder == self.run_id else f"{name}/{folder}"


def start_of(saved: SavedRun, weight: float | None) -> Start:
    """Return the model of a saved run to start from or, if it trained several, the one with this prompt-loss weight.

    Raises:
        ConfigError: if there is no such model.
    """
    weight = weight if len(saved.arms) > 1 else None
    is_adapter = saved.kind == "adapter"
    what = "LoRA adapter on" if is_adapter else "all weights of"
    arm = "" if weight is None else f", {column_name(weight)}"
    words = f"the run of {when(saved.finished)}{arm}: {what} {model_words(saved.base)}"
    return Start(saved.folder.name, weight, str(saved.arm(weight)), words, saved.base, saved.config, is_adapter)


def model_words(name: str) -> str:
    """Return what the page calls a model: its name, unless that is where a run of the page lies."""
    return EARLIER if any(RUN_ID.fullmatch(part) for part in Path(name).parts) else name


def when(finished: str) -> str:
    """Return when a run finished, from ISO 8601."""
    form = "%d %b %Y, %H:%M UTC" if language() == ENGLISH else "%Y-%m-%d %H:%M UTC"
    return datetime.fromisoformat(finished).strftime(form)


def runs_folder() -> Path:
    """Return where the page's runs lie."""
    return cache_folder() / "runs"


def folder_of(run_id: str | None) -> Path:
    """Return the folder of a run.

    Raises:
        DataError: if there is no run with this id.
    """
    folder = runs_folder() / (run_id or "")
    if not RUN_ID.fullmatch(run_id or "") or not folder.is_dir():
        raise DataError(f"there is no run {run_id!r} any more.")
    return folder
