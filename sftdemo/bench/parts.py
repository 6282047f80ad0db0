"""Measures what the program costs: `python -m sftdemo bench`. Ratios of one run, the arms by turns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ..core.config import BENCH_PARTS, RunConfig
from ..core.environment import share_heap
from ..core.errors import ConfigError
from ..core.events import Phase
from ..data.examples import ParsedExamples, read_examples
from ..data.samples import SAMPLES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ..model.sources import ModelSource

QUICK = ("equalities", "steps")


def bench(
    source: ModelSource,
    tokenizer: PreTrainedTokenizerBase,
    data: ParsedExamples | None = None,
    parts: Sequence[str] = BENCH_PARTS,
    repeats: int = 7,
    rows: int = 40_000,
    quick: bool = False,
) -> Iterator[Phase | dict]:
    """Says what it does, and at the end yields one object: "machine", "arms", "ratios" and what else was measured.

    Args:
        source, tokenizer:
            The model on this disk; it is trained and asked on the CPU.
        data (`ParsedExamples`, *optional*):
            What is trained; defaults to the first sample, and for the mask to `rows` made rows.
        parts (`Sequence[str]`, *optional*):
            Of `BENCH_PARTS`.
        repeats (`int`, *optional*, defaults to 7):
            Timed repetitions of each arm, at least 5 for a figure that is to be believed.
        quick (`bool`, *optional*, defaults to `False`):
            The equalities with two templates, and two steps of one; its times say little.

    Raises:
        ConfigError: for an unknown part or too few repetitions.
    """
    unknown = set(parts) - set(BENCH_PARTS)
    if unknown:
        raise ConfigError(f"{min(unknown)!r} is no part of the bench; choose of {', '.join(BENCH_PARTS)}.")
    if repeats < 1 or rows < 8:
        raise ConfigError("bench needs at least 8 --rows and 1 of --repeats.")

    from ..core.machine import machine
    from .recipes import Subject

    subject = Subject(source, tokenizer, data or read_examples(SAMPLES[0].path))
    result = {"machine": machine(), "arms": [], "ratios": {}}
    if "mask" not in parts:
        share_heap()  # before the first thread, so that all arms have the same
    for part in parts:
        for item in _part(part, subject, data, repeats, rows, quick):
            if isinstance(item, Phase):
                yield item
            else:
                _add(result, part, item)
    yield result


def _part(part: str, subject, data: ParsedExamples | None, repeats: int, rows: int, quick: bool) -> Iterator:
    templates = ("instruction", "chat") if quick else ("instruction", "alpaca", "chat")
    match part:
        case "equalities":
            from .equalities import bench_equalities

            return bench_equalities(subject, templates)
        case "steps":
            from .steps import bench_steps

            return bench_steps(subject, 2 if quick else repeats, templates[:1] if quick else templates, quick)
        case "answers":
            from .answers import bench_answers

            return bench_answers(subject, repeats)
        case "click":
            from .click import bench_click

            return bench_click(subject.data, min(repeats, 3))
        case "start":
            from .start import bench_start

            return bench_start(min(repeats, 3))
        case "disk":
            from .disk import bench_disk

            return bench_disk(subject.source)
        case "growth":
            from .growth import bench_growth

            return bench_growth(subject)
    from .mask import bench_mask, made_examples

    examples = list(data.train) if data else made_examples(rows)
    return bench_mask(examples, subject.tokenizer, RunConfig(), min(repeats, 5))


def _add(result: dict, part: str, found: dict | list) -> None:
    """The arms and ratios of all parts stand together, the rest under the part's name."""
    if isinstance(found, dict):
        result["ratios"] |= found.pop("ratios", {})
        result["arms"] += found.pop("arms", [])
    result[part] = found
