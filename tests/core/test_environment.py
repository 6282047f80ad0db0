"""What the program sets before it imports any library, and that the library `sftdemo` sets nothing; each in a process
of its own, since nothing of it can be taken back."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")

PREPARED = "from sftdemo.core.environment import prepare; prepare()\n"
# Page faults that a 40 MB tensor costs, made and freed 31 times. The first ten do not count: an aligned block that is
# freed is one that glibc before 2.38 takes again only when it finds the next one free as well.
FAULTS = """
import resource, threading
import torch

def work(found):
    for _ in range(31):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10_000_000)
        found.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

torch.set_num_threads(1)
found = []
"""
HERE = "work(found)\n"
IN_A_THREAD = "thread = threading.Thread(target=work, args=(found,))\nthread.start()\nthread.join()\n"
PAGES = 40_000_000 // os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 1


def output(code: str, **environment: str) -> list[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=kept | environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def faults(beginning: str, where: str) -> list[int]:
    return [int(count) for count in output(beginning + FAULTS + where + "print(*found[11:])")]


@glibc
class TestMemory:
    @pytest.mark.parametrize(
        "where", [pytest.param(HERE, marks=pytest.mark.thorough), IN_A_THREAD], ids=["main thread", "another thread"]
    )
    def test_what_is_freed_is_used_again(self, where):
        """The control is torch by itself; huge pages make fewer faults, but never as few as none."""
        with_it = faults(f"{PREPARED}from sftdemo.core.environment import share_heap\nshare_heap()\n", where)
        without = faults("", where)
        assert sum(with_it) < PAGES / 100
        assert sum(without) > 100 + 10 * sum(with_it)

    def test_release_memory_gives_back(self):
        code = """
from sftdemo.core.environment import prepare, release_memory
prepare()
import psutil, torch
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
import gc, weakref
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
    "TOKENIZERS_PARALLELISM": "true",
    "GOMP_SPINCOUNT": "7",
    "TQDM_DISABLE": "0",
    "TRANSFORMERS_VERBOSITY": "info",
}
SHOW = f"{PREPARED}import os; print(*(os.environ[name] for name in {list(SETTINGS)}))"


def test_what_the_user_has_set_wins():
    assert output(SHOW, **SETTINGS) == list(SETTINGS.values())


def test_one_setting_does_not_keep_the_others_from_being_made():
    usual = dict(zip(SETTINGS, ours(), strict=True))
    for name, value in SETTINGS.items():
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
from sftdemo.core.environment import prepare, release_memory
prepare()
release_memory()
print("fine")
"""
    assert output(code) == ["fine"]


LIBRARIES = (
    "torch",
    "transformers",
    "tokenizers",
    "gradio",
    "trl",
    "peft",
    "datasets",
    "accelerate",
    "huggingface_hub",
)


class TestTheLibrary:
    """`import sftdemo` leaves the process as it is."""

    def test_importing_it_changes_nothing(self):
        code = f"""
import ctypes, os, sys, warnings
def refuses(*_): raise AssertionError("it touches the allocator")
ctypes.CDLL = refuses
before = dict(os.environ), list(warnings.filters)
import sftdemo, sftdemo.runs.run, sftdemo.mask.labels, sftdemo.mask.audit, sftdemo.runs.ablation
print((dict(os.environ), list(warnings.filters)) == before, *set({LIBRARIES}) & set(sys.modules))
"""
        assert output(code) == ["True"]

    def test_its_users_still_see_warnings(self):
        code = """
import sftdemo, warnings
with warnings.catch_warnings(record=True) as found:
    warnings.simplefilter("default", append=True)
    warnings.warn("this will go away", FutureWarning)
print(len(found))
"""
        assert output(code) == ["1"]


# Runs an entry of the program up to its first import of a library, and tells what is set by then.
UP_TO_THE_FIRST_LIBRARY = f"""
import os, runpy, sys, warnings
import sftdemo.core.environment

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name in {LIBRARIES}:
            silent = ("ignore", FutureWarning) in [(each[0], each[2]) for each in warnings.filters]
            print(name, all(name in os.environ for name in {list(SETTINGS)}), silent, flush=True)
            os._exit(0)

for name in {list(SETTINGS)}:
    os.environ.pop(name, None)
sftdemo.core.environment.keep_memory = lambda: print("memory")
sftdemo.core.environment._is_glibc = lambda: True
sys.meta_path.insert(0, Watch())
"""


class TestTheProgram:
    """Each of its entries makes the settings, and before it imports any library."""

    @pytest.mark.parametrize(
        "entry",
        [
            "runpy.run_path('app.py', run_name='__main__')",
            "sys.argv[1:] = ['app', '--no-browser']; runpy.run_module('sftdemo', run_name='__main__')",
            "sys.argv[1:] = ['mask', 'pirate', '--model', 'x']; runpy.run_module('sftdemo', run_name='__main__')",
            "from sftdemo.terminal.cli import main; main(['generate', 'no/model', '--prompt', 'Hi'])",
        ],
        ids=["app.py", "app", "mask", "main"],
    )
    def test_entry(self, entry):
        memory, library, *settings = output(UP_TO_THE_FIRST_LIBRARY + entry)
        assert (memory, settings) == ("memory", ["True", "True"])
        assert library in LIBRARIES

    @pytest.mark.parametrize("method", ["forkserver", "spawn"])
    def test_the_child_of_a_job(self, method, tmp_path):
        """Its parent has made no settings here, so that none are inherited."""
        if method not in multiprocessing.get_all_start_methods():
            pytest.skip(f"there is no {method} here")
        (tmp_path / "child.py").write_text(CHILD)
        (tmp_path / "parent.py").write_text(PARENT.format(method=method))
        environment = {name: value for name, value in os.environ.items() if name not in SETTINGS}
        done = subprocess.run(
            [sys.executable, tmp_path / "parent.py"],
            env=environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}"},
            capture_output=True,
            text=True,
            check=True,
        )
        names, silent, quiet, imported, faults = json.loads(done.stdout.splitlines()[-1])
        assert (names, silent, quiet) == (sorted(SETTINGS), True, True)
        assert imported == (method == "forkserver")  # which is what the server is for
        assert faults is None or faults < PAGES / 10


# What a job's child finds. huggingface_hub reads its setting when it is imported; one made later is lost on it.
CHILD = f"""
import json, os, platform, resource, sys, warnings
from sftdemo.core.events import Finished, Phase

def work(stop):
    imported = "torch" in sys.modules and "trl" in sys.modules
    import huggingface_hub.constants, torch
    silent = ("ignore", FutureWarning) in [(each[0], each[2]) for each in warnings.filters]
    names = sorted(name for name in {list(SETTINGS)} if name in os.environ)
    torch.set_num_threads(1)
    faults = []
    for _ in range(31):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        torch.ones(10_000_000)
        faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
    counted = sum(faults[11:]) if platform.libc_ver()[0] == "glibc" else None
    quiet = huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY
    yield Phase("found", json.dumps([names, silent, quiet, imported, counted]))
    yield Finished(0, 0, 0.0, False)
"""
PARENT = """
import multiprocessing
multiprocessing.get_all_start_methods = lambda: ["{method}"]
import child
from sftdemo.runs.jobs import Job

if __name__ == "__main__":
    job = Job(child.work)
    *_, events = job.watch(0.01)
    print(events[0].message)
"""


def test_the_garbage_collector_lets_a_thousand_rows_be():
    count = "import gc; print(gc.get_threshold()[0])"
    assert int(*output(PREPARED + count)) > 10 * int(*output(count))
