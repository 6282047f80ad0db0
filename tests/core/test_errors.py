from __future__ import annotations

import ast
import doctest
from pathlib import Path

import pytest

from sftdemo.core import errors
from sftdemo.core.errors import DataError, sentence

OURS = {each.__name__ for each in errors.SftdemoError.__subclasses__()}
NAMES = {
    "bench",
    "columns",
    "film",
    "kind",
    "limit",
    "merge",
    "model",
    "page",
    "pip",
    "port",
    "quantization",
    "set",
    "steps",
    "strength",
}
PACKAGE = Path(errors.__file__).parent.parent


def test_the_examples_in_the_docstrings():
    assert doctest.testmod(errors) == (0, 6)


@pytest.mark.parametrize("name", ["outputs", "gpt2", "distilgpt2", "owner/name", "steps", "hub:a/b", "'x'", "Qwen3"])
def test_a_name_keeps_its_case(name):
    assert sentence(DataError(f"{name} is not here.")) == f"{name} is not here."


def openings() -> set[str]:
    """The words that the messages of errors begin with in the program's code, where they are written out."""
    found = set()
    for file in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and node.exc.args:
                message = node.exc.args[0]
                begin = message.values[0] if isinstance(message, ast.JoinedStr) else message
                if isinstance(begin, ast.Constant) and ast.unparse(node.exc.func) in OURS:
                    found.add(begin.value.partition(" ")[0])
    return found


def test_words_of_ours_get_a_capital():
    """What keeps its case is a setting, an option, a package or a column."""
    plain = {word for word in openings() if sentence(DataError(f"{word} is.")) == f"{word} is."}
    assert not {word for word in plain if word.isalpha() and word.islower()} - NAMES
