"""SECURITY.md: beside each promise stands the test that attacks it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROMISES = (ROOT / "SECURITY.md").read_text(encoding="utf-8").partition("| promise |")[2].partition("## ")[0]
ROWS = [line for line in PROMISES.splitlines()[2:] if line.startswith("|")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[2:30])
def test_each_promise_has_a_test_that_is_there(row):
    tests = re.findall(r"`(tests/[^`]+)`", row.split("|")[2])
    assert tests
    for name in tests:
        file, *names = name.split("::")
        body = ast.parse((ROOT / file).read_text(encoding="utf-8")).body
        for wanted in names:
            kinds = (ast.ClassDef, ast.FunctionDef)
            (body,) = [each.body for each in body if isinstance(each, kinds) and each.name == wanted]
