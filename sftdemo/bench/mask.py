"""Measures what the mask costs: seconds against the tokenizer alone, and memory as the rows grow. Ratios of one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import TYPE_CHECKING, cast

from ..core.config import RunConfig
from ..core.events import Phase
from ..data.chat import render_prompt
from ..data.examples import Example, read_examples
from ..data.samples import SAMPLES
from ..data.templates import Template, template_of
from ..mask.audit import Audit
from ..mask.labels import CHUNK, Masker
from .figures import Stop, repetitions, spread
from .memory import growth as growth_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

WARM_UP = 2000  # rows that are not timed: they fill the tokenizer's cache of words


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
    examples: list[Example],
    tokenizer: PreTrainedTokenizerBase,
    config: RunConfig,
    repeats: int,
    stop: Stop = lambda: False,
) -> Iterator[Phase | dict]:
    """Phases, and at the end the seconds of two ways and their ratio: the `tokenizers` library alone (`encode_batch` of
    the same texts, prompt and completion as one), and rendering, tokenising, masking and auditing them. And the MB that
    the process grows by, the examples themselves and the libraries not counted."""
    template = template_of(config)
    texts = [render_prompt(example, template, tokenizer).text + example.completion for example in examples]

    def look_over(count: int) -> Audit:
        return _looked_over(examples[:count], tokenizer, template, config)

    parts = 2 + repeats  # of about the same length
    yield Phase("bench", "warming up", 0.0)
    for work in (lambda: _encode(texts[:WARM_UP], tokenizer), lambda: look_over(WARM_UP)):
        work()
    growth = {}
    for count in (len(examples) // 4, len(examples)):
        yield Phase("bench", f"memory of {count:,} rows", 1 / parts)
        growth[count] = growth_of(lambda count=count: look_over(count))
    seconds: tuple[list[float], list[float]] = ([], [])
    for number in repetitions(repeats, stop):
        yield Phase("bench", f"repetition {number + 1} of {repeats}", (2 + number) / parts)
        seconds[0].append(_timed(lambda: _encode(texts, tokenizer)))
        seconds[1].append(_timed(lambda: look_over(len(examples))))
    yield {
        "rows": len(examples),
        "tokens": look_over(len(examples)).tokens,
        "seconds": {"tokenizers_alone": spread(seconds[0]), "mask_and_audit": spread(seconds[1])},
        "memory_mb": growth,
        "ratios": {"mask_vs_tokenizers": round(median(seconds[1]) / median(seconds[0]), 3)},
    }


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
    backend = cast("Tokenizer", tokenizer.backend_tokenizer)
    for begin in range(0, len(texts), CHUNK):
        backend.encode_batch(texts[begin : begin + CHUNK], add_special_tokens=False)


def _looked_over(examples: list[Example], tokenizer, template: Template, config: RunConfig) -> Audit:
    audit = Audit(config.batch_size, config.max_length)
    for _ in audit.review(examples, Masker(tokenizer, template, config.max_length)):
        pass
    audit.findings()
    return audit


def _timed(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin
