"""List the saved runs in a folder, summarize each, and compare any two side by side."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

from ..core.config import SETTINGS, RunConfig
from ..core.curves import thin
from ..core.errors import UNREADABLE, DataError, ModelError, sentence, unread
from ..core.events import Arm, Columns, Comparison, Event, Figures, Finished, HeldOut, Prepared, Step
from ..data.examples import parse_examples, to_record
from ..data.samples import SAMPLES
from ..train.checkpoints import checkpoint_step
from .folder import EXAMPLES, RECORD, load_events
from .labels import Label, read_label
from .output import CHECKPOINT
from .revisit import SavedRun, read_run
from .wording import column_name

POINTS = 60  # of a small curve, at most
_SHOWN_ELSEWHERE = ("model", "prompt_loss_weight", "prompts", "film")  # or no matter of what is learned


@dataclass(frozen=True)
class PastRun:
    """A summary of a saved run.

    Args:
        name (`str`):
            The name of its folder.
        model (`str`), start (`str`, *optional*):
            The model without any adapter, and the folder of the adapter that the run went on from.
        finished (`str`):
            When it finished, in UTC, as ISO 8601.
        weights (`tuple[float, ...]`):
            The prompt-loss weight of each trained model.
        settings (`dict[str, object]`):
            The settings that differ from the defaults, by their names in `RunConfig`, apart from `model`,
            `prompt_loss_weight` and `prompts`, which are shown elsewhere.
        curves (`tuple[tuple[float, ...], ...]`):
            One curve per trained model: the loss of each step or, in an ablation, the losses on held-out completions.
        comparisons, figures (`tuple`):
            The answers and, for an ablation, the figures.
        steps (`int`), seconds (`float`):
            Totals over all trained models.
        rows (`str`):
            Where the rows come from: the title of a sample, or the data set on the Hub; empty for others.
        left (`int`, *optional*):
            Of a run that was stopped and has a checkpoint, how many steps there are to go on with.
        label (`Label`):
            The name and the note that a person gave it.
    """

    name: str
    model: str
    finished: str
    weights: tuple[float, ...]
    examples: int
    settings: dict[str, object]
    curves: tuple[tuple[float, ...], ...]
    comparisons: tuple[Comparison | Columns, ...]
    figures: tuple[Figures, ...]
    steps: int
    seconds: float
    start: str | None = None
    rows: str = ""
    left: int | None = None
    label: Label = field(default_factory=Label)


def past_runs(folder: Path, names: Sequence[str] | None = None) -> tuple[list[PastRun], list[str]]:
    """Return the runs in `folder`, the latest first, and a sentence for each run that cannot be read. With `names`,
    only runs with these names are read."""
    found, unreadable = [], []
    for place in folder.glob("*"):
        if not (place / RECORD).is_file() or (names is not None and place.name not in names):
            continue
        try:
            found.append(_past_run(place))
        except ModelError as error:
            unreadable.append(sentence(error))
        except UNREADABLE as error:
            unreadable.append(
                f"The run in {place} cannot be read: {unread(error)}. Put its files back as they were, or delete it."
            )
    return sorted(found, key=lambda run: run.finished, reverse=True), unreadable


def find_run(runs: Sequence[PastRun], name: str) -> PastRun:
    """Return the run with this name.

    Raises:
        DataError: if there is none, or none any more.
    """
    for run in runs:
        if run.name == name:
            return run
    raise DataError(f"there is no run {name!r} any more.")


def differences(first: PastRun, second: PastRun) -> list[tuple[str, str, str]]:
    """Return the settings in which two runs differ, each as (name, value in the first, value in the second). The names
    are those of `RunConfig`, and "trained on" for the adapter that a run went on from."""

    def told(run: PastRun) -> dict[str, object]:
        weights = " and ".join(column_name(weight) for weight in run.weights)
        usual = RunConfig(full=bool(run.settings.get("full", False)))
        settings = {name: run.settings.get(name, getattr(usual, name)) for name in SETTINGS}
        rows = f"{run.rows}, {run.examples:,}" if run.rows else f"{run.examples:,}"
        own = {"model": run.model, "trained on": run.start, "rows": rows, "prompt_loss_weight": weights}
        return own | {name: value for name, value in settings.items() if name not in _SHOWN_ELSEWHERE}

    pairs = zip(told(first).items(), told(second).values(), strict=True)
    return [(name, setting_text(ours), setting_text(theirs)) for (name, ours), theirs in pairs if ours != theirs]


def setting_text(value: object) -> str:
    """Return the value of a setting in words."""
    match value:
        case None | "" | ():
            return "none"
        case bool():
            return "yes" if value else "no"
        case float():
            return f"{value:g}"
        case tuple():
            return ", ".join(map(str, value))
    return str(value)


def side_by_side(first: PastRun, second: PastRun) -> list[tuple[str, list[tuple[PastRun, float | None, str, str]]]]:
    """Return the questions that both runs answered, each with its columns (run, weight, answer, stop).

    The columns of a run are the base's answer and then the answer of each trained model. The base is listed only once
    if it gave the same answers in both runs.

    Raises:
        DataError: if the runs have no question in common.
    """
    others = {each.prompt: each for each in second.comparisons}
    common = [(each, others[each.prompt]) for each in first.comparisons if each.prompt in others]
    if not common:
        raise DataError("these two runs answered no question in common, so there is nothing to set side by side.")
    pairs = [(ours.prompt, _columns(first, ours), _columns(second, theirs)) for ours, theirs in common]
    same_base = all(left[0][2:] == right[0][2:] for _, left, right in pairs)
    return [(prompt, left + right[same_base:]) for prompt, left, right in pairs]


def _columns(run: PastRun, asked: Comparison | Columns) -> list[tuple[PastRun, float | None, str, str]]:
    weights = [None, *run.weights]
    if isinstance(asked, Columns):
        columns = zip(weights, asked.answers, asked.stops, strict=True)
    else:
        columns = zip(weights, (asked.before, asked.after), (asked.before_stop, asked.after_stop), strict=True)
    return [(run, *column) for column in columns]


def _past_run(place: Path) -> PastRun:
    saved, events = read_run(place), load_events(place)
    finished = events[-1] if events else None
    prepared = next((event for event in events if isinstance(event, Prepared)), None)
    if not isinstance(finished, Finished) or prepared is None:
        raise ModelError(f"there is no finished run in {place}: its events have no beginning or no end.")
    step = checkpoint_step(place / CHECKPOINT)
    return PastRun(
        name=place.name,
        model=saved.base,
        finished=saved.finished,
        weights=tuple(weight for weight, _ in saved.arms),
        examples=prepared.examples,
        settings={name: value for name, value in saved.config.changed().items() if name not in _SHOWN_ELSEWHERE},
        curves=tuple(tuple(thin(curve, POINTS)) for curve in _curves(events)[: len(saved.arms)]),
        comparisons=tuple(event for event in events if isinstance(event, Comparison | Columns)),
        figures=tuple(event for event in events if isinstance(event, Figures)),
        steps=finished.steps,
        seconds=finished.seconds,
        start=None if saved.config.model == saved.base else saved.config.model,
        rows=_rows(saved),
        left=None if step is None else finished.total - step,
        label=read_label(place),
    )


def _rows(saved: SavedRun) -> str:
    """Return the title of the sample that a run's first row is the first row of, or its data set on the Hub."""
    if saved.rows is not None:
        return saved.rows
    if not (saved.folder / EXAMPLES).is_file():
        return ""
    with (saved.folder / EXAMPLES).open(encoding="utf-8", errors="replace") as file:
        return _samples().get(file.readline().strip(), "")


@lru_cache(maxsize=1)
def _samples() -> dict[str, str]:
    """Return the samples' titles by their first rows, as a run's folder has them."""
    parsed = {sample.title: parse_examples(sample.path.read_text(encoding="utf-8")) for sample in SAMPLES}
    return {json.dumps(to_record(data.train[0]), ensure_ascii=False): title for title, data in parsed.items()}


def _curves(events: Sequence[Event]) -> list[list[float]]:
    is_ablation = any(isinstance(event, Arm) for event in events)
    curves: list[list[float]] = [] if is_ablation else [[]]
    for event in events:
        match event:
            case Arm():
                curves.append([])
            case HeldOut() if is_ablation:
                curves[-1].append(event.completion_loss)
            case Step() if not is_ablation:
                curves[-1].append(event.loss)
    return curves
