"""Go on with a run that was stopped or killed: what a checkpoint has of the run, and whether it is still the same."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from heapq import merge
from itertools import zip_longest
from pathlib import Path
from typing import Any

from .. import __version__
from ..core import distributed
from ..core.config import RunConfig
from ..core.errors import UNREADABLE, ConfigError, TrainingError, sentence, unread
from ..core.events import Finished
from ..core.every import Every, read_every
from ..core.sealed import changed_file, is_same, stamp
from ..core.settings_file import read_recorded
from ..data.examples import Example, Origin, ParsedExamples, Problem, open_examples, to_record
from ..train.checkpoints import Checkpoints, last_checkpoint
from .folder import RECORD, load_events
from .output import CHECKPOINT

ABOUT = "run.json"  # in a checkpoint, what `Begun` is read from
_MAY_DIFFER = ("device", "save_every", "film", "anyway")  # settings that do not decide what a run comes to


@dataclass(frozen=True)
class Begun:
    """A run that was stopped or killed, as its last checkpoint has it.

    Args:
        folder (`Path`):
            The run's output folder.
        checkpoint (`Path`):
            The checkpoint's folder in it.
        step (`int`):
            The last step before it.
        config (`RunConfig`), data (`ParsedExamples`):
            The settings and the rows of the run, as it was called with them.
        rows (`str`):
            The file with the rows, beside the checkpoint.
        mask_hash (`str`), weights (`str`):
            The SHA-256 of the mask, and of the model's weights before the training.
    """

    folder: Path
    checkpoint: Path
    step: int
    config: RunConfig
    data: ParsedExamples
    rows: str
    mask_hash: str
    weights: str

    def check_same(self, config: RunConfig, data: ParsedExamples, output: Path) -> None:
        """Check that a run with these settings and rows, and with this output folder, is the one that was begun.

        Raises:
            ConfigError, TrainingError: naming the first setting or row that differs.
        """
        if output.absolute() != self.folder.absolute():
            raise TrainingError(
                f"the run in {self.folder} goes on in its own folder, and {output} is another; name that."
            )
        given, begun = config.to_dict(), self.config.to_dict()
        for name in given:
            if name not in _MAY_DIFFER and given[name] != begun[name]:
                raise ConfigError(
                    f"{name} is {given[name]!r}, and the run in {self.folder} was begun with {begun[name]!r}. Leave it "
                    "out to go on, or begin anew in another folder."
                )
        if data is self.data:
            return
        pairs = zip_longest(map(_numbered, _in_order(data)), map(_numbered, _in_order(self.data)))
        for ours, theirs in pairs:
            if ours != theirs:
                row = min(number for number, _ in filter(None, (ours, theirs)))
                raise TrainingError(
                    f"row {row} is not as it was when the run in {self.folder} was begun. Leave the "
                    "examples out to go on with those of the run, or begin anew in another folder."
                )

    def check_mask(self, mask_hash: str) -> None:
        """Check that the mask of the rows is the one that was trained.

        Raises:
            TrainingError: if it is another, as with another version of the program or of the tokenizer.
        """
        if mask_hash != self.mask_hash:
            raise TrainingError(
                f"the mask of the rows is another (sha256 {mask_hash[:12]}…) than when the run in {self.folder} was "
                f"begun ({self.mask_hash[:12]}…). Begin anew in another folder."
            )

    def check_weights(self, sha256: str) -> None:
        """Check that the model is the one that the run began with.

        Raises:
            TrainingError: if its weights are others.
        """
        if sha256 != self.weights:
            raise TrainingError(
                f"{self.config.model} has other weights (sha256 {sha256[:12]}…) than when the run in {self.folder} was "
                f"begun ({self.weights[:12]}…). Begin anew in another folder."
            )


def read_begun(folder: str | Path) -> Begun:
    """Read what is needed to go on with the run in `folder`.

    Pass it on with its own settings and rows: `run(begun.config, begun.data, begun.folder, resume=begun)`.

    Raises:
        TrainingError: if the run is finished, if it has no checkpoint, or if that cannot be read.
    """
    folder = Path(folder)
    checkpoint = last_checkpoint(folder / CHECKPOINT)
    if checkpoint is None:
        raise TrainingError(_without_checkpoint(folder))
    try:
        known = _about(checkpoint)
        config = read_recorded(known["config"])
        rows = Path(known["rows"]).name
        origin = None if known["data"] is None else Origin(**known["data"])
        problems = tuple(Problem(**problem) for problem in known["problems"])
        processes, step, hashes = (
            known["processes"],
            int(known["step"]),
            (known["mask_sha256"], known["weights_sha256"]),
        )
        read = open_examples(folder / CHECKPOINT / rows)
    except UNREADABLE as error:
        raise TrainingError(f"the checkpoint in {checkpoint} cannot be read: {unread(error)}.") from error
    if processes != distributed.count():
        raise TrainingError(
            f"the run in {folder} was begun with {processes} processes, and there are {distributed.count()} now; start "
            "as many."
        )
    data = replace(read, problems=problems, notes=(), origin=origin)
    return Begun(folder, checkpoint, step, config, data, rows, *hashes)


def _about(checkpoint: Path) -> dict[str, Any]:
    """Return what a checkpoint says of its run.

    Raises:
        TrainingError: if its rows or a file in it are missing, or not as they were written: the run would come to what
            it would not have come to.
    """
    known, changed = dict[str, Any](), changed_file(checkpoint)
    if changed is None:
        known = json.loads((checkpoint / ABOUT).read_text(encoding="utf-8"))
        changed = None if is_same(checkpoint.with_name(known["rows"]), known["rows_stamp"]) else known["rows"]
    if changed is not None:
        raise TrainingError(
            f"{changed} is missing, or is not as it was written. Put it back, or begin anew in another folder."
        )
    return known


def begun_runs(folder: Path, names: Sequence[str] | None = None) -> tuple[list[Begun], list[str]]:
    """Return the runs in `folder` that have a checkpoint and were never saved, the latest first, and a sentence for
    each that cannot be read. With `names`, only runs with these names are read."""
    found, unreadable = [], []
    for place in sorted(folder.glob("*"), key=lambda each: each.stat().st_mtime, reverse=True):
        is_wanted = names is None or place.name in names
        if not is_wanted or (place / RECORD).is_file() or last_checkpoint(place / CHECKPOINT) is None:
            continue
        try:
            found.append(read_begun(place))
        except TrainingError as error:
            unreadable.append(sentence(error))
    return found, unreadable


def _without_checkpoint(folder: Path) -> str:
    """Say why there is nothing to go on with."""
    if not (folder / RECORD).is_file():
        return f"there is no run to go on with in {folder}: it has no checkpoint. Only train --save-every writes them."
    events = load_events(folder)
    last = events[-1] if events else None
    if isinstance(last, Finished) and last.stopped:
        return (
            f"the run in {folder} was stopped after step {last.steps} of {last.total} and has no checkpoint, which "
            f"--save-every writes. Train on from what it has learned with --model {folder}."
        )
    return f"the run in {folder} is finished. Train on from what it has learned with --model {folder}."


def checkpoints_of(
    config: RunConfig, data: ParsedExamples, folder: Path, mask_hash: str, weights: str, resume: Begun | None = None
) -> Checkpoints:
    """Return where and when a run keeps its checkpoint: where it is stopped, and as often as `save_every` says.

    Args:
        config (`RunConfig`), data (`ParsedExamples`):
            The settings and the rows as the run was called with them.
        folder (`Path`):
            The run's output folder.
        mask_hash (`str`), weights (`str`), resume (`Begun`, *optional*):
            As in `Begun`, and the run that goes on.
    """
    place = folder / CHECKPOINT
    rows = resume.rows if resume else f"rows-{secrets.token_hex(4)}.jsonl"
    known = {
        "sftdemo": __version__,
        "config": config.to_dict(),
        "rows": rows,
        "data": None if data.origin is None else vars(data.origin),
        "problems": [asdict(problem) for problem in data.problems],
        "processes": distributed.count(),
        "mask_sha256": mask_hash,
        "weights_sha256": weights,
    }

    def about(checkpoint: Path) -> None:
        if not (place / rows).is_file():
            _write_rows(place / rows, data)
        known.setdefault("rows_stamp", stamp(place / rows))
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
        text = json.dumps(known | {"step": state["global_step"]}, indent=1, ensure_ascii=False)
        (checkpoint / ABOUT).write_text(text, encoding="utf-8")

    every = Every() if config.save_every is None else read_every(config.save_every)
    return Checkpoints(place, every, about, rows, resume and resume.checkpoint, not folder.exists())


def _write_rows(path: Path, data: ParsedExamples) -> None:
    """Write the rows so that they are read back with the numbers that they have, which the mask's hash counts: an empty
    record stands for a row that was refused."""
    beside, number = path.with_suffix(".partial"), 0
    try:
        with beside.open("w", encoding="utf-8") as file:
            for example in _in_order(data):
                file.write("{}\n" * (example.row - number))
                file.write(json.dumps(to_record(example), ensure_ascii=False) + "\n")
                number = example.row + 1
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        beside.unlink(missing_ok=True)
        raise


def _in_order(data: ParsedExamples) -> Iterator[Example]:
    """Yield all rows by their numbers."""
    held_out = sorted(data.held_out, key=_number)
    return merge(data.train, held_out, key=_number)


def _numbered(example: Example) -> tuple[int, dict]:
    return example.row, to_record(example)


def _number(example: Example) -> int:
    return example.row
