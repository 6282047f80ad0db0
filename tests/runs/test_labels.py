"""Names and notes of runs."""

from __future__ import annotations

import pytest

from sftdemo.core.errors import ConfigError, ModelError
from sftdemo.runs.labels import LABEL, MOST_NAME, MOST_NOTE, Label, read_label, write_label


def test_what_is_written_is_read_and_an_empty_one_goes(tmp_path):
    assert read_label(tmp_path) == Label()
    write_label(tmp_path, "  first\n try ", " <b>why</b>\nso ")
    assert read_label(tmp_path) == Label("first try", "<b>why</b>\nso")
    write_label(tmp_path, " ", "\n")
    assert (read_label(tmp_path), list(tmp_path.iterdir())) == (Label(), [])


@pytest.mark.parametrize(
    ("name", "note", "says"),
    [
        ("x" * (MOST_NAME + 1), "", f"the name of a run has {MOST_NAME + 1} characters; it may have {MOST_NAME}"),
        ("", "x" * (MOST_NOTE + 1), f"the note of a run has {MOST_NOTE + 1:,} characters; it may have {MOST_NOTE:,}"),
    ],
    ids=["name", "note"],
)
def test_what_is_too_long_is_refused_and_the_old_one_stays(tmp_path, name, note, says):
    write_label(tmp_path, "old", "")
    with pytest.raises(ConfigError, match=says):
        write_label(tmp_path, name, note)
    assert read_label(tmp_path).name == "old"


@pytest.mark.parametrize("text", ["", "[]", '{"name": 5, "note": ""}', '{"name": "a"}', '{"name": "%s"}' % ("x" * 999)])
def test_what_cannot_be_read_is_a_sentence(tmp_path, text):
    (tmp_path / LABEL).write_text(text)
    with pytest.raises(ModelError, match=r"label\.json cannot be read: .+\. Delete it\."):
        read_label(tmp_path)
