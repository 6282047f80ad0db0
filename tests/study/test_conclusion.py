"""What a study over seeds comes to in words."""

from __future__ import annotations

from math import nan

import pandas as pd
import pytest

from sftdemo.study.conclusion import conclusion

BASE = {"rows": 0, "seed": None, "weight": nan, "completion_loss": 3.0, "prompt_loss": 2.5}


def told(*cells: tuple[int, int, float, float, float]) -> str:
    """The conclusion on cells of (rows, seed, weight, loss on the answers, loss on the prompts)."""
    names = ("rows", "seed", "weight", "completion_loss", "prompt_loss")
    return conclusion(pd.DataFrame([BASE, *(dict(zip(names, cell, strict=True)) for cell in cells)]), 93)


def seeds(*pairs: tuple[float, float], prompts: tuple[float, float] = (6.0, 3.0), rows: int = 16) -> list:
    """The cells of some seeds, each with its loss on the answers masked and unmasked."""
    losses = [(seed, weight, pair[index]) for seed, pair in enumerate(pairs) for index, weight in enumerate((0.0, 1.0))]
    return [(rows, seed, weight, loss, prompts[int(weight)]) for seed, weight, loss in losses]


def test_masking_that_helps():
    assert told(*seeds((0.70, 0.80), (0.72, 0.80), (0.74, 0.80))) == (
        "Over 3 seeds with 16 rows, masking lowered the loss on 93 held-out answer tokens, against unmasked, by 0.080 "
        "± 0.020, and raised that on the prompts, by 3.000 ± 0.000. On the answers all 3 seeds agree, as chance alone "
        "would have them do in 25% of such comparisons."
    )


def test_masking_that_does_not():
    words = told(*seeds((0.90, 0.80), (0.92, 0.80), prompts=(2.0, 3.0)))
    assert "masking raised the loss on 93 held-out answer tokens, against unmasked, by 0.110 ± 0.014, and " in words
    assert "and lowered that on the prompts, by 1.000 ± 0.000. On the answers all 2 seeds agree" in words
    assert "in 50% of such comparisons" in words


def test_no_difference_and_seeds_that_disagree():
    words = told(*seeds((0.90, 0.80), (0.70, 0.80), (0.80, 0.80), prompts=(3.0, 3.0)))
    assert "masking did not change the loss on 93 held-out answer tokens, against unmasked, on average ± 0.100" in words
    assert "and did not change that on the prompts, on average ± 0.000. " in words
    assert words.endswith("On the answers the seeds disagree: lower with 1 of them, higher with 1.")


def test_one_seed():
    words = told(*seeds((0.70, 0.80)))
    assert words.startswith("Over 1 seed with 16 rows, masking lowered the loss on 93 held-out answer tokens, against ")
    assert "±" not in words
    assert words.endswith(" One seed shows no more than that seed.")


def test_the_most_rows_and_the_greatest_weight_count():
    fewer = seeds((0.90, 0.80), (0.90, 0.80), rows=4)
    between = [(16, seed, 0.1, 0.1, 1.0) for seed in (0, 1)]
    assert "with 16 rows, masking lowered the loss" in told(*fewer, *seeds((0.7, 0.8), (0.7, 0.8)), *between)
    words = told(*[cell for cell in seeds((0.7, 0.8), (0.7, 0.8)) if not cell[2]], *between)
    assert "masking raised the loss on 93 held-out answer tokens, against prompt weight 0.1, by 0.600" in words


@pytest.mark.parametrize("cells", [[], [(16, 0, 0.0, 0.7, 6.0)], [(16, 0, 1.0, 0.7, 6.0), (16, 1, 0.0, 0.7, 6.0)]])
def test_nothing_to_compare(cells):
    assert told(*cells) == ""


def test_a_loss_that_is_no_number():
    words = told(*seeds((nan, 0.80), (0.7, 0.80)))
    assert words == (
        "Over 2 seeds with 16 rows, masking cannot be judged: some losses are not numbers. Lower the learning rate."
    )
