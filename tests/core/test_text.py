from __future__ import annotations

import doctest
from itertools import pairwise

import pytest

from sftdemo.core import text
from sftdemo.core.curves import thin
from sftdemo.core.text import duration, epochs, markdown_table, plural


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(text) == (0, 7)


@pytest.mark.parametrize("count", [0, 2, 1_000])
def test_plural(count):
    assert (plural(count, "row"), plural(1, "row")) == ("rows", "row")
    assert (plural(count, "row merges", "rows merge"), plural(1, "row merges", "rows merge")) == (
        "rows merge",
        "row merges",
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (3569, "59 min"), (3599, "1.0 h"), (5400, "1.5 h")],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ((12, 8, 3000), "12 steps of 8 are 3% of your 3,000 rows"),
        ((1, 8, 30_000), "1 step of 8 is 0.03% of your 30,000 rows"),
        ((12, 8, 16), "12 steps of 8 are 6 epochs of your 16 rows"),
        ((2, 8, 15), "2 steps of 8 are 1 epoch of your 15 rows"),  # the last batch of an epoch is smaller
        ((5, 8, 15), "5 steps of 8 are 2.5 epochs of your 15 rows"),
        ((1, 8, 1), "1 step of 8 is 1 epoch of your 1 row"),
        ((3, 2, 4, True), "3 steps of 2 are 1.5 epochs of your 4 packed rows"),
    ],
)
def test_epochs_beside_steps(numbers, words):
    assert epochs(*numbers) == words


def test_markdown_table():
    assert (
        markdown_table(["", "seconds"], [["a", 1.5], ("b", None)])
        == "|  | seconds |\n|---|---|\n| a | 1.5 |\n| b | None |"
    )
    assert markdown_table(["a"], iter([])) == "| a |\n|---|"


@pytest.mark.parametrize("points", [0, 1, 2, 59, 60, 61, 119, 120, 121, 10_000])
def test_thin(points):
    curve = list(range(points))
    thinned = thin(curve, 60)
    assert len(thinned) <= 61
    assert thinned == curve or len(thinned) > 30
    assert (thinned[:1], thinned[-1:]) == (curve[:1], curve[-1:])
    assert len({b - a for a, b in pairwise(thinned[:-1])}) <= 1  # at even distances
