"""How often something is to happen, counted in steps or in minutes."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from .errors import ConfigError

MOST_STEPS, MOST_MINUTES = 1_000_000, 100_000


@dataclass(frozen=True)
class Every:
    """After every so many steps, or after every so many seconds; without either, never."""

    steps: int | None = None
    seconds: float = inf

    def is_due(self, step: int, seconds: float) -> bool:
        """Whether it is time, after this step and so many seconds after the last time."""
        return seconds >= self.seconds or (self.steps is not None and step % self.steps == 0)


def read_every(text: str) -> Every:
    """Read a number of steps, such as `100`, or of minutes, such as `10m` or `0.5m`.

    Raises:
        ConfigError: if it is neither, or out of its range.
    """
    refusal = ConfigError(
        f"save_every is {text!r}; write a number of steps up to {MOST_STEPS:,}, such as 100, or of minutes up to "
        f"{MOST_MINUTES:,}, such as 10m."
    )
    number = text.strip()
    try:
        if number.endswith("m"):
            minutes = float(number[:-1])
            if 0 < minutes <= MOST_MINUTES:
                return Every(seconds=60 * minutes)
        elif 1 <= int(number) <= MOST_STEPS:
            return Every(int(number))
    except ValueError as error:
        raise refusal from error
    raise refusal
