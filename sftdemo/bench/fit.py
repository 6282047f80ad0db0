"""Measure the peak memory of training larger models, beside what is told of it before a training begins."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, NamedTuple, cast

from ..core.config import RunConfig
from ..core.events import Phase
from ..core.held import scratch_folder
from ..core.machine import free_memory
from ..data.examples import read_examples
from ..data.samples import SAMPLES
from ..model.sources import ModelSource
from ..runs.memory import needed_bytes
from .figures import Stop
from .processes import process_tree, python_process
from .recipes import Subject, random_llama

if TYPE_CHECKING:
    import psutil
    from transformers import PreTrainedTokenizerBase

STEPS = 2


class Size(NamedTuple):
    """The shape of a model, as `random_llama` takes it."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_value_heads: int


# Qwen2.5-0.5B's and Llama-3.2-1B's, by their config.json
SIZES = {"0.5B": Size(151_936, 896, 4864, 24, 14, 2), "1B": Size(128_256, 2048, 8192, 16, 32, 8)}


def bench_fit(subject: Subject, sizes: dict[str, Size] = SIZES, stop: Stop = lambda: False) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, {"models", "ratios"}: for each size its "size" and "weights", the "told_gb" of a
    LoRA training of the first sample on the CPU, the "taken_gb", and the "seconds" of the whole program. It needs 3 GB
    of disk, and memory for the largest model.

    Once `stop` returns True, no further size is measured.

    Raises:
        RuntimeError: if a training fails, with its error output.
    """
    models = []
    for number, (name, size) in enumerate(sizes.items()):
        if models and stop():
            break
        yield Phase("bench", f"a model of {name}", number / len(sizes))
        with scratch_folder() as folder:
            models.append({"size": name} | _measure(subject, size, Path(folder)))
    ratios = {f"fit_{each['size']}_taken_vs_told": round(each["taken_gb"] / each["told_gb"], 3) for each in models}
    yield {"models": models, "ratios": ratios}


def _measure(subject: Subject, size: Size, folder: Path) -> dict:
    source, weights = _write(size, subject.tokenizer, folder / "model")
    config = RunConfig(model=str(source.folder), steps=STEPS, max_new_tokens=1, device="cpu")
    rows = replace(subject, data=read_examples(SAMPLES[0].path)).examples(config)
    told = cast("int", needed_bytes(config, source, rows, "cpu", free_memory()))
    words = {"model": source.folder, "steps": STEPS, "max-new-tokens": 1, "device": "cpu", "output": folder / "run"}
    begin = time.perf_counter()
    taken = _peak(
        "train", str(SAMPLES[0].path), *(word for name, value in words.items() for word in (f"--{name}", str(value)))
    )
    return {
        "weights": weights,
        "told_gb": round(told / 1e9, 2),
        "taken_gb": round(taken / 1e9, 2),
        "seconds": round(time.perf_counter() - begin, 1),
    }


def _write(size: Size, tokenizer: PreTrainedTokenizerBase, folder: Path) -> tuple[ModelSource, int]:
    """Save a model of random weights in bf16, as models are published; return it and how many weights it has."""
    model = random_llama(*size).bfloat16()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return ModelSource(folder.name, folder, "random weights"), model.num_parameters()


def _peak(*arguments: str) -> int:
    """Return how many bytes this program's processes held at most, read every 20 ms. On Linux, pages of files are left
    out: the system takes them back where it needs them."""
    import psutil

    peak = 0
    with (
        TemporaryFile("w+", encoding="utf-8") as told,  # a pipe that is full would stop the program
        python_process(["-m", "sftdemo", *arguments], stdout=subprocess.DEVNULL, stderr=told) as process,
    ):
        while process.poll() is None:
            with suppress(psutil.NoSuchProcess):  # it may end meanwhile
                peak = max(peak, sum(map(_held, process_tree(process.pid))))
            time.sleep(0.02)
        if process.returncode:
            told.seek(0)
            raise RuntimeError(f"training failed: {told.read()}")
    return peak


def _held(process: psutil.Process) -> int:
    import psutil

    memory = process.memory_info()
    return memory.rss - memory.shared if psutil.LINUX else memory.rss
