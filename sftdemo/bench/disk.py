"""Training on rows that stay on the disk: the whole program's peak memory, over a file and over ten times its rows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..core.events import Phase
from ..data.records import MAX_BYTES
from ..model.sources import ModelSource
from .figures import Stop
from .processes import python_process
from .recipes import scratch

STEPS = 4
_WORDS = "understanding international communication responsibility transportation administration characteristics " * 18


def _line(row: int) -> bytes:
    """A row as long as any other, in bytes and in tokens."""
    return json.dumps({"instruction": f"Copy text {row:09d}", "output": f"{row:09d} {_WORDS.strip()}"}).encode() + b"\n"


ROW_BYTES = len(_line(0))
ROWS = MAX_BYTES // ROW_BYTES + 1  # the fewest that stay on the disk

# By a Python that has imported nothing else: on Linux a process's peak begins at that of the one that started it.
_PEAK = """import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def bench_disk(source: ModelSource, rows: int = ROWS, stop: Stop = lambda: False) -> Iterator[Phase | dict]:
    """Phases, and at the end of `rows` rows and of ten times as many: the file's MiB, the peak's and the seconds of
    training `STEPS` steps on the CPU in a process of its own. Not on Windows, which has no `wait4`. Once `stop` is
    true, there is no second file and no ratio."""
    files = []
    for number, count in enumerate((rows, 10 * rows)):
        if files and stop():
            break
        yield Phase("bench", f"{count:,} rows", number / 11)
        with scratch() as folder:
            file = write_rows(Path(folder) / "rows.jsonl", count)
            begin = time.perf_counter()
            peak = _peak("-m", "sftdemo", "train", str(file), *_settings(source, folder))
            seconds = time.perf_counter() - begin
            size = file.stat().st_size
        files.append(
            {
                "rows": count,
                "file_mib": round(size / 2**20, 1),
                "peak_mib": round(peak / 2**20),
                "seconds": round(seconds, 1),
            }
        )
    ratios = {}
    if len(files) == 2:
        ratios["disk_memory_over_10x_rows"] = round(files[1]["peak_mib"] / files[0]["peak_mib"], 3)
    yield {
        "model": source.name,
        "steps": STEPS,
        "row_bytes": ROW_BYTES,
        "files": files,
        "ratios": ratios,
    }


def write_rows(file: Path, count: int) -> Path:
    """JSON Lines, of which no two are alike."""
    with file.open("wb") as lines:
        lines.writelines(map(_line, range(count)))
    return file


def _settings(source: ModelSource, folder: str) -> list[str]:
    """One row a step, so that what a step takes does not hide what the rows take; and rows that a tokenizer without
    words cuts are trained all the same."""
    words = {"model": source.folder, "device": "cpu", "steps": STEPS, "batch-size": 1, "output": f"{folder}/run"}
    return ["--anyway", *(word for name, value in words.items() for word in (f"--{name}", str(value)))]


def _peak(*arguments: str) -> int:
    """The most bytes that a Python program held at once, as the system counts them.

    Raises:
        RuntimeError: with what it said, when it failed.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with python_process(["-c", _PEAK, *arguments], **pipes) as process:
        told, complaint = process.communicate()
    if process.returncode:
        raise RuntimeError(f"training failed: {complaint}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return int(told.splitlines()[-1]) * unit
