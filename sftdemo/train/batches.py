"""Read the trainer's batches back and compare them with the mask that was shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..core.errors import TrainingError
from ..data.row_file import StoredRow
from ..mask.labels import IGNORE_INDEX, MaskedExample
from ..model.prefix_tree import Rows


def collate_packed(rows: Rows) -> dict[str, Any]:
    """Collate, with TRL's own collator, examples that `bfd` packed into one row. Each attends to itself only."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    input_ids, labels = ([index for example in column for index in example] for column in zip(*rows, strict=True))
    row = {"input_ids": input_ids, "labels": labels, "seq_lengths": [len(ids) for ids, _ in rows]}
    return DataCollatorForLanguageModeling(pad_token_id=0, padding_free=True)([row])  # nothing is padded


def verify_batch(batch: Mapping[str, Any], shown: Iterable[MaskedExample | StoredRow]) -> None:
    """Refuse a batch whose labels are not those that were shown.

    Raises:
        TrainingError: naming the first token that differs.
    """
    from ..model.predictions import split_batch

    labels_of: dict[tuple[int, ...], set[tuple[int, ...]]] = {}
    for example in shown:
        labels_of.setdefault(example.input_ids, set()).add(example.labels)
    for input_ids, labels in split_batch(batch):
        if labels not in labels_of.get(input_ids, ()):
            raise TrainingError(
                f"the trainer's batch is not what was shown: {len(input_ids)} tokens beginning {list(input_ids[:8])} "
                f"carry {sum(label != IGNORE_INDEX for label in labels)} trained labels that no shown example has. "
                "Nothing was trained; please report this."
            )
