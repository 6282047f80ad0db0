"""Run jobs and keep finished runs, for all visitors of the page."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path

from ..core.config import RunConfig
from ..core.environment import settle
from ..core.errors import ModelError
from ..core.events import Before, Event, Failed, Finished
from ..core.held import scratch_folder
from ..core.limits import Limits, read_limits
from ..data.examples import ParsedExamples
from ..export.formats import export
from ..runs.ablation import ablate
from ..runs.checkpoint import read_begun
from ..runs.disk import note_begun
from ..runs.estimate import NEW, Ready
from ..runs.film import film
from ..runs.folder import load_events
from ..runs.isolation import prove
from ..runs.jobs import await_imports, events_of, start_child, warm
from ..runs.output import CHECKPOINT
from ..runs.queue import ANY_TURN, Turn
from ..runs.revisit import answers_at, read_run, token_losses
from ..runs.run import run
from ..runs.standby import Standby
from ..train.checkpoints import checkpoint_step
from .downloads import write_whole, zip_folder
from .models import IMPORTS, Models, import_libraries
from .places import each_told
from .saved_runs import KEPT_RUNS, SavedRuns
from .start import RUN_ID, Start, folder_of, runs_folder, start_of
from .zero_gpu import within

MASK_ALONE = 5.0  # seconds in which the first mask has the process to itself: imports in another thread delay it
MOST_TO_WARM = 120.0  # seconds to wait for that; it takes 15 to 20 on 2 cores


class Backend(Models, SavedRuns):
    """The models and runs of the server. There is one for all visitors.

    Args:
        stands_by (`bool`, *optional*, defaults to True):
            Whether a process stands by for the runs of the model that was prepared by `warm`. On ZeroGPU none does.
    """

    def __init__(self, stands_by: bool = True):
        Models.__init__(self)
        SavedRuns.__init__(self)
        self._stands_by = stands_by and self._gpu is None
        self._standby: Standby | None = None
        self._is_warm = threading.Event()
        self._is_warm.set()

    def warm_later(self, model: str, seconds: float) -> None:
        """Call `warm` in so many seconds, beside the server. Until it is done, whoever calls `ahead` waits for it."""
        self._is_warm.clear()
        timer = threading.Timer(seconds, self._warm_up, [model])
        timer.daemon = True
        timer.start()

    def _warm_up(self, model: str) -> None:
        try:
            self.warm(model)
        finally:
            self._is_warm.set()

    def begin_imports(self) -> None:
        """Start the fork server, which imports the libraries that a job needs, and do not wait for it."""
        if self._gpu is None:
            warm()

    def warm(self, model: str) -> None:
        """Prepare the model for the first visitor, then the fork server for a run, and last the imports of the other
        views. One at a time, since together they would slow down the page that is being drawn."""
        with suppress(ModelError):  # the page prepares the model on arrival, too, and shows why it fails
            for _ in self.prepare(model):
                pass
        self.begin_imports()
        time.sleep(MASK_ALONE)
        with IMPORTS:
            import_libraries()
        settle()
        if self._stands_by:
            self._standby = Standby(RunConfig(model=model))

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
        self._begin(run_id, config, work, turn)
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
        self._begin(begun.folder.name, begun.config, work, turn)
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

    def _begin(self, run_id: str, config: RunConfig, work: Callable[..., Iterator[Event]], turn: Turn) -> None:
        if self._gpu is not None:
            self._gpu.begin(run_id, work, turn.seconds)
            return
        standby = self._standby
        start = start_child if standby is None or not standby.fits(config) else standby.start
        self._runs.queue(run_id, work, read_limits().queue, turn, start)

    def _limits_of_a_run(self, turn: Turn) -> Limits:
        return read_limits() if self._gpu is None else within(read_limits(), turn.seconds)

    def ahead(self, config: RunConfig, data: ParsedExamples) -> Iterator[list[Event]]:
        """Answer the questions of a run that may follow, and yield all events so far, until the last. Yields nothing
        while there are runs, or for a model that no process stands by for. The page that opens as the server starts is
        there before a process can stand by, and waits."""
        if self._stands_by:
            self._is_warm.wait(MOST_TO_WARM)
        if self._standby is not None and self._standby.fits(config) and data.train and not self._runs.is_busy:
            if self._standby.pid is None:
                await_imports()  # while the others may read from the standby what is known
            for events in self._standby.ask(config, data, read_limits()):
                yield list(each_told(events))

    def answered(self, config: RunConfig, data: ParsedExamples) -> list[Before]:
        """Return the answers of the model as it is that `ahead` has given to these questions so far."""
        if self._standby is None or not self._standby.fits(config):
            return []
        told = self._standby.told(config, data, read_limits())
        return [event for event in told if isinstance(event, Before) and event.stop != "stopped"]

    def readiness(self, config: RunConfig, data: ParsedExamples) -> Ready:
        """Return what is done already of a run that may follow."""
        if self._standby is None or not self._standby.fits(config) or not data.train:
            return NEW
        return self._standby.readiness(config, data, read_limits())

    def watch(self, run_id: str | None) -> Iterator[Sequence[Event]]:
        """Yield all events of a run so far, again and again until its end; before its turn, its place in the queue.
        Yield the events of a saved run once, and nothing for an unknown id."""
        with closing(self._watch(run_id)) as watched:  # so that a run knows when nobody watches it any more
            for events in watched:
                yield list(each_told(events, run_id))

    def _watch(self, run_id: str | None) -> Generator[Sequence[Event]]:
        if run_id and self._gpu is not None and run_id in self._gpu:
            yield from self._gpu.watch(run_id)
        elif run_id and self._runs.get(run_id) is not None:
            yield from self._runs.watch(run_id)
        elif run_id and RUN_ID.fullmatch(run_id) and (events := load_events(runs_folder() / run_id)):
            if not isinstance(events[-1], Finished | Failed):
                raise ModelError(f"the events of the run in {runs_folder() / run_id} have no end; it cannot be shown.")
            yield events

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
            yield from each_told(self._gpu.relay(work, *arguments))
        else:
            yield from each_told(self._runs.start(secrets.token_hex(8), work, *arguments).new_events())

    def apart(self, work, *arguments: object) -> Iterator[Event]:
        """Run work that needs no GPU in a child process; on ZeroGPU, which has none of its own, here."""
        if self._gpu is None:
            yield from self._relay(work, *arguments)
        else:
            yield from each_told(events_of(work, *arguments, stop=bool))

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

    def close(self, seconds: float) -> None:
        """Ask the run under way to end and be kept as stopped, and wait for that as long as so many seconds."""
        self._is_warm.set()  # who waits for that would hold up the end
        if self._standby is not None:
            self._standby.end()
        self._runs.close(seconds)
