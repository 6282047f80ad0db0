"""The default model for the tests that need it: fetched once into the user's cache, everything else kept out of it."""

import os
from pathlib import Path

from sftdemo.core.config import DEFAULT_MODEL
from sftdemo.core.files import cache_folder
from sftdemo.model.sources import resolve


def private_cache(folder: Path) -> Path:
    """A cache folder for one test session that shares the fetched models and tools with the user's own."""
    for _ in resolve(DEFAULT_MODEL):
        pass
    for name in ("models", "tools"):
        own = cache_folder() / name
        own.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(own.resolve())
    return folder


def environment(cache: Path, **more: str) -> dict[str, str]:
    return os.environ | {"SFTDEMO_CACHE": str(cache)} | more
