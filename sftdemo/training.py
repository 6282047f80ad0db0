"""Trains on labels that are ready, with TRL's SFTTrainer, an event a step. The only importer of TRL's trainer.

Importing this module takes about 9 s on 2 cores, so import it where it is used.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from copy import deepcopy
from typing import NamedTuple

import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset, concatenate_datasets, disable_progress_bars
from peft import LoraConfig
from torch.utils.data import Sampler
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from . import processes
from .acceleration import Branches, accelerated, can_share
from .config import RunConfig
from .errors import TrainingError
from .events import Prepared, Step
from .models import uses_bf16
from .packing import split_batch, verify_batch
from .prefixes import prefix_tree
from .storage import RowFile
from .tokenization import IGNORE_INDEX, MaskedExample, loss_weights
from .turns import in_turns

Rows = Sequence[MaskedExample] | RowFile
TINY = 1e-9  # instead of a batch's sum of weights that is 0


class MaskedTrainer(SFTTrainer):
    """SFTTrainer that computes what its loss needs and nothing else, and that checks its batches.

    TRL's own loss computes logits, entropy and top-1 at every position, masked or not, on a CPU. Here the head sees
    only the positions that predict a token which counts, and the model the batch's `PrefixTree`, where it can. The loss
    is the same: the sum of weight * -log p over the tokens, divided by the sum of the weights (`loss_weights`) in the
    whole accumulated batch of all processes.
    """

    def __init__(self, *args, shown: Rows, prompt_loss_weight: float = 0.0, **kwargs):
        super().__init__(*args, **kwargs)
        self._shown: Rows | None = shown
        self._prompt_loss_weight = prompt_loss_weight
        self._blank: list[MaskedExample] = []
        self._shares = can_share(self.model, _totals(shown).longest)
        if processes.count() > 1:
            blank = _blank(self.train_dataset)
            self.train_dataset = concatenate_datasets([self.train_dataset, blank])
            self._blank = [MaskedExample(-1, tuple(blank[0]["input_ids"]), tuple(blank[0]["labels"]), 0, ())]

    def _send_telemetry(self) -> None:
        """TRL reports each start of training to its authors; this program reports nothing to anyone."""

    def _get_train_sampler(self, train_dataset=None):
        if processes.count() == 1:
            return super()._get_train_sampler(train_dataset)
        return _EvenSampler(len(self.train_dataset) - 1, self.args.train_batch_size * processes.count())

    def train(self, *args, **kwargs):
        with accelerated(self.model) if self._shares else nullcontext():
            return super().train(*args, **kwargs)

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        if self._shown is not None:
            ids = {input_ids for input_ids, _ in split_batch(inputs)}
            shown = self._shown.find(ids) if isinstance(self._shown, RowFile) else self._shown
            verify_batch(inputs, [*shown, *self._blank])
            self._shown = None
        predict = _shared_predictions if self._shares else _padded_predictions
        logits, targets, weights = predict(model, inputs, self._prompt_loss_weight)
        precise = logits if logits.dtype == torch.float64 else logits.float()
        losses = torch.nn.functional.cross_entropy(precise, targets, reduction="none")
        total = weights.sum() if num_items_in_batch is None else num_items_in_batch
        loss = (weights * losses).sum() / torch.as_tensor(total).clamp(min=TINY)
        if self.args.average_tokens_across_devices and num_items_in_batch is not None:
            loss = loss * self.accelerator.num_processes  # the count is of all processes, DDP averages gradients
        return (loss, {"logits": logits}) if return_outputs else loss

    def _get_num_items_in_batch(self, batch_samples, device):
        """The sum of the weights in the accumulated batch, by which transformers has the loss divided."""
        rows = (row for batch in batch_samples for row in split_batch(batch))
        total = sum(sum(loss_weights(labels, self._prompt_loss_weight)) for _, labels in rows)
        return self.accelerator.gather(torch.tensor(total, device=device)).sum()


class _EvenSampler(Sampler):
    """The order in which one process draws the rows, and then the blank row, as often as the last batch of all
    processes lacks rows. accelerate would fill it with rows from the beginning, which would be trained twice."""

    def __init__(self, rows: int, batch_size: int):
        self._drawn, self._missing = SeedableRandomSampler(range(rows)), -rows % batch_size

    def set_epoch(self, epoch: int) -> None:
        self._drawn.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self._drawn) + self._missing

    def __iter__(self) -> Iterator[int]:
        yield from self._drawn
        yield from [len(self._drawn)] * self._missing


def _blank(dataset: Dataset) -> Dataset:
    """One row with nothing to train: the beginning of the first row."""
    tokens = dataset[0]["input_ids"][:2]
    row = {"input_ids": tokens, "labels": [IGNORE_INDEX] * len(tokens), "seq_lengths": [len(tokens)]}
    return Dataset.from_list([{name: row[name] for name in dataset.column_names}], features=dataset.features)


Predictions = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def _shared_predictions(model, inputs, prompt_loss_weight: float) -> Predictions:
    """Logits, targets and weights of the tokens that count, each common beginning of the batch's examples computed
    once."""
    branches = Branches.of(prefix_tree(split_batch(inputs), prompt_loss_weight), inputs["input_ids"].device)
    return branches.logits(model), branches.targets, branches.weights


def _padded_predictions(model, inputs, prompt_loss_weight: float) -> Predictions:
    """The same, of the batch as it comes."""
    inputs = dict(inputs)
    labels = inputs.pop("labels")
    weights = _in_place(split_batch(inputs | {"labels": labels}), labels, prompt_loss_weight)
    keep = torch.zeros_like(labels, dtype=torch.bool)
    keep[:, :-1] = weights[:, 1:] > 0  # a position predicts the token after it
    # use_cache=False: with a cache, transformers does not isolate packed examples by their position_ids
    logits = model(**inputs, use_cache=False, logits_to_keep=keep).logits
    targets = torch.where(labels == IGNORE_INDEX, inputs["input_ids"], labels)
    return logits, targets[:, 1:][keep[:, :-1]], weights[:, 1:][keep[:, :-1]]


def _in_place(rows, labels: torch.Tensor, prompt_loss_weight: float) -> torch.Tensor:
    """The weight of each position of a batch, of the shape of its labels; padding has none."""
    weights = [torch.tensor(loss_weights(own, prompt_loss_weight), device=labels.device) for _, own in rows]
    if len(rows) == len(labels):  # one example a row
        weights = torch.nn.utils.rnn.pad_sequence(weights, batch_first=True)
        return torch.nn.functional.pad(weights, (0, labels.shape[1] - weights.shape[1]))
    return torch.cat(weights).view_as(labels)


class _Reporter(TrainerCallback):
    """Emits the number of steps and then a `Step` after each, and asks the trainer to end when `stop()` says so."""

    def __init__(self, emit: Callable[[int | Step], None], stop: Callable[[], bool]):
        self.emit, self.stop, self.begin = emit, stop, 0.0

    def on_train_begin(self, args, state, control, **kwargs):
        self.begin = time.perf_counter()
        self.emit(state.max_steps)

    def on_substep_end(self, args, state, control, **kwargs):
        control.should_training_stop |= processes.anyone(self.stop())

    on_step_end = on_substep_end

    def on_log(self, args, state, control, logs=None, **kwargs):
        if "loss" not in logs:
            return
        seconds = time.perf_counter() - self.begin
        if not math.isfinite(logs["loss"]):
            raise TrainingError(
                f"the loss became {logs['loss']} at step {state.global_step}, so the weights are spoilt and nothing "
                f"is saved. Lower the learning rate (it is {args.learning_rate:g})."
            )
        remaining = seconds / state.global_step * (state.max_steps - state.global_step)
        self.emit(Step(state.global_step, state.max_steps, logs["loss"], seconds, remaining))


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Rows,
    config: RunConfig,
    stop: Callable[[], bool],
    scratch: str,
) -> Iterator[Prepared | Step]:
    """Trains `model` on the examples' own labels; a `Prepared`, then a `Step` after each optimizer step.

    Examples without a trained token are left out; a `RowFile` holds none. The generator's return value is the trained
    model, with LoRA a `PeftModel` around `model`. `stop` is asked after each step; closing the generator stops as well.

    Raises:
        TrainingError: when nothing is left to train, the first batch differs from `examples`, the loss is not finite,
            or the memory does not suffice.
    """
    if not isinstance(examples, RowFile):
        examples = [example for example in examples if example.trained]
    if not examples:
        raise TrainingError("no example has a trained token, so there is nothing to learn.")
    disable_progress_bars()
    closed = False
    trainer = _trainer(model, tokenizer, examples, config, scratch)
    spare = deepcopy(trainer.model).cpu() if trainer.is_fsdp_enabled else None

    def work(emit: Callable[[int | Step], None]) -> None:
        trainer.add_callback(_Reporter(emit, lambda: closed or stop()))
        trainer.train()

    events = in_turns(work)
    try:
        for event in events:
            yield _prepared(trainer, examples, event) if isinstance(event, int) else event
    except Exception as error:
        raise _explained(error, config) from error
    finally:
        closed = True
        events.close()
    return trainer.model if spare is None else _whole(trainer, spare)


def _whole(trainer: MaskedTrainer, spare: torch.nn.Module) -> torch.nn.Module:
    """The trained model in one piece, where FSDP has split it; on the first process only, the others get no weights.
    Not tested: accelerate has no FSDP on CPUs."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if processes.is_first():
        spare.load_state_dict(weights)
    return spare.to(trainer.args.device)


