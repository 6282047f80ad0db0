"""Alternate the optimizer steps of several trainers, so that a machine that slows down slows all of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback

from ..train.callbacks import in_turns
from .figures import seconds_of
from .memory import memory_growth


class Arm:
    """A trainer that takes one optimizer step at each call of `step`.

    Args:
        name (`str`):
            Its name in the tables.
        trainer (`transformers.Trainer`):
            A trainer that has not started. It takes at most its `max_steps`.
    """

    def __init__(self, name: str, trainer: Trainer):
        self.name, self.trainer = name, trainer
        self.seconds: list[float] = []
        self._closed = False
        trainer.remove_callback(PrinterCallback)
        self._steps = in_turns(self._train)
        next(self._steps)

    def _train(self, emit: Callable[[None], None]) -> None:
        self.trainer.add_callback(_PauseAfterStep(emit, lambda: self._closed))
        self.trainer.train()

    def step(self) -> float:
        """Take one whole step, from the batch to the logged loss, and return its seconds."""
        self.seconds.append(seconds_of(lambda: next(self._steps)))
        return self.seconds[-1]

    def close(self) -> None:
        """End the training. The model stays."""
        self._closed = True
        self._steps.close()

    @property
    def model(self) -> PreTrainedModel:
        """Return the trained model."""
        # an adapter is called as its model is
        return cast("PreTrainedModel", self.trainer.model)

    @property
    def losses(self) -> list[float]:
        """Return the loss of each step except the last, which is only logged when the next one begins."""
        return [row["loss"] for row in self.trainer.state.log_history if "loss" in row]

    def weights(self) -> dict[str, torch.Tensor]:
        """Return the trained parameters by name."""
        return {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}

    def memory(self) -> float:
        """Take one more step and return by how many MB the process, or what it holds of a GPU, grew at most, beyond the
        weights and the optimizer's state."""
        return memory_growth(self.step, self.model.device)

    def difference(self, other: Arm) -> dict[str, float]:
        """Return the largest relative difference of all losses so far, and the largest absolute difference of the
        current weights."""
        mine, theirs = self.weights(), other.weights()
        losses = zip(self.losses, other.losses, strict=True)
        return {
            "losses_relative": max(abs(a - b) / abs(b) for a, b in losses),
            "weights_absolute": max((mine[name] - theirs[name]).abs().max().item() for name in mine),
        }


class _PauseAfterStep(TrainerCallback):
    def __init__(self, emit: Callable[[None], None], closed: Callable[[], bool]):
        self.emit, self.closed = emit, closed

    def on_train_begin(self, args, state, control, **kwargs):
        self.emit(None)

    def on_step_end(self, args, state, control, **kwargs):
        self.emit(None)
        control.should_training_stop |= self.closed()


@contextmanager
def alternating_arms(builders: Mapping[str, Callable[[], Trainer]]) -> Generator[dict[str, Arm]]:
    """Build an arm of each trainer, before its first step, and close all arms at the end of the block."""
    trainers = {name: build() for name, build in builders.items()}
    arms: dict[str, Arm] = {}
    try:
        for name, trainer in trainers.items():
            arms[name] = Arm(name, trainer)
        yield arms
    finally:
        for arm in arms.values():
            arm.close()
