from __future__ import annotations

import pytest

from sftdemo.core.every import Every
from sftdemo.core.sealed import SEAL
from sftdemo.train.checkpoints import Checkpoints, last_checkpoint


@pytest.fixture
def checkpoints(tmp_path):
    def about(folder):
        (folder / "about").write_text("known")
        (tmp_path / "rows").write_text("rows")

    return Checkpoints(tmp_path, Every(1), about, "rows")


def write(checkpoints, step: int) -> None:
    checkpoints.begin()
    folder = checkpoints.partial / f"checkpoint-{step}"
    folder.mkdir()
    (folder / "weights").write_text(str(step))
    checkpoints.finish(step)


def names(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_only_the_last_is_kept(checkpoints, tmp_path):
    assert last_checkpoint(tmp_path) is None
    for step in (2, 10):  # as numbers 10 is later, as text it would come first
        write(checkpoints, step)
    assert last_checkpoint(tmp_path) == tmp_path / "step-10"
    assert names(tmp_path) == {"step-10", "rows"}
    assert names(tmp_path / "step-10") == {"weights", "about", SEAL}


def test_what_another_run_has_left_is_removed(checkpoints, tmp_path):
    (tmp_path / "step-90").mkdir()
    (tmp_path / "rows-of-another").write_text("x")
    write(checkpoints, 2)
    assert names(tmp_path) == {"step-2", "rows"}


def test_the_earlier_one_stays_until_the_next_is_whole(checkpoints, tmp_path):
    write(checkpoints, 2)
    checkpoints.begin()
    (checkpoints.partial / "checkpoint-4").mkdir()
    assert last_checkpoint(tmp_path) == tmp_path / "step-2"

    def about(folder):
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        Checkpoints(tmp_path, Every(1), about, "rows").finish(4)
    assert last_checkpoint(tmp_path) == tmp_path / "step-2"
    write(checkpoints, 6)  # what was left half written is in nobody's way
    assert names(tmp_path) == {"step-6", "rows"}


@pytest.mark.parametrize("makes_parent", [True, False])
def test_nothing_stays_of_the_first_where_it_fails(tmp_path, makes_parent):
    place = tmp_path / "run" / "checkpoint"

    def about(folder):
        (place / "rows").write_text("x")
        raise OSError(28, "No space left on device")

    checkpoints = Checkpoints(place, Every(1), about, "rows", makes_parent=makes_parent)
    with pytest.raises(OSError, match="No space left"):
        write(checkpoints, 2)
    checkpoints.drop()
    assert not place.exists()
    assert place.parent.exists() is not makes_parent
    place.mkdir(parents=True)
    (place / "mine").touch()
    checkpoints.drop()
    assert names(place) == {"mine"}
