"""A changed copy of the package, and what a script finds out about it in a process of its own."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from forked import forked
from pages import ROOT

PRELUDE = """
import contextlib, io, json, sys
import sftdemo
from sftdemo.core.config import RunConfig
from sftdemo.terminal.cli import main
from sftdemo.ui import build

def said(*words):
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
        try:
            code = main(words)
        except SystemExit as error:
            code = error.code
    return code, " ".join(out.getvalue().split())
"""


def copy_package(folder: Path) -> None:
    for name in ("sftdemo", "sample_data"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))


def run_script(script: str, folder: Path, *words: str) -> dict:
    """Run the script, which may use `PRELUDE`, in the folder of a copy, and return the JSON of its last line."""
    (folder / "script.py").write_text(f"{PRELUDE}{script}\nprint(json.dumps([sftdemo.__file__, found]))\n", "utf-8")
    package, found = json.loads(forked("script.py", *words, folder=folder, ours=False).splitlines()[-1])
    assert Path(package).is_relative_to(folder)
    return found
