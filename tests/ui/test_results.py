"""The JSON of the components that show what came of runs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from desk import EVIL, text_of

from sftdemo.core.events import Answer, Before, Columns, Comparison, Figures, TokenLosses
from sftdemo.runs.history import PastRun
from sftdemo.ui import results

BASE = Figures(None, 2.5, 4.25, 60, 97, 6, 0, 3, 32.0)
LOSSES = TokenLosses(
    row=3,
    source="held out",
    question="Why?",
    tokens=[["W", "instruction", 1, False, 0], ["hy↵", "template", 2, False, 1], ["So", "completion", 3, True, 0]],
    weights=[None, 0.0],
    losses=[[1.123456, 2.0], [1.0, 0.5]],
    ranks=[[4, 9], [3, 1]],
    likeliest=[[[[" a\n", 0.123456789]], [["b", 0.5]]], [[["c", 0.25]], [["So", 0.6]]]],
)
PAST = PastRun(
    name="0a" * 8,
    model="gpt2",
    finished="2026-03-04T05:06:07+00:00",
    weights=(0.0, 1.0),
    examples=2,
    settings={"steps": 3, "template": "Q: {instruction}\nA:\n", "set": ("weight_decay=0.1", "warmup_steps=2")},
    curves=((3.0, 1.5), (3.0, 2.0)),
    comparisons=(Columns("Why?", "typed", ["", "Arr", "So"], ["length", "EOS", "EOS"]),),
    figures=(BASE, BASE, BASE),
    steps=6,
    seconds=12.4,
)


def answers_of(made: str) -> tuple[list[str], list[list[tuple]]]:
    shown = json.loads(made)
    return shown["columns"], [[(each["text"], each["stop"]) for each in row["answers"]] for row in shown["rows"]]


class TestComparison:
    def test_answers_before_have_none_after(self):
        rows = [Before("Why?", "no", "length", "typed"), Comparison("How?", "a", "b", "EOS", "length", "held out")]
        made = results.comparison(rows, "Words")
        assert answers_of(made) == (
            ["before", "after"],
            [[("no", "length"), (None, "")], [("a", "EOS"), ("b", "length")]],
        )
        assert [(row["prompt"], row["source"]) for row in json.loads(made)["rows"]] == [
            ("Why?", "typed"),
            ("How?", "held out"),
        ]

    def test_each_arm_has_a_column(self):
        row = Columns("Why?", "typed", ["x", "y", "z"], ["length", "EOS", "stopped"])
        names, (answers,) = answers_of(results.comparison([row], "", (0.0, 0.25)))
        assert names == ["base", "masked", "prompt weight 0.25"]
        assert answers == [("x", "length"), ("y", "EOS"), ("z", "stopped")]

    @pytest.mark.parametrize("arm", [0, 1])
    def test_a_strength_stands_between_off_and_on(self, arm):
        known = [Columns("Why?", "typed", ["x", "y", "z"], ["length", "EOS", "stopped"])]
        asked = [Answer("New?", "n", "EOS", 1), Answer("Why?", "w", "length", 4)]
        names, rows = answers_of(results.answers_at_strength(0.25, asked, known, arm))
        assert names == ["off: the base", "at 0.25", "on: as it was trained"]
        on = [("y", "EOS"), ("z", "stopped")][arm]
        assert rows == [[(None, ""), ("n", "EOS"), (None, "")], [("x", "length"), ("w", "length"), on]]


class TestFigures:
    def test_a_column_for_the_base_and_each_arm(self):
        masked = replace(BASE, prompt_loss_weight=0.0, completion_loss=1.5, ended=6, ran_on=0, mean_tokens=11.25)
        shown = json.loads(results.figures_table([BASE, masked]))
        assert shown["columns"] == ["base", "masked"]
        cells = {name: cells for name, _, cells in shown["rows"]}
        assert cells["loss on the answers"] == ["2.500", "1.500"]
        assert cells["ended with EOS"] == ["0", "6"]
        assert cells["ran on into a prompt of its own"] == ["3", "0"]
        assert cells["length"] == ["32.0", "11.2"]
        assert "97 held-out tokens" in shown["rows"][1][1]

    def test_what_cannot_be_counted_is_a_dash(self):
        shown = json.loads(results.figures_table([replace(BASE, ran_on=None)]))
        assert shown["rows"][3][2] == ["-"]

    def test_none(self):
        assert json.loads(results.figures_table([]))["rows"] == []


class TestLosses:
    def test_a_row(self):
        shown = json.loads(results.losses_rows([LOSSES]))
        (row,) = shown["rows"]
        assert shown["names"] == ["before", "after"]
        assert row["losses"] == [[1.1235, 2.0], [1.0, 0.5]]
        assert [token[3] for token in row["tokens"]] == [0, 0, 1]
        assert row["likeliest"][0][0] == [["␣a↵", 0.12346]]
        assert shown["more"] == ""
        assert json.loads(results.losses_rows([LOSSES], "Reading…"))["more"] == "Reading…"

    def test_arms_have_their_names(self):
        three = replace(LOSSES, weights=[None, 0.0, 1.0], losses=[*LOSSES.losses, LOSSES.losses[0]])
        assert json.loads(results.losses_rows([three]))["names"] == ["base", "masked", "unmasked"]


class TestHistory:
    def test_a_run(self):
        shown = json.loads(results.history([PAST], ["broken"], "0a" * 8, "Words"))
        assert (shown["problems"], shown["shown"], shown["message"]) == (["broken"], "0a" * 8, "Words")
        (run,) = shown["runs"]
        assert run["title"] == "gpt2, masked against unmasked, 2 rows"
        assert run["when"] == "04 Mar 2026, 05:06 UTC"
        assert (
            run["detail"]
            == "6 steps, 12 s · steps 3, template Q: {instruction}↵A:↵, set weight_decay=0.1, warmup_steps=2"
        )
        assert "held-out loss on the answers: 3.00 → 1.50, 3.00 → 2.00" in run["result"]
        assert "of 1: base 0, masked 1, unmasked 1" in run["result"]
        assert run["curves"] == [[3.0, 1.5], [3.0, 2.0]]

    def test_a_plain_run(self):
        pair = Comparison("Why?", "a", "b", "length", "EOS", "typed")
        plain = replace(
            PAST, weights=(0.0,), curves=((3.0, 1.0),), comparisons=(pair,), figures=(), examples=1, steps=3
        )
        (run,) = json.loads(results.history([plain], [], None, ""))["runs"]
        assert run["title"] == "gpt2, masked, 1 row"
        assert run["detail"].startswith("3 steps, 12 s · template "), "a number of steps is told once"
        assert run["result"].startswith("loss on the trained tokens: 3.00 → 1.00")


@pytest.mark.parametrize("evil", EVIL)
def test_text_is_json_text_everywhere(evil):
    evil_run = replace(PAST, model=evil)
    evil_losses = replace(LOSSES, tokens=[[evil, *token[1:]] for token in LOSSES.tokens])
    for made in (
        results.comparison([Before(evil, evil, "EOS", "typed")], evil),
        results.losses_message(evil),
        results.losses_rows([evil_losses]),
        results.history([evil_run], [evil], None, evil),
    ):
        assert evil in text_of(made)
