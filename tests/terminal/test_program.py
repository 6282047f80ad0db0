"""What the help says of the commands, and a command that is misspelt."""

from __future__ import annotations

import shlex

import pytest

from sftdemo.terminal.cli import _parser, main
from sftdemo.terminal.program import COMMANDS

ABOUT = {name: words for group in COMMANDS.values() for name, words in group.items()}


def said(capsys, monkeypatch, *words: str) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == (0 if "--help" in words else 2)
    return "".join(capsys.readouterr())


def test_the_help_has_each_command_in_a_group_with_a_sentence_and_an_example(capsys, monkeypatch):
    assert set(ABOUT) == set(_parser().commands)
    text = said(capsys, monkeypatch, "--help")
    assert [line[:-1] for line in text.splitlines() if line.endswith(":")] == [*COMMANDS, "options"]
    assert max(map(len, text.splitlines())) <= 80
    for name, (does, example) in ABOUT.items():
        assert f"  {name:<10}{does}\n            sftdemo {example}\n" in text


@pytest.mark.parametrize("name", ABOUT)
def test_each_commands_own_help_has_them_as_well(capsys, monkeypatch, name):
    does, example = ABOUT[name]
    text = " ".join(said(capsys, monkeypatch, name, "--help").split())
    assert does in text
    assert text.endswith(f"Example: sftdemo {example}")
    _parser().parse_args(shlex.split(example))


@pytest.mark.parametrize(("typed", "meant"), [("trian", "train"), ("maks", "mask"), ("exports", "export")])
def test_a_misspelt_command_is_answered_with_the_one_that_was_meant(capsys, monkeypatch, typed, meant):
    assert f"there is no command '{typed}'; did you mean {meant}?" in said(capsys, monkeypatch, typed, "pirate")


def test_another_word_is_answered_with_all_commands(capsys, monkeypatch):
    text = said(capsys, monkeypatch, "pirate")
    assert f"there is no command 'pirate'; the commands are {', '.join(ABOUT)}." in text
