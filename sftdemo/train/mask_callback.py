"""Show what any transformers Trainer is about to train: a callback, and how to read its batches.

Importing this module imports transformers' trainer, so import it where it is used.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, TrainerCallback

from ..core.errors import TrainingError, unwritten
from ..core.files import write_whole
from ..mask.report import MaskReport, report_on

_COLUMNS = (
    *("input_ids", "labels", "completion_mask", "assistant_masks", "attention_mask", "position_ids", "seq_lengths"),
)
logger = logging.getLogger("sftdemo")


class MaskCallback(TrainerCallback):
    """Report what is trained before the first step: in the log in one line, and in a file with every token.

    ```python
    trainer = Trainer(..., callbacks=[sftdemo.MaskCallback(strict=True)])
    ```

    It reads the first batch as the trainer collates it, and leaves the random numbers of the training as they were.

    Args:
        path (`str` or `Path`, *optional*, defaults to `"mask.html"`):
            Where to write the report.
        strict (`bool`, *optional*, defaults to `False`):
            Whether to stop the training if there is an error: nothing trained, padding trained, EOS never trained.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Needed only if the trainer has none (`processing_class`).

    After `on_train_begin`, `report` is the `MaskReport`.
    """

    def __init__(
        self,
        path: str | Path = "mask.html",
        strict: bool = False,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ):
        self.path, self.strict, self.tokenizer = Path(path), strict, tokenizer
        self.report: MaskReport | None = None

    def on_train_begin(self, args, state, control, processing_class=None, train_dataloader=None, **kwargs):
        """Report on the first batch.

        Raises:
            TrainingError: if the file cannot be written, or there is an error and `strict` is set.
        """
        if not state.is_world_process_zero:
            return
        tokenizer = self.tokenizer or processing_class
        if tokenizer is None or train_dataloader is None:
            raise TrainingError("the trainer has no tokenizer; pass it: MaskCallback(tokenizer=tokenizer).")
        self.report = report_on(records_of_batch(first_batch(train_dataloader)), tokenizer)
        try:
            write_whole(self.path, f"<!doctype html><meta charset='utf-8'>{self.report.to_html()}")
        except OSError as error:
            raise TrainingError(f"{self.path} cannot be written: {unwritten(error, 'file')}") from error
        logger.log(logging.WARNING if self.report.errors else logging.INFO, "%s (%s)", self.report, self.path)
        if self.strict and self.report.errors:
            raise TrainingError(f"the labels carry an error, so nothing is trained: {self.report.errors[0]}")


def first_batch(dataloader: Iterable[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the first batch of a dataloader, and leave torch's random numbers as they were."""
    with torch.random.fork_rng(devices=[]):
        return next(iter(dataloader))


def records_of_batch(batch: Mapping[str, Any]) -> list[dict[str, list[int]]]:
    """Return the rows of a collated batch, as `report_on` takes them.

    Args:
        batch (`Mapping[str, Any]`):
            Tensors of the shape `(rows, length)`, or lists. `labels` must be among them.

    Raises:
        TrainingError: if there are no `input_ids` or no `labels`.
    """
    missing = {"input_ids", "labels"} - set(batch)
    if missing:
        raise TrainingError(f"the batch has no {sorted(missing)[0]}, so nothing can be said of what is trained.")
    columns = {name: _as_lists(batch[name]) for name in _COLUMNS if name in batch}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _as_lists(values: Any) -> list[list[int]]:
    return values.tolist() if isinstance(values, torch.Tensor) else [list(row) for row in values]


def records_of_rows(rows: Iterable[Mapping[str, Any]], most: int) -> Iterator[dict[str, Any]]:
    """Yield the columns of the first rows of a data set that `report_on` knows."""
    for row in islice(rows, most):
        yield {name: row[name] for name in _COLUMNS if row.get(name) is not None}
