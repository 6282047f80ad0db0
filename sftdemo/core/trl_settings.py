"""Say which settings of TRL's SFTConfig and of peft's LoraConfig a run takes as they are (`--set`), which the program
sets itself, and which it refuses. The types are checked in `train/settings.py`, which may import both."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from .errors import ConfigError

LORA = "lora."  # before the name of a field of LoraConfig
ACCUMULATION, MOST_BATCHES = "gradient_accumulation_steps", 1_024
TRACKING = ("run_name", "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id")

ALLOWED = (
    *("lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "weight_decay", "max_grad_norm"),
    *("optim", "optim_args", "adam_beta1", "adam_beta2", "adam_epsilon", ACCUMULATION),
    *("activation_checkpointing", "activation_checkpointing_kwargs", "torch_empty_cache_steps"),
    *TRACKING,
    *("lora.lora_alpha", "lora.lora_dropout", "lora.use_rslora", "lora.init_lora_weights"),
    *("lora.target_modules", "lora.exclude_modules", "lora.layers_to_transform", "lora.layers_pattern"),
    *("lora.rank_pattern", "lora.alpha_pattern"),
)

# Settings that have an option of this program.
OURS = {
    "learning_rate": "--learning-rate",
    "max_steps": "--steps",
    "num_train_epochs": "--epochs",
    "per_device_train_batch_size": "--batch-size",
    "auto_find_batch_size": "--batch-size",
    "seed": "--seed",
    "data_seed": "--seed",
    "packing": "--packing",
    "max_length": "--max-length",
    "truncation_mode": "--too-long",
    "completion_only_loss": "--prompt-loss-weight",
    "assistant_only_loss": "--turns",
    "chat_template_path": "--template",
    "output_dir": "--output",
    "use_cpu": "--device",
    "bf16": "--precision",
    "report_to": "--report-to",
    "gradient_checkpointing": "--set activation_checkpointing",
    "gradient_checkpointing_kwargs": "--set activation_checkpointing_kwargs",
    "lora.r": "--lora-r",
    "lora.base_model_name_or_path": "--model",
    "lora.revision": "--model",
}

# Why others are refused: the reason completes "… is not taken: …".
_REASONS = {
    "rows are masked, cut and ordered before TRL gets them, so the mask you see is the mask that trains": (
        "dataset_text_field dataset_kwargs dataset_num_proc shuffle_dataset remove_unused_columns label_names "
        "eos_token pad_token pad_to_multiple_of padding_free packing_strategy train_sampling_strategy "
        "length_column_name"
    ),
    "the loss is this program's own, over the trained tokens alone": (
        "loss_type label_smoothing_factor use_liger_kernel liger_kernel_config router_aux_loss_coef "
        "average_tokens_across_devices"
    ),
    "rows that begin alike are computed once, in a row of its own length, to which the noise would be scaled": (
        "neftune_noise_alpha"
    ),
    "weights are kept in float32, and losses measured in it": "fp16 tf32 bf16_full_eval fp16_full_eval",
    "the model is loaded, checked and run by this program": (
        "model_init_kwargs use_cache torch_compile torch_compile_backend torch_compile_mode activation_offloading"
    ),
    "no code of a model's is run": "trust_remote_code",
    "a seed repeats a run, and this would change the whole process": "full_determinism",
    "the optimizers that need it are other packages, with which this program was not tried": "optim_target_modules",
    "each step is an event, from which the terminal and the page draw the progress": (
        "logging_strategy logging_steps logging_first_step log_on_each_node logging_nan_inf_filter "
        "disable_tqdm log_level log_level_replica include_num_input_tokens_seen skip_memory_metrics "
        "debug"
    ),
    "the losses on held-out rows are measured by this program": (
        "eval_strategy eval_steps eval_delay per_device_eval_batch_size prediction_loss_only eval_on_start "
        "eval_do_concat_batches eval_use_gather_object eval_accumulation_steps eval_packing include_for_metrics "
        "batch_eval_metrics do_eval do_predict do_train"
    ),
    "a run writes its folder once, whole, at its end": (
        "save_strategy save_steps save_only_model save_on_each_node save_total_limit enable_jit_checkpoint "
        "load_best_model_at_end metric_for_best_model greater_is_better ignore_data_skip resume_from_checkpoint "
        "restore_callback_states_from_checkpoint"
    ),
    "nothing is uploaded; the run's folder is a model that you can upload": (
        "push_to_hub hub_token hub_private_repo hub_model_id hub_strategy hub_always_push hub_revision"
    ),
    "the rows lie in memory or are mapped into it, and every row is trained": (
        "dataloader_drop_last dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers "
        "dataloader_prefetch_factor dataloader_multiprocessing_context dataloader_in_order"
    ),
    "several processes are started with torchrun or accelerate, which have their own settings": (
        "accelerator_config parallelism_config fsdp fsdp_config deepspeed local_rank ddp_backend ddp_timeout "
        "ddp_find_unused_parameters ddp_bucket_cap_mb ddp_broadcast_buffers ddp_static_graph"
    ),
    "the adapter is LoRA for a language model that answers": (
        "lora.task_type lora.peft_type lora.auto_mapping lora.peft_version lora.inference_mode lora.fan_in_fan_out "
        "lora.runtime_config lora.megatron_config lora.megatron_core"
    ),
    "the base's own weights stay as they are, and nothing but small matrices beside them is trained": (
        "lora.bias lora.lora_bias lora.modules_to_save lora.trainable_token_indices lora.ensure_weight_tying "
        "lora.layer_replication lora.loftq_config lora.eva_config lora.corda_config lora.lora_ga_config"
    ),
    "the adapter's strength, its merging and the quicker layers know LoRA as it was first described": (
        "lora.use_dora lora.use_qalora lora.qalora_group_size lora.velora_config lora.alora_invocation_tokens "
        "lora.monteclora_config lora.target_parameters lora.use_bdlora lora.arrow_config lora.kasa_config"
    ),
}
REFUSED = {name: reason for reason, names in _REASONS.items() for name in names.split()}
_ALIASES = {f"{LORA}{name}": f"{LORA}lora_{name}" for name in ("alpha", "dropout")}
# Values that would be set against what the run does, for settings that are allowed.
_VALUES = {
    "lr_scheduler_type": (("reduce_lr_on_plateau", "greedy"), "needs TRL's own evaluation, which does not run here"),
    "lora.init_lora_weights": (
        ("eva", "olora", "pissa", "corda", "loftq", "orthogonal", "mica", "lora_ga"),
        "changes the base's weights, or measures the data first; choose true, false or gaussian",
    ),
}


def read_pairs(pairs: Sequence[str]) -> dict[str, Any]:
    """Return the settings that are written as "name=value", where the value is YAML, by their full names.

    Raises:
        ConfigError: for a pair without "=", a name that is not allowed or stands twice, a value that is not YAML, or
            one that the run cannot work with.
    """
    from .yaml_text import read_yaml

    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise ConfigError(f"set is {pair!r}; write a name, = and a value, such as weight_decay=0.01.")
        name = full_name(name.strip())
        if name in found:
            raise ConfigError(f"set names {name} twice; give it once.")
        found[name] = read_yaml(text, f"set: {name}={text}" if len(text) < 60 else f"set: {name}")
        _check_value(name, found[name])
    return found


def write_pairs(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the settings as `read_pairs` reads them."""
    from .yaml_text import write_value

    return tuple(f"{name}={write_value(value)}" for name, value in settings.items())


