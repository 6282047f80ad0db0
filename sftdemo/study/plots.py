"""The plots of a study, as SVG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.palette import LINES
from ..core.text import plural

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
# column of the frame, title
_LOSSES = (("completion_loss", "Held-out completions"), ("prompt_loss", "Held-out prompts"))
_ENDINGS = (("ended", "Ended with EOS"), ("ran_on", "Ran on"), ("styled", "In the style"))


def losses_svg(frame: pd.DataFrame) -> str:
    """Plot the losses on the held-out rows against the prompt-loss weight."""
    return _drawn(frame, _LOSSES)


def endings_svg(frame: pd.DataFrame) -> str:
    """Plot the share of answers that ended, ran on and are in the style, against the prompt-loss weight."""
    shares = {name: 100 * frame[name] / frame["answers"] for name, _ in _ENDINGS}
    return _drawn(frame.assign(**shares), _ENDINGS)


def _drawn(frame: pd.DataFrame, panels: Sequence[tuple[str, str]]) -> str:
    """Return an SVG with a panel for each column that has values."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = [(name, title) for name, title in panels if frame[name].notna().any()]
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sftdemo"}):  # text as text, reproducible ids
        figure = Figure(figsize=(4.6 * len(panels), 3.6), layout="constrained")
        for place, (name, title) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
            _draw(place, frame, name)
            unit = ("nats per token", (None, None)) if "loss" in name else ("% of the answers", (-3, 103))
            place.set(title=title, xlabel="prompt-loss weight (0: masked)", ylabel=unit[0], ylim=unit[1])
            place.grid(alpha=0.3)
        figure.axes[0].legend(fontsize="small")
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw(place: Axes, frame: pd.DataFrame, name: str) -> None:
    """Draw a line per number of rows. Weights are evenly spaced on the axis, since they may be 0, 0.01 and 1."""
    trained, base = frame[frame["rows"] > 0], frame[frame["rows"] == 0]
    weights, sizes = sorted(trained["weight"].unique()), sorted(trained["rows"].unique())
    place.set_xticks(range(len(weights)), [f"{weight:g}" for weight in weights])
    for index, rows in enumerate(sizes):
        own = trained[trained["rows"] == rows]
        aside = 0.1 * (index - (len(sizes) - 1) / 2)  # so that the error bars do not overlap
        over = own.groupby("weight")[name].agg(["mean", "min", "max"])
        at = [weights.index(weight) + aside for weight in over.index]
        colour, marker = LINES[index % len(LINES)], _MARKERS[index % len(_MARKERS)]
        reach = [over["mean"] - over["min"], over["max"] - over["mean"]]
        label = f"{rows:,} {plural(rows, 'row')}"
        place.errorbar(at, over["mean"], reach, color=colour, marker=marker, capsize=3, label=label)
        dots = [weights.index(weight) + aside for weight in own["weight"]]
        place.scatter(dots, own[name], s=9, color=colour, alpha=0.5, zorder=3)
    for value in base[name]:
        place.axhline(value, color="0.35", linestyle=":", label="base")
