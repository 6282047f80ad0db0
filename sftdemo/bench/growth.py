"""Measure how the cost of a step grows with tokens per row, rows, LoRA rank, model size and length of packed rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch

from ..core.config import RunConfig
from ..core.events import Phase
from ..core.held import scratch_folder
from ..mask.labels import IGNORE_INDEX, MaskedExample
from .arms import alternating_arms
from .figures import Stop, spread
from .recipes import Subject, masked_trainer, random_llama

ROWS, TOKENS, RANK = 8, 64, 16  # the constant values while another one grows
# hidden, intermediate, layers, heads, key-value heads of about 30 and 360 million weights; the second is the shape of
# SmolLM2-360M. The default model has 135 million.
SHAPES = {"30M": (256, 768, 12, 4, 2), "360M": (960, 2560, 32, 15, 5)}
AXES = {"tokens a row": "tokens", "rows": "rows", "LoRA rank": "rank", "model": "size", "packed length": "packed"}
ALL_POINTS = {
    "tokens a row": (32, 64, 128, 256, 512),
    "rows": (2, 4, 8, 16, 32),
    "LoRA rank": (1, 4, 16, 64),
    "model": ("30M", "135M", "360M"),
    "packed length": (128, 512, 1024, 2048),
}
FEW_POINTS = {
    "tokens a row": (32, 64, 128),
    "rows": (2, 8, 16),
    "LoRA rank": (1, 16, 64),
    "model": ("30M", "135M"),
    "packed length": (128, 2048),
}


@dataclass(frozen=True)
class Point:
    """A training step whose cost is measured.

    Args:
        rows, tokens, rank (`int`):
            Rows per batch, tokens per row and LoRA rank.
        size (`str`, *optional*, defaults to `"135M"`):
            The default model, or a key of `SHAPES`.
        packed (`int`, *optional*, defaults to 0):
            The length of packed rows, or 0 without packing.
    """

    rows: int = ROWS
    tokens: int = TOKENS
    rank: int = RANK
    size: str = "135M"
    packed: int = 0


def bench_growth(
    subject: Subject, steps: int = 3, points: dict[str, Sequence] = ALL_POINTS, stop: Stop = lambda: False
) -> Iterator[Phase | list[dict]]:
    """Yield phases and, at the end, a row for each point with its "axis", "value", "tokens", "seconds" and "memory_mb".

    Each point is timed over `steps` steps after one that is not timed. A point that lies on several axes is measured
    once. Once `stop` returns True, no further point is measured.
    """
    grid = [(axis, value, Point(**{AXES[axis]: value})) for axis, values in points.items() for value in values]
    wanted = list(dict.fromkeys(point for *_, point in grid))
    found: dict[Point, dict] = {}
    for number, point in enumerate(wanted):
        if found and stop():
            break
        axis, value = next((axis, value) for axis, value, each in grid if each == point)
        yield Phase("bench", f"{axis}: {value}", number / len(wanted))
        found[point] = _measure(subject, point, steps)
    yield [{"axis": axis, "value": value} | found[point] for axis, value, point in grid if point in found]


def _measure(subject: Subject, point: Point, steps: int) -> dict:
    packed = point.packed
    count = 2048 // TOKENS if packed else point.rows  # always 2,048 tokens, in ever longer packed rows
    config = RunConfig(
        steps=100,
        batch_size=2048 // packed if packed else point.rows,
        lora_r=point.rank,
        packing=bool(packed),
        max_length=packed or 512,
        device=subject.device,
    )
    vocabulary = len(subject.tokenizer)
    model = subject.model() if point.size == "135M" else random_llama(vocabulary, *SHAPES[point.size])
    torch.nn.Module.to(model, subject.device)  # transformers' own loses its first parameter to type checkers
    examples = _examples(count, point.tokens, vocabulary)
    with scratch_folder() as folder:
        builder = {"ours": lambda: masked_trainer(model, subject.tokenizer, examples, config, folder)}
        with alternating_arms(builder) as arms:
            for _ in range(1 + steps):
                arms["ours"].step()
            seconds = spread(arms["ours"].seconds[1:])
            return {"tokens": count * point.tokens, "seconds": seconds, "memory_mb": arms["ours"].memory()}


def _examples(rows: int, tokens: int, vocabulary: int) -> list[MaskedExample]:
    """Return rows of random tokens without common beginnings. The second half of each is trained."""
    random, half = Random(0), tokens // 2
    examples = []
    for row in range(rows):
        ids = tuple(random.randrange(vocabulary) for _ in range(tokens))
        labels = (IGNORE_INDEX,) * half + ids[half:]
        examples.append(MaskedExample(row, ids, labels, (), ()))
    return examples
