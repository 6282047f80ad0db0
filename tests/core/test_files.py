from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from sftdemo.core.files import cache_folder, flush_folder, link_folder, write_whole, written_whole


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
