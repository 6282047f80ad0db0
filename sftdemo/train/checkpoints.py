"""Keep the checkpoint of a training on the disk: written beside and then renamed, and only the last one."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ..core.every import Every
from ..core.files import flush_folder
from ..core.sealed import seal

PARTIAL, STEP = ".partial", "step-"


@dataclass(frozen=True)
class Checkpoints:
    """Where a training keeps its checkpoint, when it writes one, and from which it goes on.

    Args:
        folder (`Path`):
            A checkpoint is a folder in it, `step-N`, with all that was known after step N.
        every (`Every`):
            When one is written. One more is written where the training is stopped.
        about (`Callable[[Path], None]`):
            Writes into a checkpoint what is needed besides the trainer's own state.
        kept (`str`):
            A file in `folder` that all checkpoints share; whatever else lies there is removed.
        resume (`Path`, *optional*):
            The checkpoint to go on from.
        makes_parent (`bool`, *optional*, defaults to `False`):
            Whether the folder that `folder` lies in is made with it, and goes with it.
    """

    folder: Path
    every: Every
    about: Callable[[Path], None]
    kept: str
    resume: Path | None = None
    makes_parent: bool = False

    @property
    def partial(self) -> Path:
        """Return the folder in which a checkpoint is written before it is whole."""
        return self.folder / PARTIAL

    def begin(self) -> None:
        """Make room for the next checkpoint.

        Raises:
            OSError: if that cannot be done.
        """
        self.drop()
        self.partial.mkdir(parents=True)

    def drop(self) -> None:
        """Remove a checkpoint that is not whole, and so free the room that it takes. Without another, nothing stays."""
        shutil.rmtree(self.partial, ignore_errors=True)
        if self.folder.is_dir() and last_checkpoint(self.folder) is None:
            with suppress(OSError):  # what others put there stays, and its folders
                (self.folder / self.kept).unlink(missing_ok=True)
                self.folder.rmdir()
                if self.makes_parent:
                    self.folder.parent.rmdir()

    def finish(self, step: int) -> None:
        """Let the folder that was written be the checkpoint, and remove the earlier one.

        Raises:
            OSError: if it cannot be written. The earlier one is then still there.
        """
        (written,) = self.partial.iterdir()
        self.about(written)
        seal(written)
        flush_folder(written)
        place = self.folder / f"{STEP}{step}"
        shutil.rmtree(place, ignore_errors=True)  # of another run, which this one replaces
        written.rename(place)
        for path in self.folder.iterdir():
            if path.is_dir() and path != place:
                shutil.rmtree(path, ignore_errors=True)
            elif path not in (place, self.folder / self.kept):
                path.unlink()


def last_checkpoint(folder: Path) -> Path | None:
    """Return the checkpoint in `folder`; None if there is none that is whole."""
    step = checkpoint_step(folder)
    return None if step is None else folder / f"{STEP}{step}"


def checkpoint_step(folder: Path) -> int | None:
    """Return the step after which the checkpoint in `folder` was written; None if there is none that is whole."""
    numbers = [path.name.removeprefix(STEP) for path in folder.glob(f"{STEP}*")]
    return max((int(number) for number in numbers if number.isdecimal()), default=None)
