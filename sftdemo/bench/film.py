"""Measure what the film costs: the default run with and without it, by turns, and the adapters that it keeps."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import median

from ..core.config import RunConfig
from ..core.errors import TrainingError
from ..core.events import Failed, Phase, Prepared
from ..core.held import scratch_folder
from ..data.examples import ParsedExamples
from ..model.sources import ModelSource
from ..runs.disk import size_of
from ..runs.film import film
from ..runs.folder import FILM
from ..runs.run import run
from .figures import Stop, repetitions, seconds_of, spread

ARMS = {"without": False, "with": True}


def bench_film(
    source: ModelSource, data: ParsedExamples, repeats: int, stop: Stop = lambda: False, device: str = "cpu"
) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, the seconds of all steps of the default run without and with a film, those in which
    its frames are developed afterwards, and the MB that the adapters take until then.

    Raises:
        TrainingError: if a run or its film fails.
    """
    seconds: dict[str, list[float]] = {arm: [] for arm in ARMS}
    developed: list[float] = []
    size = 0
    for number in repetitions(repeats, stop):
        for place, (arm, filmed) in enumerate(ARMS.items()):
            yield Phase("bench", f"the default run {arm} a film", (number + place / len(ARMS)) / repeats)
            with scratch_folder() as scratch:
                folder = Path(scratch) / "run"
                seconds[arm].append(_steps(RunConfig(str(source.folder), film=filmed, device=device), data, folder))
                if filmed:
                    size = size_of(folder / FILM)
                    developed.append(seconds_of(partial(_develop, folder, device)))
    yield {
        "seconds": {**{arm: spread(each) for arm, each in seconds.items()}, "developed": spread(developed)},
        "mb": round(size / 1e6, 1),
        "ratios": {"film_training": round(median(seconds["with"]) / median(seconds["without"]), 3)},
    }


def _steps(config: RunConfig, data: ParsedExamples, folder: Path) -> float:
    """Return the seconds of all steps of a run, with what is kept between them."""
    begin = end = 0.0
    for event in run(config, data, folder):
        match event:
            case Prepared():
                begin = time.perf_counter()
            case Phase(name="after"):
                end = time.perf_counter()
            case Failed():
                raise TrainingError(event.message)
            case _:
                pass
    return end - begin


def _develop(folder: Path, device: str) -> None:
    for event in film(folder, device):
        if isinstance(event, Failed):
            raise TrainingError(event.message)
