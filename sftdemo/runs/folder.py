"""Write and read run folders: model, tokenizer, examples, settings, events and answers. A folder is written whole."""

from __future__ import annotations

import copy
import json
import re
import shlex
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, cast

from .. import __version__
from ..core import distributed
from ..core.config import DEFAULT_TEMPLATE, RunConfig
from ..core.errors import UNREADABLE, ModelError, TrainingError, unread, unwritten
from ..core.events import Event, Failed, Finished, Saved, from_dict
from ..core.files import link_folder, written_whole
from ..core.json_files import read_object
from ..core.settings_file import write_settings
from ..core.streams import Outcome
from ..data.examples import Origin, ParsedExamples, to_record
from ..data.templates import Template, get_template
from ..model.sources import RUN_RECORD as RECORD
from ..model.sources import ModelSource
from ..model.stopping import mend_stopping
from ..train.checkpoints import Checkpoints
from . import use
from .card import LOSS_PICTURE, card, loss_svg
from .output import CHECKPOINT, LABEL, check_output, with_files
from .parts import PartClock
from .public import public_record, public_settings

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EVENTS = "events.jsonl"
EXAMPLES = "examples.jsonl"
SETTINGS = "config.yaml"
_IN_HUB_CACHE = re.compile(r"models--([^/\\]+)[/\\]snapshots[/\\]")
FILM = "film"  # a folder, until the film is developed


@dataclass(frozen=True)
class ModelToSave:
    """A trained model with what makes it answer elsewhere as it does here, and how it became so.

    Args:
        model (`PreTrainedModel` or `PeftModel`), tokenizer (`PreTrainedTokenizerBase`):
            The tokenizer has the model's own chat template.
        ends (`Collection[int]`):
            The ids that were trained as the end of an answer.
        chat_template (`str`):
            The prompt that was trained, as the chat template to save.
        same_ids (`tuple[int, int]`):
            For how many prompts of the run that template gives the very ids, and for how many it was tried.
        film (`Path`, *optional*):
            The folder with the adapter as it was after some of the steps.
    """

    model: PreTrainedModel | PeftModel
    tokenizer: PreTrainedTokenizerBase
    ends: Collection[int]
    chat_template: str
    same_ids: tuple[int, int]
    film: Path | None = None


def way_of_asking(folder: Path) -> tuple[Template, str]:
    """Return the template and the shape of the examples that a run was trained with, or the defaults for other models.

    Raises:
        ModelError: if the run's record cannot be read.
    """
    if not (folder / RECORD).is_file():
        return get_template(DEFAULT_TEMPLATE), "instruction"
    try:
        record = read_object(folder / RECORD)
        config = record["config"]
        # a run of an earlier version has no arguments of the chat template
        return get_template(config["template"], arguments=config.get("chat_template_kwargs", "")), record["shape"]
    except UNREADABLE as error:
        raise ModelError(
            f"{folder / RECORD} does not say how the run was trained: {unread(error)}. Put it back as it was, "
            "or train again."
        ) from error


def load_events(folder: Path) -> list[Event]:
    """Return the events of a saved run in order; empty if `folder` holds no events.

    Raises:
        ModelError: if they cannot be read, or were written by an incompatible version.
    """
    path = folder / EVENTS
    if not path.is_file():
        return []
    try:
        lines = path.read_text(encoding="utf-8").split("\n")  # an answer may hold any other end of a line
        return [from_dict(json.loads(line)) for line in lines if line]
    except UNREADABLE as error:
        raise ModelError(
            f"the events of the run in {folder} cannot be read: {unread(error)}. Put events.jsonl back as it "
            "was; the model itself can still be asked."
        ) from error


