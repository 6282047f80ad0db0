"""Train with several prompt-loss weights and compare on the same held-out rows, to see what masking gains."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ..core import distributed
from ..core.config import RunConfig, check_limit
from ..core.errors import ConfigError, DataError
from ..core.events import Answer, Arm, Columns, Conclusion, Event, Figures, Phase, Prepared, Weights
from ..core.held import scratch_folder
from ..core.limits import Limits
from ..core.streams import Outcome, Relay, event_stream
from ..core.until import Until
from ..data.examples import Origin, ParsedExamples
from ..data.hold_out import hold_out
from ..data.questions import question_text
from ..data.templates import TEMPLATE, RenderedPrompt
from ..mask.labels import MaskedExample
from ..model.loading import load_model, weights_sha256
from .base import Base
from .conclusion import conclusion
from .folder import RunFolder, record_of, save_run
from .run import Trained, answers_after, answers_before, judge_after, time_is_up, train_model
from .setup import Setup, set_up

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

    from ..model.scoring import RowScores

MOST_ARMS = 4  # more columns cannot be read side by side


@dataclass(frozen=True)
class _Column:
    """The base (`weight` is None) or a trained arm: its losses on the held-out rows, of the first ones alone if it was
    stopped, and its answers."""

    weight: float | None
    scores: list[RowScores]
    answers: list[Answer]


def ablate(
    config: RunConfig,
    data: ParsedExamples,
    output: str | Path,
    weights: Sequence[float] = (0.0, 1.0),
    stop: Callable[[], bool] = lambda: False,
    shown: str | None = None,
    overwrite: bool = False,
    limits: Limits | None = None,
    base: Base | None = None,
) -> Iterator[Event]:
    """Train one arm per prompt-loss weight and compare all with the base. The last event is `Finished` or `Failed`.

    All arms have the same initial weights, seed, order of rows and number of steps. While an arm trains, `HeldOut`
    events report its losses on the held-out rows. `Columns` and `Figures` come at the end, for the base and then for
    each arm in the order of `weights`. `output` gets one folder per arm. If the ablation is stopped, the current arm
    keeps what it has learned and the remaining arms are not started.

    Args:
        config, data, output, stop, shown, overwrite, limits, base:
            As in [`run`]. The prompt-loss weight of `config` is not used.
        weights (`Sequence[float]`, *optional*, defaults to 0 and 1):
            Two to `MOST_ARMS` different prompt-loss weights, each in [0, 1].
    """
    folder = RunFolder(output, overwrite)
    until = Until(stop, limits and limits.seconds)
    return folder.relay(_ablate(config, data, folder, tuple(weights), until, shown, limits, base or Base()))


def arm_folder(weight: float) -> str:
    """Return the name of an arm's folder in the output folder."""
    return f"weight-{weight:g}"