def _trainer(model, tokenizer, examples, config: RunConfig, scratch: str) -> MaskedTrainer:
    trainer = MaskedTrainer(
        model=model,
        args=arguments(config, model.device, scratch),
        processing_class=tokenizer,
        train_dataset=dataset(examples),
        peft_config=adapter(config),
        shown=examples,
        prompt_loss_weight=config.prompt_loss_weight,
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def arguments(config: RunConfig, device: torch.device, scratch: str) -> SFTConfig:
    """TRL's settings for a run."""
    settings = SFTConfig(
        output_dir=scratch,
        per_device_train_batch_size=config.batch_size // processes.count(),
        max_steps=config.steps or -1,
        num_train_epochs=config.epochs or 1,
        learning_rate=config.learning_rate,
        seed=config.seed,
        packing=config.packing,
        packing_strategy="bfd",
        max_length=config.max_length if config.packing else None,  # the examples are cut already
        use_cpu=device.type == "cpu",
        bf16=uses_bf16(device),
        activation_checkpointing=False,
        dataloader_pin_memory=device.type == "cuda",
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    settings._n_gpu = min(settings.n_gpu, 1)  # or several GPUs would get torch's DataParallel, which splits each batch
    return settings


def adapter(config: RunConfig) -> LoraConfig | None:
    """The adapter to train; None with full fine-tuning."""
    if config.full:
        return None
    return LoraConfig(
        r=config.lora_r,
        lora_alpha=2 * config.lora_r,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def dataset(examples: Rows) -> Dataset:
    """What the trainer takes: columns of `input_ids` and `labels`."""
    if isinstance(examples, RowFile):
        return examples.dataset()
    return Dataset.from_dict(
        {
            "input_ids": [list(example.input_ids) for example in examples],
            "labels": [list(example.labels) for example in examples],
        }
    )


class _Totals(NamedTuple):
    tokens: int
    trained: int
    longest: int


def _totals(examples: Rows) -> _Totals:
    if isinstance(examples, RowFile):
        return _Totals(examples.tokens, examples.trained, examples.longest)
    lengths = [len(example.input_ids) for example in examples]
    return _Totals(sum(lengths), sum(example.trained for example in examples), max(lengths))


def _prepared(trainer: MaskedTrainer, examples: Rows, steps: int) -> Prepared:
    totals = _totals(examples)
    return Prepared(
        examples=len(examples),
        tokens=totals.tokens,
        trained_tokens=totals.trained,
        steps=steps,
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        left_out=[],
    )


def _explained(error: BaseException, config: RunConfig) -> BaseException:
    """Out of memory in words; any other error as it is."""
    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
    if not out_of_memory:
        return error
    return TrainingError(
        f"the memory does not suffice for batches of {config.batch_size} with max_length {config.max_length}; "
        "lower either, or train with LoRA."
    )
