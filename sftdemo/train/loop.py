"""Train on finished labels with TRL's SFTTrainer, and yield an event per step.

Importing this module takes about 9 s on 2 cores, so import it where it is used.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from copy import deepcopy
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback

from ..core import distributed
from ..core.config import RunConfig
from ..core.errors import TrainingError
from ..core.events import Checkpoint, FilmEnded, HeldOut, Prepared, Step
from ..data.row_file import RowFile
from ..mask.labels import MaskedExample
from ..model.devices import precision_of
from .callbacks import Reporter, Saver, in_turns
from .camera import Camera
from .checkpoints import Checkpoints
from .settings import adapter, arguments, refused
from .trainer import MaskedTrainer, Rows, totals


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    examples: Rows,
    config: RunConfig,
    stop: Callable[[], bool],
    scratch: str,
    held_out: Sequence[MaskedExample] = (),
    checkpoints: Checkpoints | None = None,
    film: Path | None = None,
) -> Generator[Prepared | Step | HeldOut | Checkpoint | FilmEnded, None, PreTrainedModel | PeftModel]:
    """Train `model` on the examples' own labels. Yield a `Prepared`, then a `Step` after each optimizer step.

    With `checkpoints`, a `Checkpoint` follows each step after which one is written. A training that goes on from a
    checkpoint yields the steps before it as well, and then the very steps that it would have taken without a break.
    With `film`, a folder, the adapter is kept there as it was after some of the steps (`camera.Camera`).

    The `held_out` rows are not trained; now and then between the first step and the last, a `HeldOut` reports the
    model's loss on them. Examples without a trained token are left out; a `RowFile` holds none. The generator returns
    the trained model, with LoRA a `PeftModel` around `model`. `stop` is called after each step; closing the generator
    stops the training as well.

    Raises:
        TrainingError: when nothing is left to train, the first batch differs from `examples`, the loss is not finite,
            or memory runs out.
    """
    if not isinstance(examples, RowFile):
        examples = [example for example in examples if example.trained]
    if not examples:
        raise TrainingError("no example has a trained token, so there is nothing to learn.")
    disable_progress_bars()
    closed = False
    try:
        trainer = _trainer(model, tokenizer, examples, config, scratch, held_out)
    except (ValueError, TypeError, RuntimeError, re.error) as error:
        if not config.set:  # of this program's own settings none should fail
            raise
        raise TrainingError(refused(config, error)) from error
    _check_adapter(trainer.model)
    if checkpoints is not None and trainer.is_fsdp_enabled:
        raise TrainingError("save_every writes no checkpoints of a model that FSDP splits; leave it out.")
    if film is not None and trainer.is_fsdp_enabled:
        raise TrainingError("film keeps no adapter of a model that FSDP splits; leave it out.")
    spare = deepcopy(trainer.model).cpu() if trainer.is_fsdp_enabled else None

    def work(emit: Callable[[int | Step | HeldOut | Checkpoint | FilmEnded], None]) -> None:
        trainer.add_callback(Reporter(emit, lambda: closed or stop(), held_out, trainer.shares))
        if film is not None and distributed.is_first():
            trainer.add_callback(Camera(emit, film))
        if checkpoints is not None:
            trainer.saver = Saver(emit, checkpoints)
            trainer.add_callback(trainer.saver)
        begun = checkpoints and checkpoints.resume
        trainer.train(resume_from_checkpoint=str(begun) if begun else None)

    events = in_turns(work)
    try:
        for event in events:
            yield _prepared(trainer, examples, config, event) if isinstance(event, int) else event
    except Exception as error:
        raise _explained(error, config) from error
    finally:
        closed = True
        events.close()
    return trainer.model if spare is None else _whole(trainer, spare)


def _whole(trainer: MaskedTrainer, spare: PreTrainedModel | PeftModel) -> PreTrainedModel | PeftModel:
    """Return the trained model in one piece if FSDP has split it. Only the first process gets the weights.
    Not tested: accelerate has no FSDP on CPUs."""
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if distributed.is_first():
        spare.load_state_dict(weights)
    return spare.to(trainer.args.device)  # pyright: ignore[reportArgumentType] - as in `load_model`


def _check_adapter(model: PreTrainedModel | PeftModel) -> None:
    """Refuse an adapter on the embeddings or the head: they often are one matrix, which two adapters cannot share."""
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    if any(isinstance(module, BaseTunerLayer) for module in ends):
        raise TrainingError(
            "set puts the adapter on the model's embeddings or on its head; name linear layers in between, such as "
            "lora.target_modules=[q_proj,v_proj]."
        )


def _trainer(model, tokenizer, examples, config: RunConfig, scratch: str, held_out) -> MaskedTrainer:
    trainer = MaskedTrainer(
        model=model,
        args=arguments(config, model.device, scratch),
        processing_class=tokenizer,
        train_dataset=dataset(examples),
        peft_config=None if isinstance(model, PeftModel) else adapter(config),  # a saved adapter is trained on
        shown=examples,
        prompt_loss_weight=config.prompt_loss_weight,
        longest=max((len(row.input_ids) for row in held_out), default=0),
        bf16=precision_of(model, config.precision) == "bf16",
    )
    trainer.remove_callback(PrinterCallback)
    return trainer


def dataset(examples: Rows) -> Dataset:
    """Return the trainer's data set, with the columns `input_ids` and `labels`."""
    if isinstance(examples, RowFile):
        return examples.dataset()
    return Dataset.from_dict(
        {
            "input_ids": [list(example.input_ids) for example in examples],
            "labels": [list(example.labels) for example in examples],
        }
    )


def _prepared(trainer: MaskedTrainer, examples: Rows, config: RunConfig, steps: int) -> Prepared:
    counted = totals(examples)
    return Prepared(
        examples=len(examples),
        tokens=counted.tokens,
        trained_tokens=counted.trained,
        steps=steps,
        trainable_parameters=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        left_out=[],
        rows_a_step=config.rows_a_step,
        rows=trainer.rows,
        prompt_loss_weight=config.prompt_loss_weight,
    )


def _explained(error: BaseException, config: RunConfig) -> BaseException:
    """Return a clear error if memory ran out; return any other error unchanged."""
    out_of_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)
    if not out_of_memory:
        return error
    return TrainingError(
        f"the memory does not suffice for batches of {config.batch_size} with max_length {config.max_length}; "
        "lower either, or train with LoRA."
    )
