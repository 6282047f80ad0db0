"""Run jobs and keep finished runs, for all visitors of the page."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from gradio.utils import get_upload_folder

from ..core.config import RunConfig
from ..core.environment import settle
from ..core.errors import ModelError
from ..core.events import Event, Failed, Finished
from ..core.held import scratch_folder
from ..core.limits import Limits, is_public, read_grace, read_limits
from ..data.examples import ParsedExamples
from ..export.formats import export
from ..mask.layouts import load_packer
from ..model.sources import RUN_RECORD
from ..runs.ablation import ablate
from ..runs.checkpoint import Begun, begun_runs, read_begun
from ..runs.disk import DiskLimits, is_expired, make_room, note_begun, oldest_first, remove
from ..runs.film import film
from ..runs.folder import load_events
from ..runs.history import PastRun, find_run, past_runs
from ..runs.isolation import prove
from ..runs.jobs import warm
from ..runs.labels import write_label
from ..runs.output import CHECKPOINT
from ..runs.queue import ANY_TURN, Jobs, Turn
from ..runs.revisit import SavedRun, answers_at, read_run, token_losses
from ..runs.run import run
from ..train.checkpoints import checkpoint_step
from .downloads import Downloads, write_whole, zip_folder
from .models import IMPORTS, Models, import_libraries
from .start import RUN_ID, Start, folder_of, runs_folder, start_of
from .zero_gpu import LentGpu, on_zero_gpu, within

KEPT_RUNS = 10
MASK_ALONE = 5.0  # seconds in which the first mask has the process to itself: imports in another thread delay it


class Backend(Models):
    """The models and runs of the server. There is one for all visitors."""

    def __init__(self):
        super().__init__()
        self.downloads = Downloads()
        self._limits = DiskLimits.from_environment(is_public())
        self._tidying = threading.Lock()
        self._models: dict[str, str] = {}  # of the runs of this process, what each starts from
        self._runs = Jobs(read_grace())
        self._gpu = LentGpu() if on_zero_gpu() else None

    def warm(self, model: str) -> None:
        """Prepare the model for the first visitor, then the fork server for a run, and last the imports of the other
        views. One at a time, since together they would slow down the page that is being drawn."""
        with suppress(ModelError):  # the page prepares the model on arrival, too, and shows why it fails
            for _ in self.prepare(model):
                pass
        if self._gpu is None:
            warm()
        time.sleep(MASK_ALONE)
        with IMPORTS:
            import_libraries()
            load_packer()
        settle()

    def start(
        self,
        config: RunConfig,
        data: ParsedExamples,
        weights: Sequence[float] = (),
        shown: str | None = None,
        turn: Turn = ANY_TURN,
    ) -> str:
        """Start a run in a child process, once those before it have ended, and return its id.

        Args:
            weights (`Sequence[float]`, *optional*):
                The prompt-loss weights of an ablation. By default, a single model is trained.
            shown (`str`, *optional*):
                The hash of the mask that the page has drawn.

        Raises:
            BusyError: if another run of the same visitor is under way, or if the queue is full.
        """
        run_id = secrets.token_hex(16)
        folder, limits = runs_folder() / run_id, self._limits_of_a_run(turn)
        if weights:
            work = partial(ablate, config, data, folder, tuple(weights), shown=shown, limits=limits)
        else:
            work = partial(run, config, data, folder, shown=shown, may_go_on=True, limits=limits)
        self._begin(run_id, work, turn)
        self._models[run_id] = config.model
        with suppress(OSError):  # then the folder's time counts
            note_begun(run_id)
        self.tidy(kept=KEPT_RUNS - 1)
        return run_id

    def go_on(self, run_id: str | None, own: Collection[str] = ()) -> None:
        """Go on in a child process with a run that was stopped or killed, from its last checkpoint, once those before
        it have ended.

        Raises:
            BusyError: if it or a run of `own` is under way, or if the queue is full.
            DataError: if there is no run with this id.
            TrainingError: if it has no checkpoint that can be read.
        """
        begun = read_begun(folder_of(run_id))
        turn = Turn(own={*own, begun.folder.name})
        work = partial(run, begun.config, begun.data, begun.folder, resume=begun, limits=self._limits_of_a_run(turn))
        self._begin(begun.folder.name, work, turn)
        self._models[begun.folder.name] = begun.config.model  # which keeps its folder while it waits
        self.downloads.withdraw(run_id or "")

    def checkpoint(self, run_id: str | None) -> int | None:
        """Return the step after which a run can be gone on with; None if it cannot."""
        if not run_id or not RUN_ID.fullmatch(run_id):
            return None
        return checkpoint_step(runs_folder() / run_id / CHECKPOINT)

    def start_at(self, run_id: str | None, weight: float | None) -> Start:
        """Return the model of a saved run, for a training that starts from it.

        Raises:
            ConfigError, DataError: if there is no saved run with this id, or no such model in it.
        """
        return start_of(read_run(self._saved(run_id)), weight)

    def _begin(self, run_id: str, work: Callable[..., Iterator[Event]], turn: Turn) -> None:
        if self._gpu is None:
            self._runs.queue(run_id, work, read_limits().queue, turn)
        else:
            self._gpu.begin(run_id, work, turn.seconds)

    def _limits_of_a_run(self, turn: Turn) -> Limits:
        return read_limits() if self._gpu is None else within(read_limits(), turn.seconds)

    def watch(self, run_id: str | None) -> Iterator[Sequence[Event]]:
        """Yield all events of a run so far, again and again until its end; before its turn, its place in the queue.
        Yield the events of a saved run once, and nothing for an unknown id."""
        if run_id and self._gpu is not None and run_id in self._gpu:
            yield from self._gpu.watch(run_id)
        elif run_id and self._runs.get(run_id) is not None:
            yield from self._runs.watch(run_id)
        elif run_id and RUN_ID.fullmatch(run_id) and (events := load_events(runs_folder() / run_id)):
            if not isinstance(events[-1], Finished | Failed):
                raise ModelError(f"the events of the run in {runs_folder() / run_id} have no end; it cannot be shown.")
            yield events

    def is_running(self, run_id: str | None) -> bool:
        """Return whether a run is under way, or waits for its turn."""
        if run_id and self._gpu is not None:
            return run_id in self._gpu
        return (job := self._runs.get(run_id)) is not None and not job.done

    def stop(self, run_id: str | None) -> None:
        """Ask a run to end after the current step. A run on ZeroGPU ends as well when its page stops watching it."""
        if run_id and self._gpu is not None:
            self._gpu.stop(run_id)
        elif (job := self._runs.get(run_id)) is not None:
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
        if self._gpu is not None:
            yield from self._gpu.relay(work, *arguments)
        else:
            yield from self._runs.start(secrets.token_hex(8), work, *arguments).new_events()

    def apart(self, work, *arguments: object) -> Iterator[Event]:
        """Run work that needs no GPU in a child process; on ZeroGPU, which has none of its own, here."""
        yield from self._relay(work, *arguments) if self._gpu is None else work(*arguments)

    def _saved(self, run_id: str | None) -> Path:
        """Return the folder of a saved run.

        Raises:
            DataError: if there is no saved run with this id.
        """
        return runs_folder() / find_run(self.past_runs([run_id or ""])[0], run_id or "").name

    def saved_run(self, run_id: str | None) -> SavedRun | None:
        """Return a run as it was saved; None while there is none."""
        folder = runs_folder() / (run_id or "")
        is_saved = RUN_ID.fullmatch(run_id or "") and (folder / RUN_RECORD).is_file()
        return read_run(folder) if is_saved else None

    def past_runs(self, run_ids: Sequence[str] | None) -> tuple[list[PastRun], list[str]]:
        """Return the saved runs, the latest first, and a sentence for each run that cannot be read. None stands for all
        ids."""
        return past_runs(runs_folder(), run_ids)

    def begun_runs(self, run_ids: Sequence[str] | None) -> tuple[list[Begun], list[str]]:
        """Return the runs that were killed and can be gone on with, and a sentence for each that cannot be read. None
        stands for all ids."""
        begun, problems = begun_runs(runs_folder(), run_ids)
        return [each for each in begun if not self.is_running(each.folder.name)], problems

    def delete(self, run_id: str) -> None:
        """Delete a run that was saved, or killed.

        Raises:
            DataError: if there is no run with this id.
        """
        self._delete(folder_of(run_id))

    def _delete(self, folder: Path) -> None:
        self.downloads.withdraw(folder.name)
        remove(folder)

    def label(self, run_id: str, name: str, note: str) -> None:
        """Give a saved run a name and a note.

        Raises:
            DataError: if there is no saved run with this id.
            ConfigError: if one is too long, or cannot be written.
        """
        write_label(self._saved(run_id), name, note)

    def archive(self, folder: Path) -> Path:
        """Return where the zip of a run's folder lies, once it is asked for."""
        return self.downloads.offer(folder.name, f"sftdemo-{folder.name}.zip", partial(zip_folder, folder))

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
        name = f"sftdemo-{saved.folder.name}{arm}-{to}-{quantization}.zip"
        archive = self.downloads.offer(saved.folder.name, name, None)
        if not archive.is_file():
            with scratch_folder() as scratch:
                output = Path(scratch) / "model"
                output.mkdir()
                place = output / "model.gguf" if to == "gguf" else output / "files"
                for event in self.apart(export, folder, to, place, quantization):
                    yield event
                    if isinstance(event, Failed):
                        return
                write_whole(archive, partial(zip_folder, output if to == "gguf" else place))
        yield archive

    def tidy(self, more: int = 0, kept: int = KEPT_RUNS) -> bool:
        """Delete runs that have expired or are too many, and then what is beyond the limits of the disk, the oldest
        first. Runs under way stay, and those whose models they or the latest runs need.

        Args:
            more (`int`, *optional*):
                The bytes that are to come.
            kept (`int`, *optional*):
                How many runs are kept.

        Returns:
            `bool`: Whether there is room for what is to come.
        """
        with self._tidying:
            running = {name for name in self._models if self.is_running(name)}
            for folder in self._run_folders():
                if is_expired(folder, self._limits) and folder.name not in running:
                    self._delete(folder)
            folders = self._run_folders()
            used = running | self._needed(running, folders[-kept:])
            for folder in folders[:-kept]:
                if folder.name not in used:
                    self._delete(folder)
            used = running | self._needed(running, [])
            copies = Path(get_upload_folder())
            return make_room(self._limits, copies, self._run_folders(), used, self._delete, more)

    def _run_folders(self) -> list[Path]:
        return oldest_first(folder for folder in runs_folder().glob("*") if folder.is_dir())

    def _needed(self, running: Collection[str], folders: Sequence[Path]) -> set[str]:
        """Return all parts of the names of the models that these runs start from."""
        saved = self.past_runs([folder.name for folder in folders])[0]
        models = [*(self._models[name] for name in running), *(each.start or each.model for each in saved)]
        return {part for name in models for part in Path(name).parts}

    def close(self, seconds: float) -> None:
        """Ask the run under way to end and be kept as stopped, and wait for that as long as so many seconds."""
        self._runs.close(seconds)
