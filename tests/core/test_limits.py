"""What a visitor may do stands in one place: narrow on a public page, wide elsewhere, set by variables."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError, DataError, TrainingError
from sftdemo.core.limits import Limits, read_grace, read_limits


def test_a_public_page_is_narrower_in_everything():
    own, public = read_limits({}), read_limits({"SPACE_ID": "someone/space"})
    assert own == Limits()
    for each in fields(Limits):
        assert 0 < getattr(public, each.name) < getattr(own, each.name)


def test_a_variable_sets_each():
    for each in fields(Limits):
        assert getattr(read_limits({f"SFTDEMO_MAX_{each.name.upper()}": " 7 "}), each.name) == 7
    assert read_limits({"SPACE_ID": "x/y", "SFTDEMO_MAX_STEPS": "1_000"}).steps == 1000


@pytest.mark.parametrize("text", ["", "x", "-1", "0", "1.5", "9" * 30, "\u0663"])
def test_a_variable_that_is_no_number_is_told(text):
    with pytest.raises(ConfigError, match=r"^SFTDEMO_MAX_ROWS is .*; write a whole number from 1, the most rows of a"):
        read_limits({"SFTDEMO_MAX_ROWS": text})


def test_what_is_over_a_limit_is_told_with_the_value_the_limit_and_the_remedy(monkeypatch):
    limits = Limits(rows=2, characters=9, questions=3, answer_tokens=50, tokens=1000, lora_r=8)
    limits.check_rows(2)
    limits.check_questions(3, 10)
    with pytest.raises(DataError, match=r"^there are 3 rows; the limit here is 2 \(SFTDEMO_MAX_ROWS\)\. Take fewer\.$"):
        limits.check_rows(3)
    with pytest.raises(DataError, match=r"^the text has 10 characters; the limit here is 9 "):
        limits.check_text(10)
    with pytest.raises(TrainingError, match=r"^there are 4 prompts to answer .* Hold fewer rows out"):
        limits.check_questions(4, 1)
    with pytest.raises(TrainingError, match=r"up to 51 tokens each time; .* lower max_new_tokens\.$"):
        limits.check_questions(3, 17)
    with pytest.raises(ConfigError, match=r"^lora_r is 16; the limit here is 8 "):
        limits.check_settings(RunConfig())
    monkeypatch.setenv("SPACE_ID", "someone/space")
    with pytest.raises(
        TrainingError, match=r"^the training computes about 1,001 tokens; this public page allows 1,000"
    ):
        limits.check_training(1001)


def test_the_page_tells_what_is_bounded():
    assert Limits().sentence == ""
    assert Limits(steps=5, seconds=900).sentence == "This page allows at most 5 optimizer steps, 15 min a run."


def test_the_documentation_has_each_limit():
    table = (Path(__file__).parents[2] / "docs" / "space.md").read_text(encoding="utf-8")
    for each in fields(Limits):
        values = f"{each.metadata['narrow']:,} | {each.default:,}"
        assert f"| `SFTDEMO_MAX_{each.name.upper()}` | {each.metadata['words']} | {values} |" in table


def test_the_time_of_grace():
    assert (read_grace({}), read_grace({"SFTDEMO_GRACE": "90"})) == (None, 90)
    with pytest.raises(
        ConfigError, match=r"^SFTDEMO_GRACE is '0'; write a whole number from 1, the seconds that a run"
    ):
        read_grace({"SFTDEMO_GRACE": "0"})