@event_stream
def _ablate(
    config: RunConfig,
    data: ParsedExamples,
    folder: RunFolder,
    weights: tuple[float, ...],
    stop: Until,
    shown: str | None,
    limits: Limits | None,
    base: Base,
) -> Generator[Event, None, Outcome | None]:
    from ..model.scoring import held_out_losses

    check_weights(weights, MOST_ARMS)
    check_name(config, "an ablation")
    check_saves_whole(config, "an ablation", films=True)
    data = hold_out(data, config)
    check_rows(data, "an ablation")
    with scratch_folder() as scratch:
        setup = yield from set_up(config, data, folder, scratch, shown, stop, limits, len(weights), base)
        held_out = held_out_rows(setup, data)
        model, fingerprint = yield from base.take(setup)
        answers = yield from answers_before(setup, model, base, stop)
        columns, steps = [_Column(None, base.scores(model, held_out, stop), answers)], []
        arms, after = {}, fingerprint
        for index, weight in enumerate(weights):
            if stop():
                break
            yield Arm(index, list(weights))
            model = _untrained(setup, model) if index else model
            arm = replace(setup, config=replace(setup.config, prompt_loss_weight=weight))
            trained = yield from _train_arm(arm, model, stop, f"{scratch}/trainer", held_out, columns[0].scores)
            model = trained.model
            if not trained.step.step:
                break
            steps.append(trained.step)
            after = weights_sha256(model) if after == fingerprint else after  # a later arm must not hide a change
            yield from time_is_up(stop)
            afterwards = stop.afterwards()
            scores = judge_after(model, held_out, afterwards)
            if len(scores) == len(held_out):  # some of them alone would be no point of this curve
                yield held_out_losses(scores, held_out, trained.step.step)
            answers = yield from answers_after(arm, model, afterwards)
            columns.append(_Column(weight, scores, answers))
            arms[arm_folder(weight)] = Path(scratch) / arm_folder(weight)
            record = _record(arm, data.origin, trained.to_record(), _figures(setup, held_out, columns[-1:]))
            save_run(arms[arm_folder(weight)], record, data, setup.to_save(model, trained.film))
        total = len(weights) * max((step.total for step in steps), default=0)
        outcome = Outcome.of(sum(step.step for step in steps), total)
        if arms:
            figures = _figures(setup, held_out, columns)
            yield from _told(setup, columns)
            yield from figures
            yield Weights(fingerprint, after, config.full)
            found = conclusion(folder.events)
            yield Conclusion(found)
            yield Phase("save", f"Saving to {folder}")
            results = {"steps": steps[-1].step, "loss": steps[-1].loss, "arms": list(arms), "conclusion": found}
            record = _record(setup, data.origin, results, figures, weights)
            yield from folder.save_arms(record, data, arms, outcome)
            return None
    return outcome


