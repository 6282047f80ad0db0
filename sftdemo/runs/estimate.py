"""Estimate how long a run takes, from the last run on this machine or, before there is one, from a 2-core CPU."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from ..core.config import RunConfig
from ..core.events import Event, Finished, Prepared, Step
from ..core.files import cache_folder, write_whole

RATES = "rates.json"
Kind = TypeVar("Kind", bound=Event)
_MOST = 1e9  # seconds: more is no measurement
_LOG = logging.getLogger(__name__)

# Measured with SmolLM2-135M in float32 on 2 cores of an AMD EPYC: seconds per token of a training step, and seconds of
# everything else (loading, answering 6 prompts twice, saving).
_FIRST_GUESS = {"lora": (0.0075, 13.0), "full": (0.011, 14.0)}


@dataclass(frozen=True)
class Rate:
    """The speed of a run: seconds per token of an optimizer step (`per_token`), and seconds of everything but the steps
    (`overhead`). `measured` is false for the first guess."""

    per_token: float
    overhead: float
    measured: bool


def rate_for(config: RunConfig, device: str) -> Rate | None:
    """Return the rate of the last comparable run on this machine.

    Without one, return a first guess for the default model on a CPU, and None in all other cases.
    """
    rates = _read()
    key = _key(config, device)
    if key in rates:
        return Rate(*rates[key], measured=True)
    if device != "cpu" or config.model != RunConfig().model:
        return None
    return Rate(*_FIRST_GUESS["full" if config.full else "lora"], measured=False)


def estimate_seconds(config: RunConfig, examples: int, tokens: int, rate: Rate) -> float:
    """Return the seconds from the click to the saved model. `examples` and `tokens` are the totals of the data."""
    a_step = tokens_a_step(config, examples, tokens)
    return planned_steps(config, examples, tokens) * a_step * rate.per_token + rate.overhead


def planned_steps(config: RunConfig, examples: int, tokens: int) -> int:
    """Return the number of optimizer steps. With packing, rows are assumed to be full, so there may be a few more."""
    if config.steps is not None:
        return config.steps
    return max(1, ceil((config.epochs or 1) * ceil(_rows(config, examples, tokens) / config.rows_a_step)))


def planned_epochs(config: RunConfig, examples: int, tokens: int) -> float:
    """Return how many passes over the examples the steps are, with rows as in `planned_steps`."""
    if config.epochs is not None:
        return config.epochs
    return planned_steps(config, examples, tokens) / ceil(_rows(config, examples, tokens) / config.rows_a_step)


def _rows(config: RunConfig, examples: int, tokens: int) -> int:
    return ceil(tokens / config.max_length) if config.packing else examples


def tokens_a_step(config: RunConfig, examples: int, tokens: int) -> float:
    """Return the mean number of tokens per optimizer step, without padding."""
    if config.packing:
        return min(tokens, config.rows_a_step * config.max_length)
    return tokens * min(1, config.rows_a_step / max(1, examples))


def save_rate(config: RunConfig, device: str, events: Sequence[Event]) -> None:
    """Save the rate of a finished run for later estimates. A failure to save is only logged: the run itself is good."""
    prepared, step, finished = _last(events, Prepared), _last(events, Step), _last(events, Finished)
    if prepared is None or step is None or finished is None or finished.stopped:
        return
    per_token = step.seconds / step.step / tokens_a_step(config, prepared.examples, prepared.tokens)
    rates = _read() | {_key(config, device): [per_token, finished.seconds - step.seconds]}
    path = cache_folder() / RATES
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(rates, indent=1))
    except OSError as error:
        _LOG.warning("How long this run took cannot be kept for the next one's estimate: %s", error)


def _last(events: Sequence[Event], kind: type[Kind]) -> Kind | None:
    return next((event for event in reversed(events) if isinstance(event, kind)), None)


def _key(config: RunConfig, device: str) -> str:
    precision = "" if config.precision == "auto" else f"|{config.precision}"
    return f"{device}|{config.model}|{'full' if config.full else 'lora'}{precision}"


def _read() -> dict[str, list[float]]:
    """Return the saved rates by key; empty if the file is missing or unreadable. Invalid entries are dropped."""
    try:
        found = json.loads((cache_folder() / RATES).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return {key: rate for key, rate in found.items() if _is_rate(rate)} if isinstance(found, dict) else {}


def _is_rate(found: object) -> bool:
    numbers = found if isinstance(found, list) else []
    return len(numbers) == 2 and all(isinstance(each, int | float) and 0 <= each < _MOST for each in numbers)
