"""Measure what the samples teach: how many held-out answers have the style before and after training."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..core.config import RunConfig
from ..core.events import Comparison, Event, Finished
from ..core.held import scratch_folder
from ..data.examples import read_examples
from ..data.samples import Sample, get_sample, has_style
from ..runs.run import run


@dataclass(frozen=True)
class SampleResult:
    """The result of one run: how many of the `held_out` answers had the style `before` and `after` it, and its wall
    time in `seconds`, including loading and saving."""

    name: str
    seed: int
    held_out: int
    before: int
    after: int
    seconds: float


def measure(
    names: Sequence[str], seeds: Sequence[int], config: RunConfig | None = None
) -> Iterator[Event | SampleResult]:
    """Run each sample with each seed, into a temporary folder, and count the held-out answers in its style.

    Yields the events of the runs, and a `SampleResult` after the `Finished` of each run. A run that ends in `Failed`
    has no result.

    Args:
        names, seeds:
            Names of samples, and the seeds to run each of them with.
        config (`RunConfig`, *optional*, defaults to `RunConfig()`):
            The settings apart from the seed.

    Raises:
        DataError: for an unknown name, before anything runs, or a sample's file that cannot be read.
    """
    config = config or RunConfig()
    samples = [get_sample(name) for name in names]
    for sample in samples:
        for seed in seeds:
            yield from _measure_one(sample, replace(config, seed=seed))


def _measure_one(sample: Sample, config: RunConfig) -> Iterator[Event | SampleResult]:
    begin = time.perf_counter()
    data = read_examples(sample.path)
    held_out: list[Comparison] = []
    finished = False
    with scratch_folder() as folder:
        for event in run(config, data, Path(folder) / sample.name):
            if isinstance(event, Comparison) and event.source == "held out":
                held_out.append(event)
            finished = isinstance(event, Finished)
            yield event
    if finished:
        yield SampleResult(
            name=sample.name,
            seed=config.seed,
            held_out=len(held_out),
            before=sum(has_style(sample.name, item.before, item.before_stop) for item in held_out),
            after=sum(has_style(sample.name, item.after, item.after_stop) for item in held_out),
            seconds=time.perf_counter() - begin,
        )