def _untrained(setup: Setup, model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    """Return the model as it was before it was trained. Under an adapter its weights are the same as ever."""
    from peft import PeftModel

    if isinstance(model, PeftModel) and setup.source.base is None:
        return cast("PreTrainedModel", model.unload())
    return load_model(setup.source, model.device, True, setup.config.load_in_4bit)


def _train_arm(
    arm: Setup,
    model: PreTrainedModel,
    stop: Until,
    scratch: str,
    held_out: Sequence[MaskedExample],
    first: Sequence[RowScores],
) -> Generator[Event, None, Trained]:
    """Train an arm. Its losses before the first step are those of the base, which are known."""
    from ..model.scoring import held_out_losses

    with closing(train_model(arm, model, stop, scratch, held_out)) as work:
        events = Relay(work)
        for event in events:
            yield event
            if isinstance(event, Prepared) and len(first) == len(held_out):
                yield held_out_losses(first, held_out, 0)
    return events.result


def check_weights(weights: Sequence[float], most: int) -> None:
    """Refuse weights that cannot be compared.

    Raises:
        ConfigError: if there are fewer than two or more than `most`, or if one is outside its limits or repeated.
    """
    for weight in weights:
        check_limit("prompt_loss_weight", weight)
    if not 2 <= len(weights) <= most:
        if len(weights) == 1:
            raise ConfigError(f"there is one weight; two to {most} can be compared.")
        raise ConfigError(f"there are {len(weights)} weights; two to {most} can be compared.")
    if len({arm_folder(weight) for weight in weights}) < len(weights):
        raise ConfigError(f"the weights {', '.join(f'{weight:g}' for weight in weights)} are not all different.")


def check_name(config: RunConfig, what: str) -> None:
    """Refuse one name, in what a run is reported to, for several trainings.

    Raises:
        ConfigError: if `set` names one.
    """
    if "run_name" in config.trl_settings:
        raise ConfigError(f"set names run_name, but {what} trains several times under one name; leave it out.")


def check_saves_whole(config: RunConfig, what: str, films: bool = False) -> None:
    """Refuse checkpoints, which are for a single training, and a film of what saves no model. `what` names the job in
    the message.

    Raises:
        ConfigError: if `save_every` is set, or `film` without `films`.
    """
    if config.film and not films:
        raise ConfigError(f"film keeps the adapters of a run, and {what} saves none; leave it out.")
    if config.save_every is not None:
        raise ConfigError(
            f"save_every is {config.save_every!r}, and {what} writes no checkpoints; leave it out. A single training "
            "(train) does, and a study goes on by itself."
        )


def check_rows(data: ParsedExamples, what: str) -> None:
    """Refuse rows on which no comparison is possible. `what` names the job in messages, for example "an ablation".

    Raises:
        DataError: if there is only one row to train on, if no row is held out, or if all rows ask the same question.
        ConfigError: if there are several processes.
    """
    if distributed.count() > 1:
        raise ConfigError(f"{what} runs in one process; start it without torchrun.")
    if len(data.train) == 1:
        raise DataError("there is one row to train on; a comparison of two ways to train needs at least two.")
    if data.train and not data.held_out:
        raise DataError(
            'no row is held out, so nothing can be measured on rows that no arm has seen. Give some rows "held_out": '
            "true, about one in five, or choose --hold-out 0.2."
        )
    asked = {text for text, _ in zip(_distinct(data), range(2), strict=False)}
    if data.train and len(asked) == 1:
        raise DataError(
            f"all rows ask the same, {asked.pop()[:60]!r}, so the loss on prompts says nothing. Add rows that ask "
            "something else."
        )


def _distinct(data: ParsedExamples) -> Iterator[str]:
    seen = set()
    for text in map(question_text, chain(data.held_out, data.train)):
        if text not in seen:
            seen.add(text)
            yield text


def held_out_rows(setup: Setup, data: ParsedExamples) -> list[MaskedExample]:
    """Return the held-out rows that losses are compared on.

    Raises:
        DataError: if none of them has an answer.
    """
    rows = setup.held_out_rows(data.held_out)
    if not rows:
        raise DataError("no held-out row has an answer, so there is no loss to measure; give those rows answers.")
    return rows


def _figures(setup: Setup, held_out: Sequence[MaskedExample], columns: Sequence[_Column]) -> list[Figures]:
    """Return the figures of each column: all on the same rows, those that there was time for in each."""
    rows = min(len(each.scores) for each in columns)
    return [figures_of(setup, each.scores[:rows], held_out, each.answers, each.weight) for each in columns]


def figures_of(
    setup: Setup,
    scores: Sequence[RowScores],
    rows: Sequence[MaskedExample],
    answers: Sequence[Answer],
    weight: float | None,
) -> Figures:
    """Return the figures of one model: its losses on as many rows as there are scores, and how its answers end."""
    from ..model.scoring import mean_losses

    losses = mean_losses(scores, rows[: len(scores)])
    openings = [_opening(prompt) for prompt in setup.prompts]
    ran_on = [opening in each.answer for each, opening in zip(answers, openings, strict=True) if opening]
    return Figures(
        prompt_loss_weight=weight,
        completion_loss=losses.completion,
        prompt_loss=losses.prompt,
        completion_tokens=losses.completion_tokens,
        prompt_tokens=losses.prompt_tokens,
        answers=len(answers),
        ended=sum(each.stop == "EOS" for each in answers),
        ran_on=sum(ran_on) if ran_on else None,
        mean_tokens=sum(each.tokens for each in answers) / len(answers),
    )


def _opening(prompt: RenderedPrompt) -> str:
    """Return the template's last line before the user's text, such as "### Instruction:".

    The result is empty if there is no such line, and in a chat, where special tokens open a turn.
    """
    first = prompt.segments[0]
    lines = [line.strip() for line in first.text.splitlines() if line.strip()]
    return lines[-1] if lines and first.role == TEMPLATE and not prompt.chat else ""


def _told(setup: Setup, columns: Sequence[_Column]) -> Iterator[Event]:
    for index, question in enumerate(setup.questions):
        answers = [column.answers[index] for column in columns]
        yield Columns(
            question.text, question.source, [each.answer for each in answers], [each.stop for each in answers]
        )


def _record(
    setup: Setup,
    origin: Origin | None,
    results: dict[str, object],
    figures: Sequence[Figures],
    weights: Sequence[float] = (),
) -> dict:
    found = [each.to_dict() for each in figures]
    return record_of(setup.config, setup.source, setup.shape, origin, results | {"figures": found}, weights)
