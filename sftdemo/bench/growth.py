"""How the cost of a step grows: over tokens a row, rows, LoRA's rank, the model's size, the length of packed rows."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ..core.config import RunConfig
from ..core.events import Phase
from ..mask.labels import IGNORE_INDEX, MaskedExample
from .arms import by_turns
from .figures import spread
from .recipes import Subject, ours, scratch

STEPS = 3  # after one that is not timed
ROWS, TOKENS, RANK = 8, 64, 16  # what stays while one thing grows
# hidden, intermediate, layers, heads, key-value heads: about 30 and 360 million weights (the second is SmolLM2-360M's
# shape) beside the default model's 135 million
SHAPES = {"30M": (256, 768, 12, 4, 2), "360M": (960, 2560, 32, 15, 5)}
GRID = (
    *(("tokens a row", tokens, {"tokens": tokens}) for tokens in (32, 64, 128, 256, 512)),
    *(("rows", rows, {"rows": rows}) for rows in (2, 4, 8, 16, 32)),
    *(("LoRA rank", rank, {"rank": rank}) for rank in (1, 4, 16, 64)),
    *(("model", size, {"size": size}) for size in ("30M", "135M", "360M")),
    *(("packed length", length, {"packed": length}) for length in (128, 512, 1024, 2048)),
)


def bench_growth(subject: Subject) -> Iterator[Phase | list[dict]]:
    """Phases, and at the end a row for each point: what grows, its value, positions, seconds a step and MB."""
    found = []
    for number, (axis, value, point) in enumerate(GRID):
        yield Phase("bench", f"growth: {axis} {value}", number / len(GRID))
        found.append({"axis": axis, "value": value} | _measured(subject, **point))
    yield found


def _measured(
    subject: Subject, rows: int = ROWS, tokens: int = TOKENS, rank: int = RANK, size: str = "135M", packed: int = 0
) -> dict:
    count = 2048 // TOKENS if packed else rows  # the same 2,048 tokens, in packed rows of more and more
    batch = 2048 // packed if packed else rows
    config = RunConfig(
        steps=100, batch_size=batch, lora_r=rank, packing=bool(packed), max_length=packed or 512, device="cpu"
    )
    model = subject.model() if size == "135M" else _model(size, len(subject.tokenizer))
    examples = _examples(count, tokens, len(subject.tokenizer))
    with scratch() as folder:
        maker = {"ours": lambda: ours(model, subject.tokenizer, examples, config, folder)}
        with by_turns(maker) as arms:
            for _ in range(1 + STEPS):
                arms["ours"].step()
            seconds = spread(arms["ours"].seconds[1:])
            return {"tokens": count * tokens, "seconds": seconds, "memory_mb": arms["ours"].memory()}


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
            cut=0,
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
