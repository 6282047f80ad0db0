"""Fetch models and load their tokenizers, for all visitors of the page."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from functools import lru_cache, partial
from pathlib import Path

from ..core.config import DEFAULT_MODEL
from ..core.errors import ModelError
from ..core.events import Failed, Phase
from ..core.streams import Relay
from ..model.devices import choose_device, describe_device
from ..model.loading import effective_max_length, load_tokenizer, stop_ids
from ..model.sources import (
    ModelSource,
    check_weights,
    find_converted_tokenizer,
    find_local,
    find_tokenizer,
    path_of,
    resolve_tokenizer,
)
from ..runs.jobs import Job
from ..runs.run import fetch
from .places import told


class Models:
    """The models of the server, with one fetch of each for all visitors who wait for it."""

    def __init__(self):
        self._fetches: dict[tuple[str, bool], Job] = {}
        self._tokenizers: dict[str, ModelSource] = {}
        self._lock = threading.Lock()

    def prepare(self, name: str) -> Iterator[Phase]:
        """Fetch a model's tokenizer, load it and yield the progress. One fetch serves all visitors who wait for it.

        Raises:
            ModelError: if it cannot be fetched.
        """
        yield Phase("model", f"Looking for {name}")
        with IMPORTS:
            is_there = self.source(name) is not None
        if not is_there:
            yield from self._fetch(name, weights=False)
        yield Phase("model", "Loading the tokenizer")
        with IMPORTS:
            self.tokenizer(name)

    def fetch_weights(self, name: str) -> Iterator[Phase]:
        """Fetch the weights of a model on the Hub, of which the mask needs the tokenizer only, and yield the progress.

        Raises:
            ModelError: if they cannot be fetched, or if there are none.
        """
        check_weights(name)
        if not path_of(name).exists() and find_local(name) is None:
            yield from self._fetch(name, weights=True)

    def _fetch(self, name: str, weights: bool) -> Iterator[Phase]:
        whole = weights or name == DEFAULT_MODEL  # which is fetched as a whole
        with self._lock:
            job = self._fetches.get((name, whole))
            if job is None or job.done:
                if not weights:
                    self._tokenizers.pop(name, None)
                job = self._fetches[name, whole] = Job(partial(fetch, name, weights=whole))
        for events in job.watch():
            last = events[-1] if events else None
            if isinstance(last, Failed) and (weights or find_tokenizer(name) is None):
                raise ModelError(last.message)
            if isinstance(last, Phase):
                yield told(last)
            if not weights and find_converted_tokenizer(name) is not None:
                break  # the weights follow
        if not weights and (found := find_tokenizer(name)) is not None:
            self._tokenizers[name] = found

    def source(self, name: str) -> ModelSource | None:
        """Return the model called `name`, or its tokenizer alone, if it is on this disk, else None. A tokenizer in the
        Hub's cache counts once `prepare` has seen all its files arrive."""
        found = find_local(name)
        if found is None and path_of(name).exists():
            return find_tokenizer(name)
        return self._tokenizers.get(name) if found is None else found

    def tokenizer(self, name: str):
        """Return the tokenizer of a model that is prepared, as its files are now."""
        source = self._prepared(name)
        return _tokenizer(source, _stamps(source))

    def _prepared(self, name: str) -> ModelSource:
        source = self.source(name)
        if source is None:
            raise ModelError(f"{name} is not ready yet.")
        return source

    def prepare_tokenizer(self, name: str) -> Generator[Phase, None, ModelSource]:
        """Fetch the tokenizer of a model without its weights, yield the progress and return the `ModelSource`.

        Raises:
            ModelError: if it cannot be fetched.
        """
        with IMPORTS:
            import_libraries()
        found = Relay(resolve_tokenizer(name))
        yield from map(told, found)
        return found.result

    def stamps(self, name: str) -> Stamps:
        """Return the files that the tokenizer of a prepared model is made of, as they are now.

        Raises:
            ModelError: if a file goes away meanwhile.
        """
        return _stamps(self._prepared(name))

    def stop_ids(self, name: str) -> frozenset[int]:
        """The ids at which a model that is prepared stops by its own settings."""
        return stop_ids(self._prepared(name))

    def max_length(self, name: str, max_length: int) -> int:
        """Return the `max_length` that the trainer will use: no more than the model has positions."""
        return effective_max_length(max_length, self._prepared(name))

    def describe(self, name: str) -> str:
        """Return the name of the model and which copy of it is used."""
        return f"{name} · {self._prepared(name).copy}"

    def device(self, device: str) -> str:
        """Describe the device that the model will be trained on.

        Raises:
            ModelError: for a device that this machine does not have.
        """
        with IMPORTS:
            return describe_device(choose_device(device))


# transformers imports its names lazily, and two threads that ask for the first one at once make it fail with "cannot
# import name 'AutoTokenizer'". So the first visitors import one after the other.
IMPORTS = threading.Lock()


def import_libraries() -> None:
    """Import what the mask of a local model does not need. It takes seconds."""
    import torch  # noqa: F401
    from transformers import AutoConfig, AutoTokenizer  # noqa: F401


Stamps = tuple[tuple[str, int, int], ...]


def _stamps(source: ModelSource) -> Stamps:
    """Return the name, size and time of each small file of a model: a folder may be written anew under its path.

    Raises:
        ModelError: if a file goes away meanwhile.
    """
    folders = [each.folder for each in (source, source.base) if each is not None]
    try:
        files = [path for folder in folders for path in sorted(folder.iterdir()) if path.suffix in _OF_TOKENIZERS]
        return tuple((str(path), *stamp_of(path)) for path in files)
    except OSError as error:
        raise ModelError(f"{source.name} cannot be read: {error.strerror or error}. Try again.") from error


def stamp_of(path: Path) -> tuple[int, int]:
    """Return the size of a file, and the nanoseconds at which it was changed.

    Raises:
        OSError: if it cannot be read.
    """
    stat = path.stat()
    return stat.st_size, stat.st_mtime_ns


_OF_TOKENIZERS = (".json", ".txt", ".jinja", ".model")


@lru_cache(maxsize=4)
def _tokenizer(source: ModelSource, stamps: Stamps):
    """`stamps` is there for the cache."""
    return load_tokenizer(source)
