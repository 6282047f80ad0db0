"""Say what a run is in TRL's and peft's own words: the keyword arguments of SFTConfig and LoraConfig, on any device.

Importing this module is light, unlike `settings`, which makes the objects of them.
"""

from __future__ import annotations

from typing import Any

from ..core.config import RunConfig
from ..core.trl_settings import LORA


def sft_keywords(config: RunConfig) -> dict[str, Any]:
    """Return the arguments of TRL's SFTConfig that decide what a run trains. Left out is what depends on the machine:
    the folder, the precision, the batch of each of several processes, and where the loss is reported to."""
    length = {"max_steps": config.steps} if config.steps else {"num_train_epochs": config.epochs}
    more = {name: value for name, value in config.trl_settings.items() if not name.startswith(LORA)}
    return {
        **length,
        "learning_rate": config.learning_rate,
        "seed": config.seed,
        "packing": config.packing,
        "packing_strategy": "bfd",
        "max_length": config.max_length if config.packing else None,  # the examples are cut already
        "logging_steps": 1,
        "logging_nan_inf_filter": False,
        "save_strategy": "no",
        "activation_checkpointing": False,
        **more,
    }


def lora_keywords(config: RunConfig) -> dict[str, Any]:
    """Return the arguments of peft's LoraConfig for the adapter that a run trains; empty with full fine-tuning."""
    if config.full:
        return {}
    more = {name.removeprefix(LORA): value for name, value in config.trl_settings.items() if name.startswith(LORA)}
    return {
        "r": config.lora_r,
        "lora_alpha": 2 * config.lora_r,
        "lora_dropout": 0.0,
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM",
        **more,
    }
