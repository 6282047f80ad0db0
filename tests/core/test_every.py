from __future__ import annotations

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError
from sftdemo.core.every import Every, read_every


@pytest.mark.parametrize(
    ("text", "every"),
    [("1", Every(1)), (" 250 ", Every(250)), ("10m", Every(seconds=600)), ("0.5m", Every(seconds=30))],
)
def test_steps_and_minutes(text, every):
    assert read_every(text) == every


@pytest.mark.parametrize("text", ["", "0", "-1", "2.5", "m", "0m", "nanm", "infm", "1e9m", "10 s", "10s", "2000000"])
def test_what_is_refused(text):
    with pytest.raises(
        ConfigError, match="write a number of steps up to 1,000,000, such as 100, or of minutes"
    ) as says:
        RunConfig(save_every=text)
    assert str(says.value).startswith(f"save_every is {text!r}; ")


def test_when_it_is_due():
    steps, minutes, never = Every(3), Every(seconds=60), Every()
    assert [step for step in range(1, 8) if steps.is_due(step, 1e9 * 0)] == [3, 6]
    assert [seconds for seconds in (0, 59, 60, 61) if minutes.is_due(5, seconds)] == [60, 61]
    assert not never.is_due(1, 1e9)
