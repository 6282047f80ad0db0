"""Measure the peak memory of training on rows that stay on the disk, over a file and over ten times as many rows."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from ..core.events import Phase
from ..core.held import scratch_folder
from ..data.records import MAX_BYTES
from ..model.sources import ModelSource
from .figures import Stop
from .processes import python_process

STEPS = 4
_WORDS = "understanding international communication responsibility transportation administration characteristics " * 18


def _line(row: int) -> bytes:
    """Return a row as a line of JSON. All rows have the same number of bytes and of tokens."""
    return json.dumps({"instruction": f"Copy text {row:09d}", "output": f"{row:09d} {_WORDS.strip()}"}).encode() + b"\n"


ROW_BYTES = len(_line(0))
ROWS = MAX_BYTES // ROW_BYTES + 1  # the fewest that stay on the disk

# A Python that has imported nothing else starts the training: on Linux the peak of a new process begins at the peak of
# the process that started it.
_PEAK = """import os, sys
child = os.posix_spawn(sys.executable, [sys.executable, *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(child, 0)
print(usage.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status))
"""


def bench_disk(source: ModelSource, rows: int = ROWS, stop: Stop = lambda: False) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, for `rows` rows and for ten times as many: the size of the file in MiB, the peak
    memory in MiB and the seconds of `STEPS` training steps on the CPU in a process of its own.

    Windows has no `wait4`, so this does not work there. Once `stop` returns True, the second file is left out, and with
    it the ratio.

    Raises:
        RuntimeError: if the training fails, with its error output.
    """
    files = []
    for number, count in enumerate((rows, 10 * rows)):
        if files and stop():
            break
        yield Phase("bench", f"{count:,} rows", number / 11)
        with scratch_folder() as folder:
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
    """Write `count` different rows as JSON Lines and return `file`."""
    with file.open("wb") as lines:
        lines.writelines(map(_line, range(count)))
    return file


def _settings(source: ModelSource, folder: str) -> list[str]:
    """Return the options of `train`: one row per step, so that the memory of a step does not hide that of the rows, and
    `--anyway`, since a tokenizer without whole words cuts the rows."""
    words = {"model": source.folder, "device": "cpu", "steps": STEPS, "batch-size": 1, "output": f"{folder}/run"}
    return ["--anyway", *(word for name, value in words.items() for word in (f"--{name}", str(value)))]


def _peak(*arguments: str) -> int:
    """Return the peak memory of a Python program in bytes, as the system counts it."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with python_process(["-c", _PEAK, *arguments], **pipes) as process:
        output, errors = process.communicate()
    if process.returncode:
        raise RuntimeError(f"training failed: {errors}")
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    return int(output.splitlines()[-1]) * unit
