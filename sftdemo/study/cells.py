"""Train once per prompt-loss weight, seed and number of rows, and measure every model on the same held-out rows.

A study may be stopped, killed and resumed: a cell is written to disk once it is measured, and not measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from .. import __version__
from ..core.config import STUDY_SEEDS, STUDY_WEIGHTS, RunConfig, check_limit
from ..core.errors import UNREADABLE, ConfigError, DataError, ModelError, TrainingError, unwritten
from ..core.events import Event, Phase, Step, StudyCell, from_dict
from ..core.files import write_whole
from ..core.held import scratch_folder
from ..core.json_files import read_object
from ..core.streams import Outcome, Relay, event_stream
from ..core.text import duration, plural
from ..core.until import Until
from ..data.examples import ParsedExamples, StreamedExamples, to_record
from ..data.hold_out import hold_out
from ..mask.labels import MaskedExample
from ..model.devices import choose_device
from ..runs.ablation import check_name, check_rows, check_saves_whole, check_weights, figures_of, held_out_rows
from ..runs.folder import RECORD, RunFolder
from ..runs.output import check_writable
from ..runs.run import Trained, train_model
from ..runs.setup import Setup, set_up

if TYPE_CHECKING:
    from transformers import PreTrainedModel

CELLS = "cells.jsonl"
SETTINGS = "study.json"  # its presence marks a study folder
MOST_WEIGHTS = 8
# The device that was found is recorded beside them.
_VARIED = ("prompt_loss_weight", "seed", "device", "anyway", "report_to")


class Cell(NamedTuple):
    """The key of a cell. The base has no seed and no weight."""

    rows: int
    seed: int | None
    weight: float | None

    @classmethod
    def of(cls, event: StudyCell) -> Cell:
        """Return the key of a measured cell."""
        return cls(event.rows, event.seed, event.figures["prompt_loss_weight"])

    def __str__(self) -> str:
        rows = f"{self.rows:,} {plural(self.rows, 'row')}"
        return f"weight {self.weight:g}, seed {self.seed}, {rows}" if self.rows else "the model before any training"


BASE = Cell(0, None, None)


def study(
    config: RunConfig,
    data: ParsedExamples,
    output: str | Path,
    weights: Sequence[float] = STUDY_WEIGHTS,
    seeds: Sequence[int] = STUDY_SEEDS,
    sizes: Sequence[int] | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Event]:
    """Train the model from the start for each weight, seed and size. The last event is `Finished`, which counts trained
    cells instead of steps, or `Failed`.

    Yields a `StudyCell` after each measurement: first the base, then all sizes and weights of one seed before the next
    seed, so that a stopped study can still be compared. `output` keeps the cells, and cells found there are not
    measured again. A later study in the same folder may add weights, seeds and sizes, but change nothing else.

    Args:
        config (`RunConfig`):
            The settings of every cell, apart from the prompt-loss weight and the seed.
        weights (`Sequence[float]`, *optional*, defaults to 0, 0.01, 0.1, 0.5 and 1):
            Two to `MOST_WEIGHTS` of them.
        seeds (`Sequence[int]`, *optional*, defaults to 0, 1 and 2):
            At least two: a single seed may be a lucky one.
        sizes (`Sequence[int]`, *optional*):
            How many rows to train on, chosen by `drawn`; defaults to all.
    """
    return _study(config, data, Path(output), tuple(weights), tuple(seeds), sizes and tuple(sizes), Until(stop))


@event_stream
def _study(config, data, output: Path, weights, seeds, sizes, stop: Until) -> Generator[Event, None, Outcome]:
    check_cells(weights, seeds, sizes)
    check_saves_whole(config, "a study")
    check_name(config, "a study")
    data = hold_out(data, config)
    check_rows(data, "a study")
    if isinstance(data.train, StreamedExamples):
        raise DataError(f"there are {len(data.train):,} rows, which stay on the disk; study a file of fewer.")
    _check_folder(output)
    with scratch_folder() as scratch:
        # cells' models are discarded: no run is ever saved to this folder
        setup = yield from set_up(config, data, RunFolder(Path(scratch) / "run"), scratch, stop=stop)
        held_out = held_out_rows(setup, data)
        sizes = _checked_sizes(sizes, len(setup.rows.examples))
        found = _opened(output, setup, data)
        wanted = [Cell(rows, seed, weight) for seed in seeds for rows in sizes for weight in weights]
        missing = [cell for cell in (BASE, *wanted) if cell not in found]
        for cell in missing:
            if stop():
                break
            yield _phase(cell, wanted, found)
            started, steps = time.perf_counter(), 0
            loading = Relay(setup.load(trains=True))
            for event in loading:
                if cell is missing[0]:  # report the model once, not for every cell
                    yield event
            model = loading.result
            if cell != BASE:
                trained = yield from _trained(setup, cell, model, stop, scratch, wanted, found)
                model, last = trained.model, trained.step
                if last.step < max(last.total, 1):  # stopped before its end
                    break
                steps = last.step
            figures, answers = _measured(setup, model, held_out, cell.weight, stop)
            if stop():  # not all of it may have been measured
                break
            seconds = time.perf_counter() - started
            found[cell] = StudyCell(cell.rows, cell.seed, steps, figures, answers, seconds)
            _append(output / CELLS, found[cell])
            yield found[cell]
    done = sum(cell in found for cell in wanted)
    return Outcome(done, len(wanted), stopped=done < len(wanted))


def check_cells(weights: Sequence[float], seeds: Sequence[int], sizes: Sequence[int] | None) -> None:
    """Refuse what no study can vary, whatever its rows.

    Raises:
        ConfigError: naming the first weight, seed or size that is too few, too many, repeated or outside its limits.
    """
    check_weights(weights, MOST_WEIGHTS)
    for seed in seeds:
        check_limit("seed", seed)
    if len(seeds) < 2:
        there = "is one seed" if seeds else "are no seeds"
        raise ConfigError(f"there {there}, and nothing could be said of the spread; give two or more.")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"the seeds {', '.join(map(str, seeds))} are not all different.")

    if sizes is not None and not sizes:
        raise ConfigError("there are no sizes; give some, or leave them out for all rows.")
    if sizes and min(sizes) < 1:
        raise ConfigError(f"the size {min(sizes)} trains nothing; give 1 or more rows.")
    if sizes and len(set(sizes)) < len(sizes):
        raise ConfigError(f"the sizes {', '.join(map(str, sizes))} are not all different.")


def _checked_sizes(sizes: tuple[int, ...] | None, rows: int) -> tuple[int, ...]:
    if sizes is None:
        return (rows,)
    if max(sizes) > rows:
        raise DataError(f"there are {rows:,} rows to train on, fewer than the size {max(sizes):,}; give less, or rows.")
    return sizes


def drawn(examples: Sequence[MaskedExample], rows: int, seed: int) -> list[MaskedExample]:
    """Return the rows that a seed draws, in their original order.

    They are the first `rows` of a shuffle, so a smaller number draws a subset of a larger one. Drawing all rows gives
    what `ablate` trains.
    """
    order = list(range(len(examples)))
    random.Random(seed).shuffle(order)
    return [examples[index] for index in sorted(order[:rows])]


def _trained(
    setup: Setup,
    cell: Cell,
    model: PreTrainedModel,
    stop: Until,
    scratch: str,
    wanted: Sequence[Cell],
    found: dict[Cell, StudyCell],
) -> Generator[Event, None, Trained]:
    """Train one cell and return what it has become. Yields phases instead of the training events."""
    config = replace(setup.config, prompt_loss_weight=cell.weight, seed=cell.seed)
    rows = replace(
        setup.rows, examples=drawn(cast("list[MaskedExample]", setup.rows.examples), cell.rows, cast("int", cell.seed))
    )
    with closing(train_model(replace(setup, config=config, rows=rows), model, stop, f"{scratch}/trainer")) as work:
        events = Relay(work)
        for event in events:
            if isinstance(event, Step):
                yield _phase(cell, wanted, found, event.step / event.total)
    return events.result


def _phase(cell: Cell, wanted: Sequence[Cell], found: dict[Cell, StudyCell], share: float = 0.0) -> Phase:
    """Return the progress of the study, with `share` of `cell` trained, and the time left once a cell is measured."""
    done = sum(each in found for each in wanted)
    left = [each for each in wanted if each not in found]
    seconds = sum(_expected(each, found) * (1 - share if each == cell else 1) for each in left)
    number = f"cell {done + 1} of {len(wanted)}: " if cell != BASE else ""
    about = f" · about {duration(seconds)} left" if seconds else ""
    return Phase("study", f"{number}{cell}{about}", (done + share) / len(wanted))


def _expected(cell: Cell, found: dict[Cell, StudyCell]) -> float:
    """Return the mean seconds of the trained cells with as many rows, else of all trained cells; 0 if there is none."""
    trainings = [each for each in found.values() if each.rows]
    alike = [each.seconds for each in trainings if each.rows == cell.rows] or [each.seconds for each in trainings]
    return sum(alike) / len(alike) if alike else 0.0


def _measured(setup: Setup, model, held_out: list[MaskedExample], weight: float | None, stop: Until):
    from ..model.generation import generate
    from ..model.scoring import judge

    answers = generate(model, setup.tokenizer, setup.prompts, setup.config.max_new_tokens, stop, checked=False)
    told = [
        {"prompt": question.text, "source": question.source, "answer": each.answer, "stop": each.stop}
        for question, each in zip(setup.questions, answers, strict=True)
    ]
    return asdict(figures_of(setup, judge(model, held_out, stop), held_out, answers, weight)), told


def _check_folder(output: Path) -> None:
    if (output / SETTINGS).is_file():
        return
    if (output / RECORD).is_file():
        raise TrainingError(f"there is a run in {output}; name another folder for the study.")
    if check_writable(output):
        raise TrainingError(f"there is a run in {output} that was not finished; name another folder for the study.")


def _opened(output: Path, setup: Setup, data: ParsedExamples) -> dict[Cell, StudyCell]:
    """Create the study folder, or resume the study that it holds, and return the measured cells."""
    settings = _settings(setup, data)
    try:
        if (output / SETTINGS).is_file():
            _check_same(output, read_settings(output), settings)
            _drop_unfinished(output / CELLS)
        else:
            output.mkdir(parents=True, exist_ok=True)
            write_whole(output / SETTINGS, json.dumps(settings, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise TrainingError(f"{output} cannot be written: {unwritten(error, 'folder')}") from error
    return {Cell.of(cell): cell for cell in read_cells(output)}


def _settings(setup: Setup, data: ParsedExamples) -> dict:
    digest = hashlib.sha256()
    for example in chain(data.train, data.held_out):
        digest.update(json.dumps(to_record(example)).encode() + b"\n")
    return {
        "sftdemo": __version__,
        "model": {"name": setup.source.name, "copy": setup.source.copy},
        "device": choose_device(setup.config.device).type,
        "rows": {
            "to train on": len(setup.rows.examples),
            "left out": len(setup.rows.left_out),
            "held out": len(data.held_out),
        },
        "data": None if data.origin is None else vars(data.origin),
        "examples": digest.hexdigest(),
        "config": {name: value for name, value in setup.config.to_dict().items() if name not in _VARIED},
    }


def _check_same(output: Path, before: dict, now: dict) -> None:
    """Check that everything that affects a result is unchanged, except the program's version.

    Raises:
        ConfigError: if anything differs, naming each difference.
    """
    pairs = [("the copy of the model", before["model"]["copy"], now["model"]["copy"])]
    pairs += [("device", before["device"], now["device"])]
    usual = RunConfig().to_dict()  # a study of an earlier version names fewer settings
    pairs += [(name, before["config"].get(name, usual[name]), value) for name, value in now["config"].items()]
    differences = [f"{name} was {_shown(old)} and is {_shown(new)}" for name, old, new in pairs if old != new]
    differences += ["the examples are others"] if before["examples"] != now["examples"] else []
    if differences:
        raise ConfigError(
            f"the study in {output} was begun otherwise: {', '.join(differences)}; go on as it was begun, or name "
            "another folder."
        )


def _shown(value: object) -> str:
    return "not set" if value is None else json.dumps(value, ensure_ascii=False)


def _drop_unfinished(path: Path) -> None:
    """Remove an unfinished last line, left by a kill, so that the next cell is not appended to it."""
    if path.is_file():
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)


def _append(path: Path, cell: StudyCell) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(cell.to_dict(), ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())  # a cell takes minutes: do not lose it
    except OSError as error:
        raise TrainingError(f"{path} cannot be written: {unwritten(error)} What is in it stays.") from error


def read_settings(folder: Path) -> dict:
    """Return the settings that the study in `folder` was started with.

    Raises:
        TrainingError: if they cannot be read.
    """
    try:
        return read_object(folder / SETTINGS)
    except ModelError as error:
        raise TrainingError(f"{error} Name another folder.") from error


def read_cells(folder: Path) -> list[StudyCell]:
    """Return the measured cells of the study in `folder`, each once. An unfinished last line is ignored.

    Raises:
        TrainingError: if a line is not a cell.
    """
    path = folder / CELLS
    if not path.is_file():
        return []
    *lines, _ = path.read_bytes().split(b"\n")
    cells: dict[Cell, StudyCell] = {}
    for number, line in enumerate(lines, start=1):
        try:
            cell = from_dict(json.loads(line))
            if not isinstance(cell, StudyCell):
                raise TypeError(f"it is a {type(cell).__name__}")
            cells.setdefault(Cell.of(cell), cell)
        except UNREADABLE as error:
            raise TrainingError(f"line {number} of {path} is no cell; delete the line, and go on.") from error
    return list(cells.values())
