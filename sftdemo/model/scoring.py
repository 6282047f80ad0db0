"""Score every token of some rows: its probability under the model, and the tokens that were likelier.

Importing this module imports transformers' models, so import it where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from ..core.events import HeldOut
from ..mask.labels import IGNORE_INDEX, MaskedExample
from .predictions import predict_batch, predict_shared
from .prefix_sharing import acceleration, can_share

BATCH_TOKENS = 512  # whose logits are held at once, a longer row excepted: 100 MB with the default model's vocabulary
FEW_TOKENS = 64  # the same in haste: it takes the default model 0.2 s on 2 cores
LIKELIEST = 3
Row = TypeVar("Row", bound=MaskedExample)


@dataclass(frozen=True, slots=True)
class RowScores:
    """The scores of a row's tokens, except the first, which nothing predicts.

    Args:
        losses (`tuple[float, ...]`):
            -log p, in nats.
        ranks (`tuple[int, ...]`):
            The rank of each token; 1 if no token was likelier.
        likeliest (`tuple[tuple[tuple[int, float], ...], ...]`):
            The `LIKELIEST` tokens that the model would have put there, as (id, probability), the likeliest first.
    """

    losses: tuple[float, ...]
    ranks: tuple[int, ...]
    likeliest: tuple[tuple[tuple[int, float], ...], ...]


@dataclass(frozen=True)
class MeanLosses:
    """Losses over all rows, each the sum of -log p in nats over its number of tokens; 0.0 where there is none.

    `completion` is of the trained tokens, `prompt` of the others, first tokens left out.
    """

    completion: float
    prompt: float
    completion_tokens: int
    prompt_tokens: int


def score(
    model: PreTrainedModel | PeftModel,
    rows: Sequence[MaskedExample],
    shares: bool | None = None,
    tokens: int = BATCH_TOKENS,
    stop: Callable[[], bool] = lambda: False,
    ranked: bool = True,
) -> Iterator[RowScores]:
    """Yield a `RowScores` for each row, in order. Labels are ignored, and no dropout is applied.

    Args:
        shares (`bool`, *optional*):
            Whether common beginnings are computed once. Defaults to what `can_share` returns.
        tokens (`int`, *optional*):
            How many tokens of rows are computed at once.
        stop (`Callable[[], bool]`, *optional*):
            Called after each time. The rows end once it returns true.
        ranked (`bool`, *optional*):
            Whether ranks and likelier tokens are looked for; without them, they are empty.
    """
    if shares is None:
        shares = can_share(model, max((len(row.input_ids) for row in rows), default=0))
    was_training = model.training
    model.eval()
    try:
        for batch in batches(rows, tokens):
            with torch.inference_mode():
                tree = shares and any(len(row.input_ids) > 1 for row in batch)
                found = _shared(model, batch) if tree else [_alone(model, row) for row in batch]
            for logits, row in zip(found, batch, strict=True):
                yield _scores(logits.float(), row, ranked)
            if stop():
                break
    finally:
        model.train(was_training)


def batches(rows: Sequence[Row], most: int) -> Iterator[list[Row]]:
    """Yield the rows in lists that are computed at once: of at most so many tokens, a longer row excepted."""
    batch, tokens = list[Row](), 0
    for row in rows:
        if batch and tokens + len(row.input_ids) > most:
            yield batch
            batch, tokens = [], 0
        batch.append(row)
        tokens += len(row.input_ids)
    if batch:
        yield batch


def mean_losses(scores: Sequence[RowScores], rows: Sequence[MaskedExample]) -> MeanLosses:
    """Return the mean losses over the tokens of all rows, independent of how the rows were batched."""
    sums, counts = [0.0, 0.0], [0, 0]
    for found, row in zip(scores, rows, strict=True):
        for loss, label in zip(found.losses, row.labels[1:], strict=True):
            sums[label == IGNORE_INDEX] += loss
            counts[label == IGNORE_INDEX] += 1
    completion, prompt = (total / count if count else 0.0 for total, count in zip(sums, counts, strict=True))
    return MeanLosses(completion, prompt, *counts)


def judge(
    model: PreTrainedModel | PeftModel,
    rows: Sequence[MaskedExample],
    stop: Callable[[], bool],
    shares: bool | None = None,
    in_haste: bool = False,
) -> list[RowScores]:
    """Return the losses alone of the rows: of all, or once it is stopped of as many as there are by then, at least of
    one. `shares` is as in `score`."""
    tokens = FEW_TOKENS if in_haste else BATCH_TOKENS
    return list(score(model, rows, shares, tokens, stop, ranked=False))


def held_out_losses(scores: Sequence[RowScores], rows: Sequence[MaskedExample], step: int) -> HeldOut:
    """Return the losses after `step` steps on as many of the rows, from the first on, as there are scores."""
    found = mean_losses(scores, rows[: len(scores)])
    return HeldOut(step, found.completion, found.prompt, found.completion_tokens, found.prompt_tokens)


def _shared(model, batch: Sequence[MaskedExample]) -> Sequence[torch.Tensor]:
    lengths = [len(row.input_ids) - 1 for row in batch]
    with acceleration(model):
        found = predict_shared(model, [(row.input_ids, row.input_ids) for row in batch], model.device)
    return found.logits.split(lengths)


def _alone(model, row: MaskedExample) -> torch.Tensor:
    ids = torch.tensor([row.input_ids], device=model.device)
    return predict_batch(model, {"input_ids": ids, "labels": ids, "attention_mask": torch.ones_like(ids)}).logits


def _scores(logits: torch.Tensor, row: MaskedExample, ranked: bool) -> RowScores:
    targets = torch.tensor(row.input_ids[1:], device=logits.device)[:, None]
    normalizers = logits.logsumexp(-1, keepdim=True)
    chosen = logits.gather(-1, targets)
    losses = tuple((normalizers - chosen)[:, 0].tolist())
    if not ranked:
        return RowScores(losses, (), ())
    top = logits.topk(min(LIKELIEST, logits.shape[-1]), -1)
    probabilities = (top.values - normalizers).exp()
    pairs = zip(top.indices.tolist(), probabilities.tolist(), strict=True)
    return RowScores(
        losses=losses,
        ranks=tuple(((logits > chosen).sum(-1) + 1).tolist()),
        likeliest=tuple(tuple(zip(ids, shares, strict=True)) for ids, shares in pairs),
    )
