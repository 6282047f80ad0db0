"""What a visitor of the page may do. Every limit stands here once, and is checked in the functions that it binds.

On a machine of one's own the limits are wide, on a public page narrow. `SFTDEMO_MAX_` and a limit's name in capitals,
such as `SFTDEMO_MAX_STEPS=50`, sets another.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from .config import DEFAULT_HUB_ID, DEFAULT_MODEL, RunConfig
from .errors import ConfigError, DataError, SftdemoError, TrainingError
from .text import duration

MODELS = (
    DEFAULT_MODEL,
    "HuggingFaceTB/SmolLM2-135M",
    "HuggingFaceTB/SmolLM2-360M-Instruct",
    "Qwen/Qwen2.5-0.5B-Instruct",
    "gpt2",
)
PREFIX = "SFTDEMO_MAX_"
GRACE = "SFTDEMO_GRACE"
_MOST = 10**12  # beyond what any machine does
# Settings of a run that are compared with the limit of the same name.
_SETTINGS = ("steps", "epochs", "max_length", "batch_size", "max_new_tokens", "lora_r")


def is_public() -> bool:
    """Return whether the page runs as a Hugging Face Space, on a machine that strangers share."""
    return "SPACE_ID" in os.environ


def limit(wide: Any, narrow: Any, words: str) -> Any:
    """Return a field of `Limits`: its value on a machine of one's own, that on a public page, and what it counts."""
    return field(default=wide, metadata={"narrow": narrow, "words": words})


@dataclass(frozen=True)
class Limits:
    """The most that a visitor may ask for. Each field says what it counts.

    To add a limit, add a field here, and check it where the work is done.
    """

    rows: int = limit(1_000_000, 5_000, "rows of a source")
    characters: int = limit(64 * 2**20, 2_000_000, "characters of a source")
    rendered: int = limit(10**9, 300_000, "messages of a source that are rendered")
    steps: int = limit(1_000_000, 200, "optimizer steps")
    epochs: int = limit(1_000, 20, "passes over the examples")
    max_length: int = limit(10_000_000, 1_024, "tokens a row")
    batch_size: int = limit(1_024, 32, "examples a step")
    max_new_tokens: int = limit(4_096, 128, "tokens an answer")
    lora_r: int = limit(512, 64, "LoRA's rank")
    prompts: int = limit(1_000, 16, "prompts typed to compare")
    questions: int = limit(1_000, 32, "prompts answered before and after")
    answer_tokens: int = limit(1_000_000, 1_024, "tokens of all answers, each time")
    tokens: int = limit(10**9, 50_000, "tokens that a training computes")
    seconds: int = limit(7 * 86_400, 900, "seconds that a run may take")
    queue: int = limit(16, 8, "runs that wait for their turn")

    def check_settings(self, config: RunConfig) -> None:
        """Check that these settings may be asked for.

        Raises:
            ConfigError: with the setting and its limit.
        """
        if is_public() and config.model not in (*MODELS, DEFAULT_HUB_ID):
            raise ConfigError(
                f"this public page offers {', '.join(MODELS)}; run it on your own machine for other models."
            )
        for name in _SETTINGS:
            value, most = getattr(config, name), getattr(self, name)
            if value is not None and value > most:
                raise ConfigError(f"{name} is {value:,.10g}; {_allows(name, most)}.{_elsewhere()}")
        if is_public() and config.save_every is not None:
            raise ConfigError(
                "save_every is not offered on this public page, where a run that is stopped can be gone on with."
            )
        if is_public() and config.set:
            raise ConfigError("set is not offered on this public page; run it on your own machine to set more.")
        if len(config.prompts) > self.prompts:
            raise ConfigError(
                f"there are {len(config.prompts)} prompts to compare; {_allows('prompts', self.prompts)}."
            )

    def check_text(self, characters: int) -> None:
        """Check the length of a source.

        Raises:
            DataError: if it is too long.
        """
        self._check("characters", characters, DataError, "the text has {} characters", "Take fewer rows.")

    def check_rows(self, rows: int) -> None:
        """Check the number of rows of a source.

        Raises:
            DataError: if there are too many.
        """
        self._check("rows", rows, DataError, "there are {} rows", "Take fewer.")

    def check_rendered(self, messages: int) -> None:
        """Check how many messages of a source are rendered: each answer with all before it, twice. 10 µs each.

        Raises:
            DataError: if they are too many.
        """
        words = "the conversations have {} messages to render, each answer with all before it"
        self._check("rendered", messages, DataError, words, "Take fewer or shorter ones.")

    def check_questions(self, questions: int, max_new_tokens: int) -> None:
        """Check how much is answered before and after a training, held-out rows included.

        Raises:
            TrainingError: if it is too much.
        """
        remedy = "Hold fewer rows out, or type fewer prompts."
        self._check("questions", questions, TrainingError, "there are {} prompts to answer before and after", remedy)
        words = "the answers before and after have up to {} tokens each time"
        remedy = "Hold fewer rows out, or lower max_new_tokens."
        self._check("answer_tokens", questions * max_new_tokens, TrainingError, words, remedy)

    def check_training(self, tokens: int) -> None:
        """Check how many tokens a training computes in all its steps.

        Raises:
            TrainingError: if they are too many.
        """
        remedy = "Take fewer steps, a smaller batch, or shorter rows."
        self._check("tokens", tokens, TrainingError, "the training computes about {} tokens", remedy)

    def _check(self, name: str, value: int, kind: type[SftdemoError], words: str, remedy: str) -> None:
        most = getattr(self, name)
        if value > most:
            raise kind(f"{words.format(f'{value:,}')}; {_allows(name, most)}. {remedy}{_elsewhere()}")

    @property
    def sentence(self) -> str:  # of numbers and our own words, so that it may stand in the page as it is
        """Return what is bounded on a public page or by a variable, for the page; empty if nothing is."""
        told = [
            duration(self.seconds) + " a run" if each.name == "seconds" else f"{value:,} {each.metadata['words']}"
            for each in fields(self)
            if (value := getattr(self, each.name)) != each.default
        ]
        return f"This page allows at most {', '.join(told)}." if told else ""