def public_texts(folder: Path) -> dict[str, str]:
    """Return the files of a run's folder that name places of this machine, by their names, with the names that others
    know in their stead. The events, and a checkpoint, name such places as well; they stay on this machine.

    Raises:
        SftdemoError: if the run's settings cannot be read.
    """
    record = read_object(folder / RECORD)
    try:
        texts = {RECORD: json.dumps(public_record(record), indent=1, ensure_ascii=False)}
        if (folder / SETTINGS).is_file():
            texts[SETTINGS] = public_settings((folder / SETTINGS).read_text(encoding="utf-8"), record)
    except UNREADABLE as error:
        raise ModelError(f"{folder / RECORD} does not say what was trained: {unread(error)}.") from error
    return texts


def record_of(
    config: RunConfig,
    source: ModelSource,
    shape: str,
    origin: Origin | None,
    results: Mapping[str, object],
    weights: Sequence[float] = (),
) -> dict:
    """Return the contents of a run's `RECORD` as a JSON-serializable dict. The command that repeats it reads the rows
    from the Hub if they come from there, else from `EXAMPLES`; with `weights` it is an ablation."""
    if origin is None:
        command = config.command_line(EXAMPLES, weights)
    else:
        command = config.command_line(origin.source, weights, origin.limit, origin.columns)
    known = source.base or source  # others look for the model under an adapter, not for the adapter
    return {
        "sftdemo": __version__,
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "kind": "full" if config.full else "merged" if config.merge else "adapter",
        "model": {
            "name": source.name,
            "copy": known.copy,
            "hub_id": known.hub_id,
            "public_name": known.public_name,
            "base": None if source.base is None else known.name,
        },
        "from": source.public_name if source.is_run else None,
        "config": config.to_dict(),
        "shape": shape,
        "data": None if origin is None else vars(origin),
        "command": command,
        **results,
    }


class RunFolder:
    """The output folder of a run, and the run's events so far.

    Args:
        path (`str` or `Path`):
            Where to save the run when it is done.
        overwrite (`bool`, *optional*, defaults to `False`):
            Whether to replace an earlier run.
    """

    def __init__(self, path: str | Path, overwrite: bool = False):
        self.path, self.overwrite = Path(path), overwrite
        self._clock = PartClock()
        self._events: list[Event] = []

    def __str__(self) -> str:
        return str(self.path)

    @property
    def events(self) -> tuple[Event, ...]:
        """Return the events so far."""
        return tuple(self._events)

    def check(self) -> None:
        """Check that the run can be saved here, as `check_output` does."""
        check_output(self.path, self.overwrite)

    def relay(self, work: Iterator[Event]) -> Iterator[Event]:
        """Yield the events of a run and keep them for `save`. Other processes than the first pass on `Failed` only."""
        for event in work:
            if distributed.is_first() or isinstance(event, Failed):
                self._events.append(event)
                self._clock.note(event)
                yield event

    def save(
        self,
        record: dict,
        data: ParsedExamples,
        trained: ModelToSave,
        outcome: Outcome,
        checkpoints: Checkpoints | None = None,
    ) -> Iterator[Event]:
        """Write the model, its files and the run's events as one whole folder, then yield `Saved` and `Finished`. Of a
        run that was stopped, the checkpoint stays.

        Raises:
            TrainingError: if the folder cannot be written.
        """

        def write(folder: Path) -> None:
            _write_model(folder, record, data, trained)
            if checkpoints and outcome.stopped and (checkpoints.folder / checkpoints.kept).is_file():
                link_folder(checkpoints.folder, folder / CHECKPOINT)
            if checkpoints and checkpoints.resume and (self.path / LABEL).is_file():
                shutil.copyfile(self.path / LABEL, folder / LABEL)

        yield from self._save(write, record["kind"], outcome)

    def save_arms(self, record: dict, data: ParsedExamples, arms: dict[str, Path], outcome: Outcome) -> Iterator[Event]:
        """Save an ablation in the same way. Each arm is moved from where it was saved into a folder of its own."""

        def write(folder: Path) -> None:
            for name, place in arms.items():
                shutil.move(place, folder / name)
            _write_about(folder, record | {"kind": "ablation"}, data)

        yield from self._save(write, "ablation", outcome)

    def _save(self, write: Callable[[Path], None], kind: str, outcome: Outcome) -> Iterator[Event]:
        with _written(self.path) as folder:
            write(folder)
            last = [Saved(str(self.path), kind), self._ended(outcome)]
            lines = [json.dumps(event.to_dict(), ensure_ascii=False) + "\n" for event in (*self._events, *last)]
            (folder / EVENTS).write_text("".join(lines), encoding="utf-8")
            _write_record(folder, read_object(folder / RECORD))
        yield from last

    def _ended(self, outcome: Outcome) -> Finished:
        return replace(outcome, parts=self._clock.seconds()).finished(self._clock.begin)


