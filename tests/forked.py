"""Python programs whose imports are made already: each is forked from the fork server of jobs, and a new process takes
six seconds for them. What a process imports by itself, and when, is tested with real ones."""

from __future__ import annotations

import multiprocessing
import os
import runpy
import sys
import threading
from contextlib import chdir
from multiprocessing import forkserver
from pathlib import Path

ROOT = Path(__file__).parents[1]
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["sftdemo.runs.preload"])
PATIENCE = 300  # seconds


class Forked:
    """`python WORDS` in a folder: `-m MODULE`, `-c CODE` or a program's file, each with its words behind it.

    With `ours` false, it does not find this checkout, as on another machine. `out` is a file to read line by line.
    """

    def __init__(self, *words: object, folder: Path, environment: dict[str, str] | None = None, ours: bool = True):
        with chdir(ROOT):  # from where it imports what it preloads, or nothing without a word
            forkserver.ensure_running()
        (self._out, out), (self._err, err) = CONTEXT.Pipe(duplex=False), CONTEXT.Pipe(duplex=False)
        given = ([str(word) for word in words], str(folder), dict(environment or os.environ), ours, out, err)
        self._process = CONTEXT.Process(target=_python, args=given)
        self._process.start()
        out.close()
        err.close()
        self.out = os.fdopen(self._out.fileno(), encoding="utf-8", closefd=False)
        self._told: list[str] = []
        self._reader = threading.Thread(target=self._read_errors, daemon=True)
        self._reader.start()

    def _read_errors(self) -> None:
        with open(self._err.fileno(), encoding="utf-8", closefd=False) as file:
            self._told.append(file.read())

    def __enter__(self) -> Forked:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.join()
        self._reader.join()
        self.out.close()
        self._out.close()
        self._err.close()

    def send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def ended(self) -> tuple[int, str, str]:
        """Wait until it ends, and return its exit code, the rest of what it printed, and its errors."""
        late = threading.Timer(PATIENCE, self._process.kill)
        late.start()
        out = self.out.read()
        self._reader.join()
        self._process.join()
        late.cancel()
        return self._process.exitcode, out, "".join(self._told)


def forked(*words: object, folder: Path, environment: dict[str, str] | None = None, ours: bool = True) -> str:
    """Run a program that must succeed, and return what it prints."""
    with Forked(*words, folder=folder, environment=environment, ours=ours) as process:
        code, out, err = process.ended()
    assert code == 0, err[-3000:]
    return out


def _python(words: list[str], folder: str, environment: dict[str, str], ours: bool, out, err) -> None:
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    out.close()
    err.close()
    sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", buffering=1, closefd=False)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    if not ours:
        sys.path[:] = [place for place in sys.path if place and Path(place) not in (ROOT, ROOT / "tests")]
        for name in [name for name in sys.modules if name.partition(".")[0] == "sftdemo"]:
            del sys.modules[name]
    kind, *rest = words
    if kind == "-m":
        sys.argv = rest
        runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
    elif kind == "-c":
        sys.argv = ["-c", *rest[1:]]
        exec(rest[0], {"__name__": "__main__"})
    else:
        sys.argv, sys.path[:0] = words, [str(Path(folder, kind).parent)]
        runpy.run_path(kind, run_name="__main__")
