"""Write a run as a file of settings for TRL's command line, `trl sft --config config.yaml`, with its rows."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from string import Template
from typing import Any

from ..core.errors import ConfigError
from ..core.yaml_text import write_yaml
from ..model.devices import autocasts, choose_device
from ..train.keywords import lora_keywords, sft_keywords
from .recipe import ROWS, Recipe, about, packages

CONFIG, CHAT_TEMPLATE, GENERATION = "config.yaml", "chat_template.jinja", "generation_config.json"
OUTPUT = "trained"
# The fields of LoraConfig that TRL's command line takes, with the names that it gives them.
_ADAPTER = {
    "r": "lora_r",
    "lora_alpha": "lora_alpha",
    "lora_dropout": "lora_dropout",
    "target_modules": "lora_target_modules",
    "task_type": "lora_task_type",
    "use_rslora": "use_rslora",
}

_README = Template("""\
# A run of sftdemo for TRL's command line

`$config` has the settings of the run. In this folder, with `pip install $packages`:

```bash
trl sft --config $config$model
cp $generation $output/
```

$about

The settings have no place for the ids that were trained as an end of an answer; the second command brings them. The
model and its tokenizer, with the trained prompt as the chat template, are in `$output`.

The losses are the run's but for rounding and dropout. `bf16` is what the machine takes that wrote this file: on a
GPU that has it, set it to true. With several processes, divide `per_device_train_batch_size` by their number. TRL
reports each start of a training to its authors; `HF_HUB_DISABLE_TELEMETRY=1` forbids it.
""")


def write_trl_config(recipe: Recipe, folder: Path) -> None:
    """Write the settings, the rows, the chat template, the generation config and how to use them into a folder.

    Raises:
        ConfigError: for settings that the command line has no place for.
        OSError: if a file cannot be written.
    """
    settings = trl_settings(recipe)
    recipe.rows.dataset().to_parquet(str(folder / ROWS))
    (folder / CONFIG).write_text(write_yaml(settings), encoding="utf-8")
    (folder / CHAT_TEMPLATE).write_text(recipe.chat_template, encoding="utf-8")
    (folder / GENERATION).write_text(json.dumps(recipe.generation_config, indent=2) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_readme(recipe), encoding="utf-8")


def trl_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings by the names of TRL's command line.

    Raises:
        ConfigError: for settings that it has no place for.
    """
    config = recipe.config
    if 0 < config.prompt_loss_weight < 1:
        raise ConfigError(
            f"prompt_loss_weight is {config.prompt_loss_weight:g}: labels say that a token counts or not, so TRL's "
            "command line knows 0 and 1 alone. Export with --to script."
        )
    if config.merge:
        raise ConfigError("merge is set, and TRL's command line saves an adapter by itself. Export with --to script.")
    return {
        "model_name_or_path": recipe.base,
        "model_init_kwargs": {"use_safetensors": True},
        "datasets": [{"path": "parquet", "data_files": ROWS}],
        "chat_template_path": CHAT_TEMPLATE,
        "output_dir": OUTPUT,
        "per_device_train_batch_size": config.batch_size,
        "bf16": autocasts(choose_device(config.device), config.precision),
        "report_to": config.report_to,
        # None is every field's default here, and the file has no way to write it for all of them
        **{name: value for name, value in sft_keywords(config).items() if value is not None or name == "max_length"},
        **_adapter(lora_keywords(config)),
    }


def _adapter(keywords: dict[str, Any]) -> dict[str, Any]:
    if not keywords:
        return {}
    unknown = [f"lora.{name}" for name in keywords if name not in _ADAPTER]
    if unknown:
        raise ConfigError(
            f"set names {', '.join(unknown)}, which TRL's command line has no place for. Export with --to script."
        )
    named = {_ADAPTER[name]: value for name, value in keywords.items()}
    return {"use_peft": True, **named, "lora_target_modules": _modules(keywords["target_modules"])}


def _modules(names: str | list[str]) -> list[str]:
    """Return the layers as the command line takes them: a list, of which a single item is read as a pattern."""
    if isinstance(names, str):
        return [names]
    return [rf"(.*\.)?{re.escape(names[0])}"] if len(names) == 1 else names


def _readme(recipe: Recipe) -> str:
    on_hub = recipe.record["model"]["hub_id"]
    return _README.substitute(
        config=CONFIG,
        generation=GENERATION,
        output=OUTPUT,
        about=about(recipe),
        model="" if on_hub else f" --model_name_or_path {shlex.quote(f'PATH/TO/{recipe.base}')}",
        packages=" ".join(packages(recipe.config)),
    )
