"""The events that a job yields while it runs. The terminal prints them and the page draws them.

`to_dict` returns the JSON form: the fields, plus `"event"` with the class name in lower case. The last event of a job
is `Finished`, or `Failed` with a sentence for the user; `streams.event_stream` adds it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True)
class Event:
    """Base class of all events."""

    def to_dict(self) -> dict[str, Any]:
        """Return the event as a JSON-serializable dict."""
        return {"event": type(self).__name__.lower()} | asdict(self)


@dataclass(frozen=True)
class Phase(Event):
    """A part of the work has started or advanced. `fraction` is in [0, 1], or None if unknown."""

    name: str
    message: str
    fraction: float | None = None


@dataclass(frozen=True)
class Model(Event):
    """The model is loaded. `name` is the requested name; `copy` says which copy was found."""

    name: str
    copy: str
    device: str
    dtype: str
    parameters: int


@dataclass(frozen=True)
class Prepared(Event):
    """The data is masked and the model is ready to train. `left_out` has a sentence for each reason why rows are
    not trained, with their number and the first of them. `mask_hash` is the hash of the displayed mask
    (`labels.MaskHash`). Each step sees `rows_a_step` of the `rows`, which with packing are fewer than the examples;
    both are 0 in the events of earlier versions. `trained_tokens` have a label of their own; of the others each but an
    example's first counts `prompt_loss_weight` times."""

    examples: int
    tokens: int
    trained_tokens: int
    steps: int
    trainable_parameters: int
    left_out: list[str]
    mask_hash: str = ""
    rows_a_step: int = 0
    rows: int = 0
    prompt_loss_weight: float = 0.0


@dataclass(frozen=True)
class Step(Event):
    """An optimizer step is done. `loss` is the mean over its trained tokens, in nats. `seconds` is the time since
    training started, and `remaining` the expected time until the last step is done, in seconds."""

    step: int
    total: int
    loss: float
    seconds: float
    remaining: float


@dataclass(frozen=True)
class Checkpoint(Event):
    """A checkpoint is written after `step` steps. If it could not be, `problem` says why; the training goes on, and
    later ones that fail are not reported."""

    step: int
    problem: str = ""


@dataclass(frozen=True)
class HeldOut(Event):
    """The model's losses on the held-out rows after `step` steps: of a training by itself before it and after it, of an
    arm in between as well.

    Each loss is the mean -log p in nats, one over all completion tokens and one over all prompt tokens, regardless of
    which tokens are trained.
    """

    step: int
    completion_loss: float
    prompt_loss: float
    completion_tokens: int
    prompt_tokens: int


@dataclass(frozen=True)
class Arm(Event):
    """An arm of an ablation starts from the base's weights. The events up to the next `Arm` belong to it. `weights` are
    the prompt-loss weights of all arms, in order."""

    index: int
    weights: list[float]

    @property
    def prompt_loss_weight(self) -> float:
        """Return the prompt-loss weight of this arm."""
        return self.weights[self.index]


@dataclass(frozen=True)
class Before(Event):
    """The untrained model's answer to a prompt, sent as soon as it is available. `Comparison` repeats it."""

    prompt: str
    answer: str
    stop: str
    source: str


@dataclass(frozen=True)
class Comparison(Event):
    """The answers to a prompt before and after training. `source` is "held out", "typed", or "training" if the prompt
    is also trained. A stop is "EOS", "length", "stopped" or "NaN"."""

    prompt: str
    before: str
    after: str
    before_stop: str
    after_stop: str
    source: str


@dataclass(frozen=True)
class Columns(Event):
    """The answers to a prompt from the base and then from each arm of an ablation. `source` and the `stops` are as in
    `Comparison`."""

    prompt: str
    source: str
    answers: list[str]
    stops: list[str]