def full_name(name: str) -> str:
    """Return the name of an allowed setting, `lora.lora_alpha` for `lora.alpha`.

    Raises:
        ConfigError: saying which option sets it, why it is refused, or which name is the nearest.
    """
    name = _ALIASES.get(name, name)
    if name in ALLOWED:
        return name
    if name in OURS:
        raise ConfigError(f"set names {name}, which this program sets itself; use {OURS[name]}.")
    if name in REFUSED:
        raise ConfigError(f"set names {name}, which is not taken: {REFUSED[name]}.")
    nearest = get_close_matches(name, [*ALLOWED, *_ALIASES, *OURS, *REFUSED], 1)
    config = "peft's LoraConfig" if name.startswith(LORA) else "TRL's SFTConfig"
    remedy = f"; the nearest is {nearest[0]}" if nearest else ""
    raise ConfigError(f"set names {name!r}, which is no setting of {config} known to this version{remedy}.")


def _check_value(name: str, value: Any) -> None:
    refused, reason = _VALUES.get(name, ((), ""))
    if isinstance(value, str) and value.startswith(refused):
        raise ConfigError(f"set gives {name} the value {value!r}, which {reason}.")
    if name == ACCUMULATION and (type(value) is not int or not 1 <= value <= MOST_BATCHES):
        raise ConfigError(f"set gives {name} the value {json.dumps(value)}; it must lie between 1 and 1,024 batches.")


def check_company(settings: Mapping[str, Any], full: bool, report_to: str) -> None:
    """Refuse settings that nothing would use.

    Raises:
        ConfigError: for a setting of the adapter where all weights are trained, or of a report where none is sent.
    """
    for name in settings:
        if full and name.startswith(LORA):
            raise ConfigError(f"set names {name}, but with full there is no adapter; leave one of them out.")
        if report_to == "none" and name in TRACKING:
            raise ConfigError(f"set names {name}, but nothing is reported; say where to, such as --report-to trackio.")
        if name.startswith("trackio_") and report_to != "trackio":
            raise ConfigError(f"set names {name}, but the run is reported to {report_to}, not to trackio.")
