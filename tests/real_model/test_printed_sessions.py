"""The sessions of `mask` that the README and the docs print are what the default model's tokenizer gives."""

from __future__ import annotations

import functools

import pytest
from default_model import private_cache
from pages import PAGES, ROOT, Session, sessions

from sftdemo.model import loading
from sftdemo.terminal.cli import main

pytestmark = pytest.mark.real_model
ALL = [session for page in PAGES for session in sessions(page)]
FILES = {session.command.removeprefix("cat "): session.output for session in ALL if session.command.startswith("cat ")}
# Those that train, answer or measure take longer and differ in their seconds: their own command repeats them.
MASKS = [session for session in ALL if session.words[:1] == ["mask"] and "--prove" not in session.words]


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return private_cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def tokenizer_once():
    """The tokenizer, loaded once for all sessions."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(loading, "load_tokenizer", functools.cache(loading.load_tokenizer))
        yield


@pytest.mark.usefixtures("tokenizer_once")
@pytest.mark.parametrize("session", MASKS, ids=lambda session: f"{session.page}: {session.command}")
def test_prints_what_the_page_says(session: Session, cache, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFTDEMO_CACHE", str(cache))
    monkeypatch.setenv("COLUMNS", "80")
    (tmp_path / "sample_data").symlink_to(ROOT / "sample_data")
    for name, content in FILES.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    assert main(session.words) == 0
    printed = capsys.readouterr()
    text, position = " ".join((printed.err + printed.out).split()), 0
    for part in session.output.split("\n…\n"):  # left out
        wanted = " ".join(part.removesuffix("…\n").split())
        assert wanted in text[position:]
        position = text.index(wanted, position) + len(wanted)


def test_there_are_sessions():
    assert {session.page for session in MASKS} == {"README.md", "data.md", "laboratory.md"}
    assert len(MASKS) >= 5