@dataclass(frozen=True)
class Figures(Event):
    """The results of one column of an ablation: an arm, or the base, whose `prompt_loss_weight` is None.

    The losses are as in `HeldOut`. Of the `answers` answers, `ended` stopped with EOS and `ran_on` went on to write a
    new prompt. The latter are recognised by the template's line before the user's text; `ran_on` is None if no prompt
    has such a line. `mean_tokens` is the mean length of an answer.
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
    """A cell of a study is measured: a model trained for `steps` steps on `rows` rows drawn with `seed`. For the base,
    `rows` and `steps` are 0 and `seed` is None.

    `figures` has the fields of `Figures`, including the prompt-loss weight. `answers` has the "prompt", "source",
    "answer" and "stop" of each question. `seconds` is the time for the whole cell.
    """

    rows: int
    seed: int | None
    steps: int
    figures: dict[str, Any]
    answers: list[dict[str, Any]]
    seconds: float


@dataclass(frozen=True)
class Weights(Event):
    """The SHA-256 of the base's weights before and after training. A LoRA adapter leaves the weights unchanged; full
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

    A token is [text to show, kind, id, trained, newlines after it]. `weights` are the models' prompt-loss weights, with
    None for the base. `losses` (-log p in nats), `ranks` (1 if no token was likelier) and `likeliest` (the likeliest
    tokens, as [text, probability]) each have one list per model. These lists start at the second token, because the
    model does not predict the first.
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
class FilmRow(Event):
    """A held-out row of a film. A token is as in `TokenLosses`."""

    row: int
    question: str
    tokens: list[list[Any]]


@dataclass(frozen=True)
class Frame(Event):
    """What a model was after `step` steps, trained with `prompt_loss_weight`.

    `answers` has the [prompt, source, answer, stop] of each question. The losses are as in `HeldOut`; `losses` and
    `ranks` have those of each token of each `FilmRow`, from the second on. Of the rows that have an answer to train,
    `begun` is the number of those whose first trained token is the likeliest, and `ended` of those whose last is.
    """

    step: int
    prompt_loss_weight: float
    answers: list[list[str]]
    completion_loss: float
    prompt_loss: float
    begun: int
    ended: int
    losses: list[list[float]]
    ranks: list[list[int]]


@dataclass(frozen=True)
class FilmEnded(Event):
    """The adapter could not be kept after `step` steps, and is not kept any more; `problem` says why. The training goes
    on."""

    step: int
    problem: str


@dataclass(frozen=True)
class Isolation(Event):
    """How much one packed example affects the others.

    All tokens of example `row` were replaced. `change` is the largest resulting change, in nats, in the log-probability
    of any of the `tokens` tokens in the `examples` other examples. `packing` is "bfd", where each example attends only
    to itself, or the control "wrapped", where all examples form one text.
    """

    packing: str
    change: float
    row: int
    examples: int
    tokens: int


@dataclass(frozen=True)
class Conclusion(Event):
    """What a run, an ablation or a study has shown, in a sentence or two, with its doubt. `words` has nothing of the
    user's own text."""

    words: str


@dataclass(frozen=True)
class Saved(Event):
    """The folder or file `path` is written. `kind` is one of `config.EXPORT_FORMATS`, "full", "ablation" (one folder
    per arm), "study" (a report) or "hub" (a repository, whose address is the path)."""

    path: str
    kind: str


@dataclass(frozen=True)
class Upload(Event):
    """What is about to be sent to a repository on the Hub: its files and their size. `with_prompts` are those of them
    that hold prompts and answers, `left` what else the run's folder has, and `deleted` the files that are replaced by
    nothing in the repository."""

    repository: str
    private: bool
    files: list[str]
    bytes: int
    with_prompts: list[str]
    left: list[str]
    deleted: list[str]


@dataclass(frozen=True)
class Finished(Event):
    """The run is over. `stopped` is true if it was asked to end before its last step. `parts` are the seconds of each
    part of a training, by the names in `runs.parts`; without them for other work and in the events of earlier
    versions."""

    steps: int
    total: int
    seconds: float
    stopped: bool
    parts: dict[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True)
class Failed(Event):
    """The run ended without a result. `message` is for the user."""

    message: str


def from_dict(record: dict[str, Any]) -> Event:
    """Return the event that `to_dict` turned into this record.

    Raises:
        KeyError, TypeError, ValueError: if the record is not an event, or if a field is not of its type.
    """
    kinds = {kind.__name__.lower(): kind for kind in Event.__subclasses__()}
    kind, fields = kinds[record["event"]], {name: value for name, value in record.items() if name != "event"}
    kind(**fields)  # which refuses a name that is unknown
    return _adapter(kind).validate_python(fields)


@cache
def _adapter(kind: type[Event]) -> TypeAdapter[Event]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
