"""Whatever is typed or opened ends in a result or in one of our own sentences, and soon.

Some cases run with all tests; `make hold` tries 10,000, and `make hold HOLD_CASES=200000` more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from desk import drawn, tiny
from hypothesis import given
from hypothesis import strategies as st
from tiny import tokenizer_named

from sftdemo.core.environment import settle
from sftdemo.core.errors import SftdemoError
from sftdemo.data.examples import ParsedExamples, parse_examples
from sftdemo.data.samples import SAMPLES
from sftdemo.data.templates import get_template
from sftdemo.mask.audit import Audit
from sftdemo.mask.labels import Masker

# Of processor time, for a text and besides for each row in it: 10,000 characters hold 5,000 rows, and a conversation is
# rendered twice, by the model's own template.
LONGEST, SECONDS, A_ROW = 10_000, 0.1, 0.0003
Result = TypeVar("Result")
CHATS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo", "weight": 0}] * 3
SEEDS = [
    *(sample.path.read_text(encoding="utf-8")[:2000] for sample in SAMPLES),
    json.dumps(
        [{"messages": CHATS, "tools": [{"name": "f"}], "held_out": True}, {"prompt": CHATS, "completion": CHATS}]
    ),
    json.dumps({"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}) + "\n",
    json.dumps({"input_ids": [1, 2, 3, 4], "labels": [-100, 2, 3, 4], "position_ids": [0, 1, 0, 1]}) + "\n",
    json.dumps({"prompt": "ab", "completion": "c", "mask": {"text": "abc", "trained": [[0, 2], [1, 3]], "eos": False}}),
    'instruction,output,messages\na,b,\n"c\nd",e,\n',
    "prompt;completion\na;b\n",
    "[",
    "",
]
PIECES = [
    *("\n", "\r\n", "\r", "\t", " ", "\0", "\x85", "\u2028", "\ufeff", "\u00a0", "\ud800", "\U0001f600", "e\u0301"),
    *("{", "}", "[", "]", '"', "'", ",", ":", "\\", "\\u", "\\ud800", '{"a":\n', '["', '{"', "[[", "]]", "}{", '""'),
    *("<|im_end|>", "<|im_start|>", "</s>", "{instruction}", "{{", "{%", "<img src=x>", "### Response:\n", "null"),
    *("9" * 4301, "-1e999", "1e400", "true", '"output":', '"messages":', '"mask":', '"trained":[[0,1]]', "a", "é"),
    *("aaaa ", "NaN", '",', "a,b\n", '{"text": "a"}\n'),
]


class Told(str):
    """A text that is told by its beginning where a test fails."""

    def __repr__(self) -> str:
        return f"{str(self[:300])!r} ({len(self):,} characters)"


@st.composite
def inputs(draw: Callable) -> Told:
    """A text that begins like rows, with stretches of it repeated, removed, or replaced by what may break a reader."""
    text = draw(st.sampled_from(SEEDS))
    for _ in range(draw(st.integers(0, 4))):
        begin = draw(st.integers(0, len(text)))
        end = min(len(text), begin + draw(st.sampled_from([0, 0, 1, 5, 50, 500])))
        piece = draw(st.sampled_from(PIECES) | st.text(max_size=3) | st.just(text[begin:end]))
        text = text[:begin] + piece * draw(st.sampled_from([0, 1, 1, 2, 30, 1000, 10_000])) + text[end:]
        text = text[:LONGEST]
    return Told(text)


def rows_in(data: ParsedExamples) -> int:
    return len(data.train) + len(data.held_out) + len(data.problems)


def soon(work: Callable[[], Result], rows: Callable[[Result], int] = lambda _: 0) -> Result | None:
    """Return the result, or None for one of our errors. Try again where the machine's other work took the time."""
    for last in (False, False, False, False, True):
        begin, result, count = time.process_time(), None, 0
        try:
            result = work()
            count = rows(result)
        except SftdemoError as error:
            str(error).encode()
        if (spent := time.process_time() - begin) < SECONDS + A_ROW * count:
            return result
        assert not last, f"{count} rows took {spent:.2f} s"
    return None


def audited(data: ParsedExamples, masker: Masker) -> None:
    audit = Audit(8, 512, data.held_out)
    for _ in audit.review(data.train, masker):
        pass
    json.dumps([vars(finding) for finding in audit.findings()], default=str, ensure_ascii=False).encode()


def check_page(ui, values) -> None:
    """Draw any input in any template."""

    @given(inputs(), st.sampled_from(["instruction", "chat", "custom"]), inputs())
    def holds(text, template, custom):
        held = values(examples=str(text), template=template, custom=str(custom))
        begin = time.process_time()
        mask, questions, command = drawn(ui, held)
        json.dumps([mask, questions, command], ensure_ascii=False).encode()
        assert list(ui.masking.scan(held))
        count = mask["total"] + sum(group["count"] for group in mask["problems"])
        assert time.process_time() - begin < 10 * SECONDS + A_ROW * count

    holds()


def check_reading() -> None:
    """Read and mask any input."""

    @given(inputs(), st.sampled_from(["instruction", "chat", "alpaca"]))
    def holds(text, template):
        data = soon(lambda: parse_examples(str(text)), rows_in)
        if data is not None:
            "".join([*map(str, data.problems), *data.notes]).encode()
            masker = Masker(tokenizer_named("chatml"), get_template(template), 512)
            soon(lambda: audited(data, masker), lambda _: rows_in(data))
            soon(lambda: masker.tokenize(data.train[:50]))

    holds()


@pytest.fixture(autouse=True)
def settled(llama_folder):
    """As on the page: no collection of garbage looks over again what the libraries have made, for which torch is
    imported here."""
    settle()


@pytest.fixture
def values(ui, llama_folder):
    return lambda **changed: tiny(ui, llama_folder, **changed)


def test_any_input_is_answered_soon():
    check_reading()


def test_any_input_reaches_the_page(ui, values):
    check_page(ui, values)


@pytest.mark.hold
def test_ten_thousand_inputs_are_answered_soon():
    check_reading()


@pytest.mark.hold
def test_ten_thousand_inputs_reach_the_page(ui, values):
    check_page(ui, values)
