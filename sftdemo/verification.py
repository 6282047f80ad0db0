"""A model's weights as one number, to show that a training left them as they were."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch.nn import Module


def weights_sha256(model: Module) -> str:
    """The SHA-256 of a model's own weights, names and shapes included; of a model with an adapter, without the
    adapter's. About 0.35 s for 135 million weights in float32 on a processor that computes SHA-256 in hardware."""
    import torch

    named = ((_own_name(name), weight) for name, weight in model.named_parameters() if ".lora_" not in name)
    digest = hashlib.sha256()
    for name, weight in sorted(named, key=lambda pair: pair[0]):
        digest.update(f"{name} {tuple(weight.shape)} {weight.dtype}\n".encode())
        digest.update(weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _own_name(name: str) -> str:
    """The name that a weight has without peft around the model."""
    return name.removeprefix("base_model.model.").replace(".base_layer.", ".")
