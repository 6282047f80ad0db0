from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from crash import kill, refuse, with_fault, writes_of
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from sftdemo.core.errors import ConfigError
from sftdemo.core.files import (
    cache_folder,
    check_replaceable,
    flush_folder,
    link_folder,
    recover,
    write_whole,
    written_whole,
)


def test_a_new_folder_appears_whole(tmp_path):
    folder = tmp_path / "deep" / "run"
    with written_whole(folder) as beside:
        (beside / "a").write_text("new")
        assert not folder.exists()
    assert [file.name for file in folder.iterdir()] == ["a"]
    assert list(folder.parent.iterdir()) == [folder]


def test_an_old_folder_is_replaced_as_a_whole(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "old").write_text("old")
    with written_whole(folder) as beside:
        (beside / "new").write_text("new")
        assert (folder / "old").read_text() == "old"
    assert [file.name for file in folder.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [folder]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, GeneratorExit])
def test_a_failure_leaves_the_old_folder_and_nothing_beside(tmp_path, error):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "old").write_text("old")

    def write():
        with written_whole(folder) as beside:
            (beside / "half").write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert (folder / "old").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_failure_to_take_the_place_leaves_the_old_folder(tmp_path, monkeypatch):
    """The disk may refuse between the two renames."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "old").write_text("old")
    rename = Path.rename

    def fails_for_the_new(self, target):
        if Path(target) == folder and (self / "new").exists():
            raise OSError(28, "No space left on device")
        return rename(self, target)

    def write():
        with written_whole(folder) as beside:
            (beside / "new").write_text("new")
            monkeypatch.setattr(Path, "rename", fails_for_the_new)

    with pytest.raises(OSError, match="No space"):
        write()
    monkeypatch.undo()
    assert (folder / "old").read_text() == "old"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_can_be_read_by_others(tmp_path):
    with written_whole(tmp_path / "run"):
        pass
    assert (tmp_path / "run").stat().st_mode & 0o755 == 0o755


class TestFile:
    def test_a_new_one_and_one_in_an_old_ones_place(self, tmp_path):
        file = tmp_path / "a.json"
        for text in ("old", "new\nü"):
            write_whole(file, text)
            assert file.read_text(encoding="utf-8") == text
            assert list(tmp_path.iterdir()) == [file]

    @pytest.mark.parametrize("step", ["os.fsync", "Path.replace"])
    @pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
    def test_a_failure_leaves_the_old_one_and_nothing_beside(self, tmp_path, monkeypatch, step, error):
        file = tmp_path / "a.json"
        file.write_text("old")

        def fail(*_):
            assert file.read_text() == "old"
            raise error

        monkeypatch.setattr(f"sftdemo.core.files.{step}", fail)
        with pytest.raises(type(error)):
            write_whole(file, "new")
        assert file.read_text() == "old"
        assert list(tmp_path.iterdir()) == [file]

    def test_a_text_that_cannot_be_encoded(self, tmp_path):
        file = tmp_path / "a.json"
        file.write_text("old")
        with pytest.raises(UnicodeEncodeError):
            write_whole(file, "half \ud800")
        assert file.read_text() == "old"
        assert list(tmp_path.iterdir()) == [file]

    def test_a_link_stays_and_its_file_is_replaced(self, tmp_path):
        link, file = tmp_path / "link", tmp_path / "file"
        link.symlink_to(file)
        for text in ("new", "newer"):
            write_whole(link, text)
            assert link.is_symlink()
            assert file.read_text() == text

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no pipes with a name")
    def test_a_pipe_stays_and_is_written_to(self, tmp_path):
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with open(os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)) as reader:
            write_whole(pipe, "text")
            assert pipe.is_fifo()
            assert reader.read() == "text"

    def test_it_is_on_the_disk_before_it_takes_the_place(self, tmp_path, monkeypatch):
        done = []
        monkeypatch.setattr("sftdemo.core.files.os.fsync", lambda _: done.append("on the disk"))
        replace = Path.replace
        monkeypatch.setattr(Path, "replace", lambda self, target: done.append("replaced") or replace(self, target))
        write_whole(tmp_path / "a.json", "text")
        assert done == ["on the disk", "replaced"]

    def test_two_at_once_do_not_meet(self, tmp_path, monkeypatch):
        """Another process writes the same file while this one does."""
        file = tmp_path / "a.json"
        replace = Path.replace

        def meanwhile(self, target):
            monkeypatch.setattr(Path, "replace", replace)
            write_whole(file, "the other")
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", meanwhile)
        write_whole(file, "mine")
        assert file.read_text() == "mine"
        assert list(tmp_path.iterdir()) == [file]

    def test_it_can_be_read_by_others(self, tmp_path):
        write_whole(tmp_path / "a.json", "")
        (tmp_path / "b").touch()
        assert (tmp_path / "a.json").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_cache_folder(monkeypatch):
    monkeypatch.setenv("SFTDEMO_CACHE", "/a")
    assert cache_folder() == Path("/a")
    monkeypatch.delenv("SFTDEMO_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert cache_folder() == Path("/b/sftdemo")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "sftdemo"


def test_a_linked_folder_outlives_the_first(tmp_path):
    (tmp_path / "one" / "deep").mkdir(parents=True)
    (tmp_path / "one" / "deep" / "file").write_text("x")
    link_folder(tmp_path / "one", tmp_path / "two")
    shutil.rmtree(tmp_path / "one")
    assert (tmp_path / "two" / "deep" / "file").read_text() == "x"


def test_it_is_copied_where_nothing_can_be_linked(tmp_path, monkeypatch):
    def link(*paths):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("os.link", link)
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_text("x")
    link_folder(tmp_path / "one", tmp_path / "two")
    (tmp_path / "one" / "file").write_text("y")
    assert (tmp_path / "two" / "file").read_text() == "x"


def test_every_file_of_a_folder_is_flushed(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr("os.fsync", lambda number: flushed.append(os.fstat(number).st_ino))
    (tmp_path / "deep").mkdir()
    files = [tmp_path / "one", tmp_path / "deep" / "two"]
    for file in files:
        file.write_text("x")
    flush_folder(tmp_path)
    assert sorted(flushed) == sorted(file.stat().st_ino for file in files)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full disk to write to")
def test_a_full_disk_of_a_library_in_rust(tmp_path):
    """tokenizers raises a bare Exception for it."""

    def save() -> None:
        with written_whole(tmp_path / "run") as folder:
            (folder / "tokenizer.json").symlink_to("/dev/full")
            Tokenizer(WordLevel({"a": 0})).save(str(folder / "tokenizer.json"))

    with pytest.raises(OSError, match="No space left on device") as raised:
        save()
    assert raised.value.errno == errno.ENOSPC
    assert not list(tmp_path.iterdir())


class TestFaults:
    """A process is killed or refused the disk at each of the writes: a folder is the old one or the new one, whole."""

    @pytest.fixture(params=["new", "replaced"])
    def folder(self, request, tmp_path) -> Path:
        if request.param == "replaced":
            (tmp_path / "run").mkdir()
            for name in "ab":
                (tmp_path / "run" / name).write_text("old")
        return tmp_path / "run"

    @staticmethod
    def write(folder: Path) -> None:
        with written_whole(folder) as beside:
            for name in "ab":
                (beside / name).write_text("new")

    @staticmethod
    def found(folder: Path) -> list[str]:
        return [(folder / name).read_text() for name in "ab"] if folder.exists() else []

    @pytest.mark.parametrize("fault", [kill, refuse], ids=["killed", "refused"])
    def test_at_each_write(self, folder, tmp_path, fault):
        before, seen = self.found(folder), []
        for at in range(1, 1 + writes_of(lambda: self.write(tmp_path / "tried"), tmp_path) + 3):
            shutil.rmtree(tmp_path / "tried", ignore_errors=True)
            ended = with_fault(lambda: self.write(folder), tmp_path, at, fault)
            recover(folder)
            seen.append(self.found(folder))
            assert seen[-1] in (before, ["new", "new"]), (at, ended)
            assert [path for path in tmp_path.iterdir() if path != folder] == [], (at, ended)
            shutil.rmtree(folder, ignore_errors=True)
            if before:
                folder.mkdir()
                for name in "ab":
                    (folder / name).write_text("old")
        assert seen[0] == before
        assert seen[-1] == ["new", "new"]

    def test_a_link_stays_and_what_it_points_to_is_replaced(self, tmp_path):
        (tmp_path / "disk" / "run").mkdir(parents=True)
        (tmp_path / "link").symlink_to(tmp_path / "disk" / "run")
        self.write(tmp_path / "link")
        assert (tmp_path / "link").is_symlink()
        assert self.found(tmp_path / "disk" / "run") == ["new", "new"]
        assert [path.name for path in (tmp_path / "disk").iterdir()] == ["run"]

    def test_what_is_another_folders_stays(self, tmp_path):
        (tmp_path / ".run-2-0a1b2c3d").mkdir()
        (tmp_path / ".run-2-0a1b2c3d" / ".held").touch()
        self.write(tmp_path / "run")
        assert (tmp_path / ".run-2-0a1b2c3d").is_dir()


def test_the_folder_that_one_is_in_cannot_be_replaced(tmp_path, monkeypatch):
    (tmp_path / "run" / "deep").mkdir(parents=True)
    check_replaceable(tmp_path / "run")
    monkeypatch.chdir(tmp_path / "run" / "deep")
    with pytest.raises(OSError, match="the folder that you are in"):
        check_replaceable(tmp_path / "run")


def test_a_mounted_folder_cannot_be_replaced(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()

    def busy(self, target):
        raise OSError(16, "Device or resource busy")

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(OSError, match="something is mounted there"):
        check_replaceable(tmp_path / "run")


def test_without_a_home_there_is_no_cache(monkeypatch):
    for name in ("SFTDEMO_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sftdemo.core.files.user_cache_path", lambda *_, **__: Path("~/.cache/sftdemo"))
    with pytest.raises(ConfigError, match="set HOME or SFTDEMO_CACHE"):
        cache_folder()
