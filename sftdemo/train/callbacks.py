"""Report training as events, and turn a function that calls back into a generator.

Importing this module imports transformers' trainer, so import it where it is used.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from safetensors import SafetensorError
from transformers import TrainerCallback

from ..core import distributed
from ..core.curves import EVALUATIONS
from ..core.environment import release_threads, share_heap
from ..core.errors import TrainingError
from ..core.events import Checkpoint, HeldOut, Step
from ..model.scoring import held_out_losses, judge
from .checkpoints import Checkpoints

Item = TypeVar("Item")
Result = TypeVar("Result")


class Reporter(TrainerCallback):
    """Emit the number of steps and then a `Step` after each; end the training when `stop()` returns True.

    If there are held-out rows, also emit a `HeldOut` now and then between the first step and the last: those before and
    after all of them are the caller's, who judges more than the losses then."""

    def __init__(self, emit: Callable[[int | Step | HeldOut], None], stop: Callable[[], bool], held_out, shares: bool):
        self.emit, self.stop, self.held_out, self.shares, self.begin = emit, stop, held_out, shares, 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        done = [logs for logs in state.log_history if "loss" in logs]  # by the training that this one goes on with
        self.begin = time.perf_counter() - (done[-1]["seconds"] if done else 0.0)
        self.emit(state.max_steps)
        for logs in done:
            self.emit(_step(int(logs["step"]), state.max_steps, logs["loss"], logs["seconds"]))

    def _evaluate(self, model, step: int) -> None:
        if self.held_out and not self.stop():
            scores = judge(model, self.held_out, self.stop, self.shares)
            if len(scores) == len(self.held_out):  # some of them alone would be no point of this curve
                self.emit(held_out_losses(scores, self.held_out, step))

    def on_substep_end(self, args, state, control, **kwargs):
        control.should_training_stop |= distributed.anyone(self.stop())

    on_step_end = on_substep_end

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        if not logs or "loss" not in logs:
            return
        seconds = time.perf_counter() - self.begin
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss became {logs['loss']} at step {state.global_step}, so the weights are spoilt and nothing "
                f"is saved. Lower the learning rate (it is {args.learning_rate:g})."
            )
        state.log_history[-1]["seconds"] = seconds  # a checkpoint keeps it
        step = _step(state.global_step, state.max_steps, logs["loss"], seconds)
        self.emit(step)
        every = math.ceil(state.max_steps / EVALUATIONS)
        if state.global_step % every == 0 and step.remaining > 0:
            self._evaluate(model, state.global_step)


def _step(step: int, total: int, loss: float, seconds: float) -> Step:
    return Step(step, total, loss, seconds, seconds / step * (total - step))


class Saver(TrainerCallback):
    """Ask the trainer for a checkpoint when one is due and when the training is stopped, and emit a `Checkpoint` for
    each that is written and for the first that cannot be. It must come after the callback that stops the training."""

    def __init__(self, emit: Callable[[Checkpoint], None], checkpoints: Checkpoints):
        self.emit, self.checkpoints, self.has_failed, self.last = emit, checkpoints, False, 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self.last = time.monotonic()

    def on_step_end(self, args, state, control, **kwargs):
        due = self.checkpoints.every.is_due(state.global_step, time.monotonic() - self.last)
        wanted = distributed.anyone(due or control.should_training_stop)
        control.should_save = wanted and state.global_step < state.max_steps

    def write(self, step: int, save: Callable[[], None]) -> None:
        """Write a checkpoint, of which `save` writes the trainer's part. All processes call it."""
        first = distributed.is_first()
        parts = (self.checkpoints.begin if first else _nothing, save, lambda: first and self.checkpoints.finish(step))
        problem = ""
        for part in parts:
            try:
                part()
            except (OSError, SafetensorError, RuntimeError) as error:
                problem = _unwritten(error)
            if distributed.anyone(bool(problem)):
                break
        if first:
            self.checkpoints.drop()
        self.last = time.monotonic()
        if not (problem and self.has_failed):
            self.emit(Checkpoint(step, problem))
        self.has_failed |= bool(problem)


def _nothing() -> None:
    """Take the place of what only the first process does."""


def _unwritten(error: OSError | SafetensorError | RuntimeError) -> str:
    """Return why a file could not be written.

    Raises:
        RuntimeError: the same error, if that was not its cause.
    """
    if isinstance(error, OSError):
        return error.strerror or str(error)
    if isinstance(error, RuntimeError) and not isinstance(error, SafetensorError):
        if "inline_container" not in str(error) and "PytorchStreamWriter" not in str(error):
            raise error
        return "torch could not write all of it; the disk may be full"
    return str(error)


def in_turns(work: Callable[[Callable[[Item], None]], Result]) -> Generator[Item, None, Result]:
    """Call `work(emit)` in a thread and yield what it emits. While the caller handles an item, `work` waits.

    If the generator is closed early, `work` runs to its end and what it emits is discarded. So `work` should check now
    and then whether it should stop.

    The waiting side keeps no threads for computing. GNU OpenMP has a team of them for each thread that has computed. If
    all teams together outnumber the cores, they sleep between any two operations: a training step beside an idle team
    took 1.4 s, and 1.1 s without (LoRA, default model, 2 cores).
    """
    items: queue.SimpleQueue[tuple[str, Any]] = queue.SimpleQueue()
    turns: queue.SimpleQueue[None] = queue.SimpleQueue()

    def hand_over(kind: str, value: object) -> None:
        release_threads()
        items.put((kind, value))

    def emit(item: Item) -> None:
        hand_over("item", item)
        turns.get()

    def begin() -> None:
        turns.get()
        try:
            result = work(emit)
        except BaseException as error:  # raised below, where the items are asked for
            hand_over("error", error)
        else:
            hand_over("result", result)

    def resume() -> tuple[str, Any]:
        release_threads()
        turns.put(None)
        return items.get()

    share_heap()
    threading.Thread(target=begin, name="in turns", daemon=True).start()
    kind, value = resume()
    try:
        while kind == "item":
            yield value
            kind, value = resume()
    finally:
        while kind == "item":
            kind, value = resume()
        if kind == "error":
            raise value
    return value
