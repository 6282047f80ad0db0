"""Check what must be equal, on a small model of random weights in float64, where rounding does not hide a mistake.

The optimizer is plain gradient descent: TRL computes its loss in float32 even so, and AdamW would make a whole step of
a gradient that is nothing but rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from transformers import LlamaForCausalLM

from ..core.config import RunConfig
from ..core.events import Phase
from ..core.held import scratch_folder
from ..runs.isolation import reach
from .arms import alternating_arms
from .recipes import TEMPLATES, Subject, masked_trainer, random_llama, trl_trainer

STEPS = 10
LOSSES, WEIGHTS, ISOLATION = 1e-4, 1e-6, 1e-6  # the most that may differ: relative, absolute, in nats


def bench_equalities(subject: Subject, templates: Sequence[str] = TEMPLATES) -> Iterator[Phase | dict]:
    """Yield phases and, at the end, how far losses and weights are from TRL's after `STEPS` steps under each template
    with LoRA and full fine-tuning, how many nats packed examples change each other by, and whether everything is within
    its limit."""
    found = {}
    for template in templates:
        for full in (False, True):
            config = RunConfig(template=template, full=full, steps=STEPS, learning_rate=0.1, device="cpu")
            name = f"{template}_{'full' if full else 'lora'}"
            yield Phase("bench", name, len(found) / (2 * len(templates) + 1))
            found[name] = _difference(subject, config)
    yield Phase("bench", "isolation", len(found) / (len(found) + 1))
    examples = subject.examples(RunConfig())[:8]
    isolation, _ = reach(_small_model(subject).eval(), subject.tokenizer, examples, "bfd")
    equal = all(each["losses_relative"] <= LOSSES and each["weights_absolute"] <= WEIGHTS for each in found.values())
    yield {"differences": found, "isolation_nats": isolation, "equal": equal and isolation <= ISOLATION}


def _difference(subject: Subject, config: RunConfig) -> dict[str, float]:
    with scratch_folder() as folder:
        same = (subject.tokenizer, subject.examples(config), config, folder)
        builders = {
            "ours": lambda: masked_trainer(_small_model(subject), *same, optimizer="sgd"),
            "trl": lambda: trl_trainer(_small_model(subject), *same, optimizer="sgd"),
        }
        with alternating_arms(builders) as arms:
            for _ in range(STEPS):
                for arm in arms.values():
                    arm.step()
            return arms["ours"].difference(arms["trl"])


def _small_model(subject: Subject) -> LlamaForCausalLM:
    return random_llama(len(subject.tokenizer), 64, 128, layers=4, heads=4, key_value_heads=2).double()
