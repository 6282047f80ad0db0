"""Count what a run will compute, before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from ..core.config import RunConfig
from ..data.examples import ParsedExamples
from ..data.hold_out import hold_out
from ..data.questions import questions_of
from ..mask.audit import Audit

_USUAL = 0.9  # of the answers are no longer than what is taken for their length: one long row says little


@dataclass(frozen=True)
class Work:
    """What a run will compute. A run by itself has one training, an ablation one for each weight.

    Args:
        steps (`int`):
            The optimizer steps of each training.
        positions, trained (`float`):
            How many tokens a step computes, with each common beginning once, and how many of them have a label of their
            own; the means over all steps.
        weights (`tuple[float, ...]`):
            The prompt-loss weight of each training.
        questions, new_tokens (`int`):
            How many prompts are answered before and after, and with how many tokens at most.
        prompt, answer (`float`):
            The tokens of a prompt, on the average, and those of a long answer in the rows.
        held_out (`float`):
            How many tokens of held-out rows are judged, each time.
    """

    steps: int
    positions: float
    trained: float
    weights: tuple[float, ...]
    questions: int
    new_tokens: int
    prompt: float
    answer: float
    held_out: float


def work_of(config: RunConfig, audit: Audit, data: ParsedExamples, weights: Sequence[float] = ()) -> Work:
    """Count the work of a run on `data`, whose rows the audit has looked over; of an ablation with `weights`.

    Only the lengths of the held-out rows are not known: they are taken to be as long as the others.
    """
    data, rows = hold_out(data, config), len(audit.rows)
    size = rows, tokens_of(audit)
    steps = planned_steps(config, *size)
    seen = _rows_seen(config, *size, steps) / max(1, steps)
    mean = size[1] / max(1, rows)
    alone, common = _shared(config, audit)
    answers = sorted(spans[-1][1] - spans[-1][0] for spans in audit.spans)
    share = sum(last - first for spans in audit.spans for first, last in spans) / max(1, sum(audit.lengths))
    judged = sum(example.is_answered for example in data.held_out)
    return Work(
        steps=steps,
        positions=seen * alone + common * (1 if config.packing else seen / min(config.batch_size, max(1, rows))),
        trained=seen * mean * share,
        weights=tuple(weights) or (config.prompt_loss_weight,),
        questions=len(questions_of(config, data)) if data.train else 0,
        new_tokens=config.max_new_tokens,
        prompt=mean - (sum(answers) / max(1, rows)),
        answer=answers[int(_USUAL * rows)] if answers else 0,
        held_out=judged * alone + common if judged else 0,
    )


def tokens_of(audit: Audit) -> int:
    """Return the number of tokens that are trained on or read, without those that are cut off."""
    return sum(min(length, audit.max_length) for length in audit.lengths)


def _shared(config: RunConfig, audit: Audit) -> tuple[float, float]:
    """Return how many tokens of a row no other row has, and with how many all of them begin, on the average."""
    rows, fresh = len(audit.rows), sum(audit.fresh)
    batches = ceil(rows / config.batch_size)
    if rows == batches:  # nothing is shared, or nothing can be told
        return fresh / max(1, rows), 0.0
    saved = sum(min(length, audit.max_length) - 1 for length in audit.lengths) - fresh
    common = saved / (rows - batches)
    return (fresh - batches * common) / rows, common


def _rows_seen(config: RunConfig, examples: int, tokens: int, steps: int) -> float:
    """Return how many examples all steps see: the last step of an epoch sees what is left."""
    an_epoch = _steps_an_epoch(config, examples, tokens)
    if not an_epoch:
        return 0
    whole, more = divmod(steps, an_epoch)
    return examples * (whole + min(1.0, more * config.rows_a_step / _rows(config, examples, tokens)))


def planned_steps(config: RunConfig, examples: int, tokens: int) -> int:
    """Return the number of optimizer steps. With packing, rows are assumed to be full, so there may be a few more."""
    if config.steps is not None:
        return config.steps
    return max(1, ceil((config.epochs or 1) * _steps_an_epoch(config, examples, tokens)))


def planned_epochs(config: RunConfig, examples: int, tokens: int) -> float:
    """Return how many passes over the examples the steps are, with rows as in `planned_steps`."""
    if config.epochs is not None:
        return config.epochs
    return planned_steps(config, examples, tokens) / _steps_an_epoch(config, examples, tokens)


def tokens_a_step(config: RunConfig, examples: int, tokens: int) -> float:
    """Return the mean number of tokens per optimizer step, without padding."""
    if config.packing:
        return min(tokens, config.rows_a_step * config.max_length)
    return tokens * min(1, config.rows_a_step / max(1, examples))


def _steps_an_epoch(config: RunConfig, examples: int, tokens: int) -> int:
    return ceil(_rows(config, examples, tokens) / config.rows_a_step)


def _rows(config: RunConfig, examples: int, tokens: int) -> int:
    return ceil(tokens / config.max_length) if config.packing else examples
