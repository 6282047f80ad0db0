"""Measure what the mask costs: seconds next to the tokenizer alone, and memory as the number of rows grows."""

from __future__ import annotations

from collections.abc import Iterator
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
from .figures import Stop, repetitions, seconds_of, spread
from .memory import memory_growth

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

WARM_UP = 2000  # rows that are not timed: they fill the tokenizer's cache of words


def synthetic_examples(rows: int) -> list[Example]:
    """Return different examples of about 130 tokens each, combined from the rows of the samples."""
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
    """Yield phases and, at the end, the seconds of two ways, their ratio and the MB by which the process grows.

    The ways are the `tokenizers` library alone (`encode_batch` of the same texts, prompt and completion as one) and
    rendering, tokenising, masking and auditing. The memory of the examples and of the libraries is not counted.
    """
    template = template_of(config)
    texts = [render_prompt(example, template, tokenizer).text + example.completion for example in examples]

    def audit(count: int = len(examples)) -> Audit:
        return _audit(examples[:count], tokenizer, template, config)

    parts = 2 + repeats  # of about the same length
    yield Phase("bench", "warming up", 0.0)
    _encode(texts[:WARM_UP], tokenizer)
    audit(WARM_UP)
    memory = {}
    for count in (len(examples) // 4, len(examples)):
        yield Phase("bench", f"memory of {count:,} rows", 1 / parts)
        memory[count] = memory_growth(lambda count=count: audit(count))
    alone, ours = [], []
    for number in repetitions(repeats, stop):
        yield Phase("bench", f"repetition {number + 1} of {repeats}", (2 + number) / parts)
        alone.append(seconds_of(lambda: _encode(texts, tokenizer)))
        ours.append(seconds_of(audit))
    yield {
        "rows": len(examples),
        "tokens": audit().tokens,
        "seconds": {"tokenizers_alone": spread(alone), "mask_and_audit": spread(ours)},
        "memory_mb": memory,
        "ratios": {"mask_vs_tokenizers": round(median(ours) / median(alone), 3)},
    }


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
    backend = cast("Tokenizer", tokenizer.backend_tokenizer)
    for begin in range(0, len(texts), CHUNK):
        backend.encode_batch(texts[begin : begin + CHUNK], add_special_tokens=False)


def _audit(examples: list[Example], tokenizer, template: Template, config: RunConfig) -> Audit:
    audit = Audit(config.batch_size, config.max_length)
    for _ in audit.review(examples, Masker(tokenizer, template, config.max_length)):
        pass
    audit.findings()
    return audit
