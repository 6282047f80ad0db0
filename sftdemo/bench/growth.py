"""How the cost of a step grows: over tokens a row, rows, LoRA's rank, the model's size, the length of packed rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ..core.config import RunConfig
from ..core.events import Phase
from ..mask.labels import IGNORE_INDEX, MaskedExample
from .arms import by_turns
from .figures import Stop, spread
from .recipes import Subject, ours, scratch

ROWS, TOKENS, RANK = 8, 64, 16  # what stays while one thing grows
# hidden, intermediate, layers, heads, key-value heads: about 30 and 360 million weights (the second is SmolLM2-360M's
# shape) beside the default model's 135 million
SHAPES = {"30M": (256, 768, 12, 4, 2), "360M": (960, 2560, 32, 15, 5)}
AXES = {
    "tokens a row": "tokens",
    "rows": "rows",
    "LoRA rank": "rank",
    "model": "size",
    "packed length": "packed",
}
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
    """A training step whose cost is measured. `packed` is the length of the rows with packing, 0 without it."""

    rows: int = ROWS
    tokens: int = TOKENS
    rank: int = RANK
    size: str = "135M"
    packed: int = 0


def bench_growth(
    subject: Subject, steps: int = 3, points: dict[str, Sequence] = ALL_POINTS, stop: Stop = lambda: False
) -> Iterator[Phase | list[dict]]:
    """Phases, and at the end a row for each point: what grows, its value, positions, seconds of so many steps after one
    that is not timed, and MB. What is the same point on several axes is measured once. Once `stop` is true, no further
    point is measured."""
    grid = [(axis, value, Point(**{AXES[axis]: value})) for axis, values in points.items() for value in values]
    wanted = list(dict.fromkeys(point for *_, point in grid))
    found: dict[Point, dict] = {}
    for number, point in enumerate(wanted):
        if found and stop():
            break
        axis, value = next((axis, value) for axis, value, each in grid if each == point)
        yield Phase("bench", f"{axis}: {value}", number / len(wanted))
        found[point] = _measured(subject, point, steps)
    yield [{"axis": axis, "value": value} | found[point] for axis, value, point in grid if point in found]


def _measured(subject: Subject, point: Point, steps: int) -> dict:
    packed = point.packed
    count = 2048 // TOKENS if packed else point.rows  # the same 2,048 tokens, in packed rows of more and more
    config = RunConfig(
        steps=100,
        batch_size=2048 // packed if packed else point.rows,
        lora_r=point.rank,
        packing=bool(packed),
        max_length=packed or 512,
        device="cpu",
    )
    model = subject.model() if point.size == "135M" else _model(point.size, len(subject.tokenizer))
    examples = _examples(count, point.tokens, len(subject.tokenizer))
    with scratch() as folder:
        maker = {"ours": lambda: ours(model, subject.tokenizer, examples, config, folder)}
        with by_turns(maker) as arms:
            for _ in range(1 + steps):
                arms["ours"].step()
            seconds = spread(arms["ours"].seconds[1:])
            return {"tokens": count * point.tokens, "seconds": seconds, "memory_mb": arms["ours"].memory()}


def _examples(rows: int, tokens: int, vocabulary: int) -> list[MaskedExample]:
    """Rows of random tokens that share nothing, the second half of each trained."""
    random = Random(0)
    drawn = [tuple(random.randrange(vocabulary) for _ in range(tokens)) for _ in range(rows)]
    half = tokens // 2
    return [
        MaskedExample(
            row=row,
            input_ids=ids,
            labels=(IGNORE_INDEX,) * half + ids[half:],
            cut_labels=(),
            flags=(),
        )
        for row, ids in enumerate(drawn)
    ]


def _model(size: str, vocabulary: int) -> LlamaForCausalLM:
    hidden, intermediate, layers, heads, key_value_heads = SHAPES[size]
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            tie_word_embeddings=True,
        )
    )
