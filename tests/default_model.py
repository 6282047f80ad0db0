"""The default model for the tests that need it: fetched once into the user's cache, everything else kept out of it."""

import os
import shutil
from pathlib import Path

from sftdemo.core.config import DEFAULT_HUB_ID, DEFAULT_MODEL
from sftdemo.core.files import cache_folder
from sftdemo.core.streams import Relay
from sftdemo.model.sources import ModelSource, resolve


def default_model() -> ModelSource:
    """Where it lies, once it is fetched."""
    fetching = Relay(resolve(DEFAULT_MODEL))
    for _ in fetching:
        pass
    return fetching.result


def private_cache(folder: Path) -> Path:
    """A cache folder for one test session that shares the fetched models and tools with the user's own."""
    default_model()
    for name in ("models", "tools"):
        own = cache_folder() / name
        own.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(own.resolve())
    return folder


def environment(cache: Path, **more: str) -> dict[str, str]:
    return os.environ | {"SFTDEMO_CACHE": str(cache)} | more


def hub_cache(folder: Path, model: Path) -> Path:
    """A cache of the Hub in which the default model is another."""
    repository, commit = folder / f"models--{DEFAULT_HUB_ID.replace('/', '--')}", "0" * 40
    shutil.copytree(model, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return folder


def lightened(model: Path, folder: Path) -> Path:
    """A model that reads and writes the same tokens, with so few weights that it is trained at once."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(model, initializer_range=0.2)
    config.update({"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16})
    config.update({"num_attention_heads": 2, "num_key_value_heads": 2})
    shutil.copytree(model, folder, ignore=shutil.ignore_patterns("*.safetensors"))
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder
