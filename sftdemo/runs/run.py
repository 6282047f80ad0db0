"""Run a complete training as a generator of events: load, answer, train, answer again, compare, save."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import distributed
from ..core.config import RunConfig
from ..core.curves import thin
from ..core.events import Answer, Before, Comparison, Conclusion, Event, HeldOut, Phase, Prepared, Step, Weights
from ..core.held import scratch_folder
from ..core.limits import Limits
from ..core.streams import Outcome, Relay, event_stream
from ..core.until import Until
from ..data.chat import render_prompt
from ..data.examples import ParsedExamples
from ..data.hold_out import hold_out
from ..data.problems import group_problems
from ..data.questions import typed_prompt
from ..data.templates import get_template
from ..mask.labels import MaskedExample
from ..model.loading import open_model, weights_sha256
from ..model.sources import resolve, resolve_tokenizer
from ..train.checkpoints import Checkpoints
from .base import Base
from .checkpoint import Begun, checkpoints_of
from .conclusion import conclusion
from .folder import FILM, RunFolder, record_of, way_of_asking
from .setup import Asked, Setup, set_up

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from ..model.scoring import RowScores

Stop = Callable[[], bool]
TIME_IS_UP = "limit"  # the name of the phase that tells it
CURVE = 500  # points of the loss that a run's record keeps


@dataclass(frozen=True)
class Trained:
    """What a training has made.

    Args:
        model (`PreTrainedModel` or `PeftModel`):
            The trained model.
        step (`Step`):
            The last step; number 0 without any.
        losses (`tuple[float, ...]`):
            The loss of each step, in nats a trained token; thinned out if there are many.
        prepared (`Prepared`, *optional*):
            What was trained.
        film (`Path`, *optional*):
            The folder with the adapter as it was after some of the steps.
    """

    model: PreTrainedModel | PeftModel
    step: Step
    losses: tuple[float, ...] = ()
    prepared: Prepared | None = None
    film: Path | None = None

    def to_record(self) -> dict[str, object]:
        """Return the results as they stand in the record of a run."""
        known = self.prepared
        mask = (
            {} if known is None else {name: getattr(known, name) for name in ("examples", "tokens", "trained_tokens")}
        )
        return {
            "steps": self.step.step,
            "loss": self.step.loss,
            "losses": list(self.losses),
            "mask": mask | {"sha256": known.mask_hash if known else ""},
        }


def run(
    config: RunConfig,
    data: ParsedExamples,
    output: str | Path,
    stop: Stop = lambda: False,
    shown: str | None = None,
    overwrite: bool = False,
    resume: Begun | None = None,
    may_go_on: bool = False,
    limits: Limits | None = None,
    base: Base | None = None,
) -> Iterator[Event]:
    """Train the model and save it to `output`, with answers before and after. The last event is `Finished` or `Failed`.

    The answers before training are given with the weights as loaded, before an adapter is attached. A run that is
    stopped keeps what it has learned so far. `output` is replaced only at the end, and only if it is empty or, with
    `overwrite`, holds an earlier run. With several processes, the first one answers, yields the events and saves, and
    the others only train; the first process that fails reports it.

    Args:
        config (`RunConfig`):
            The settings.
        data (`ParsedExamples`):
            The rows to train on, and the held-out rows, which are answered before and after.
        output (`str` or `Path`):
            The folder to save to.
        stop (`Callable[[], bool]`, *optional*):
            Called after each step, each token of an answer and each row that is looked at. The training ends once it
            returns true; as many held-out rows as a second is enough for are then judged, and prompts answered
            (`until.HASTE`).
        shown (`str`, *optional*):
            The hash of the mask that was shown to the user (`labels.MaskHash`). If the hash of the mask to be trained
            differs, the run does not start.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether `output` may hold an earlier run.
        resume (`Begun`, *optional*):
            The run in `output` to go on with, from its last checkpoint (`checkpoint.read_begun`). `config` and `data`
            must be its own. It ends with the losses and weights that it would have without the break.
        may_go_on (`bool`, *optional*, defaults to `False`):
            Whether a run that is stopped leaves a checkpoint, as with `config.save_every`.
        limits (`Limits`, *optional*):
            What a visitor may do: how many tokens are trained and answered, and for how long. What takes longer is
            stopped, and keeps what it has.
        base (`Base`, *optional*):
            What is known of the model already.
    """
    folder = RunFolder(output, overwrite or resume is not None)
    until = Until(stop, limits and limits.seconds)
    return folder.relay(_run(config, data, folder, until, shown, resume, may_go_on, limits, base or Base()))


@event_stream
def _run(
    config: RunConfig,
    given: ParsedExamples,
    folder: RunFolder,
    stop: Until,
    shown: str | None,
    resume: Begun | None,
    may_go_on: bool,
    limits: Limits | None,
    base: Base,
) -> Generator[Event, None, Outcome | None]:
    if resume is not None:
        resume.check_same(config, given, folder.path)
    data = hold_out(given, config)
    with scratch_folder() as scratch:
        setup = yield from set_up(config, data, folder, scratch, shown, stop, limits, base=base)
        if resume is not None:
            resume.check_mask(setup.rows.mask_hash)
        held_out, scores = setup.held_out_rows(data.held_out), []
        model, fingerprint = yield from base.take(setup)
        if distributed.is_first():
            if resume is not None:
                resume.check_weights(fingerprint)
            before = yield from answers_before(setup, model, base, stop)
            scores = yield from _judged(model, held_out, base, stop)
        trained = Trained(model, Step(0, 0, 0.0, 0.0, 0.0))
        checkpoints = None
        if config.save_every is not None or resume is not None or may_go_on:
            checkpoints = checkpoints_of(config, given, folder.path, setup.rows.mask_hash, fingerprint, resume)
        if not distributed.anyone(stop()):
            trained = yield from train_model(setup, model, stop, scratch, checkpoints=checkpoints)
        step = trained.step
        if step.step and distributed.is_first():
            yield from time_is_up(stop)
            afterwards = stop.afterwards()
            judged = judge_after(trained.model, held_out, afterwards)
            after = yield from answers_after(setup, trained.model, afterwards)
            yield from _compared(held_out, scores, judged, step.step)
            comparisons = _compare(setup, before, after)
            yield from comparisons
            yield Weights(fingerprint, weights_sha256(trained.model), config.full)
            words = conclusion(folder.events)
            yield Conclusion(words)
            yield Phase("save", f"Saving to {folder}")
            found = [comparison.to_dict() for comparison in comparisons]
            results = trained.to_record() | {"comparisons": found, "conclusion": words}
            record = record_of(setup.config, setup.source, setup.shape, data.origin, results)
            outcome = Outcome.of(step.step, step.total)
            yield from folder.save(record, data, setup.to_save(trained.model, trained.film), outcome, checkpoints)
            return None
    return Outcome.of(step.step, step.total)


def answers_before(
    asked: Asked, model: PreTrainedModel, base: Base, stop: Stop
) -> Generator[Event, None, list[Answer]]:
    """Answer the questions with the untrained model. Yields a `Before` for each answer and returns the `Answer`s."""
    yield Phase("before", f"Answering {len(asked.prompts)} prompts before training")
    before = base.answers(model, asked.tokenizer, asked.prompts, asked.config.max_new_tokens, stop)
    for question, result in zip(asked.questions, before, strict=True):
        yield Before(question.text, result.answer, result.stop, question.source)
    return before


def time_is_up(stop: Until) -> Iterator[Phase]:
    """Tell it if a run is ended because it has taken as long as it may."""
    if stop.is_late:
        yield Phase(TIME_IS_UP, "The time that a run may take is up; what it has learned is kept")


def judge_after(model: PreTrainedModel | PeftModel, held_out: Sequence[MaskedExample], stop: Until) -> list[RowScores]:
    """Return the losses of the held-out rows with the trained model, of as many as there is time for."""
    from ..model.scoring import judge

    return judge(model, held_out, stop, in_haste=stop.in_haste)


def answers_after(
    setup: Setup, model: PreTrainedModel | PeftModel, stop: Until
) -> Generator[Event, None, list[Answer]]:
    """Answer the same questions with the trained model and return the `Answer`s."""
    from ..model.generation import generate

    yield Phase("after", f"Answering the same {len(setup.prompts)} prompts after training")
    size = 1 if stop.in_haste else None
    return generate(model, setup.tokenizer, setup.prompts, setup.config.max_new_tokens, stop, size, checked=False)


def _judged(
    model: PreTrainedModel, rows: Sequence[MaskedExample], base: Base, stop: Until
) -> Generator[HeldOut, None, list[RowScores]]:
    """Return the losses of the held-out rows that have an answer, if there are any. Yields them if it is not
    stopped."""
    from ..model.scoring import held_out_losses

    scores = [] if stop() else base.scores(model, rows, stop)
    if rows and len(scores) == len(rows):
        yield held_out_losses(scores, rows, 0)
    return scores


def _compared(
    rows: Sequence[MaskedExample], before: Sequence[RowScores], after: Sequence[RowScores], step: int
) -> Iterator[HeldOut]:
    """Yield the losses on the held-out rows after the training. If there was time for some of them only, those before
    the training come first, anew: on the same rows."""
    from ..model.scoring import held_out_losses

    if len(after) < len(rows):
        yield held_out_losses(before[: len(after)], rows, 0)
    if rows:
        yield held_out_losses(after, rows, step)


def train_model(
    setup: Setup,
    model: PreTrainedModel,
    stop: Stop,
    scratch: str,
    held_out: Sequence[MaskedExample] = (),
    checkpoints: Checkpoints | None = None,
) -> Generator[Event, None, Trained]:
    """Train the model, yield the events, and return what it has become."""
    from ..train.loop import train

    step, losses, prepared = Step(0, 0, 0.0, 0.0, 0.0), list[float](), None
    begun = checkpoints and checkpoints.resume
    yield Phase("train", f"Going on after {begun.name.replace('-', ' ')}" if begun else "Training")
    film = Path(scratch) / FILM if setup.config.film else None
    work = train(model, setup.tokenizer, setup.rows.examples, setup.config, stop, scratch, held_out, checkpoints, film)
    with closing(work):
        events = Relay(work)
        for event in events:
            if isinstance(event, Step):
                step = event
                losses.append(event.loss)
            elif isinstance(event, Prepared):
                left_out = [str(group) for group in group_problems(setup.rows.left_out)]
                event = prepared = replace(event, left_out=left_out, mask_hash=setup.rows.mask_hash)
            yield event
    return Trained(events.result, step, tuple(thin(losses, CURVE)), prepared, film)


@event_stream
def fetch(name: str, stop: Stop = lambda: False, weights: bool = True) -> Generator[Event, None, Outcome]:
    """Download a model, or without `weights` its tokenizer, if it is not on this disk. The last event is `Finished` or
    `Failed`. Once `stop` returns true it ends; the next time it goes on with what has come."""
    yield from Until(stop).heeded((resolve if weights else resolve_tokenizer)(name))
    return Outcome()


@event_stream
def answer(config: RunConfig, prompts: Sequence[str], template: str | None = None) -> Generator[Event, None, Outcome]:
    """Answer prompts with a model or a saved run. The last event is `Finished` or `Failed`.

    Args:
        config (`RunConfig`):
            Only `model`, `device` and `max_new_tokens` are used. `model` may be the folder of a saved run.
        prompts (`Sequence[str]`):
            Each gets an `Answer` event, in this order.
        template (`str`, *optional*):
            As in [`get_template`]. By default a saved run is prompted in the way it was trained: with its own template,
            with verbatim prompts, or as a chat.
    """
    from ..model.generation import generate

    opened = yield from open_model(config)
    known, shape = way_of_asking(Path(config.model))
    asked = [typed_prompt(text, shape if template is None else "instruction") for text in prompts]
    chosen = known if template is None else get_template(template, arguments=known.arguments)
    rendered = [render_prompt(example, chosen, opened.tokenizer) for example in asked]
    model = yield from opened.load()
    yield Phase("answer", f"Answering {len(prompts)} prompts")
    for text, result in zip(prompts, generate(model, opened.tokenizer, rendered, config.max_new_tokens), strict=True):
        yield replace(result, prompt=text)
    return Outcome()


def _compare(setup: Setup, before: list[Answer], after: list[Answer]) -> list[Comparison]:
    return [
        Comparison(question.text, first.answer, second.answer, first.stop, second.stop, question.source)
        for question, first, second in zip(setup.questions, before, after, strict=True)
    ]
