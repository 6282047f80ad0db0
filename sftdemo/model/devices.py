"""Choose and describe the device that a model runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import ModelError

if TYPE_CHECKING:
    import torch
    from peft import PeftModel
    from transformers import PreTrainedModel

BF16_WEIGHTS = 10_000_000  # in linear layers, from which on a CPU's step may gain by bf16


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device. "auto" stands for CUDA if there is one, else MPS, else the CPU.

    Raises:
        ModelError: if this machine does not have the named device.
    """
    import torch

    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(device for device, is_there in there.items() if is_there)
    if not there[name]:
        raise ModelError(f"there is no {name} device here; there is: {', '.join(d for d in there if there[d])}.")
    return torch.device(name)


def describe_device(device: torch.device) -> str:
    """Describe the device in words, such as "CPU (2 threads)"."""
    import torch

    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return {"mps": "Apple GPU (MPS)"}.get(device.type, f"CPU ({torch.get_num_threads()} threads)")


def precision_on(device: torch.device, wanted: str = "auto") -> str:
    """Return what training steps on a device multiply in, "float32" or "bf16". For "auto" that is bf16 if the device's
    hardware has it and is quicker at it. The answers and the losses that are compared are computed in float32.

    Raises:
        ModelError: if bf16 is wanted of a GPU that does not have it.
    """
    import torch

    from .linear_layers import is_quicker_in_bf16

    if wanted == "float32":
        return wanted
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    if wanted == "bf16" and device.type != "cpu" and not has_bf16:
        raise ModelError(f"{describe_device(device)} has no bf16; give --precision float32, or leave it out.")
    if wanted == "auto" and device.type == "cpu":
        has_bf16 = is_quicker_in_bf16()
    return "bf16" if has_bf16 or wanted == "bf16" else "float32"


def autocasts(device: torch.device, wanted: str = "auto") -> bool:
    """Return whether TRL's own trainer should cast to bf16 as it goes: on a GPU. On a CPU it would gain nothing."""
    return device.type != "cpu" and precision_on(device, wanted) == "bf16"


def precision_of(model: PreTrainedModel | PeftModel, wanted: str = "auto") -> str:
    """Return what the training steps of a model multiply in on its device. On a CPU a model with few weights in linear
    layers is not quicker in bf16, and "auto" is float32."""
    import torch

    layers = [module for module in model.modules() if isinstance(module, torch.nn.Linear)]
    small = sum(layer.weight.numel() for layer in layers) < BF16_WEIGHTS
    auto = "float32" if wanted == "auto" and model.device.type == "cpu" and small else wanted
    return precision_on(model.device, auto)