def save_run(output: Path, record: dict, data: ParsedExamples, trained: ModelToSave) -> None:
    """Write a model and its files to `output` as one whole folder, without events. Used for an arm of an ablation.

    Raises:
        TrainingError: if the folder cannot be written.
    """
    with _written(output) as folder:
        _write_model(folder, record, data, trained)


@contextmanager
def _written(output: Path) -> Iterator[Path]:
    try:
        with written_whole(output) as folder:
            yield folder
    except OSError as error:
        raise TrainingError(f"the model could not be saved to {output}: {unwritten(error, 'folder')}") from error


def _write_model(folder: Path, record: dict, data: ParsedExamples, trained: ModelToSave) -> None:
    model, tokenizer = trained.model, copy.copy(trained.tokenizer)
    if record["kind"] == "merged":
        model = cast("PeftModel", model).merge_and_unload()
    generation_config = mend_stopping(model, tokenizer, trained.ends)
    if record["kind"] == "adapter":  # embeddings are never resized, for which peft would ask the Hub
        model.save_pretrained(str(folder), save_embedding_layers=False)
    else:
        model.save_pretrained(str(folder))
    generation_config.save_pretrained(folder)  # peft saves none beside an adapter
    record = record | {"same_ids": list(trained.same_ids)}
    if tokenizer.chat_template != trained.chat_template:
        record |= {"chat_template": tokenizer.chat_template}  # the model's own, for those who train on
        tokenizer.chat_template = trained.chat_template
    tokenizer.save_pretrained(folder)
    shutil.copyfile(use.__file__, folder / "use.py")
    if record["losses"]:
        (folder / LOSS_PICTURE).write_text(loss_svg(record["losses"]), encoding="utf-8")
    if trained.film is not None and trained.film.exists():
        try:
            shutil.move(trained.film, folder / FILM)
        except shutil.Error as error:  # it lists each file
            raise OSError(error.args[0][0][2]) from error
    _write_about(folder, record, data)


def _write_about(folder: Path, record: dict, data: ParsedExamples) -> None:
    with (folder / EXAMPLES).open("w", encoding="utf-8") as file:
        for example in chain(data.train, data.held_out):
            file.write(json.dumps(to_record(example), ensure_ascii=False) + "\n")
    (folder / SETTINGS).write_text(_settings(record, data), encoding="utf-8")
    (folder / "README.md").write_text(card(record), encoding="utf-8")
    _write_record(folder, record)


def _write_record(folder: Path, record: dict) -> None:
    text = json.dumps(with_files(folder, record), indent=1, ensure_ascii=False)
    (folder / RECORD).write_text(text, encoding="utf-8")


def _settings(record: dict, data: ParsedExamples) -> str:
    """Return the settings of a run as `--config` reads them, without the place of a model that the Hub has."""
    config = RunConfig(**record["config"])
    weights = [name.removeprefix("weight-") for name in record.get("arms", [])]
    words = ["python", "-m", "sftdemo", "ablate" if weights else "train", EXAMPLES, "--config", SETTINGS]
    words += ["--weights", *weights] if weights else []
    cached = _IN_HUB_CACHE.search(config.model)
    rows = f"the rows of {data.name}, as trained: {EXAMPLES}" if data.name else f"the rows: {EXAMPLES}"
    return write_settings(config, (shlex.join(words), rows), cached[1].replace("--", "/", 1) if cached else None)
