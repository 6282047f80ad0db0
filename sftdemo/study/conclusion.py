"""Draw a conclusion from a study: what masking changed, with the seeds' spread."""

from __future__ import annotations

from typing import cast

import pandas as pd

from ..core.text import plural
from ..runs.wording import column_name


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each cell of another weight than 0 beside that of weight 0 with the same seed and number of rows, whose
    columns end in `_masked`."""
    trained = frame[frame["rows"] > 0]
    masked, others = trained[trained["weight"] == 0], trained[trained["weight"] != 0]
    return others.merge(masked, on=["rows", "seed"], suffixes=("", "_masked"))


def conclusion(frame: pd.DataFrame, tokens: int) -> str:
    """Return what masking changed against the greatest weight, with the most rows that both have, in a sentence or two.
    It is empty if nothing can be compared.

    Args:
        frame (`pd.DataFrame`):
            The cells, as `report.frame_of` returns them.
        tokens (`int`):
            The number of held-out answer tokens that the losses are measured on.
    """
    found = pairs(frame)
    found = found[found["rows"] == found["rows"].max()]
    found = found[found["weight"] == found["weight"].max()]
    if found.empty:
        return ""
    answers, prompts = (found[f"{name}_masked"] - found[name] for name in ("completion_loss", "prompt_loss"))
    seeds, rows = len(found), int(found["rows"].iloc[0])
    begin = f"Over {seeds:,} {plural(seeds, 'seed')} with {rows:,} {plural(rows, 'row')}, masking"
    if answers.isna().any() or prompts.isna().any():
        return f"{begin} cannot be judged: some losses are not numbers. Lower the learning rate."
    against = column_name(cast("float", found["weight"].iloc[0]))
    return (
        f"{begin} {_changed(answers)} the loss on {tokens:,} held-out answer tokens, against "
        f"{against}{_spread(answers)}, and {_changed(prompts)} that on the prompts{_spread(prompts)}. {_doubt(answers)}"
    )


def _changed(differences: pd.Series) -> str:
    mean = differences.mean()
    return "did not change" if abs(mean) < 0.0005 else "lowered" if mean < 0 else "raised"


def _spread(differences: pd.Series) -> str:
    mean, deviation = abs(differences.mean()), differences.std()
    by = f", by {mean:.3f}" if mean >= 0.0005 else ", on average"
    return by + ("" if len(differences) < 2 else f" ± {deviation:.3f}")


def _doubt(differences: pd.Series) -> str:
    """Say whether the seeds agree on the answers' direction, and how often chance makes them agree."""
    seeds, lower, higher = len(differences), int((differences < 0).sum()), int((differences > 0).sum())
    if seeds == 1:
        return "One seed shows no more than that seed."
    if max(lower, higher) < seeds:
        return f"On the answers the seeds disagree: lower with {lower} of them, higher with {higher}."
    return (
        f"On the answers all {seeds} seeds agree, as chance alone would have them do in {2 / 2**seeds:.0%} of such "
        "comparisons."
    )
