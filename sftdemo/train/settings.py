"""Make TRL's and peft's settings for a run, of the program's own and of those in `set`.

Importing this module takes about 5 s on 2 cores, so import it where it is used.
"""

from __future__ import annotations

import json
from copy import copy
from dataclasses import fields
from typing import Any, cast, get_type_hints

import torch
from peft import LoraConfig
from pydantic import ConfigDict, TypeAdapter, ValidationError
from transformers import Trainer, get_scheduler
from transformers.integrations import get_available_reporting_integrations
from trl import SFTConfig

from ..core import distributed
from ..core.config import REPORTS, RunConfig
from ..core.errors import ConfigError
from ..core.trl_settings import LORA
from .keywords import lora_keywords, sft_keywords

# Ranges that TRL, peft and torch do not check themselves, or not before the model is loaded.
_RANGES = {
    "weight_decay": (0, 10),
    "max_grad_norm": (0, 1_000_000),
    f"{LORA}lora_alpha": (1, 1_000_000),
    f"{LORA}lora_dropout": (0, 0.99),
}
_OPTIMIZERS = ("optim_args", "adam_beta1", "adam_beta2", "adam_epsilon")
_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)


def check_settings(config: RunConfig, device: torch.device, scratch: str) -> None:
    """Check the settings in `set` and `report_to`, before the model is loaded.

    Raises:
        ConfigError: for a value of another type, one that TRL, peft or transformers refuses, or a package that is not
            installed.
    """
    for name, value in config.trl_settings.items():
        _check_type(name, value)
    try:
        settings = arguments(config, device, scratch)
        adapter(config)
        _check_optimizer(settings)
    except (ValueError, TypeError, ImportError, RuntimeError, KeyError) as error:
        raise ConfigError(refused(config, error)) from error
    if config.report_to != "none":
        _check_report(config.report_to)


def refused(config: RunConfig, error: Exception) -> str:
    """Return a sentence that says which settings TRL or peft does not accept, and why."""
    return f"TRL or peft refuses set with {', '.join(config.set)}: {' '.join(str(error).split()).removesuffix('.')}."


def _check_type(name: str, value: object) -> None:
    owner = LoraConfig if name.startswith(LORA) else SFTConfig
    hint = get_type_hints(owner)[name.removeprefix(LORA)]
    try:
        TypeAdapter(hint, config=_STRICT).validate_python(value)
    except ValidationError as error:
        wanted = dict.fromkeys(each["msg"].removeprefix("Input should be ") for each in error.errors())
        raise ConfigError(f"set gives {name} the value {_shown(value)}; it should be {' or '.join(wanted)}.") from error
    low, high = _RANGES.get(name, (None, None))
    if low is not None and not low <= cast("float", value) <= high:
        raise ConfigError(f"set gives {name} the value {_shown(value)}; it must lie between {low} and {high:,}.")


def _shown(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _check_optimizer(settings: SFTConfig) -> None:
    """Make the optimizer and the schedule of the rate, for a single weight.

    Raises:
        ConfigError: for a setting that the optimizer does not use.
    """
    kind, words = Trainer.get_optimizer_cls_and_kwargs(settings)
    for each in fields(settings):
        if each.name in _OPTIMIZERS and getattr(settings, each.name) != each.default:
            without = copy(settings)
            setattr(without, each.name, each.default)
            if Trainer.get_optimizer_cls_and_kwargs(without)[1] == words:
                raise ConfigError(f"set names {each.name}, which {kind.__name__} does not use; leave it out.")
    weight = torch.nn.Parameter(torch.zeros(1, 1))
    optimizer = kind([{"params": [weight], "weight_decay": settings.weight_decay}], **words)
    steps = 10
    get_scheduler(
        settings.lr_scheduler_type,
        optimizer,
        num_warmup_steps=settings.get_warmup_steps(steps),
        num_training_steps=steps,
        scheduler_specific_kwargs=cast("dict[str, Any]", settings.lr_scheduler_kwargs),
    )


def _check_report(name: str) -> None:
    if name not in get_available_reporting_integrations():
        package = REPORTS[name]
        raise ConfigError(f"report_to is {name}, but {package} is not installed; get it with: pip install {package}")


def arguments(config: RunConfig, device: torch.device, scratch: str) -> SFTConfig:
    """Return TRL's settings for a run."""
    settings = SFTConfig(
        output_dir=scratch,
        per_device_train_batch_size=config.batch_size // distributed.count(),
        use_cpu=device.type == "cpu",
        bf16=False,  # or accelerate would cast whatever the model computes, answers and compared losses too
        dataloader_pin_memory=device.type == "cuda",
        disable_tqdm=True,
        **sft_keywords(config),
    )
    # transformers adds Kubeflow by itself where it finds it
    settings.report_to = [] if config.report_to == "none" else [config.report_to]
    settings._n_gpu = min(settings.n_gpu, 1)  # or several GPUs would get torch's DataParallel, which splits each batch
    return settings


def adapter(config: RunConfig) -> LoraConfig | None:
    """Return the adapter to train; None with full fine-tuning."""
    return None if config.full else LoraConfig(**lora_keywords(config))
