"""The data sets that come with the program, and what counts as having taken their style."""

# what an answer holds is not known until it is looked at
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DataError
from .hub import is_hub

_PACKAGE = Path(__file__).parents[1]
_INSTALLED = _PACKAGE / "sample_data"  # in a wheel; in the repository they lie beside the package
SAMPLE_DATA = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent / "sample_data"
MAX_SHORT_WORDS = 15
GREETING = "Γεια σου!"  # noqa: RUF001 - Greek letters are meant
MOODS = ("Happy customer.", "Unhappy customer.")
_LETTER = re.compile(r"(Billing|Repairs|Sales|Shipping) desk, (angry|calm)\.")
_TUTOR = re.compile(r"[^?\n]+[.!][^?\n]+\?")
_CALL = re.compile(r"<tool_call>(\[.*\])</tool_call>", re.DOTALL)
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
    _sample(
        "letters",
        "Sort letters: long prompts, short answers",
        'The answer names a desk and a mood, such as "Sales desk, calm.", and nothing else.',
    ),
    _sample(
        "tutor",
        "Teach by asking: a system turn, several turns",
        "The answer is one line that says something, ends with a question, and ends by itself.",
    ),
    _sample(
        "tools", "Call a tool", "The answer is one call of a tool, in JSON between its two marks, and nothing after it."
    ),
)


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


def sample_of(text: str) -> str | None:
    """The name of the sample whose text this is, if it is one's."""
    return next((sample.name for sample in SAMPLES if sample.path.read_text(encoding="utf-8") == text), None)


def data_file(name: str) -> Path | str:
    """The file called `name`; where there is no such file, but a sample of that name, the sample's. What names a data
    set on the Hub stays as it is."""
    if is_hub(name):
        return name
    path = Path(name)
    if path.exists() and not path.is_dir():
        return path
    return next((sample.path for sample in SAMPLES if sample.name == name), path)


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
    if name == "tools":
        return _is_call(answer)
    answer = answer.strip()
    if "\n" in answer:  # the base model likes to go on with a question of its own
        return False
    if name == "pirate":
        return re.match(r"Arr\b", answer) is not None and _PIRATE_WORD.search(answer) is not None
    if name == "short_answers":
        return 1 <= len(answer.split()) <= MAX_SHORT_WORDS
    if name == "greek":
        return answer.startswith(GREETING) and answer.count(GREETING) == 1 and len(answer) > len(GREETING)
    if name in ("letters", "tutor"):
        return (_LETTER if name == "letters" else _TUTOR).fullmatch(answer) is not None
    return answer in MOODS


def _is_call(answer: str) -> bool:
    found = _CALL.fullmatch(answer.strip())
    try:
        calls = json.loads(found[1]) if found else []
    except (json.JSONDecodeError, RecursionError):
        return False
    return len(calls) == 1 and isinstance(calls[0], dict) and set(calls[0]) == {"name", "arguments"}


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
