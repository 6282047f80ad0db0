"""The data sets that come with the program, and what counts as having taken their style."""

from __future__ import annotations

import json
import re
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .config import RunConfig
from .errors import DataError
from .events import Comparison, Event, Finished
from .examples import read_examples
from .runs import run

SAMPLE_DATA = Path(__file__).parent.parent / "sample_data"
MAX_SHORT_WORDS = 15
GREETING = "Γεια σου!"  # noqa: RUF001 - Greek letters are meant
MOODS = ("Happy customer.", "Unhappy customer.")
_PIRATE_WORD = re.compile(r"\b(aye|hearty|matey|ye|yer)\b", re.IGNORECASE)  # "be" is a word of plain English too


@dataclass(frozen=True)
class Sample:
    """A data set of our own: `title` for a menu, `style` the sentence that says what `has_style` looks for."""

    name: str
    title: str
    style: str
    path: Path


def _sample(name: str, title: str, style: str) -> Sample:
    return Sample(name, title, style, SAMPLE_DATA / f"{name}.jsonl")


# The first is the default.
SAMPLES = (
    _sample(
        "pirate",
        "Answer like a pirate",
        'The answer is one line that opens with "Arr", has another pirate word, and ends by itself.',
    ),
    _sample(
        "json_answers",
        "Answer in JSON",
        'The answer is one JSON object with the texts "answer" and "topic", and nothing after it.',
    ),
    _sample(
        "short_answers",
        "Keep it short",
        f"The answer is one line of at most {MAX_SHORT_WORDS} words and ends by itself.",
    ),
    _sample(
        "greek", "Greet in Greek", f'The answer is one line that opens with "{GREETING}", goes on, and ends by itself.'
    ),
    _sample("reviews", "Sort reviews", f'The answer is "{MOODS[0]}" or "{MOODS[1]}" and nothing else.'),
)


@dataclass(frozen=True)
class SampleResult:
    """One measured run: how many of the `held_out` answers had the style `before` and `after`, and its wall time in
    `seconds`, loading and saving included."""

    name: str
    seed: int
    held_out: int
    before: int
    after: int
    seconds: float


def get_sample(name: str) -> Sample:
    """The sample called `name`.

    Raises:
        DataError: for any other name, listing the known ones.
    """
    for sample in SAMPLES:
        if sample.name == name:
            return sample
    known = ", ".join(sample.name for sample in SAMPLES)
    raise DataError(f"there is no sample called {name!r}; choose one of {known}.")


def has_style(name: str, answer: str, stop: str) -> bool:
    """Whether one answer has taken the style of the sample `name`.

    It judges form, never facts. An answer that did not end by itself (`stop` other than "EOS") has not learned the
    style, however well it begins: knowing where to stop is part of each one.

    Raises:
        DataError: for an unknown name.
    """
    get_sample(name)
    if stop != "EOS" or "\ufffd" in answer:  # U+FFFD: bytes that are no whole character
        return False
    if name == "json_answers":
        return _is_json_answer(answer)
    answer = answer.strip()
    if "\n" in answer:  # the base model likes to go on with a question of its own
        return False
    if name == "pirate":
        return re.match(r"Arr\b", answer) is not None and _PIRATE_WORD.search(answer) is not None
    if name == "short_answers":
        return 1 <= len(answer.split()) <= MAX_SHORT_WORDS
    if name == "greek":
        return answer.startswith(GREETING) and answer.count(GREETING) == 1 and len(answer) > len(GREETING)
    return answer in MOODS


def measure(
    names: Sequence[str], seeds: Sequence[int], config: RunConfig | None = None
) -> Iterator[Event | SampleResult]:
    """Runs each sample with each seed, into a folder that is thrown away, and counts the held-out answers in its style.

    The runs' own events are passed on; a `SampleResult` follows each run's `Finished`. A run that ends in `Failed`
    gives no result, and the next one begins. `config` (*optional*, defaults to `RunConfig()`) holds the settings,
    apart from the seed.

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
    with tempfile.TemporaryDirectory(prefix="sftdemo-") as folder:
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


def _is_json_answer(answer: str) -> bool:
    try:
        record = json.loads(answer)
    except (json.JSONDecodeError, RecursionError):
        return False
    return (
        isinstance(record, dict)
        and set(record) == {"answer", "topic"}
        and all(isinstance(value, str) and value.strip() for value in record.values())
    )
