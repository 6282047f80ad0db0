"""TRL's SFTTrainer with a loss that computes only what it needs. Used by `loop` and by the bench.

Importing this module takes about 9 s on 2 cores, so import it where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pickle import UnpicklingError
from typing import Any, NamedTuple, cast

import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset, concatenate_datasets
from peft import PeftModel
from safetensors import SafetensorError
from torch.utils.data import Sampler
from transformers import PreTrainedModel
from trl import SFTTrainer

from ..core import distributed
from ..core.errors import TrainingError
from ..data.row_file import RowFile
from ..mask.labels import IGNORE_INDEX, MaskedExample, loss_weights
from ..model.bf16 import Bf16Layers
from ..model.four_bits import is_in_four_bits
from ..model.predictions import predict_batch, predict_shared, split_batch
from ..model.prefix_sharing import acceleration, can_share
from .batches import verify_batch
from .callbacks import Saver

Rows = Sequence[MaskedExample] | RowFile
TINY = 1e-9  # in place of a sum of weights that is 0


class MaskedTrainer(SFTTrainer):
    """An SFTTrainer that computes only what its loss needs, and checks its first batch.

    TRL's own loss computes logits, entropy and top-1 at every position, masked or not, on a CPU. Here the head sees
    only the positions that predict a token with a weight, and the model the batch's `PrefixTree` if it can. The loss
    is the same: the sum of weight * -log p over the tokens, divided by the sum of the weights (`loss_weights`) in the
    whole accumulated batch of all processes. While it trains, rows of up to `longest` tokens may be scored as well.
    With `bf16`, the linear layers of a step multiply in it; on a CPU, nothing else does.
    """

    model: PreTrainedModel | PeftModel  # pyright: ignore[reportIncompatibleVariableOverride]
    loss_is_scaled_for_ga = True  # also for a model that takes no `num_items_in_batch`: `compute_loss` divides itself

    def __init__(
        self, *args, shown: Rows, prompt_loss_weight: float = 0.0, longest: int = 0, bf16: bool = False, **kwargs
    ):
        super().__init__(*args, **kwargs)
        self._bf16 = bf16
        self._layers = Bf16Layers(self.model) if bf16 and self._keeps_copies() else None
        for parameter in self.model.parameters() if is_in_four_bits(self.model) else ():
            if parameter.requires_grad:  # TRL has made an adapter on weights in 4 bits bf16
                parameter.data = parameter.data.float()
        self._shown: Rows | None = shown
        self._prompt_loss_weight = prompt_loss_weight
        self._blank: list[MaskedExample] = []
        self.rows = len(self.train_dataset)  # packed, if they are
        self.saver: Saver | None = None  # writes the checkpoints, if any are wanted
        self.shares = can_share(self.model, max(longest, totals(shown).longest))
        if distributed.count() > 1:
            blank = _blank(self.train_dataset)
            self.train_dataset = concatenate_datasets([self.train_dataset, blank])
            self._blank = [MaskedExample(-1, tuple(blank[0]["input_ids"]), tuple(blank[0]["labels"]), (), ())]

    def _keeps_copies(self) -> bool:
        """Return whether the weights of linear layers are kept in bf16 as well: not by FSDP, which moves them, nor
        where all of them learn on a GPU, which casts them as quickly as it copies them."""
        return not self.is_fsdp_enabled and (self.model.device.type == "cpu" or isinstance(self.model, PeftModel))

    def _send_telemetry(self) -> None:
        """TRL reports each start of training to its authors; this program reports nothing to anyone."""

    def _get_train_sampler(self, train_dataset=None):
        if distributed.count() == 1:
            return super()._get_train_sampler(train_dataset)
        batch_size = self.args.train_batch_size * distributed.count()
        return _EvenSampler(len(self.train_dataset) - 1, batch_size, lambda: int(self.state.epoch or 0))

    def train(self, *args, **kwargs):
        with acceleration(self.model) if self.shares else nullcontext():
            return super().train(*args, **kwargs)

    def training_step(self, *args, **kwargs):
        with self._layers.used() if self._layers else nullcontext():
            return super().training_step(*args, **kwargs)

    def _get_output_dir(self, trial=None) -> str:
        return super()._get_output_dir(trial) if self.saver is None else str(self.saver.checkpoints.partial)

    def _save_checkpoint(self, model, trial):
        save = super()._save_checkpoint
        cast("Saver", self.saver).write(self.state.global_step, lambda: save(model, trial))

    def create_model_card(self, *args, **kwargs) -> None:
        """TRL writes a card with each checkpoint; a run has its own."""

    def _save(self, output_dir=None, state_dict=None):
        """Write the weights that learn, without the tokenizer and without the pickled settings."""
        if self.args.should_save:
            words: dict[str, Any] = {"state_dict": state_dict}
            if isinstance(self.model, PeftModel):
                words["save_embedding_layers"] = False  # or peft would ask the Hub whether they have been resized
            self.model.save_pretrained(str(output_dir), **words)

    def _load_from_checkpoint(self, resume_from_checkpoint, model=None):
        with _readable(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _load_optimizer_and_scheduler(self, checkpoint):
        with _readable(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint):
        with _readable(checkpoint):
            super()._load_rng_state(checkpoint)

    def compute_loss_context_manager(self):
        cast = torch.autocast(self.model.device.type, torch.bfloat16)
        return cast if self._bf16 else super().compute_loss_context_manager()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self._shown is not None:
            ids = {input_ids for input_ids, _ in split_batch(inputs)}
            shown = self._shown.find(ids) if isinstance(self._shown, RowFile) else self._shown
            verify_batch(inputs, [*shown, *self._blank])
            self._shown = None
        if self.shares:
            found = predict_shared(model, split_batch(inputs), inputs["input_ids"].device, self._prompt_loss_weight)
        else:
            found = predict_batch(model, inputs, self._prompt_loss_weight)
        logits, targets, weights = found
        precise = logits if logits.dtype == torch.float64 else logits.float()
        losses = torch.nn.functional.cross_entropy(precise, targets, reduction="none")
        total = weights.sum() if num_items_in_batch is None else num_items_in_batch
        loss = (weights * losses).sum() / torch.as_tensor(total).clamp(min=TINY)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # the count is of all processes, DDP averages gradients
        return (loss, {"logits": logits}) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples, device):
        """Return the sum of the weights in the accumulated batch, by which the loss is divided."""
        rows = (row for batch in batch_samples for row in split_batch(batch))
        total = sum(sum(loss_weights(labels, self._prompt_loss_weight)) for _, labels in rows)
        return cast("torch.Tensor", self.accelerator.gather(torch.tensor(total, device=device))).sum()


@contextmanager
def _readable(checkpoint: str | None) -> Iterator[None]:
    """Turn what is raised for a damaged checkpoint into a sentence. Its files are read as tensors, never as code."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (OSError, RuntimeError, ValueError, KeyError, EOFError, UnpicklingError, SafetensorError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TrainingError(f"the checkpoint in {checkpoint} cannot be read: {reason}") from error


