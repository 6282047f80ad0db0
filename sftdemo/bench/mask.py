"""Measures what the mask costs: seconds against the tokenizer alone, and memory as the rows grow. Ratios of one run."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from statistics import median
from typing import TYPE_CHECKING

from ..audit import Audit
from ..config import RunConfig
from ..events import Phase
from ..examples import Example, Problem, read_examples
from ..samples import SAMPLES
from ..templates import Template, get_template, render_prompt
from ..tokenization import CHUNK, mask_examples

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

WARM_UP = 2000  # rows that are not timed: they fill the tokenizer's cache of words


@dataclass(frozen=True)
class MaskBench:
    """What was measured, all in one process, the arms by turns.

    Args:
        rows, tokens (`int`):
            Of the examples.
        raw_seconds (`tuple[float, ...]`):
            The `tokenizers` library alone: `encode_batch` of the same texts, prompt and completion as one.
        mask_seconds (`tuple[float, ...]`):
            Rendering, tokenising, masking and auditing them.
        ratio (`float`):
            The median of the second by that of the first.
        growth (`dict[int, float]`):
            MB by which the process grew at most while so many rows went through, the examples themselves and the
            libraries not counted.
    """

    rows: int
    tokens: int
    raw_seconds: tuple[float, ...]
    mask_seconds: tuple[float, ...]
    ratio: float
    growth: dict[int, float]
    machine: str

    def to_dict(self) -> dict:
        """The measurement as JSON can hold it."""
        return asdict(self)


def made_examples(rows: int) -> list[Example]:
    """Examples of about 130 tokens, none like another, made of the samples' rows."""
    parts = [example for sample in SAMPLES for example in read_examples(sample.path).train]
    return [
        Example(
            row,
            completion=" ".join(parts[(row * 7 + i) % len(parts)].completion for i in range(4)),
            instruction=f"{parts[row % len(parts)].instruction} ({row})",
            input=" ".join(parts[(row * 3 + i) % len(parts)].completion for i in range(3)),
        )
        for row in range(rows)
    ]


def bench_mask(
    examples: list[Example], tokenizer: PreTrainedTokenizerBase, config: RunConfig, repeats: int
) -> Iterator[Phase | MaskBench]:
    """Says what it does, and at the end yields the `MaskBench`."""
    template = get_template(config.template, config.turns)
    texts = [render_prompt(example, template, tokenizer).text + example.completion for example in examples]

    def look_over(count: int) -> Audit:
        return _looked_over(examples[:count], tokenizer, template, config)

    yield Phase("bench", "Warming up")
    for work in (lambda: _encode(texts[:WARM_UP], tokenizer), lambda: look_over(WARM_UP)):
        work()
    growth = {}
    for count in (len(examples) // 4, len(examples)):
        yield Phase("bench", f"Memory of {count:,} rows")
        growth[count] = _growth(lambda count=count: look_over(count))
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in range(repeats):
        yield Phase("bench", f"Repetition {number + 1} of {repeats}", number / repeats)
        seconds[0].append(_timed(lambda: _encode(texts, tokenizer)))
        seconds[1].append(_timed(lambda: look_over(len(examples))))
    yield MaskBench(
        rows=len(examples),
        tokens=look_over(len(examples)).tokens,
        raw_seconds=tuple(round(s, 3) for s in seconds[0]),
        mask_seconds=tuple(round(s, 3) for s in seconds[1]),
        ratio=round(median(seconds[1]) / median(seconds[0]), 3),
        growth=growth,
        machine=f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    )


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
    for begin in range(0, len(texts), CHUNK):
        tokenizer.backend_tokenizer.encode_batch(texts[begin : begin + CHUNK], add_special_tokens=False)


def _looked_over(examples: list[Example], tokenizer, template: Template, config: RunConfig) -> Audit:
    audit = Audit(config.batch_size, config.max_length)
    masked = mask_examples(examples, tokenizer, template, config.max_length)
    for example, row in zip(examples, masked, strict=True):
        if not isinstance(row, Problem):
            audit.add(example, row)
    audit.findings()
    return audit


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _growth(work: Callable[[], object]) -> float:
    """MB by which the process grew at most while `work` went on, looked at every 10 ms."""
    import psutil

    process, done = psutil.Process(), threading.Event()
    before = peak = process.memory_info().rss

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.01):
            peak = max(peak, process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        work()
    finally:
        done.set()
        watcher.join()
    return round((peak - before) / 1e6, 1)
