"""Keep the adapter as it was after some of the steps, so that one can look back at how it learned.

Importing this module imports transformers' trainer, so import it where it is used.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from transformers import TrainerCallback

from ..core.events import FilmEnded
from .checkpoints import STEP

FRAMES = 6  # at most, besides the trained adapter itself


class Camera(TrainerCallback):
    """Save the adapter into `folder / "step-N"`, for N = 0 and then after each sixth of the steps but the last, which
    is the trained adapter. On a full disk the film is given up, and a `FilmEnded` says so."""

    def __init__(self, emit: Callable[[FilmEnded], None], folder: Path):
        self.emit, self.folder, self.has_failed = emit, folder, False

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._keep(model, state.global_step)

    def on_step_end(self, args, state, control, model=None, **kwargs):
        every = math.ceil(state.max_steps / FRAMES)
        if state.global_step % every == 0 and state.global_step < state.max_steps:
            self._keep(model, state.global_step)

    def _keep(self, model, step: int) -> None:
        if self.has_failed:
            return
        try:
            model.save_pretrained(str(self.folder / f"{STEP}{step}"), save_embedding_layers=False)
        except (OSError, SafetensorError) as error:
            self.has_failed = True
            shutil.rmtree(self.folder / f"{STEP}{step}", ignore_errors=True)
            self.emit(FilmEnded(step, getattr(error, "strerror", None) or str(error)))
