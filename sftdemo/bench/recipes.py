"""Build what is compared: this program's trainer, TRL's own, and the recipe that the program grew from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from ..core.config import RunConfig
from ..data.examples import ParsedExamples, Problem
from ..data.templates import template_of
from ..mask.labels import IGNORE_INDEX, MaskedExample, Masker
from ..mask.layouts import SEED_LENGTH
from ..model.devices import autocasts, precision_of
from ..model.loading import load_model
from ..model.sources import ModelSource
from ..train.loop import dataset
from ..train.settings import adapter, arguments
from ..train.trainer import MaskedTrainer

AnyTrainer = TypeVar("AnyTrainer", bound=SFTTrainer)
TEMPLATES = ("instruction", "alpaca", "chat")
ADAMW = "adamw_torch_fused"  # the default of TRL and of a run


@dataclass(frozen=True)
class Subject:
    """What the trainers train: a model on this disk, its tokenizer, the examples, and the kind of device."""

    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    data: ParsedExamples
    device: str = "cpu"

    def model(self) -> PreTrainedModel:
        """Load a fresh copy of the model onto the device."""
        return load_model(self.source, torch.device(self.device))

    def examples(self, config: RunConfig) -> list[MaskedExample]:
        """Return the sequences with a trained token, masked under the template and `max_length` of `config`."""
        masker = Masker(self.tokenizer, template_of(config), config.max_length)
        rows = [row for row in masker.mask(self.data.train) if not isinstance(row, Problem)]
        return [sequence for row in rows for sequence in row if sequence.trained]


def random_llama(
    vocabulary: int, hidden: int, intermediate: int, layers: int, heads: int, key_value_heads: int
) -> LlamaForCausalLM:
    """Return a Llama of this shape with random weights, the same at each call."""
    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_hidden_layers=layers,
            num_attention_heads=heads,
            num_key_value_heads=key_value_heads,
            tie_word_embeddings=True,
        )
    )


def masked_trainer(
    model, tokenizer, examples: Sequence[MaskedExample], config: RunConfig, folder: str, optimizer: str = ADAMW
) -> MaskedTrainer:
    """Return the trainer of a run."""
    settings = arguments(config, model.device, folder)
    settings.optim = optimizer
    bf16 = model.dtype == torch.float32 and precision_of(model, config.precision) == "bf16"
    return _trainer(MaskedTrainer, model, tokenizer, examples, settings, config, shown=examples, bf16=bf16)


def trl_trainer(
    model,
    tokenizer,
    examples,
    config: RunConfig,
    folder: str,
    joined: bool = False,
    optimizer: str = ADAMW,
    bf16: bool = False,
    liger: bool = False,
) -> SFTTrainer:
    """Return TRL's own trainer with the settings of a run, without gradient checkpointing: in float32 or, on a GPU or
    with `bf16`, under autocast. Its batches are padded or, if `joined`, concatenated into one row; with `liger` it has
    the kernels of liger-kernel."""
    settings = arguments(config, model.device, folder)
    # replaced and not set, as TRL looks at it where the settings are made
    settings = replace(settings, bf16=bf16 or autocasts(model.device, config.precision), use_liger_kernel=liger)
    settings.optim, settings.padding_free = optimizer, joined
    return _trainer(SFTTrainer, model, tokenizer, examples, settings, config)


def seed_trainer(model, tokenizer, examples, config: RunConfig, folder: str) -> SFTTrainer:
    """Return the original recipe, corrected so that it runs: every row padded to 128 positions, in batches of 2."""
    settings = arguments(replace(config, batch_size=2), model.device, folder)
    pad = tokenizer.pad_token_id
    padded = [
        replace(
            example,
            input_ids=(example.input_ids + (pad,) * SEED_LENGTH)[:SEED_LENGTH],
            labels=(example.labels + (IGNORE_INDEX,) * SEED_LENGTH)[:SEED_LENGTH],
        )
        for example in examples
    ]
    return _trainer(SFTTrainer, model, tokenizer, padded, settings, config)


def _trainer(
    kind: type[AnyTrainer], model, tokenizer, examples, settings: SFTConfig, config: RunConfig, **more: Any
) -> AnyTrainer:
    return kind(
        model=model,
        args=settings,
        processing_class=tokenizer,
        train_dataset=dataset(examples),
        peft_config=adapter(config),
        **more,
    )
