"""Trainers that take their optimizer steps in turns, so that a machine that slows down slows all of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median

import psutil
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback

from ..environment import release_memory
from ..turns import in_turns


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
    def losses(self) -> list[float]:
        """Of each step so far, the last one excepted, which is logged when the next one begins."""
        return [row["loss"] for row in self.trainer.state.log_history if "loss" in row]

    def weights(self) -> dict[str, torch.Tensor]:
        """The trained parameters."""
        return {name: value.detach() for name, value in self.trainer.model.named_parameters() if value.requires_grad}

    def __enter__(self) -> Arm:
        return self

    def __exit__(self, *_) -> None:
        self.close()


class _Turns(TrainerCallback):
    def __init__(self, emit: Callable[[None], None], closed: Callable[[], bool]):
        self.emit, self.closed = emit, closed

    def on_train_begin(self, args, state, control, **kwargs):
        self.emit(None)

    def on_step_end(self, args, state, control, **kwargs):
        self.emit(None)
        control.should_training_stop |= self.closed()


def by_turns(makers: dict[str, Callable[[], Trainer]], warm_up: int, repeats: int, each: Callable[[int], None]):
    """The arms of these trainers after `warm_up` steps that do not count and `repeats` that do, all still open.

    `each` is told the number of the round that begins."""
    with ExitStack() as stack:
        trainers = {name: make() for name, make in makers.items()}
        arms = [stack.enter_context(Arm(name, trainer)) for name, trainer in trainers.items()]
        for number in range(warm_up + repeats):
            each(number)
            for arm in arms:
                arm.step()
        for arm in arms:
            del arm.seconds[:warm_up]
        memory = {arm.name: growth(arm.step) for arm in arms}
    return arms, memory


def growth(work: Callable[[], object]) -> float:
    """MB by which the process grew at most while `work` went on, looked at every 5 ms, free memory released before."""
    process, done = psutil.Process(), threading.Event()
    release_memory()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.005):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return round((peak - before) / 1e6, 1)


def spread(seconds: list[float]) -> dict[str, float | list[float]]:
    """The median, the least and the most of some measurements, and all of them."""
    return {
        "median": round(median(seconds), 4),
        "least": round(min(seconds), 4),
        "most": round(max(seconds), 4),
        "all": [round(value, 4) for value in seconds],
    }
