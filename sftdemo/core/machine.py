"""Describe the machine that figures were measured on, and keep what was measured of it."""

from __future__ import annotations

import json
import logging
import os
import platform
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import cast

from .files import cache_folder, write_whole

MEASURED = "measured.json"
_CGROUP = Path("/sys/fs/cgroup")
_LOG = logging.getLogger(__name__)
PACKAGES = ("torch", "transformers", "trl", "peft", "datasets", "gradio")


def machine() -> dict[str, str | int | float | None]:
    """Return processor, memory, threads and package versions, ready for JSON."""
    import psutil
    import torch

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU",
        "system": platform.platform(),
        "python": platform.python_version(),
    } | {name: version(name) for name in PACKAGES}


def processor() -> str:
    """Return the name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def free_memory() -> int:
    """Return how many bytes of memory a process may still take: of the machine, and of the container around it
    (https://docs.kernel.org/admin-guide/cgroup-v2.html#memory)."""
    import psutil

    free = psutil.virtual_memory().available
    try:
        most, used, *_ = (
            (_CGROUP / name).read_text(encoding="utf-8").strip() for name in ("memory.max", "memory.current")
        )
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text(encoding="utf-8").splitlines())
        if most != "max":
            free = min(free, int(most) - int(used) + int(stat["inactive_file"]))
    except (OSError, ValueError, KeyError):  # another system, or an older kernel
        return free
    return free


def measured_once(name: str, measure: Callable[[], float]) -> float:
    """Return what `measure` returned when it was first called for this name on this machine: the cache keeps it."""
    path = cache_folder() / MEASURED
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = {}
    known = cast("dict[str, object]", found) if isinstance(found, dict) else {}
    value = known.get(name)
    if not isinstance(value, int | float):
        value = measure()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(path, json.dumps(known | {name: round(value, 3)}, indent=1))
        except OSError as error:
            _LOG.warning("What this machine is quicker at cannot be kept for the next run: %s", error)
    return value
