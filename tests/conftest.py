"""Fixtures of all tests: tiny models in folders, and a cache of their own. Nothing is downloaded.

`pytest --cases 5000` has every property tried on so many cases, in place of 300.
"""

from __future__ import annotations

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # before anything that reads it is imported

import pytest
from hypothesis import HealthCheck, settings

from sftdemo.core.environment import prepare

prepare()

from tiny import tiny_gpt2, tiny_llama, tokenizer_named  # noqa: E402


def pytest_addoption(parser):
    parser.addoption("--cases", type=int, default=300, metavar="N", help="cases that each property is tried on")


def pytest_configure(config):
    """The same cases every time, so that a red test stays red; `own_cache` is made anew once a test, not a case."""
    settings.register_profile(
        "sftdemo",
        max_examples=config.getoption("--cases"),
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )
    settings.load_profile("sftdemo")


def _saved(folder: Path, model, tokenizer) -> Path:
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def gpt2_folder(tmp_path_factory) -> Path:
    tokenizer = tokenizer_named("gpt2")
    return _saved(tmp_path_factory.mktemp("models") / "tiny-gpt2", tiny_gpt2(tokenizer), tokenizer)


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory) -> Path:
    tokenizer = tokenizer_named("chatml")
    return _saved(tmp_path_factory.mktemp("models") / "tiny-llama", tiny_llama(tokenizer), tokenizer)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test sees, or leaves, a converted model in the user's cache."""
    monkeypatch.setenv("SFTDEMO_CACHE", str(tmp_path / "cache"))


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