def read_limits(environment: Mapping[str, str] | None = None) -> Limits:
    """Return the limits that hold here: those of a public page or of any other, with what `SFTDEMO_MAX_…` sets.

    Raises:
        ConfigError: for a variable that is no number, or is below 1.
    """
    variables = os.environ if environment is None else environment
    values = {each.name: each.metadata["narrow"] for each in fields(Limits)} if "SPACE_ID" in variables else {}
    for each in fields(Limits):
        text = variables.get(PREFIX + each.name.upper())
        if text is not None:
            values[each.name] = _number(PREFIX + each.name.upper(), text, f"the most {each.metadata['words']}")
    return Limits(**values)


def read_grace(environment: Mapping[str, str] | None = None) -> int | None:
    """Return after how many seconds a run that nobody watches is stopped: `$SFTDEMO_GRACE`; None for never.

    Raises:
        ConfigError: for a variable that is no number, or is below 1.
    """
    text = (os.environ if environment is None else environment).get(GRACE)
    return None if text is None else _number(GRACE, text, "the seconds that a run goes on with its page closed")


def _number(variable: str, text: str, words: str) -> int:
    digits = text.strip().replace("_", "").replace(",", "")
    if digits.isascii() and digits.isdecimal() and len(digits) < 20 and 1 <= int(digits) <= _MOST:
        return int(digits)
    raise ConfigError(f"{variable} is {text[:60]!r}; write a whole number from 1, {words}, or leave it out.")


def _allows(name: str, most: float) -> str:
    if is_public():
        return f"this public page allows {most:,}"
    return f"the limit here is {most:,} ({PREFIX}{name.upper()})"


def _elsewhere() -> str:
    return " Run it on your own machine for more." if is_public() else ""
