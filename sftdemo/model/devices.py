"""Which device a model runs on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..core.errors import ModelError

if TYPE_CHECKING:
    import torch


def choose_device(name: str = "auto") -> torch.device:
    """Return the named device; by default CUDA, else MPS, else the CPU.

    Raises:
        ModelError: when the named device is not there.
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
    """Whether training runs in bf16: only on a CUDA device whose hardware has it. A CPU trains in float32, where
    results do not depend on which CPU it is."""
    import torch

    return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
