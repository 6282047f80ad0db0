"""Estimate the least time that a step can take: its multiply-adds at the rate of this machine's matrix products."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from statistics import mean, median

import torch

from ..core.config import RunConfig
from ..mask.labels import MaskedExample
from ..model.devices import precision_of
from ..model.prefix_tree import prefix_tree
from .arms import Arm
from .figures import seconds_of

REPEATS = 15
GPU_CALLS = 50  # one after the other: to wait for a GPU takes longer than a single product there


def floor(arm: Arm, examples: Sequence[MaskedExample], config: RunConfig) -> dict[str, float]:
    """Return {"seconds", "gflop", "gflop_per_second", "positions", "kept"} of a step of this arm.

    A linear layer costs 2 x rows x inputs x outputs operations forward, as many for the gradient of its input and, with
    full fine-tuning, as many for the gradient of its weight. The rate is that of torch's plain products of the same
    shapes, on a GPU in the precision of the training. They run alone and from a warm cache, which a real step does not
    have. Attention, norms and the optimizer are not counted.
    """
    batches = [examples[at : at + config.batch_size] for at in range(0, len(examples), config.batch_size)]
    trees = [prefix_tree([(row.input_ids, row.labels) for row in batch]) for batch in batches]
    positions, kept = round(mean(len(t.input_ids) for t in trees)), round(mean(len(t.kept) for t in trees))
    model = arm.model
    head = model.get_output_embeddings()
    products = 3 if config.full else 2
    shapes: Counter[tuple[int, int, int]] = Counter()
    extra = 0.0
    for name, module in model.named_modules():
        if type(module) is not torch.nn.Linear:
            continue
        outputs, inputs = module.weight.shape
        if ".lora_" in name:
            extra += 3 * 2 * positions * inputs * outputs  # forward, and both gradients
        else:
            shapes[(kept if module is head else positions, inputs, outputs)] += 1
    in_bf16 = model.device.type == "cuda" and precision_of(model, config.precision) == "bf16"
    like = torch.empty(0, device=model.device, dtype=torch.bfloat16 if in_bf16 else torch.float32)
    seconds = {shape: _seconds(*shape, products, like) for shape in shapes}
    flop = {shape: products * 2 * shape[0] * shape[1] * shape[2] for shape in shapes}
    total = sum(flop[shape] * count for shape, count in shapes.items())
    rate = total / sum(seconds[shape] * count for shape, count in shapes.items())
    return {
        "seconds": round((total + extra) / rate, 4),
        "gflop": round((total + extra) / 1e9, 1),
        "gflop_per_second": round(rate / 1e9, 1),
        "positions": positions,
        "kept": kept,
    }


def _seconds(rows: int, inputs: int, outputs: int, products: int, like: torch.Tensor) -> float:
    """Return the seconds of the products of one layer, on the device and in the type of `like`."""
    states, weight, gradient = (
        like.new_empty(of).normal_() for of in ((rows, inputs), (outputs, inputs), (rows, outputs))
    )
    work = (lambda: states @ weight.t(), lambda: gradient @ weight, lambda: gradient.t() @ states)
    return sum(_seconds_a_call(product, 1 if like.device.type == "cpu" else GPU_CALLS) for product in work[:products])


def _seconds_a_call(product: Callable[[], object], calls: int) -> float:
    def work() -> None:
        for _ in range(calls):
            product()

    return median(seconds_of(work) for _ in range(REPEATS)) / calls
