"""Keep some rows back from training, where a data set itself holds none out."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from random import Random

from ..core.config import RunConfig
from ..core.errors import DataError
from .examples import ParsedExamples, StreamedExamples


def hold_out(data: ParsedExamples, config: RunConfig) -> ParsedExamples:
    """Return the data with `config.hold_out` rows held out, drawn by `config.seed` from those to train on. Rows that
    are held out already count among them, so that doing it again changes nothing.

    Raises:
        DataError: if no row would be left to train on.
    """
    rows = len(data.train) + len(data.held_out)
    wanted = ceil(config.hold_out * rows) if config.hold_out < 1 else int(config.hold_out)
    missing = wanted - len(data.held_out)
    if missing <= 0:
        return data
    if missing >= len(data.train):
        raise DataError(
            f"hold_out is {config.hold_out:g}, and of {rows:,} rows {len(data.train):,} are to be trained: none would "
            "be left. Hold fewer out."
        )
    chosen = set(Random(config.seed).sample(range(len(data.train)), missing))
    kept = [replace(example, held_out=True) for index, example in enumerate(data.train) if index in chosen]
    if isinstance(data.train, StreamedExamples):
        train = data.train.without(frozenset(example.row for example in kept))
    else:
        train = tuple(example for index, example in enumerate(data.train) if index not in chosen)
    return replace(data, train=train, held_out=(*data.held_out, *kept))
