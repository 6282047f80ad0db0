"""What a run tells while it goes on. The core yields these; the terminal prints them, the page draws them.

`to_dict` gives the JSON form: the fields beside `"event"`, the class's name in lower case.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Event:
    """Base class of all events."""

    def to_dict(self) -> dict:
        """The event as JSON can hold it."""
        return {"event": type(self).__name__.lower()} | asdict(self)


@dataclass(frozen=True)
class Phase(Event):
    """Something that takes time has begun or got further. `fraction` is in [0, 1], or None where it is not known."""

    name: str
    message: str
    fraction: float | None = None


@dataclass(frozen=True)
class Model(Event):
    """The model is loaded: the name it was asked by, which copy it is, and where it runs."""

    name: str
    copy: str
    device: str
    dtype: str
    parameters: int


@dataclass(frozen=True)
class Prepared(Event):
    """What will be trained: examples, their tokens and how many of them are trained, and the optimizer steps."""

    examples: int
    tokens: int
    trained_tokens: int
    steps: int
    trainable_parameters: int
    left_out: list[str]


@dataclass(frozen=True)
class Step(Event):
    """An optimizer step is done. `loss` is the mean over its trained tokens in nats, `seconds` since training began,
    `remaining` the expected seconds to the last step."""

    step: int
    total: int
    loss: float
    seconds: float
    remaining: float


@dataclass(frozen=True)
class HeldOut(Event):
    """How the model that is being trained does on the held-out rows after `step` steps: mean -log p in nats over so
    many tokens of their completions and of their prompts, whichever of them it is trained on."""

    step: int
    completion_loss: float
    prompt_loss: float
    completion_tokens: int
    prompt_tokens: int


@dataclass(frozen=True)
class Arm(Event):
    """An arm of an ablation begins, from the base's weights: what follows is of this arm, until the next. `weights` are
    the prompt-loss weights of all arms, in order."""

    index: int
    weights: list[float]

    @property
    def prompt_loss_weight(self) -> float:
        """This arm's."""
        return self.weights[self.index]


@dataclass(frozen=True)
class Before(Event):
    """One prompt's answer from the untrained model, told as soon as it is known. `Comparison` will repeat it."""

    prompt: str
    answer: str
    stop: str
    source: str


@dataclass(frozen=True)
class Comparison(Event):
    """One prompt's answers. `source` is "held out", "typed", or "training" where the prompt is one
    of the trained rows'; a stop is "EOS", "length" or "stopped"."""

    prompt: str
    before: str
    after: str
    before_stop: str
    after_stop: str
    source: str


@dataclass(frozen=True)
class Columns(Event):
    """One prompt's answers from the base and then from each arm of an ablation; `source` and `stops` as in
    `Comparison`."""

    prompt: str
    source: str
    answers: list[str]
    stops: list[str]


@dataclass(frozen=True)
class Figures(Event):
    """What one column of an ablation comes to: the base, whose `prompt_loss_weight` is None, or an arm.

    Losses as in `HeldOut`. Of `answers` answers `ended` stopped with EOS and `ran_on` went on to ask a question of
    their own, in the template's words (None where the template has none to be known by); `mean_tokens` is their length.
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
    """One cell of a study is measured: `steps` steps on the `rows` rows that `seed` draws. `figures` has the fields of
    `Figures`, the prompt-loss weight among them. The base has no rows, no steps and no seed.

    `answers` has the "prompt", "source", "answer" and "stop" of each question; `seconds` were spent on all of it.
    """

    rows: int
    seed: int | None
    steps: int
    figures: dict
    answers: list[dict]
    seconds: float


@dataclass(frozen=True)
class Weights(Event):
    """The base's own weights as a SHA-256 before and after the training. A LoRA adapter leaves them as they are; full
    fine-tuning (`full`) changes them, and only a copy of them."""

    before: str
    after: str
    full: bool


@dataclass(frozen=True)
class Answer(Event):
    """One prompt's answer from one model, of so many tokens (EOS not counted)."""

    prompt: str
    answer: str
    stop: str
    tokens: int


@dataclass(frozen=True)
class TokenLosses(Event):
    """What some models make of every token of one row, which is "held out" or a "training" row.

    `tokens` are [text to show, kind, id, trained, newlines after it]. For each of `weights`, the models' prompt-loss
    weights (None is the base), there is a list in `losses` (-log p in nats), `ranks` (1 where no token was likelier)
    and `likeliest` (the likeliest tokens as [text, probability]), with an entry for each token but the first, which
    nothing predicts.
    """

    row: int
    source: str
    question: str
    tokens: list[list]
    weights: list[float | None]
    losses: list[list[float]]
    ranks: list[list[int]]
    likeliest: list[list[list]]


@dataclass(frozen=True)
class Isolation(Event):
    """How far one packed example reaches into its neighbours: `change` is the largest change of a log-probability, in
    nats, of any of `tokens` tokens of `examples` other examples, after every token of example `row` was exchanged.
    `packing` is "bfd", where each example attends to itself only, or "wrapped", the control, where all are one text."""

    packing: str
    change: float
    row: int
    examples: int
    tokens: int


@dataclass(frozen=True)
class Saved(Event):
    """`kind` is "adapter", "merged", "full", "ablation": a folder that holds one for each arm; or "study": a report."""

    path: str
    kind: str


@dataclass(frozen=True)
class Finished(Event):
    """The run is over; `stopped` where it was asked to end before its last step."""

    steps: int
    total: int
    seconds: float
    stopped: bool


@dataclass(frozen=True)
class Failed(Event):
    """The run ended without a result; `message` is meant for the user."""

    message: str


def from_dict(record: dict) -> Event:
    """The event that `to_dict` gave.

    Raises:
        KeyError, TypeError: for a record of another kind.
    """
    kinds = {kind.__name__.lower(): kind for kind in Event.__subclasses__()}
    return kinds[record["event"]](**{name: value for name, value in record.items() if name != "event"})
