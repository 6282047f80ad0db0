"""What is set before any library is imported; each in a process of its own, since it cannot be taken back."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")

# Page faults that a 100 MB tensor costs, made and freed 31 times. The first ten do not count: an aligned block that is
# freed is one that glibc before 2.38 takes again only when it finds the next one free as well.
FAULTS = """
import resource, threading
import torch

def work(found):
    for _ in range(31):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(25_000_000)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

torch.set_num_threads(1)
found = []
"""
HERE = "work(found)\n"
IN_A_THREAD = "thread = threading.Thread(target=work, args=(found,))\nthread.start()\nthread.join()\n"
PAGES = 100_000_000 // os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1


def output(code: str, **environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def faults(beginning: str, where: str) -> list[int]:
    return [int(count) for count in output(beginning + FAULTS + where + "print(*found[11:])")]


@glibc
class TestMemory:
    @pytest.mark.parametrize("where", [HERE, IN_A_THREAD], ids=["main thread", "another thread"])
    def test_what_is_freed_is_used_again(self, where):
        """The control is torch by itself; huge pages make fewer faults, but never as few as none."""
        with_it = faults("from sftdemo.core.environment import share_heap\nshare_heap()\n", where)
        without = faults("", where)
        assert sum(with_it) < PAGES / 100
        assert sum(without) > 100 + 10 * sum(with_it)

    def test_release_memory_gives_back(self):
        code = """
import sftdemo, psutil, torch
from sftdemo.core.environment import release_memory
rss = psutil.Process().memory_info
tensors = [torch.ones(2_500_000) for _ in range(20)]
last = torch.ones(1000)
full = rss().rss
del tensors
kept = rss().rss
release_memory()
print(full, kept, rss().rss)
"""
        full, kept, released = (int(count) / 1e6 for count in output(code))
        assert full - kept < 20  # of 200 MB
        assert full - released > 160

    def test_release_memory_breaks_cycles_first(self):
        code = """
import gc, sftdemo, torch, weakref
from sftdemo.core.environment import release_memory
gc.disable()
class Job: pass
job = Job(); job.self = job
gone = weakref.ref(job)
del job
print(gone() is None)
release_memory()
print(gone() is None)
"""
        assert output(code) == ["False", "True"]


SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "True",
    "HF_HUB_DISABLE_TELEMETRY": "0",
    "HF_HUB_DISABLE_PROGRESS_BARS": "0",
    "GOMP_SPINCOUNT": "7",
    "TQDM_DISABLE": "0",
    "TRANSFORMERS_VERBOSITY": "info",
}
SHOW = f"import os, sftdemo; print(*(os.environ[name] for name in {list(SETTINGS)}))"


def test_what_the_user_has_set_wins():
    assert output(SHOW, **SETTINGS) == list(SETTINGS.values())


def test_one_setting_does_not_keep_the_others_from_being_made():
    for name, value in SETTINGS.items():
        usual = dict(zip(SETTINGS, ours(), strict=True))
        found = dict(zip(SETTINGS, ours(**{name: value}), strict=True))
        assert found == usual | {name: value}
        assert usual[name] != value


def ours(**environment: str) -> list[str]:
    """The settings of a process that is told of no others."""
    clean = f"import os; [os.environ.pop(name, None) for name in {list(SETTINGS)}]; os.environ.update({environment})\n"
    return output(clean + SHOW)


@pytest.mark.parametrize("libc", ["('', '')", "('libc', '2.0')"])
def test_without_glibc_nothing_is_asked_of_it(libc):
    code = f"""
import ctypes, platform
platform.libc_ver = lambda *_: {libc}
def refuses(*_): raise OSError("there is no such library")
ctypes.CDLL = refuses
import sftdemo
from sftdemo.core.environment import release_memory
release_memory()
print("fine")
"""
    assert output(code) == ["fine"]
