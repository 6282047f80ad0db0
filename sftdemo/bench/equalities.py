"""What must be equal, checked on a small model of random weights in float64, where rounding does not hide a mistake.

With gradient descent: TRL computes its loss in float32 all the same, and where a gradient is nothing but rounding AdamW
makes a whole step of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ..core.config import RunConfig
from ..core.events import Phase
from ..runs.isolation import reach
from .arms import by_turns
from .recipes import TEMPLATES, Subject, ours, scratch, stock

STEPS = 10
LOSSES, WEIGHTS, ISOLATION = 1e-4, 1e-6, 1e-6  # the most that may differ: relative, absolute, in nats


def bench_equalities(subject: Subject, templates: Sequence[str] = TEMPLATES) -> Iterator[Phase | dict]:
    """Phases, and at the end, for each template, LoRA and full: how far losses and weights are from TRL's after
    `STEPS` steps; how far packed examples reach into each other; and whether all of it is within limits."""
    found = {}
    for template in templates:
        for full in (False, True):
            config = RunConfig(template=template, full=full, steps=STEPS, learning_rate=0.1, device="cpu")
            name = f"{template}_{'full' if full else 'lora'}"
            yield Phase("bench", name, len(found) / (2 * len(templates) + 1))
            found[name] = _difference(subject, config)
    yield Phase("bench", "isolation", len(found) / (len(found) + 1))
    row = subject.examples(RunConfig())[:8]
    isolation, _ = reach(_small_model(subject).eval(), subject.tokenizer, row, "bfd")
    equal = all(each["losses_relative"] <= LOSSES and each["weights_absolute"] <= WEIGHTS for each in found.values())
    yield {"differences": found, "isolation_nats": isolation, "equal": equal and isolation <= ISOLATION}


def _difference(subject: Subject, config: RunConfig) -> dict[str, float]:
    examples = subject.examples(config)
    with scratch() as folder:
        models = {
            name: (_small_model(subject), subject.tokenizer, examples, config, folder) for name in ("ours", "trl")
        }
        makers = {
            "ours": lambda: ours(*models["ours"], optimizer="sgd"),
            "trl": lambda: stock(*models["trl"], optimizer="sgd"),
        }
        with by_turns(makers) as arms:
            for _ in range(STEPS):
                for arm in arms.values():
                    arm.step()
            return arms["ours"].difference(arms["trl"])


def _small_model(subject: Subject) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(subject.tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    return LlamaForCausalLM(config).double()
