"""Keep a model's own weights in 4 bits, by bitsandbytes: QLoRA (Dettmers et al. 2023, arXiv 2305.14314)."""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from ..core.errors import ModelError
from .devices import describe_device

if TYPE_CHECKING:
    import torch
    from torch.nn import Module
    from transformers import BitsAndBytesConfig


def is_installed() -> bool:
    """Return whether bitsandbytes is here. It is not imported."""
    return find_spec("bitsandbytes") is not None


def settings(device: torch.device) -> BitsAndBytesConfig:
    """Return how the weights of the linear layers but the head are kept: as NF4 with scales in 8 bits, as the paper
    has it. They are multiplied in float32, and in bf16 where a training casts to it.

    Raises:
        ModelError: if bitsandbytes is not installed, or on another device than a CUDA GPU: on a CPU, bitsandbytes packs
            the weights anew as it computes, so that none could say that they did not change.
    """
    import torch
    from transformers import BitsAndBytesConfig

    if device.type != "cuda":
        raise ModelError(f"load_in_4bit needs a CUDA GPU; this is {describe_device(device)}.")
    if not is_installed():
        raise ModelError(
            "load_in_4bit needs bitsandbytes, which is not installed; get it with: pip install 'sftdemo[4bit]'"
        )
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.float32,
    )


def is_in_four_bits(model: Module) -> bool:
    """Return whether a model was loaded so."""
    return bool(getattr(model, "is_loaded_in_4bit", False))  # transformers sets it on those alone
