"""Draw what was measured over time: ratios of training steps to TRL's, from the results that a folder keeps."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from ..core.errors import UNREADABLE, ConfigError, SftdemoError, unread, unwritten
from ..core.files import write_whole
from ..core.json_files import read_object
from ..core.palette import LINES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE = "ratios.svg"
_PANELS = {
    "step_lora_vs_trl": "LoRA, default template",
    "step_lora_alpaca_vs_trl": "LoRA, Alpaca's preamble",
    "step_lora_chat_vs_trl": "LoRA, chat template",
    "step_full_vs_trl": "all weights, default template",
    "step_full_alpaca_vs_trl": "all weights, Alpaca's preamble",
    "step_full_chat_vs_trl": "all weights, chat template",
}
_MARKERS = ("o", "s", "^", "D", "v")
_COLUMNS = 3  # of panels


@dataclass(frozen=True)
class Kept:
    """A result of the bench: the day it was measured, the kind of machine, and its ratios by name."""

    day: date
    kind: str
    ratios: dict[str, float]


def read_kept(folder: Path) -> list[Kept]:
    """Return the results in a folder, the oldest first: JSON files as `bench --write` writes them.

    Raises:
        ConfigError: if none has such a ratio, or if one does not say when and on what it was measured.
        ModelError: if one cannot be read.
    """
    found = [_kept(path) for path in sorted(folder.glob("*.json"))]
    found = [each for each in found if each.ratios]
    if not found:
        raise ConfigError(f"{folder} holds no result of the bench's steps; write one there with bench --write.")
    return sorted(found, key=lambda each: each.day)


def _kept(path: Path) -> Kept:
    result = read_object(path)
    try:
        machine, ratios = result["machine"], result["ratios"]
        on = f"{machine['processor']}, {machine['instructions']}" if machine["device"] == "CPU" else machine["device"]
        known = {name: float(ratios[name]) for name in _PANELS if name in ratios}
        return Kept(date.fromisoformat(result["date"]), on, known)
    except UNREADABLE as error:
        raise ConfigError(
            f"{path} is no result of the bench with its date, machine and ratios: {unread(error)}. Move it elsewhere."
        ) from error


def draw(folder: Path) -> Path:
    """Draw the results that are kept in a folder to `PICTURE` beside them, and return its path.

    Raises:
        SftdemoError: as `read_kept` does, and if it cannot be written.
    """
    picture = folder / PICTURE
    svg = ratios_svg(read_kept(folder))
    try:
        write_whole(picture, svg)
    except OSError as error:
        raise SftdemoError(f"{picture} cannot be written: {unwritten(error, 'file')}") from error
    return picture


def ratios_svg(kept: Sequence[Kept]) -> str:
    """Return a panel for each ratio that was measured, with a line over time for each kind of machine, as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    names = [name for name in _PANELS if any(name in each.ratios for each in kept)]
    kinds = list(dict.fromkeys(each.kind for each in kept))
    most = max((ratio for each in kept for ratio in each.ratios.values()), default=1.0)
    rows, columns = -(-len(names) // _COLUMNS), min(_COLUMNS, max(1, len(names)))
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "sftdemo"}):  # text as text, reproducible ids
        figure = Figure(figsize=(3.4 * columns, 2.4 * rows + 0.5), layout="constrained")
        for number, name in enumerate(names):
            place = figure.add_subplot(rows, columns, number + 1)
            _draw(place, name, kinds, kept)
            place.set(title=_PANELS[name], ylim=(0, 1.1 * most))
            place.set_ylabel("times as fast as TRL" if number % columns == 0 else "")
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=len(kinds), fontsize="small")
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _draw(place: Axes, name: str, kinds: Sequence[str], kept: Sequence[Kept]) -> None:
    """Draw one ratio over time, with a line for each kind of machine."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter, date2num

    for index, kind in enumerate(kinds):
        own = [each for each in kept if each.kind == kind and name in each.ratios]
        days, ratios = [date2num(each.day) for each in own], [each.ratios[name] for each in own]
        place.plot(days, ratios, color=LINES[index % len(LINES)], marker=_MARKERS[index % len(_MARKERS)], label=kind)
    place.set_xlim(float(date2num(kept[0].day)) - 1, float(date2num(kept[-1].day)) + 1)
    locator = AutoDateLocator(minticks=1, maxticks=5)
    place.xaxis.set_major_locator(locator)
    place.xaxis.set_major_formatter(ConciseDateFormatter(locator))
    place.axhline(1.0, color="0.35", linestyle=":")
    place.grid(alpha=0.3)
