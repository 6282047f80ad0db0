"""Run jobs and keep finished runs, for all visitors of the page."""

from __future__ import annotations

import os
import secrets
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from ..core.config import RunConfig
from ..core.environment import settle
from ..core.errors import DataError, ModelError
from ..core.events import Event, Failed
from ..core.files import cache_folder
from ..core.limits import read_limits
from ..data.examples import ParsedExamples
from ..export.formats import export
from ..mask.layouts import load_packer
from ..model.sources import RUN_RECORD
from ..runs.ablation import ablate
from ..runs.checkpoint import Begun, begun_runs, read_begun
from ..runs.film import film
from ..runs.folder import CHECKPOINT, load_events
from ..runs.history import PastRun, find_run, past_runs
from ..runs.isolation import prove
from ..runs.jobs import Jobs, warm
from ..runs.revisit import SavedRun, answers_at, read_run, token_losses
from ..runs.run import run
from ..train.checkpoints import checkpoint_step
from .archives import archive_of, delete_archives, delete_run, zipped
from .models import IMPORTS, Models, import_libraries
from .start import RUN_ID, Start, start_of

KEPT_RUNS = 10
MASK_ALONE = 5.0  # seconds in which the first mask has the process to itself: imports in another thread delay it


class Backend(Models):
    """The models and runs of the server. There is one for all visitors."""

    def __init__(self):
        super().__init__()
        self._runs = Jobs()
        self._run_on_gpu = gpu_work() if on_zero_gpu() else None
        self._gpu_events: dict[str, Iterator[Event]] = {}

    def warm(self, model: str) -> None:
        """Prepare the model for the first visitor, then the fork server for a run, and last the imports of the other
        views. One at a time, since together they would slow down the page that is being drawn."""
        with suppress(ModelError):  # the page prepares the model on arrival, too, and shows why it fails
            for _ in self.prepare(model):
                pass
        if self._run_on_gpu is None:
            warm()
        time.sleep(MASK_ALONE)
        with IMPORTS:
            import_libraries()
            load_packer()
        settle()

    def start(
        self, config: RunConfig, data: ParsedExamples, weights: Sequence[float] = (), shown: str | None = None
    ) -> str:
        """Start a run in a child process and return its id.

        Args:
            weights (`Sequence[float]`, *optional*):
                The prompt-loss weights of an ablation. By default, a single model is trained.
            shown (`str`, *optional*):
                The hash of the mask that the page has drawn.

        Raises:
            BusyError: if another run is under way.
        """
        run_id = secrets.token_hex(8)
        folder = _runs_folder() / run_id
        if weights:
            work = partial(ablate, config, data, folder, tuple(weights), shown=shown, limits=read_limits())
        else:
            work = partial(run, config, data, folder, shown=shown, may_go_on=True, limits=read_limits())
        self._begin(run_id, work)
        self._delete_old_runs(config.model)
        return run_id

    def go_on(self, run_id: str | None) -> None:
        """Go on in a child process with a run that was stopped or killed, from its last checkpoint.

        Raises:
            BusyError: if another run is under way.
            DataError: if there is no run with this id.
            TrainingError: if it has no checkpoint that can be read.
        """
        begun = read_begun(_folder(run_id))
        work = partial(run, begun.config, begun.data, begun.folder, resume=begun, limits=read_limits())
        self._begin(begun.folder.name, work)
        delete_archives(begun.folder)

    def checkpoint(self, run_id: str | None) -> int | None:
        """Return the step after which a run can be gone on with; None if it cannot."""
        if not run_id or not RUN_ID.fullmatch(run_id):
            return None
        return checkpoint_step(_runs_folder() / run_id / CHECKPOINT)

    def start_at(self, run_id: str | None, weight: float | None) -> Start:
        """Return the model of a saved run, for a training that starts from it.

        Raises:
            ConfigError, DataError: if there is no saved run with this id, or no such model in it.
        """
        return start_of(read_run(self._saved(run_id)), weight)

    def _begin(self, run_id: str, work: Callable[..., Iterator[Event]]) -> None:
        if self._run_on_gpu is None:
            self._runs.start(run_id, work)
        else:
            self._gpu_events[run_id] = self._run_on_gpu(work)

    def watch(self, run_id: str | None) -> Iterator[Sequence[Event]]:
        """Yield all events of a run so far, again and again until its end. Yield those of a saved run once, and nothing
        for an unknown id."""
        if run_id in self._gpu_events:
            events = []
            for event in self._gpu_events.pop(run_id):
                events.append(event)
                yield events
        elif (job := self._runs.get(run_id)) is not None:
            yield from job.watch()
        elif run_id and RUN_ID.fullmatch(run_id) and (events := load_events(_runs_folder() / run_id)):
            yield events

    def is_running(self, run_id: str | None) -> bool:
        """Return whether a run is under way in a child process."""
        return (job := self._runs.get(run_id)) is not None and not job.done

    def stop(self, run_id: str | None) -> None:
        """Ask a run to end after the current step. A run on ZeroGPU ends when its page stops watching it."""
        if (job := self._runs.get(run_id)) is not None:
            job.stop()

    def prove(self, config: RunConfig, data: ParsedExamples) -> Iterator[Event]:
        """Prove in a child process that packed examples do not see each other, and yield the events.

        Raises:
            BusyError: if a run or another proof is under way.
        """
        yield from self._relay(prove, config, data)

    def token_losses(self, run_id: str | None, device: str) -> Iterator[Event]:
        """Yield the losses of every token under the models of a saved run.

        Raises:
            BusyError: if a run is under way.
            DataError: if there is no saved run with this id.
        """
        yield from self._relay(token_losses, self._saved(run_id), device)

    def film(self, run_id: str | None, device: str) -> Iterator[Event]:
        """Yield the film of a saved run.

        Raises:
            BusyError: if a run is under way.
            DataError: if there is no saved run with this id.
        """
        yield from self._relay(film, self._saved(run_id), device)

    def answers_at(
        self, run_id: str | None, strength: float, prompts: Sequence[str], weight: float | None, device: str
    ) -> Iterator[Event]:
        """Yield the answers of a saved run with its adapter at some strength, to its own prompts and to `prompts`.

        Args:
            weight (`float`, *optional*):
                The prompt-loss weight of the model, if the run trained several.

        Raises:
            BusyError: if a run is under way.
            DataError: if there is no saved run with this id.
        """
        yield from self._relay(answers_at, self._saved(run_id), strength, tuple(prompts), weight, device)

    def _relay(self, work, *arguments: object) -> Iterator[Event]:
        """Run `work` in a child process, or on ZeroGPU, and yield its events as they come."""
        if self._run_on_gpu is not None:
            yield from self._run_on_gpu(work, *arguments)
        else:
            yield from self._runs.start(secrets.token_hex(8), work, *arguments).new_events()

    def _apart(self, work, *arguments: object) -> Iterator[Event]:
        """Run work that needs no GPU in a child process; on ZeroGPU, which has none of its own, here."""
        if self._run_on_gpu is not None:
            yield from work(*arguments)
        else:
            yield from self._runs.start(secrets.token_hex(8), work, *arguments).new_events()

    def _saved(self, run_id: str | None) -> Path:
        """Return the folder of a saved run.

        Raises:
            DataError: if there is no saved run with this id.
        """
        return _runs_folder() / find_run(self.past_runs([run_id or ""])[0], run_id or "").name

    def saved_run(self, run_id: str | None) -> SavedRun | None:
        """Return a run as it was saved; None while there is none."""
        folder = _runs_folder() / (run_id or "")
        is_saved = RUN_ID.fullmatch(run_id or "") and (folder / RUN_RECORD).is_file()
        return read_run(folder) if is_saved else None

    def past_runs(self, run_ids: Sequence[str] | None) -> tuple[list[PastRun], list[str]]:
        """Return the saved runs, the latest first, and a sentence for each run that cannot be read. None stands for all
        ids."""
        return past_runs(_runs_folder(), run_ids)

    def begun_runs(self, run_ids: Sequence[str] | None) -> tuple[list[Begun], list[str]]:
        """Return the runs that were killed and can be gone on with, and a sentence for each that cannot be read. None
        stands for all ids."""
        begun, problems = begun_runs(_runs_folder(), run_ids)
        return [each for each in begun if not self.is_running(each.folder.name)], problems

    def delete(self, run_id: str) -> None:
        """Delete a run that was saved, or killed.

        Raises:
            DataError: if there is no run with this id.
        """
        delete_run(_folder(run_id))

    def archive(self, folder: Path) -> Path:
        """Return a zip of a run's folder. It lies in the temporary folder, from where Gradio may serve it."""
        return zipped(folder, archive_of(folder))

    def folder(self, run_id: str | None, weight: float | None) -> Path:
        """Return the folder of a saved run or, if it trained several models, of the one with this prompt-loss weight.

        Raises:
            DataError: if there is no saved run with this id.
        """
        saved = read_run(self._saved(run_id))
        return saved.arm(weight if len(saved.arms) > 1 else None)

    def export(self, run_id: str | None, weight: float | None, to: str, quantization: str) -> Iterator[Event | Path]:
        """Export a saved run in a child process: yield the events and, last, a zip of what was written.

        Args:
            weight (`float`, *optional*):
                The prompt-loss weight of the model, if the run trained several.
            to, quantization (`str`):
                As in `export.formats.export`.

        Raises:
            BusyError: if a run is under way.
            DataError: if there is no saved run with this id.
        """
        saved, folder = read_run(self._saved(run_id)), self.folder(run_id, weight)
        arm = f"-{folder.name}" if len(saved.arms) > 1 else ""
        archive = archive_of(saved.folder, f"{arm}-{to}-{quantization}")
        if not archive.is_file():
            with tempfile.TemporaryDirectory(prefix="sftdemo-", ignore_cleanup_errors=True) as scratch:
                output = Path(scratch) / "model"
                output.mkdir()
                place = output / "model.gguf" if to == "gguf" else output / "files"
                for event in self._apart(export, folder, to, place, quantization):
                    yield event
                    if isinstance(event, Failed):
                        return
                zipped(output if to == "gguf" else place, archive)
        yield archive

    def _delete_old_runs(self, model: str) -> None:
        """Keep the latest runs, and those whose models they, or the training of `model`, need."""
        folders = sorted(_runs_folder().glob("*"), key=lambda each: each.stat().st_mtime)
        old, kept = folders[: -KEPT_RUNS + 1], folders[-KEPT_RUNS + 1 :]
        models = [model, *(each.model for each in self.past_runs([folder.name for folder in kept])[0])]
        needed = {part for name in models for part in Path(name).parts}
        for folder in old:
            if folder.name not in needed:
                delete_run(folder)


def _runs_folder() -> Path:
    return cache_folder() / "runs"


def _folder(run_id: str | None) -> Path:
    folder = _runs_folder() / (run_id or "")
    if not RUN_ID.fullmatch(run_id or "") or not folder.is_dir():
        raise DataError(f"there is no run {run_id!r} any more.")
    return folder


SECONDS = 120  # of GPU time that a run may take; an anonymous visitor has about as many per day


def on_zero_gpu() -> bool:
    """Return whether the page runs on a Space with ZeroGPU."""
    return "SPACES_ZERO_GPU" in os.environ


def gpu_work() -> Callable[..., Iterator[Event]]:
    """Return a generator function that runs `work(*arguments)` on ZeroGPU. Call this at start-up, which is when ZeroGPU
    looks for such functions."""
    import spaces

    @spaces.GPU(duration=SECONDS)
    def work_on_gpu(work: Callable[..., Iterator[Event]], *arguments: object) -> Iterator[Event]:
        yield from work(*arguments)

    return work_on_gpu
