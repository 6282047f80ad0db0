"""Run linear layers with oneDNN where it is faster than MKL: for many rows with AVX-512, for few rows on all CPUs.

One step of an answer reads every weight for a handful of rows. At 6 rows MKL reads the default model's weights at 4 to
11 GB/s, oneDNN at 15 to 25 GB/s once they have its layout (AMD EPYC with AVX-512, 2 cores).
"""

from __future__ import annotations

import platform
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, cast

from ..core.environment import release_memory
from ..core.machine import free_memory, measured_once

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from peft.tuners.lora import Linear as LoraLinear
    from transformers import PreTrainedModel


LARGE = 1_000_000_000  # bytes of copies whose room goes back to the system, or a step's memory comes on top of it
LEAST_SPEEDUP = 1.3  # of a product in bf16, below which a step would not gain


def is_supported(linear: torch.nn.Linear) -> bool:
    """Return whether `product` takes the weight of this layer: float32 on an x86 CPU."""
    import torch

    x86 = platform.machine().lower() in ("x86_64", "amd64") and torch.backends.mkldnn.is_available()
    return x86 and linear.weight.device.type == "cpu" and linear.weight.dtype == torch.float32


def product(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return states @ weight.T + bias, by the oneDNN operator that torch itself calls in compiled models only, or by
    torch where the CPU has nothing for bf16 that oneDNN needs."""
    import torch

    if states.dtype == torch.bfloat16 and not _has_onednn_bf16():
        return torch.nn.functional.linear(states, weight, bias)
    return torch.ops.mkldnn._linear_pointwise(states, weight, bias, "none", [], "")


@cache
def _has_onednn_bf16() -> bool:
    """Return whether oneDNN multiplies bf16 on this CPU: with AVX-512, and not with AVX2 alone."""
    import torch

    return torch.ops.mkldnn._is_mkldnn_bf16_supported()


@cache
def has_avx512() -> bool:
    """Return whether the CPU has AVX-512. With it, `product` is faster than torch's own product for the many rows of a
    training step, by 10 to 30 % at the default model's shapes. On an AMD EPYC with AVX2 alone, it makes a whole step
    take 1.2 times as long."""
    import torch

    return torch.backends.cpu.get_cpu_capability() == "AVX512"


@cache
def is_quicker_in_bf16() -> bool:
    """Return whether this CPU multiplies bf16 itself (AVX512-BF16 or AMX), and a product of the default model's largest
    shape is quicker in it. It is measured once on a machine, so that the same runs have the same results there.

    torch's `mkldnn._is_mkldnn_bf16_supported` is true with plain AVX-512 as well, where bf16 is emulated.
    """
    import torch

    from ..core.machine import processor

    if not (torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()):
        return False
    return measured_once(f"bf16|{processor()}|torch {torch.__version__}", _bf16_speedup) > LEAST_SPEEDUP


def _bf16_speedup() -> float:
    """Return how many times as fast as float32 a product in bf16 is, the best of several by turns."""
    import torch

    states, weight = torch.ones(256, 576), torch.ones(1536, 576)
    seconds: dict[torch.dtype, list[float]] = {torch.float32: [], torch.bfloat16: []}
    for dtype, found in [*seconds.items()] * 8:
        a, b = states.to(dtype), weight.to(dtype)
        begin = time.perf_counter()
        product(a, b)
        found.append(time.perf_counter() - begin)
    return min(seconds[torch.float32]) / min(seconds[torch.bfloat16])


@contextmanager
def onednn_layout(model: PreTrainedModel | PeftModel, rows: int) -> Generator[None]:
    """Use copies of the weights in oneDNN's memory layout inside this block, for `rows` prompts at a time. A LoRA
    adapter is merged into the copies. The weights themselves do not change.

    Do nothing for layers that `is_supported` excludes, or if the memory has no room for the copies.
    """
    import torch

    replaced = []
    layers = [layer for layer in _linear_layers(model) if is_supported(_plain(layer))]
    copied = sum(_plain(layer).weight.nbytes for layer in layers)
    if not copies_fit(copied, free_memory()):
        layers = []
    if layers and copied > LARGE:
        release_memory()
    try:
        with torch.inference_mode():
            for layer in layers:
                weight = torch.ops.mkldnn._reorder_linear_weight(_with_adapter(layer), rows)
                layer.forward = _forward(weight, _plain(layer).bias)
                replaced.append(layer)
        yield
    finally:
        for layer in replaced:
            del layer.forward
        if replaced and copied > LARGE:
            release_memory()


def copies_fit(size: int, free: int) -> bool:
    """Return whether `onednn_layout` makes copies of so many bytes where so many are free."""
    return 2 * size <= free


def _forward(weight: torch.Tensor, bias: torch.Tensor | None):
    return lambda states: product(states, weight, bias)


def _lora() -> type | None:
    """Return PEFT's LoRA layer, or None if PEFT is not imported. Importing it takes seconds, and no model has such a
    layer without it."""
    return sys.modules["peft.tuners.lora"].Linear if "peft.tuners.lora" in sys.modules else None


def _linear_layers(model: torch.nn.Module) -> list[torch.nn.Module]:
    """Return the plain layers, and those with an adapter in place of the layers inside them."""
    import torch

    lora = _lora()
    adapted = [module for module in model.modules() if lora is not None and isinstance(module, lora)]
    inside = {id(child) for module in adapted for child in module.modules()}
    plain = [module for module in model.modules() if type(module) is torch.nn.Linear and id(module) not in inside]
    return plain + [module for module in adapted if type(module.base_layer) is torch.nn.Linear]


def _plain(module: torch.nn.Module) -> torch.nn.Linear:
    lora = _lora()
    return cast("torch.nn.Linear", module.base_layer if lora is not None and isinstance(module, lora) else module)


def _with_adapter(module: torch.nn.Module) -> torch.Tensor:
    plain = _plain(module)
    if plain is module:
        return plain.weight.detach()
    weight, adapted = plain.weight.detach(), cast("LoraLinear", module)
    for name in () if adapted.disable_adapters or adapted.merged else adapted.active_adapters:
        weight = weight + adapted.get_delta_weight(name)
    return weight
