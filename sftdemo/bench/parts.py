"""Measure what the program costs, part by part: `python -m sftdemo bench`."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import date
from typing import TYPE_CHECKING

from ..core.config import BENCH_PARTS, LONG_PARTS, RunConfig
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
            Names from `BENCH_PARTS`.
        repeats (`int`):
            Timed repetitions of each arm. A reliable figure needs at least 5. The longest parts take half as many.
        equal, templates (`tuple[str, ...]`):
            The templates under which training is checked against TRL's, and those under which its steps are timed.
        full (`bool`):
            Whether the steps of full fine-tuning are timed as well.
        all_points (`bool`):
            Whether the growth of the cost is measured at all points, or at a few.
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
    tuple(part for part in BENCH_PARTS if part not in LONG_PARTS),
    repeats=3,
    equal=ALL_TEMPLATES,
    templates=("instruction",),
    full=True,
    all_points=False,
)
THOROUGH = Effort(BENCH_PARTS, 7, ALL_TEMPLATES, ALL_TEMPLATES, full=True, all_points=True)


@dataclass(frozen=True)
class Measured:
    """A finished part of the bench.

    Args:
        part (`str`), seconds (`float`):
            Its name in `BENCH_PARTS`, and how long it took.
        result (`dict`):
            The result of all parts so far: "date", "machine", "asked", "arms", "ratios", the other findings of each
            part under its name, and under "unfinished" the parts that are not yet measured in full, if any.
    """

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
    device: str = "auto",
    begun: dict | None = None,
) -> Iterator[Phase | Measured]:
    """Measure part by part. Yields a `Phase` before each piece of work, and a `Measured` after each part.

    Args:
        source, tokenizer:
            A model on this disk.
        data (`ParsedExamples`, *optional*):
            The examples. Defaults to the first sample, and for the mask to `rows` synthetic rows.
        effort (`Effort`, *optional*, defaults to `USUAL`):
            How much is measured: `USUAL`, `QUICK` (too few repetitions for reliable times), `THOROUGH` or your own.
        rows (`int`, *optional*, defaults to 40,000):
            The number of synthetic rows, at least 8.
        stop (`Callable`, *optional*):
            Once it returns True, the bench ends with what it has measured. An arm that has begun is finished.
        device (`str`, *optional*, defaults to `"auto"`):
            What the model runs on; the equalities, the mask, the start and the rows on disk are of the CPU.
        begun (`dict`, *optional*):
            The result of a bench that was stopped, which this one goes on with: what was measured in full is not
            measured again.

    Raises:
        ConfigError: for an unknown part, for too few rows or repetitions, or if `begun` is of another machine or was
            asked otherwise.
        ModelError: if there is no such device here.
    """
    unknown = set(effort.parts) - set(BENCH_PARTS)
    if unknown:
        raise ConfigError(f"{min(unknown)!r} is no part of the bench; choose of {', '.join(BENCH_PARTS)}.")
    if effort.repeats < 1 or rows < 8:
        raise ConfigError("bench needs at least 8 --rows and 1 of --repeats.")

    from ..core.machine import machine
    from ..model.devices import choose_device
    from .recipes import Subject

    chosen = choose_device(device).type
    subject = Subject(source, tokenizer, data or read_examples(SAMPLES[0].path), chosen)
    asked = {"model": source.name, "device": chosen, "rows": rows, "examples": len(subject.data.train)} | asdict(effort)
    today = {"date": date.today().isoformat()}
    result = today | {"machine": machine(), "asked": json.loads(json.dumps(asked)), "arms": [], "ratios": {}}
    if begun is not None:
        result = _gone_on_with(begun, result)
    parts = tuple(part for part in dict.fromkeys(effort.parts) if part not in result)
    missing = list(parts)
    if "mask" not in parts:
        share_heap()  # before the first thread, so that all arms use the same heap
    for number, part in enumerate(parts):
        begin, remembered = time.perf_counter(), _RememberedStop(stop)
        for item in _measure(part, subject, data, effort, rows, remembered):
            if isinstance(item, Phase):
                where = f"{part}, part {number + 1} of {len(parts)}: {item.message}"
                yield replace(item, message=where, fraction=(number + (item.fraction or 0.0)) / len(parts))
            else:
                _add(result, part, item)
        if not remembered.stopped:
            missing.remove(part)
        left = {"unfinished": list(missing)} if missing else {}
        yield Measured(part, time.perf_counter() - begin, result | left)
        if stop():
            return


def _gone_on_with(begun: dict, new: dict) -> dict:
    """Return what a bench that was stopped has measured in full.

    Raises:
        ConfigError: if it is of another machine, or was asked otherwise.
    """
    for name, known in (("machine", "on another machine"), ("asked", "with other settings")):
        was, now = begun.get(name, {}), new[name]
        if was != now:
            differs = next((each for each in now if was.get(each) != now[each]), name)
            raise ConfigError(
                f"that bench was begun {known}: {differs} was {was.get(differs)!r} and is {now.get(differs)!r}. "
                "Measure anew, without --resume."
            )
    unfinished = begun.get("unfinished", ())
    kept = {name: value for name, value in begun.items() if name not in ("unfinished", *unfinished)}
    return kept | ({"arms": []} if "steps" in unfinished else {})  # the only part with arms


class _RememberedStop:
    """A `stop` that remembers whether it ever returned True to the part that called it."""

    def __init__(self, stop: Stop):
        self.stop, self.stopped = stop, False

    def __call__(self) -> bool:
        self.stopped = self.stopped or self.stop()
        return self.stopped


def _measure(part: str, subject, data: ParsedExamples | None, effort: Effort, rows: int, stop: Stop) -> Iterator:
    from .answers import bench_answers
    from .click import bench_click
    from .disk import bench_disk
    from .equalities import bench_equalities
    from .estimate import FEW_TRIALS, TRIALS, bench_estimate
    from .film import bench_film
    from .fit import bench_fit
    from .growth import ALL_POINTS, FEW_POINTS, bench_growth
    from .mask import bench_mask, synthetic_examples
    from .precision import bench_precision
    from .start import bench_start
    from .steps import bench_steps

    repeats, few = effort.repeats, (effort.repeats + 1) // 2
    match part:
        case "equalities":
            return bench_equalities(subject, effort.equal)
        case "steps":
            return bench_steps(subject, repeats, effort.templates, not effort.full, stop)
        case "precision":
            return bench_precision(subject.source.name, stop, subject.device)
        case "answers":
            return bench_answers(subject, repeats, stop)
        case "click":
            return bench_click(subject.data, few, stop, subject.device)
        case "estimate":
            trials = TRIALS if effort.full else FEW_TRIALS
            return bench_estimate(subject.source.name, subject.tokenizer, trials, stop, subject.device)
        case "film":
            return bench_film(subject.source, subject.data, few, stop, subject.device)
        case "start":
            return bench_start(few, stop)
        case "fit":
            return bench_fit(subject, stop=stop)
        case "disk":
            return bench_disk(subject.source, stop=stop)
        case "growth":
            return bench_growth(subject, few, ALL_POINTS if effort.all_points else FEW_POINTS, stop)
    examples = list(data.train) if data else synthetic_examples(rows)
    return bench_mask(examples, subject.tokenizer, RunConfig(), repeats, stop)


def _add(result: dict, part: str, found: dict | list) -> None:
    """Add what a part found: arms and ratios to those of all parts, the rest under the name of the part."""
    if isinstance(found, dict):
        result["ratios"] = result["ratios"] | found.pop("ratios", {})
        result["arms"] = result["arms"] + found.pop("arms", [])
    result[part] = found
