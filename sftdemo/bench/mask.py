"""Measure what the mask costs: seconds next to the tokenizer alone, and memory as the number of rows grows."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, cast

from ..core.config import RunConfig
from ..core.environment import settle
from ..core.events import Phase
from ..data.chat import render_prompt
from ..data.examples import Example, read_examples
from ..data.messages import ASSISTANT, Message
from ..data.samples import SAMPLES
from ..data.templates import Template, template_of
from ..mask.audit import Audit
from ..mask.labels import Masker
from .figures import Stop, repetitions, seconds_of, spread
from .memory import memory_growth

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerBase

WARM_UP = 2000  # rows that are not timed: they fill the tokenizer's cache of words
BATCH = 1000  # rows that the library alone is given at once
PARALLELISM = "TOKENIZERS_PARALLELISM"


def synthetic_examples(rows: int) -> list[Example]:
    """Return different examples of about 130 tokens each, combined from the rows of the samples."""
    everything = [example for sample in SAMPLES for example in read_examples(sample.path).train]
    parts = [
        example for example in everything if example.instruction and len(example.input) < 200
    ]  # of about one length
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
    """Yield phases and, at the end, the seconds of each way, their ratios and the MB by which the process grows.

    The ways are the `tokenizers` library alone (`encode_batch` of the same texts, prompt and completion as one) and
    rendering, tokenising, masking and auditing. With a chat template, as many conversations of four turns are measured
    as well: rendered and tokenised once, and masked and audited. The memory of the examples and of the libraries is not
    counted.
    """
    template = template_of(config)
    texts = [render_prompt(example, template, tokenizer).text + example.completion for example in examples]

    def audit(count: int = len(examples)) -> Audit:
        return _audit(examples[:count], tokenizer, template, config)

    talks = conversations(examples) if tokenizer.chat_template else []
    settle()  # as `mask` does once it has read the rows
    parts = 2 + repeats  # of about the same length
    yield Phase("bench", "warming up", 0.0)
    _encode(texts[:WARM_UP], tokenizer)
    audit(WARM_UP)
    _audit(talks[:WARM_UP], tokenizer, template, config)
    memory = {}
    for count in (len(examples) // 4, len(examples)):
        yield Phase("bench", f"memory of {count:,} rows", 1 / parts)
        memory[count] = memory_growth(lambda count=count: audit(count))
    seconds: dict[str, list[float]] = {}
    for number in repetitions(repeats, stop):
        yield Phase("bench", f"repetition {number + 1} of {repeats}", (2 + number) / parts)
        ways: dict[str, Callable[[], object]] = {
            "tokenizers_alone": lambda: _encode(texts, tokenizer),
            "mask_and_audit": audit,
        }
        if talks:
            ways["conversations_rendered_once"] = lambda: _render(talks, tokenizer)
            ways["conversations_masked"] = lambda: _audit(talks, tokenizer, template, config)
        for name, way in ways.items():
            seconds.setdefault(name, []).append(seconds_of(way))
    medians = {name: median(each) for name, each in seconds.items()}
    ratios = {"mask_vs_tokenizers": medians["mask_and_audit"] / medians["tokenizers_alone"]}
    if talks:
        ratios["conversations_vs_rendered_once"] = (
            medians["conversations_masked"] / medians["conversations_rendered_once"]
        )
    yield {
        "rows": len(examples),
        "tokens": audit().tokens,
        "seconds": {name: spread(each) for name, each in seconds.items()},
        "memory_mb": memory,
        "ratios": {name: round(ratio, 3) for name, ratio in ratios.items()},
    }


def conversations(examples: list[Example]) -> list[Example]:
    """Return as many conversations, each of the turns of two examples."""

    def turns(example: Example) -> tuple[Message, Message]:
        asked = "\n\n".join(filter(None, [example.prompt, example.instruction, example.input]))
        return Message("user", asked), Message(ASSISTANT, example.completion)

    pairs = zip(examples, [*examples[1:], examples[0]], strict=True)
    return [
        Example(first.row, messages=(*turns(first), turns(second)[0]), answer=turns(second)[1])
        for first, second in pairs
    ]


@contextmanager
def _threads_of_its_own() -> Generator[None]:
    """Let the `tokenizers` library encode with as many threads as it chooses, which `prepare` has turned off."""
    kept = os.environ.pop(PARALLELISM, None)
    try:
        yield
    finally:
        if kept is not None:
            os.environ[PARALLELISM] = kept


def _render(talks: list[Example], tokenizer: PreTrainedTokenizerBase) -> None:
    for begin in range(0, len(talks), BATCH):
        texts = []
        for talk in talks[begin : begin + BATCH]:
            turns = [*talk.messages, *([talk.answer] if talk.answer else [])]
            records = [{"role": turn.role, "content": turn.text} for turn in turns]
            texts.append(tokenizer.apply_chat_template(records, tokenize=False))
        _encode(texts, tokenizer)


def _encode(texts: list[str], tokenizer: PreTrainedTokenizerBase) -> None:
    backend = cast("Tokenizer", tokenizer.backend_tokenizer)
    with _threads_of_its_own():
        for begin in range(0, len(texts), BATCH):
            backend.encode_batch(texts[begin : begin + BATCH], add_special_tokens=False)


def _audit(examples: list[Example], tokenizer, template: Template, config: RunConfig) -> Audit:
    audit = Audit(config.batch_size, config.max_length)
    for _ in audit.review(examples, Masker(tokenizer, template, config.max_length)):
        pass
    audit.findings()
    return audit