class _EvenSampler(Sampler):
    """Draw the rows in the order of a single process, then fill the last batch of all processes with the blank row.
    accelerate would fill it with rows from the beginning, which would then be trained twice.

    `epoch` says which one is drawn: where a training goes on, the samplers that skip what is done hide this one from
    whoever would set it."""

    def __init__(self, rows: int, batch_size: int, epoch: Callable[[], int]):
        self._drawn, self._missing, self._epoch = SeedableRandomSampler(range(rows)), -rows % batch_size, epoch

    def __len__(self) -> int:
        return len(self._drawn) + self._missing

    def __iter__(self) -> Iterator[int]:
        self._drawn.set_epoch(self._epoch())
        yield from self._drawn
        yield from [len(self._drawn)] * self._missing


def _blank(dataset: Dataset) -> Dataset:
    """Return one row with nothing to train, made from the first two tokens of the first row."""
    tokens = dataset[0]["input_ids"][:2]
    row = {"input_ids": tokens, "labels": [IGNORE_INDEX] * len(tokens), "seq_lengths": [len(tokens)]}
    return Dataset.from_list([{name: row[name] for name in dataset.column_names}], features=dataset.features)


class Totals(NamedTuple):
    """The numbers of tokens and of trained tokens, and the length of the longest example."""

    tokens: int
    trained: int
    longest: int


def totals(examples: Rows) -> Totals:
    """Return the totals of the examples."""
    if isinstance(examples, RowFile):
        return Totals(examples.tokens, examples.trained, examples.longest)
    lengths = [len(example.input_ids) for example in examples]
    return Totals(sum(lengths), sum(example.trained for example in examples), max(lengths))
