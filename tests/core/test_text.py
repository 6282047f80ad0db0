from __future__ import annotations

import doctest
from itertools import pairwise

import pytest

from sftdemo.core import text
from sftdemo.core.curves import thin
from sftdemo.core.text import duration, markdown_table, plural


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(text) == (0, 2)


@pytest.mark.parametrize("count", [0, 2, 1_000])
def test_plural(count):
    assert (plural(count, "row"), plural(1, "row")) == ("rows", "row")
    assert (plural(count, "row merges", "rows merge"), plural(1, "row merges", "rows merge")) == (
        "rows merge",
        "row merges",
    )


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (600, "10 min"), (5399, "90 min"), (5400, "1.5 h"), (36_000, "10.0 h")],
)
def test_duration(seconds, words):
    assert duration(seconds) == words


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
