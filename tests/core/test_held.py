"""Temporary folders that are held: those of the living stay, those of the dead go."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from filelock import FileLock

from sftdemo.core.errors import SftdemoError
from sftdemo.core.held import LOCK, held_folder, scratch_folder, sweep


@pytest.fixture(autouse=True)
def own_temporary(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def killed(folder: Path) -> None:
    """What a killed process has left."""
    folder.mkdir()
    for name in (LOCK, "half"):
        (folder / name).touch()


def test_a_folder_is_there_as_long_as_it_is_held(tmp_path):
    with held_folder(tmp_path, "a-") as folder:
        (folder / "deep").mkdir()
        sweep(tmp_path, "a-")
        assert (folder / "deep").is_dir()
    assert list(tmp_path.iterdir()) == []


def test_one_that_is_taken_for_abandoned_before_it_is_held_is_made_anew(tmp_path, monkeypatch):
    """It goes after filelock has looked for it, and before the lock is written."""
    acquire, gone = FileLock.acquire, []

    def late(self, *words, **more):
        if not gone:
            gone.append(Path(self.lock_file).parent)
            gone[0].rmdir()
            raise FileNotFoundError(2, "No such file or directory")
        return acquire(self, *words, **more)

    monkeypatch.setattr(FileLock, "acquire", late)
    with held_folder(tmp_path, "a-") as folder:
        assert list(tmp_path.iterdir()) == [folder] != gone


@pytest.mark.parametrize("place", ["tempfile.mkdtemp", "tempfile.gettempdir"])
def test_none_can_be_made(monkeypatch, place):
    def refused(*more: object, **options: object) -> str:
        raise PermissionError(13, "Permission denied", "sftdemo-x")

    monkeypatch.setattr(place, refused)
    with pytest.raises(SftdemoError, match=r"can be written: Permission denied\. Set TMPDIR"), scratch_folder():
        pass


def test_what_fails_within_one_is_not_blamed_on_it():
    with pytest.raises(PermissionError), scratch_folder():
        raise PermissionError(13, "Permission denied")


def test_the_next_one_removes_what_a_killed_process_left(tmp_path):
    killed(tmp_path / "sftdemo-0a1b2c3_")
    (tmp_path / "sftdemo-empty_00").mkdir()
    with scratch_folder() as folder:
        assert list(tmp_path.iterdir()) == [Path(folder)]


def test_folders_of_others_stay(tmp_path):
    others = {"sftdemo-0a1b2c3", "sftdemo-0a1b2c3dd", "sftdemo-page-0a1b2c3d", "sftdemo_0a1b2c3d"}
    for name in others:
        killed(tmp_path / name)
    (tmp_path / "sftdemo-mine0000").mkdir()
    (tmp_path / "sftdemo-mine0000" / "file").touch()
    (tmp_path / "sftdemo-link0000").symlink_to(tmp_path / "sftdemo-0a1b2c3")
    with scratch_folder():
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*others, "sftdemo-mine0000", "sftdemo-link0000"}


def test_a_killed_process_lets_go(tmp_path):
    script = "import os, sys; from pathlib import Path; from sftdemo.core.held import held_folder\n"
    script += "with held_folder(Path(sys.argv[1]), 'a-'): os.kill(os.getpid(), 9)"
    subprocess.run([sys.executable, "-c", script, tmp_path], env=os.environ | {"PYTHONPATH": "."})
    assert len(list(tmp_path.iterdir())) == 1
    sweep(tmp_path, "a-")
    assert list(tmp_path.iterdir()) == []
