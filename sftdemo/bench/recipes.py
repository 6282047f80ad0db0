"""The trainers that are compared: ours, TRL's as it comes, and the recipe that the program grew from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from trl import SFTConfig, SFTTrainer

from ..core.config import RunConfig
from ..data.examples import ParsedExamples, Problem
from ..data.templates import template_of
from ..mask.labels import IGNORE_INDEX, MaskedExample, Masker
from ..mask.layouts import SEED_LENGTH
from ..model.loading import load_model
from ..model.sources import ModelSource
from ..train.loop import adapter, arguments, dataset
from ..train.trainer import MaskedTrainer

Made = TypeVar("Made", bound=SFTTrainer)
TEMPLATES = ("instruction", "alpaca", "chat")
ADAMW = "adamw_torch_fused"  # the default of TRL and of a run


@dataclass(frozen=True)
class Subject:
    """What the trainers train: a model on this disk, its tokenizer, and some rows."""

    source: ModelSource
    tokenizer: PreTrainedTokenizerBase
    data: ParsedExamples

    def model(self) -> PreTrainedModel:
        return load_model(self.source, torch.device("cpu"))

    def examples(self, config: RunConfig) -> list[MaskedExample]:
        """The rows under the settings' template."""
        masker = Masker(self.tokenizer, template_of(config), config.max_length)
        rows = [row for row in masker.mask(self.data.train) if not isinstance(row, Problem)]
        return [sequence for row in rows for sequence in row if sequence.trained]


@contextmanager
def scratch() -> Iterator[str]:
    with TemporaryDirectory(prefix="sftdemo-bench-") as folder:
        yield folder


def ours(
    model, tokenizer, examples: Sequence[MaskedExample], config: RunConfig, folder: str, optimizer: str = ADAMW
) -> MaskedTrainer:
    """The trainer of a run."""
    settings = arguments(config, model.device, folder)
    settings.optim = optimizer
    return _made(MaskedTrainer, model, tokenizer, examples, settings, config, shown=examples)


def stock(
    model, tokenizer, examples, config: RunConfig, folder: str, joined: bool = False, optimizer: str = ADAMW
) -> SFTTrainer:
    """TRL's own trainer with the very same settings: float32, no checkpointing, batches padded or joined into a row."""
    settings = arguments(config, model.device, folder)
    settings.optim, settings.padding_free = optimizer, joined
    return _made(SFTTrainer, model, tokenizer, examples, settings, config)


def seed_recipe(model, tokenizer, examples, config: RunConfig, folder: str) -> SFTTrainer:
    """The original recipe, mended so that it runs: every row padded to 128 positions, in batches of 2."""
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
    return _made(SFTTrainer, model, tokenizer, padded, settings, config)


def _made(kind: type[Made], model, tokenizer, examples, settings: SFTConfig, config: RunConfig, **more: Any) -> Made:
    return kind(
        model=model,
        args=settings,
        processing_class=tokenizer,
        train_dataset=dataset(examples),
        peft_config=adapter(config),
        **more,
    )
