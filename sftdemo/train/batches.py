"""The trainer's own batches read back, and compared with what was shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING

from ..core.errors import TrainingError
from ..mask.labels import IGNORE_INDEX, MaskedExample

if TYPE_CHECKING:
    import torch


Rows = list[tuple[tuple[int, ...], tuple[int, ...]]]


def split_batch(batch: Mapping[str, torch.Tensor]) -> Rows:
    """The (input_ids, labels) of every example in a collated batch, padding taken off.

    Args:
        batch (`Mapping[str, torch.Tensor]`):
            `input_ids` and `labels` of shape `(rows, length)`, with `position_ids` that start again at 0 for each
            example (padding-free, packed) or else an `attention_mask` that is 0 on padding.
    """
    rows: Rows = []
    input_ids, labels = batch["input_ids"].tolist(), batch["labels"].tolist()
    if "position_ids" in batch:
        for ids, row_labels, positions in zip(input_ids, labels, batch["position_ids"].tolist(), strict=True):
            starts = [index for index, position in enumerate(positions) if position == 0] + [len(ids)]
            for begin, end in pairwise(starts):
                rows.append((tuple(ids[begin:end]), tuple(row_labels[begin:end])))
    else:
        for ids, row_labels, mask in zip(input_ids, labels, batch["attention_mask"].tolist(), strict=True):
            length = sum(mask)
            while any(
                label != IGNORE_INDEX for label in row_labels[length:]
            ):  # trained padding belongs to what is trained
                length += 1
            rows.append((tuple(ids[:length]), tuple(row_labels[:length])))
    return rows


def verify_batch(batch: Mapping[str, torch.Tensor], shown: Iterable[MaskedExample]) -> None:
    """Refuses a batch that does not carry the labels that were shown.

    Raises:
        TrainingError: naming the first token that differs.
    """
    labels_of = {}
    for example in shown:
        labels_of.setdefault(example.input_ids, set()).add(example.labels)
    for input_ids, labels in split_batch(batch):
        if labels not in labels_of.get(input_ids, ()):
            raise TrainingError(
                f"the trainer's batch is not what was shown: {len(input_ids)} tokens beginning {list(input_ids[:8])} "
                f"carry {sum(label != IGNORE_INDEX for label in labels)} trained labels that no shown example has. "
                "Nothing was trained; please report this."
            )
