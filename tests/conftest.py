"""Fixtures of all tests: tiny models in folders, and a cache of their own. Nothing is downloaded.

`pytest --thorough` tries every property on 300 cases, in place of 30, and runs the tests that repeat another on more
models, layouts or settings; `pytest --cases 5000` sets the number of cases by itself.
"""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

# before anything that reads them is imported; two threads that wait for each other at each of a tiny model's operations
# take many times as long as one, and the workers share the cores
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
from hypothesis import HealthCheck, Phase, settings

from sftdemo.core.environment import prepare

prepare()


def pytest_addoption(parser):
    parser.addoption("--cases", type=int, metavar="N", help="cases that each property is tried on (30; thorough: 300)")
    parser.addoption("--gpu", action="store_true", help="on the GPU that is here, which is hidden otherwise")
    parser.addoption("--hold", action="store_true", help="the long attacks, such as 25 kills of a training")
    parser.addoption("--thorough", action="store_true", help="300 cases for each property, and the slow repeats")


def pytest_configure(config):
    """The same cases every time, so that a red test stays red; `own_cache` is made anew once a test, not a case."""
    settings.register_profile(
        "sftdemo",
        max_examples=config.getoption("--cases") or (300 if config.getoption("--thorough") else 30),
        deadline=None,
        derandomize=True,
        database=None,
        # Explaining a failure traces each line from then on, and what is timed would fail for other reasons.
        phases=[phase for phase in Phase if phase is not Phase.explain],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    settings.load_profile("sftdemo")
    if not config.getoption("--gpu"):  # so that every test computes on the CPU, on any machine
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(config, items):
    for item in items:
        if item.get_closest_marker("hold") and not config.getoption("--hold"):
            item.add_marker(pytest.mark.skip(reason="attacks for minutes; run it with --hold"))
    if not config.getoption("--thorough"):
        for item in items:
            if item.get_closest_marker("thorough"):
                item.add_marker(pytest.mark.skip(reason="repeats another test on more; run it with --thorough"))


def pytest_collection_finish():
    """What was imported by now stays to the end: let no collection of garbage, some 0.3 s each, look it over again."""
    gc.collect()
    gc.freeze()


# Where jobs run in children of a fork server, whose imports take seconds: one worker's server serves them all.
FORKED = {
    ".": ("contributing", "new_setting", "notebook"),
    "bench": ("bench",),
    "export": ("formats", "script"),
    "runs": ("jobs", "queue", "standby", "checkpoint", "ways"),
    "study": ("cells",),
    "terminal": ("cli",),
    "train": ("scale",),
    "ui": ("backend",),
    "ui/panels": ("ahead", "train"),
}
FORKED_FILES = {
    Path("tests", folder, f"test_{name}.py").as_posix() for folder, names in FORKED.items() for name in names
}


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """A file's tests go to one worker, which shares their fixtures; those of the default model go to one as well, and
    those of jobs."""
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            if file.startswith(("tests/browser/", "tests/real_model/")):
                return "default model"
            return "jobs" if file in FORKED_FILES else file

    return Scheduling(config, log)


def _saved(folder: Path, model, tokenizer) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_temporary(tmp_path_factory):
    """No test leaves anything in the system's temporary folder, or looks over what others have left there."""
    folder = str(tmp_path_factory.mktemp("tmp"))
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("TMPDIR", folder)
        patched.setattr(tempfile, "tempdir", folder)
        yield


@pytest.fixture(scope="session", autouse=True)
def patience():
    """What comes with a model has longer than a visitor would wait, since other tests may keep the cores busy."""
    with pytest.MonkeyPatch.context() as patched:
        for seconds in ("data.chat_style.RENDER_SECONDS", "data.table_bounds.SECONDS", "mask.watched.SECONDS"):
            patched.setattr(f"sftdemo.{seconds}", 120.0)
        yield


@pytest.fixture(scope="session", autouse=True)
def sketches():
    """The plots of runs and studies are empty, except where a test is of them: to draw one takes longer than to train a
    tiny model."""
    with pytest.MonkeyPatch.context() as patched:
        for name in ("runs.folder.loss_svg", "study.report.losses_svg", "study.report.endings_svg"):
            patched.setattr(f"sftdemo.{name}", lambda _: '<svg xmlns="http://www.w3.org/2000/svg"/>')
        yield


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory) -> Path:
    from tiny import tiny_gpt2, tokenizer_named  # torch takes seconds, and who hands out the tests does without it

    tokenizer = tokenizer_named("gpt2")
    return _saved(tmp_path_factory.mktemp("models") / "tiny-gpt2", tiny_gpt2(tokenizer), tokenizer)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    from tiny import tiny_llama, tokenizer_named

    tokenizer = tokenizer_named("chatml")
    return _saved(tmp_path_factory.mktemp("models") / "tiny-llama", tiny_llama(tokenizer), tokenizer)


@pytest.fixture(scope="session")
def caches(tmp_path_factory) -> Iterator[Path]:
    """Folders that are not there yet."""
    place = tmp_path_factory.mktemp("caches")
    return (place / str(number) for number in count())


@pytest.fixture(autouse=True)
def own_cache(request, monkeypatch, caches):
    """No test sees, or leaves, a converted model in the user's cache. It is `tmp_path`'s, if the test has that."""
    has_folder = "tmp_path" in request.fixturenames  # making one takes as long as many a test
    folder = request.getfixturevalue("tmp_path") / "cache" if has_folder else next(caches)
    monkeypatch.setenv("SFTDEMO_CACHE", str(folder))


@pytest.fixture
def ui():
    """The page, wired, for all tests that leave it as it is."""
    from desk import shared_page  # Gradio takes seconds, and most tests do without it

    return shared_page()


@pytest.fixture
def values(ui, gpt2_folder):
    """The page's inputs for a short run of a tiny model."""
    from desk import tiny

    return lambda **changed: tiny(ui, gpt2_folder, **changed)
