"""What the page's handlers share: models being fetched, tokenizers, the one running job, finished runs."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path

from ..core.config import RunConfig
from ..core.environment import settle
from ..core.errors import ModelError
from ..core.events import Event, Failed, Phase
from ..core.files import cache_folder
from ..data.examples import ParsedExamples
from ..mask.layouts import load_packer
from ..model.devices import choose_device, describe_device
from ..model.loading import effective_max_length, load_tokenizer, stop_ids
from ..model.sources import ModelSource, find_local, resolve_tokenizer
from ..runs.ablation import ablate
from ..runs.folder import load_events
from ..runs.history import PastRun, find_run, past_runs
from ..runs.isolation import prove
from ..runs.jobs import Job, Jobs, warm
from ..runs.revisit import answers_at, token_losses
from ..runs.run import fetch, run

KEPT_RUNS = 10
MASK_ALONE = 5.0  # seconds in which the first mask has the process to itself; imports in another thread hold it up
_RUN_ID = re.compile(r"[0-9a-f]{16}")


class Backend:
    """One for the whole server."""

    def __init__(self):
        self._runs = Jobs()
        self._fetches: dict[str, Job] = {}
        self._lock = threading.Lock()
        self._on_lent_gpu = gpu_work() if on_zero_gpu() else None
        self._lent: dict[str, Iterator[Event]] = {}

    def warm(self, model: str) -> None:
        """Gets the model ready for the first visitor, then the fork server: the mask needs the one, a run the other,
        and both at once would slow down the page that is just being drawn. Last what the other views need."""
        try:
            for _ in self.prepare(model):
                pass
        except ModelError:
            pass  # the page asks again on arrival, and shows why it fails
        if self._on_lent_gpu is None:
            warm()
        time.sleep(MASK_ALONE)
        with _IMPORTS:
            _import_libraries()
            load_packer()
        settle()

    def prepare(self, name: str) -> Iterator[Phase]:
        """Gets a model onto this disk and its tokenizer into memory, with progress; one fetch serves all who wait.

        Raises:
            ModelError: when it cannot be had.
        """
        yield Phase("model", f"Looking for {name}")
        with _IMPORTS:
            is_there = self.source(name) is not None
        if not is_there:
            with self._lock:
                job = self._fetches.get(name)
                if job is None or job.done:
                    job = self._fetches[name] = Job(fetch, name)
            for events in job.watch():
                last = events[-1] if events else None
                if isinstance(last, Failed):
                    raise ModelError(last.message)
                if isinstance(last, Phase):
                    yield last
        yield Phase("model", "Loading the tokenizer")
        with _IMPORTS:
            self.tokenizer(name)

    def source(self, name: str) -> ModelSource | None:
        return find_local(name)

    def tokenizer(self, name: str):
        """The tokenizer of a model that is prepared."""
        return _tokenizer(self._prepared(name))

    def _prepared(self, name: str) -> ModelSource:
        source = self.source(name)
        if source is None:
            raise ModelError(f"{name} is not ready yet.")
        return source

    def prepare_tokenizer(self, name: str) -> Generator[Phase, None, ModelSource]:
        """Gets the tokenizer of a model onto this disk, not its weights; returns the `ModelSource`.

        Raises:
            ModelError: when it cannot be had.
        """
        with _IMPORTS:
            _import_libraries()
        return (yield from resolve_tokenizer(name))

    def stop_ids(self, name: str) -> frozenset[int]:
        """The ids at which a model that is prepared stops by its own settings."""
        return stop_ids(self._prepared(name))

    def max_length(self, name: str, max_length: int) -> int:
        """What the trainer will use as `max_length`: no more than the model has positions."""
        return effective_max_length(max_length, self._prepared(name))

    def describe(self, name: str) -> str:
        """The model, and which copy of it."""
        return f"{name} · {self._prepared(name).copy}"

    def describe_with_device(self, name: str, device: str) -> str:
        """The same, and the device that it will be trained on.

        Raises:
            ModelError: for a device that is not there.
        """
        with _IMPORTS:
            return f"{self.describe(name)} · {describe_device(choose_device(device))}"

    def start(
        self, config: RunConfig, data: ParsedExamples, weights: Sequence[float] = (), shown: str | None = None
    ) -> str:
        """Starts a run, in a child process, and returns the id by which it is found again. With `weights` it trains an
        arm for each of these prompt-loss weights. `shown` is the hash of the mask that the page has drawn.

        Raises:
            BusyError: while another run is under way.
        """
        run_id = secrets.token_hex(8)
        folder = _runs_folder() / run_id
        if weights:
            work = partial(ablate, config, data, folder, tuple(weights), shown=shown)
        else:
            work = partial(run, config, data, folder, shown=shown)
        if self._on_lent_gpu is None:
            self._runs.start(run_id, work)
        else:
            self._lent[run_id] = self._on_lent_gpu(work)
        self._forget_old_runs()
        return run_id

    def watch(self, run_id: str | None) -> Iterator[Sequence[Event]]:
        """The run's events so far, again and again until its end: one that is going on, or one that was saved. Nothing
        for an id that is not known."""
        if run_id in self._lent:
            events = []
            for event in self._lent.pop(run_id):
                events.append(event)
                yield events
        elif (job := self._runs.get(run_id)) is not None:
            yield from job.watch()
        elif run_id and _RUN_ID.fullmatch(run_id) and (events := load_events(_runs_folder() / run_id)):
            yield events

    def stop(self, run_id: str | None) -> None:
        """Asks a run to end after its step. (A run on a lent GPU ends with its page's stream.)"""
        if (job := self._runs.get(run_id)) is not None:
            job.stop()

    def prove(self, config: RunConfig, data: ParsedExamples) -> Iterator[Event]:
        """That packed examples do not see each other, event by event; in a child process, while no run is under way.

        Raises:
            BusyError: while a run or another proof is under way.
        """
        yield from self._relayed(prove, config, data)

    def token_losses(self, run_id: str | None, device: str) -> Iterator[Event]:
        """What the models of a saved run make of every token. Raises as `prove` and `_saved` do."""
        yield from self._relayed(token_losses, self._saved(run_id), device)

    def answers_at(
        self, run_id: str | None, strength: float, prompts: Sequence[str], weight: float | None, device: str
    ) -> Iterator[Event]:
        """The answers of a saved run with its adapter at some strength. Raises as `prove` and `_saved` do."""
        yield from self._relayed(answers_at, self._saved(run_id), strength, tuple(prompts), weight, device)

    def _relayed(self, work, *arguments: object) -> Iterator[Event]:
        """Runs `work` in a child process, or on a lent GPU, and passes its events on as they come."""
        if self._on_lent_gpu is not None:
            yield from self._on_lent_gpu(work, *arguments)
            return
        seen = 0
        for events in self._runs.start(secrets.token_hex(8), work, *arguments).watch():
            yield from events[seen:]
            seen = len(events)

    def _saved(self, run_id: str | None) -> Path:
        """The folder of a saved run.

        Raises:
            DataError: where there is none of this id.
        """
        return _runs_folder() / find_run(self.past_runs([run_id or ""])[0], run_id or "").name

    def past_runs(self, run_ids: Sequence[str] | None) -> tuple[list[PastRun], list[str]]:
        """The saved runs, of these ids if any are given, the latest first; and what could not be read."""
        return past_runs(_runs_folder(), run_ids)

    def delete(self, run_id: str) -> None:
        """Deletes a saved run.

        Raises:
            DataError: where there is none of this id.
        """
        _forget(self._saved(run_id))

    def archive(self, folder: Path) -> Path:
        """A run's folder as a zip, in the temporary folder, from where Gradio may serve it."""
        archive = _archive_of(folder)
        if not archive.is_file():
            with tempfile.TemporaryDirectory(prefix="sftdemo-") as scratch:
                made = shutil.make_archive(f"{scratch}/{folder.name}", "zip", folder)
                shutil.move(made, archive)
        return archive

    def _forget_old_runs(self) -> None:
        folders = sorted(_runs_folder().glob("*"), key=lambda folder: folder.stat().st_mtime)
        for folder in folders[: -KEPT_RUNS + 1]:
            _forget(folder)


def _forget(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    _archive_of(folder).unlink(missing_ok=True)


# transformers fills its namespace as it is asked, and fails when two threads ask for the first time at once:
# "cannot import name 'AutoTokenizer'". So the first visitors import one after the other.
_IMPORTS = threading.Lock()


def _import_libraries() -> None:
    """What the mask of a model that is there can do without: it takes seconds."""
    import torch  # noqa: F401
    from transformers import AutoConfig, AutoTokenizer  # noqa: F401


@lru_cache(maxsize=4)
def _tokenizer(source: ModelSource):
    return load_tokenizer(source)


def _archive_of(folder: Path) -> Path:
    return Path(tempfile.gettempdir()) / f"sftdemo-{folder.name}.zip"


def _runs_folder() -> Path:
    return cache_folder() / "runs"


SECONDS = 120  # of GPU time that a run may take; an anonymous visitor has about as many a day


def on_zero_gpu() -> bool:
    return "SPACES_ZERO_GPU" in os.environ


def gpu_work() -> Callable[..., Iterator[Event]]:
    """A generator function that runs `work(*arguments)` as one `@spaces.GPU` generator. To be made at start-up, where
    ZeroGPU looks for it."""
    import spaces

    @spaces.GPU(duration=SECONDS)
    def work_on_gpu(work: Callable[..., Iterator[Event]], *arguments: object) -> Iterator[Event]:
        yield from work(*arguments)

    return work_on_gpu
