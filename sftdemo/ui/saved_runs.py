"""Keep finished runs on the disk, for all visitors of the page, within its limits."""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from functools import partial
from pathlib import Path

from gradio.utils import get_upload_folder

from ..core.limits import is_public, read_grace
from ..model.sources import RUN_RECORD
from ..runs.checkpoint import Begun, begun_runs
from ..runs.disk import DiskLimits, is_expired, make_room, oldest_first, remove
from ..runs.history import PastRun, find_run, past_runs
from ..runs.labels import write_label
from ..runs.queue import Jobs
from ..runs.revisit import SavedRun, read_run
from .downloads import Downloads, zip_folder
from .places import without_places
from .start import RUN_ID, folder_of, runs_folder
from .zero_gpu import LentGpu, on_zero_gpu

KEPT_RUNS = 10


class SavedRuns:
    """The runs of the server: those under way, of which nothing is deleted, and those that are saved."""

    def __init__(self):
        super().__init__()
        self.downloads = Downloads()
        self._limits = DiskLimits.from_environment(is_public())
        self._tidying = threading.Lock()
        self._models: dict[str, str] = {}  # of the runs of this process, what each starts from
        self._runs = Jobs(read_grace())
        self._gpu = LentGpu() if on_zero_gpu() else None

    def is_running(self, run_id: str | None) -> bool:
        """Return whether a run is under way, or waits for its turn."""
        if run_id and self._gpu is not None:
            return run_id in self._gpu
        return (job := self._runs.get(run_id)) is not None and not job.done

    def saved_run(self, run_id: str | None) -> SavedRun | None:
        """Return a run as it was saved; None while there is none."""
        folder = runs_folder() / (run_id or "")
        is_saved = RUN_ID.fullmatch(run_id or "") and (folder / RUN_RECORD).is_file()
        return read_run(folder) if is_saved else None

    def past_runs(self, run_ids: Sequence[str] | None) -> tuple[list[PastRun], list[str]]:
        """Return the saved runs, the latest first, and a sentence for each run that cannot be read. None stands for all
        ids."""
        runs, problems = past_runs(runs_folder(), run_ids)
        return runs, [without_places(problem) for problem in problems]

    def begun_runs(self, run_ids: Sequence[str] | None) -> tuple[list[Begun], list[str]]:
        """Return the runs that were killed and can be gone on with, and a sentence for each that cannot be read. None
        stands for all ids."""
        begun, problems = begun_runs(runs_folder(), run_ids)
        left = [each for each in begun if not self.is_running(each.folder.name)]
        return left, [without_places(problem) for problem in problems]

    def _saved(self, run_id: str | None) -> Path:
        """Return the folder of a saved run.

        Raises:
            DataError: if there is no saved run with this id.
        """
        return runs_folder() / find_run(self.past_runs([run_id or ""])[0], run_id or "").name

    def folder(self, run_id: str | None, weight: float | None) -> Path:
        """Return the folder of a saved run or, if it trained several models, of the one with this prompt-loss weight.

        Raises:
            DataError: if there is no saved run with this id.
        """
        saved = read_run(self._saved(run_id))
        return saved.arm(weight if len(saved.arms) > 1 else None)

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
