"""What a job tells while it goes on. The core yields these; the terminal prints them, the page draws them.

`to_dict` gives the JSON form: the fields beside `"event"`, the class's name in lower case. `event_stream` gives a job
its last event: `Finished`, or `Failed` with a sentence for the user.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import asdict, dataclass
from functools import wraps
from typing import Any, Generic, ParamSpec, TypeVar

from . import distributed
from .errors import SftdemoError, sentence

Parameters = ParamSpec("Parameters")
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Event:
    """Base class of all events."""

    def to_dict(self) -> dict[str, Any]:
        """The event as JSON can hold it."""
        return {"event": type(self).__name__.lower()} | asdict(self)


@dataclass(frozen=True)
class Phase(Event):
    """A part of the work has started or advanced. `fraction` is in [0, 1], or None if it is not known."""

    name: str
    message: str
    fraction: float | None = None


@dataclass(frozen=True)
class Model(Event):
    """The model is loaded. `name` is the one asked for, `copy` says which copy was found."""

    name: str
    copy: str
    device: str
    dtype: str
    parameters: int


@dataclass(frozen=True)
class Prepared(Event):
    """The data is masked and the model is ready to train. `left_out` names the rows that are not trained, and why;
    `mask_hash` is that of the mask as it is shown, `labels.MaskHash`."""

    examples: int
    tokens: int
    trained_tokens: int
    steps: int
    trainable_parameters: int
    left_out: list[str]
    mask_hash: str = ""


@dataclass(frozen=True)
class Step(Event):
    """An optimizer step is done. `loss` is the mean over its trained tokens, in nats. `seconds` is the time since
    training started, `remaining` the expected time to the last step."""

    step: int
    total: int
    loss: float
    seconds: float
    remaining: float


@dataclass(frozen=True)
class HeldOut(Event):
    """The model's losses on the held-out rows after `step` steps: mean -log p in nats, over all tokens of their
    completions and of their prompts, whichever of the two it is trained on."""

    step: int
    completion_loss: float
    prompt_loss: float
    completion_tokens: int
    prompt_tokens: int


@dataclass(frozen=True)
class Arm(Event):
    """An arm of an ablation starts from the base's weights. The events that follow belong to it, until the next `Arm`.
    `weights` are the prompt-loss weights of all arms, in order."""

    index: int
    weights: list[float]

    @property
    def prompt_loss_weight(self) -> float:
        """The prompt-loss weight of this arm."""
        return self.weights[self.index]


@dataclass(frozen=True)
class Before(Event):
    """The untrained model's answer to a prompt, as soon as it is known. `Comparison` repeats it."""

    prompt: str
    answer: str
    stop: str
    source: str


@dataclass(frozen=True)
class Comparison(Event):
    """A prompt's answers before and after training. `source` is "held out", "typed", or "training" if the prompt is
    trained as well. A stop is "EOS", "length" or "stopped"."""

    prompt: str
    before: str
    after: str
    before_stop: str
    after_stop: str
    source: str


@dataclass(frozen=True)
class Columns(Event):
    """A prompt's answers from the base and from each arm of an ablation, in this order. `source` and `stops` as in
    `Comparison`."""

    prompt: str
    source: str
    answers: list[str]
    stops: list[str]


@dataclass(frozen=True)
class Figures(Event):
    """The results of one column of an ablation: an arm, or the base, whose `prompt_loss_weight` is None.

    Losses as in `HeldOut`. Of `answers` answers, `ended` stopped with EOS and `ran_on` continued with a prompt of their
    own, recognised by the template's line before the user's text (None if no prompt has one). `mean_tokens` is their
    mean length.
    """

    prompt_loss_weight: float | None
    completion_loss: float
    prompt_loss: float
    completion_tokens: int
    prompt_tokens: int
    answers: int
    ended: int
    ran_on: int | None
    mean_tokens: float


@dataclass(frozen=True)
class StudyCell(Event):
    """One cell of a study is measured: `steps` steps on `rows` rows, drawn with `seed`. `figures` has the fields of
    `Figures`, the prompt-loss weight included. For the base, `rows` and `steps` are 0 and `seed` is None.

    `answers` has the "prompt", "source", "answer" and "stop" of each question. `seconds` is the time of the whole cell.
    """

    rows: int
    seed: int | None
    steps: int
    figures: dict[str, Any]
    answers: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Weights(Event):
    """The SHA-256 of the base's weights before and after training. A LoRA adapter leaves them unchanged. Full
    fine-tuning (`full`) changes a copy of them."""

    before: str
    after: str
    full: bool


