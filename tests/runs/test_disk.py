"""What a server keeps on its disk."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest

from sftdemo.core.errors import ConfigError
from sftdemo.runs.disk import DiskLimits, is_expired, make_room, note_begun, oldest_first


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Three runs of 100 bytes each, as oldest first."""
    folders = [tmp_path / "runs" / name for name in "abc"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "model").write_bytes(b"0" * 100)
    return folders


def upload(folder: Path, name: str, age: float = 3600.0) -> Path:
    (folder / name).mkdir(parents=True)
    file = folder / name / "rows.csv"
    file.write_bytes(b"0" * 100)
    os.utime(file, (time.time() - age,) * 2)
    return file


def left(tmp_path, runs, most: int, used=(), more: int = 0) -> tuple[list[str], bool]:
    there = [run for run in runs if run.exists()]
    has_room = make_room(DiskLimits(most), tmp_path / "served", there, set(used), shutil.rmtree, more)
    files = [path.parent.name for path in (tmp_path / "served").rglob("*.csv")]
    return sorted(files + [run.name for run in runs if run.exists()]), has_room


def test_copies_go_before_runs_and_the_oldest_first(tmp_path, runs):
    upload(tmp_path / "served", "new", 1000)
    upload(tmp_path / "served", "old", 2000)
    upload(tmp_path / "served", "now", 1)
    assert left(tmp_path, runs, 600) == (["a", "b", "c", "new", "now", "old"], True)
    assert left(tmp_path, runs, 500) == (["a", "b", "c", "new", "now"], True)
    assert left(tmp_path, runs, 350, used="a") == (["a", "c", "now"], True)
    assert left(tmp_path, runs, 350, used="a", more=100) == (["a", "now"], True)
    assert left(tmp_path, runs, 50, used="a") == (["a", "now"], False)


def test_what_others_remove_meanwhile_is_no_error(tmp_path, runs, monkeypatch):
    """As when a visitor's download is withdrawn while another's upload asks for room."""
    upload(tmp_path / "served", "old", 2000)
    gone = upload(tmp_path / "served", "gone").parent
    listed = os.scandir

    def scandir(place):
        if place in (gone, str(gone)):
            gone.rename(tmp_path / "elsewhere")
        return listed(place)

    monkeypatch.setattr(os, "scandir", scandir)
    assert left(tmp_path, runs, 350) == (["a", "b", "c"], True)


def test_the_order_is_that_of_the_beginning_whatever_the_clock_says(runs):
    for folder in (*runs, runs[0]):
        note_begun(folder.name)
    for number, folder in enumerate(runs):
        os.utime(folder, (1000 - number,) * 2)
    unknown = runs[0].parent / "unknown"
    unknown.mkdir()
    assert [folder.name for folder in oldest_first([unknown, *runs])] == ["unknown", "b", "c", "a"]


@pytest.mark.parametrize("text", ["null", "[", '{"begun": 5}', "[" * 100_000])
def test_an_order_that_cannot_be_read(runs, tmp_path, text):
    for number, folder in enumerate(runs):
        os.utime(folder, (1000 - number,) * 2)
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "runs.json").write_text(text)
    assert [folder.name for folder in oldest_first(runs)] == ["c", "b", "a"]
    note_begun("c")
    assert [folder.name for folder in oldest_first(runs)] == ["b", "a", "c"]


def test_the_limits_come_from_the_environment(monkeypatch, runs):
    assert DiskLimits.from_environment(is_public=False) == DiskLimits(20_000_000_000, 0.0)
    assert DiskLimits.from_environment(is_public=True).days == 1
    monkeypatch.setenv("SFTDEMO_MAX_DISK", "0.5")
    monkeypatch.setenv("SFTDEMO_KEEP_DAYS", "7")
    assert DiskLimits.from_environment(is_public=True) == DiskLimits(500_000_000, 7.0)
    os.utime(runs[0], (time.time() - 8 * 86_400,) * 2)
    assert [is_expired(run, DiskLimits(days=7)) for run in runs] == [True, False, False]
    assert not is_expired(runs[0], DiskLimits())


@pytest.mark.parametrize("text", ["x", "-1", "0", "nan", "inf", "1e400"])
def test_a_limit_that_is_none(monkeypatch, text):
    monkeypatch.setenv("SFTDEMO_MAX_DISK", text)
    with pytest.raises(ConfigError, match=r"SFTDEMO_MAX_DISK is .*; it must be a number of gigabytes above 0"):
        DiskLimits.from_environment(is_public=False)
