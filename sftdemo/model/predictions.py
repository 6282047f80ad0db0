"""Predict the tokens that count in the loss. Training, scoring and the proof of packing all use this.

Importing this module imports torch and transformers' models, so import it where it is used.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NamedTuple

import torch
from torch.nn import Module

from ..mask.labels import IGNORE_INDEX, loss_weights
from .prefix_sharing import Branches
from .prefix_tree import Rows, prefix_tree


class Predictions(NamedTuple):
    """The predictions for the tokens that count in the loss, row by row.

    Args:
        logits (`torch.Tensor`, of shape `(tokens, vocabulary)`):
            The logits at the position before each token.
        targets, weights (`torch.Tensor`, of shape `(tokens,)`):
            The token, and its weight in the loss from `labels.loss_weights`.
    """

    logits: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


def predict_shared(model: Module, rows: Rows, device: torch.device, prompt_loss_weight: float = 0.0) -> Predictions:
    """Return the predictions for rows of (input_ids, labels), each common beginning computed once. `model` is one that
    `prefix_sharing.can_share` allows, inside `prefix_sharing.acceleration`."""
    branches = Branches.of(prefix_tree(rows, prompt_loss_weight), device)
    return Predictions(branches.logits(model), branches.targets, branches.weights)


def predict_batch(model: Module, batch: Mapping[str, Any], prompt_loss_weight: float = 0.0) -> Predictions:
    """Return the predictions for a collated batch as it comes, padded or packed; for its form see `split_batch`."""
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    labels = batch["labels"]
    weights = _weights_in_place(split_batch(batch), labels, prompt_loss_weight)
    keep = torch.zeros_like(labels, dtype=torch.bool)
    keep[:, :-1] = weights[:, 1:] > 0  # a position predicts the token after it
    # use_cache=False: with a cache, transformers does not isolate packed examples by their position_ids
    logits = model(**inputs, use_cache=False, logits_to_keep=keep).logits
    targets = torch.where(labels == IGNORE_INDEX, inputs["input_ids"], labels)
    return Predictions(logits.view(-1, logits.shape[-1]), targets[:, 1:][keep[:, :-1]], weights[:, 1:][keep[:, :-1]])


def _weights_in_place(rows: Rows, labels: torch.Tensor, prompt_loss_weight: float) -> torch.Tensor:
    """Return the weight of each position of a batch, of the shape of its labels; padding has none."""
    weights = [torch.tensor(loss_weights(own, prompt_loss_weight), device=labels.device) for _, own in rows]
    if len(rows) == len(labels):  # one example a row
        padded = torch.nn.utils.rnn.pad_sequence(weights, batch_first=True)
        return torch.nn.functional.pad(padded, (0, labels.shape[1] - padded.shape[1]))
    return torch.cat(weights).view_as(labels)


def split_batch(batch: Mapping[str, Any]) -> Rows:
    """Return the (input_ids, labels) of every example in a collated batch, without padding.

    Args:
        batch (`Mapping[str, Any]`):
            `input_ids` and `labels` of shape `(rows, length)`, with `position_ids` that start again at 0 for each
            example (padding-free, packed) or else an `attention_mask` that is 0 on padding.
    """
    rows: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    input_ids, labels = batch["input_ids"].tolist(), batch["labels"].tolist()
    if "position_ids" in batch:
        for ids, row_labels, positions in zip(input_ids, labels, batch["position_ids"].tolist(), strict=True):
            starts = [index for index, position in enumerate(positions) if position == 0] + [len(ids)]
            for begin, end in pairwise(starts):
                rows.append((tuple(ids[begin:end]), tuple(row_labels[begin:end])))
    else:
        for ids, row_labels, mask in zip(input_ids, labels, batch["attention_mask"].tolist(), strict=True):
            length = sum(mask)
            # trained padding belongs to what is trained
            while any(label != IGNORE_INDEX for label in row_labels[length:]):
                length += 1
            rows.append((tuple(ids[:length]), tuple(row_labels[:length])))
    return rows