@dataclass(frozen=True)
class Answer(Event):
    """A model's answer to a prompt. `tokens` does not count EOS."""

    prompt: str
    answer: str
    stop: str
    tokens: int


@dataclass(frozen=True)
class TokenLosses(Event):
    """The loss of every token of a row by several models. `source` is "held out" or "training".

    A token is [text to show, kind, id, trained, newlines after it]. `weights` are the models' prompt-loss weights; None
    is the base. For each model there is a list in `losses` (-log p in nats), `ranks` (1 if no token was likelier) and
    `likeliest` (the likeliest tokens, as [text, probability]). These lists start at the second token: nothing predicts
    the first.
    """

    row: int
    source: str
    question: str
    tokens: list[list[Any]]
    weights: list[float | None]
    losses: list[list[float]]
    ranks: list[list[int]]
    likeliest: list[list[list[Any]]]


@dataclass(frozen=True)
class Isolation(Event):
    """How much a packed example affects the others. All tokens of example `row` were replaced; `change` is the largest
    change, in nats, in the log-probability of any of the `tokens` tokens of the `examples` others. `packing` is "bfd",
    where each example attends to itself only, or the control "wrapped", where all examples are one text."""

    packing: str
    change: float
    row: int
    examples: int
    tokens: int


@dataclass(frozen=True)
class Saved(Event):
    """The folder `path` is written. `kind` is "adapter", "merged", "full", "ablation" (one folder for each arm) or
    "study" (a report)."""

    path: str
    kind: str


@dataclass(frozen=True)
class Finished(Event):
    """The run is over. `stopped` says whether it was asked to end before its last step."""

    steps: int
    total: int
    seconds: float
    stopped: bool


@dataclass(frozen=True)
class Failed(Event):
    """The run ended without a result. `message` is for the user."""

    message: str


def from_dict(record: dict[str, Any]) -> Event:
    """Return the event that `to_dict` made the record from.

    Raises:
        KeyError, TypeError: when the record is not an event's.
    """
    kinds = {kind.__name__.lower(): kind for kind in Event.__subclasses__()}
    return kinds[record["event"]](**{name: value for name, value in record.items() if name != "event"})


@dataclass(frozen=True)
class Outcome:
    """How a job ended, which `Finished` tells: the optimizer steps it did of so many, or none where it trains nothing;
    and whether it was asked to end before."""

    steps: int = 0
    total: int = 0
    stopped: bool = False

    @classmethod
    def of(cls, steps: int, total: int) -> Outcome:
        """That of a training."""
        return cls(steps, total, stopped=not steps or steps < total)

    def finished(self, begin: float) -> Finished:
        """The last event of a job that began at `begin`, by `time.perf_counter()`."""
        return Finished(self.steps, self.total, time.perf_counter() - begin, self.stopped)


def event_stream(
    work: Callable[Parameters, Generator[Event, None, Outcome | None]],
) -> Callable[Parameters, Iterator[Event]]:
    """Decorates a generator function that yields events and returns an `Outcome`, or None where it has told `Finished`
    itself. As an event stream it ends in a `Finished` with the seconds that passed; or, where it raises an error meant
    for the user, in a `Failed` with its message, told by the first of several processes that fails."""

    @wraps(work)
    def stream(*arguments: Parameters.args, **settings: Parameters.kwargs) -> Iterator[Event]:
        begin = time.perf_counter()
        try:
            outcome = yield from work(*arguments, **settings)
            if outcome is not None:
                yield outcome.finished(begin)
        except SftdemoError as error:
            if distributed.speaks():
                yield Failed(sentence(error))

    return stream


class Relay(Generic[Item, Result]):
    """A generator to loop over that keeps what it returns in `result`, for a caller that looks at the items."""

    result: Result

    def __init__(self, work: Generator[Item, None, Result]):
        self._work = work

    def __iter__(self) -> Iterator[Item]:
        self.result = yield from self._work
