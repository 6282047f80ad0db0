"""Choose and describe the device that a model runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import ModelError

if TYPE_CHECKING:
    import torch


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


def uses_bf16(device: torch.device) -> bool:
    """Return whether training runs in bf16: only on a CUDA device whose hardware supports it. A CPU trains in float32,
    so that the results are the same on every CPU."""
    import torch

    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
