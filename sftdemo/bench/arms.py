"""Trainers that take their optimizer steps in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import cast

import torch
from transformers import PreTrainedModel, PrinterCallback, Trainer, TrainerCallback

from ..train.callbacks import in_turns
from .memory import growth


class Arm:
    """A trainer that does one optimizer step when it is told to.

    Args:
        name (`str`):
            What it is called in the tables.
        trainer (`transformers.Trainer`):
            Not yet started; its `max_steps` are the most that can be asked for.
    """

    def __init__(self, name: str, trainer: Trainer):
        self.name, self.trainer = name, trainer
        self.seconds: list[float] = []
        self._closed = False
        trainer.remove_callback(PrinterCallback)
        self._steps = in_turns(self._work)
        next(self._steps)

    def _work(self, emit: Callable[[None], None]) -> None:
        self.trainer.add_callback(_Turns(emit, lambda: self._closed))
        self.trainer.train()

    def step(self) -> float:
        """Seconds of one whole step, from the batch to the logged loss."""
        begin = time.perf_counter()
        next(self._steps)
        self.seconds.append(time.perf_counter() - begin)
        return self.seconds[-1]

    def close(self) -> None:
        """Ends the trainer; its model stays."""
        self._closed = True
        self._steps.close()

    @property
    def model(self) -> PreTrainedModel:
        """What is trained; an adapter is called as its model is."""
        return cast("PreTrainedModel", self.trainer.model)

    @property
    def losses(self) -> list[float]:
        """Of each step so far, the last one excepted, which is logged when the next one begins."""
        return [row["loss"] for row in self.trainer.state.log_history if "loss" in row]

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained parameters."""
        return {name: value.detach() for name, value in self.model.named_parameters() if value.requires_grad}

    def memory(self) -> float:
        """MB by which the process grows at most in one more step, beside the weights and what the optimizer keeps."""
        return growth(self.step)

    def difference(self, other: Arm) -> dict[str, float]:
        """How far the losses so far are apart at most, relatively, and now the weights, absolutely."""
        mine, theirs = self.weights(), other.weights()
        losses = zip(self.losses, other.losses, strict=True)
        return {
            "losses_relative": max(abs(a - b) / abs(b) for a, b in losses),
            "weights_absolute": max((mine[name] - theirs[name]).abs().max().item() for name in mine),
        }


class _Turns(TrainerCallback):
    def __init__(self, emit: Callable[[None], None], closed: Callable[[], bool]):
        self.emit, self.closed = emit, closed

    def on_train_begin(self, args, state, control, **kwargs):
        self.emit(None)

    def on_step_end(self, args, state, control, **kwargs):
        self.emit(None)
        control.should_training_stop |= self.closed()


@contextmanager
def by_turns(makers: Mapping[str, Callable[[], Trainer]]) -> Generator[dict[str, Arm]]:
    """The arms of these trainers, each before its first step; closed at the end."""
    trainers = {name: make() for name, make in makers.items()}
    arms: dict[str, Arm] = {}
    try:
        for name, trainer in trainers.items():
            arms[name] = Arm(name, trainer)
        yield arms
    finally:
        for arm in arms.values():
            arm.close()
