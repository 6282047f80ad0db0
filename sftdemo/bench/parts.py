"""Measures what the program costs: `python -m sftdemo bench`. Ratios of one run, the arms by turns."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..core.config import BENCH_PARTS, RunConfig
from ..core.environment import share_heap
from ..core.errors import ConfigError
from ..core.events import Phase
from ..data.examples import ParsedExamples, read_examples
from ..data.samples import SAMPLES
from .figures import Stop

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..model.sources import ModelSource


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Args:
        parts (`tuple[str, ...]`):
            Of `BENCH_PARTS`.
        repeats (`int`):
            Timed repetitions of each arm, at least 5 for a figure that is to be believed. The longest parts take half
            as many.
        equal (`tuple[str, ...]`), templates (`tuple[str, ...]`):
            Under which templates training must equal TRL's, and under which its steps are timed.
        full (`bool`):
            Whether the steps of full fine-tuning are timed as well.
        all_points (`bool`):
            Whether the cost's growth is measured at all points, or at a few.
    """

    parts: tuple[str, ...]
    repeats: int
    equal: tuple[str, ...]
    templates: tuple[str, ...]
    full: bool
    all_points: bool


ALL_TEMPLATES = ("instruction", "alpaca", "chat")
QUICK = Effort(("equalities", "steps"), 2, ("instruction", "chat"), ("instruction",), full=False, all_points=False)
USUAL = Effort(
    tuple(part for part in BENCH_PARTS if part != "disk"),  # which takes six minutes by itself
    repeats=3,
    equal=ALL_TEMPLATES,
    templates=("instruction",),
    full=True,
    all_points=False,
)
THOROUGH = Effort(BENCH_PARTS, 7, ALL_TEMPLATES, ALL_TEMPLATES, full=True, all_points=True)


@dataclass(frozen=True)
class Measured:
    """A part of the bench is done. `result` holds all that is known by then: "machine", "arms", "ratios" and under its
    name what else a part found; under "unfinished" the parts that are not measured, or not in full."""

    part: str
    seconds: float
    result: dict


def bench(
    source: ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    data: ParsedExamples | None = None,
    effort: Effort = USUAL,
    rows: int = 40_000,
    stop: Stop = lambda: False,
) -> Iterator[Phase | Measured]:
    """Measures part by part: says what it does and how far it is, and yields a `Measured` after each part.

    Args:
        source, tokenizer:
            The model on this disk; it is trained and asked on the CPU.
        data (`ParsedExamples`, *optional*):
            What is trained; defaults to the first sample, and for the mask to `rows` made rows.
        effort (`Effort`, *optional*, defaults to `USUAL`):
            How much is measured: `USUAL`, `QUICK` (whose times say little), `THOROUGH` or one of your own.
        stop (`Callable`, *optional*):
            Once it is true, the bench ends with what it has measured: an arm that has begun goes on to its end.

    Raises:
        ConfigError: for an unknown part or too few repetitions.
    """
    unknown = set(effort.parts) - set(BENCH_PARTS)
    if unknown:
        raise ConfigError(f"{min(unknown)!r} is no part of the bench; choose of {', '.join(BENCH_PARTS)}.")
    if effort.repeats < 1 or rows < 8:
        raise ConfigError("bench needs at least 8 --rows and 1 of --repeats.")

    from ..core.machine import machine
    from .recipes import Subject

    subject = Subject(source, tokenizer, data or read_examples(SAMPLES[0].path))
    parts = tuple(dict.fromkeys(effort.parts))
    result = {"machine": machine(), "arms": [], "ratios": {}}
    missing = list(parts)
    if "mask" not in parts:
        share_heap()  # before the first thread, so that all arms have the same
    for number, part in enumerate(parts):
        begin, asked = time.perf_counter(), _Asked(stop)
        for item in _part(part, subject, data, effort, rows, asked):
            if isinstance(item, Phase):
                where = f"{part}, part {number + 1} of {len(parts)}: {item.message}"
                yield replace(item, message=where, fraction=(number + (item.fraction or 0.0)) / len(parts))
            else:
                _add(result, part, item)
        if not asked.was_told:
            missing.remove(part)
        left = {"unfinished": list(missing)} if missing else {}
        yield Measured(part, time.perf_counter() - begin, result | left)
        if stop():
            return


class _Asked:
    """Asks whether to stop, and knows whether the answer ever was yes: the part that asked is then cut short."""

    def __init__(self, stop: Stop):
        self.stop, self.was_told = stop, False

    def __call__(self) -> bool:
        self.was_told = self.was_told or self.stop()
        return self.was_told


def _part(part: str, subject, data: ParsedExamples | None, effort: Effort, rows: int, stop: Stop) -> Iterator:
    repeats, few = effort.repeats, (effort.repeats + 1) // 2
    match part:
        case "equalities":
            from .equalities import bench_equalities

            return bench_equalities(subject, effort.equal)
        case "steps":
            from .steps import bench_steps

            return bench_steps(subject, repeats, effort.templates, not effort.full, stop)
        case "answers":
            from .answers import bench_answers

            return bench_answers(subject, repeats, stop)
        case "click":
            from .click import bench_click

            return bench_click(subject.data, few, stop)
        case "start":
            from .start import bench_start

            return bench_start(few, stop)
        case "disk":
            from .disk import bench_disk

            return bench_disk(subject.source, stop=stop)
        case "growth":
            from .growth import ALL_POINTS, FEW_POINTS, bench_growth

            return bench_growth(subject, few, ALL_POINTS if effort.all_points else FEW_POINTS, stop)
    from .mask import bench_mask, made_examples

    examples = list(data.train) if data else made_examples(rows)
    return bench_mask(examples, subject.tokenizer, RunConfig(), repeats, stop)


def _add(result: dict, part: str, found: dict | list) -> None:
    """The arms and ratios of all parts stand together, the rest under the part's name."""
    if isinstance(found, dict):
        result["ratios"] = result["ratios"] | found.pop("ratios", {})
        result["arms"] = result["arms"] + found.pop("arms", [])
    result[part] = found
