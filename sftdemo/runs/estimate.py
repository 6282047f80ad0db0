"""How long a run will take: from the last run on this machine, or at first from a measurement on a 2-core CPU."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import TypeVar

from ..core.config import RunConfig
from ..core.events import Event, Finished, Prepared, Step
from ..core.files import cache_folder, write_whole

RATES = "rates.json"
Kind = TypeVar("Kind", bound=Event)
_LOG = logging.getLogger(__name__)

# SmolLM2-135M, float32, on 2 cores of an AMD EPYC: seconds of a step a token, and of all that is not training
# (loading, answering 6 prompts twice, saving).
_FIRST_GUESS = {"lora": (0.0075, 13.0), "full": (0.011, 14.0)}


@dataclass(frozen=True)
class Rate:
    """Seconds an optimizer step takes for each token in it, and seconds a run takes beside its steps."""

    per_token: float
    overhead: float
    measured: bool


def rate_for(config: RunConfig, device: str) -> Rate | None:
    """The rate of the last such run here, else a first guess for a CPU and the default model; else None."""
    rates = _read()
    key = _key(config, device)
    if key in rates:
        return Rate(*rates[key], measured=True)
    if device != "cpu" or config.model != RunConfig().model:
        return None
    return Rate(*_FIRST_GUESS["full" if config.full else "lora"], measured=False)


def estimate_seconds(config: RunConfig, examples: int, tokens: int, rate: Rate) -> float:
    """Seconds from the click to the saved model, as `rate` has it, for so many examples and tokens in all."""
    a_step = _tokens_a_step(config, examples, tokens)
    return planned_steps(config, examples, tokens) * a_step * rate.per_token + rate.overhead


def planned_steps(config: RunConfig, examples: int, tokens: int) -> int:
    """Optimizer steps the settings ask for. With packing, rows are taken as full, so there may be a few more."""
    if config.steps is not None:
        return config.steps
    rows = ceil(tokens / config.max_length) if config.packing else examples
    return max(1, ceil((config.epochs or 1) * ceil(rows / config.batch_size)))


def _tokens_a_step(config: RunConfig, examples: int, tokens: int) -> float:
    """Tokens an optimizer step sees on average, without padding."""
    if config.packing:
        return min(tokens, config.batch_size * config.max_length)
    return tokens * min(1, config.batch_size / max(1, examples))


def learn(config: RunConfig, device: str, events: Sequence[Event]) -> None:
    """Remembers the rate of a finished run. Where it cannot be kept, a warning says so: the run itself is good."""
    prepared, step, finished = _last(events, Prepared), _last(events, Step), _last(events, Finished)
    if prepared is None or step is None or finished is None or finished.stopped:
        return
    per_token = step.seconds / step.step / _tokens_a_step(config, prepared.examples, prepared.tokens)
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
    return f"{device}|{config.model}|{'full' if config.full else 'lora'}"


def _read() -> dict[str, list[float]]:
    """What was remembered; a file that is absent or spoilt is as good as none."""
    try:
        found = json.loads((cache_folder() / RATES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {key: rate for key, rate in found.items() if _is_rate(rate)} if isinstance(found, dict) else {}


def _is_rate(found: object) -> bool:
    numbers = found if isinstance(found, list) else []
    return len(numbers) == 2 and all(isinstance(each, int | float) and 0 <= each < inf for each in numbers)
