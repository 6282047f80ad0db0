"""Prove that packed examples do not see each other, with the user's own model on the user's own device.

The tokens of A are replaced. How much do the log-probabilities of the tokens of B and C change?

row       [A A A A][B B B][C C C C C]
bfd        0 1 2 3  0 1 2  0 1 2 3 4     not at all: each example attends only to itself
wrapped    0 1 2 3  4 5 6  7 8 9 …       they change: this is one long text, a control that shows what a leak looks like
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, cast

from ..core.config import RunConfig
from ..core.errors import DataError, ModelError
from ..core.events import Event, Isolation, Phase
from ..core.streams import Outcome, event_stream
from ..data.examples import ParsedExamples, Problem
from ..mask.encoding import encoder_for
from ..mask.labels import IGNORE_INDEX, MaskedExample
from ..model.loading import OpenModel, open_model
from ..model.prefix_tree import Rows
from ..train.batches import collate_packed

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from ..model.predictions import Predictions

ROW_TOKENS = 512  # maximum length of the row, because the cost of attention grows with its square
ROW_EXAMPLES = 8

PACKINGS = ("bfd", "wrapped")


@event_stream
def prove(
    config: RunConfig, data: ParsedExamples, stop: Callable[[], bool] = lambda: False
) -> Generator[Event, None, Outcome]:
    """Pack a few examples, replace the tokens of the first, and measure how much that changes the others.

    Yields an `Isolation` for each of `PACKINGS`. The last event is `Finished` or `Failed`. The model is called as the
    trainer calls it on a packed row, but in float32 and without dropout, so that nothing else can change the result.
    `stop` is checked before each of `PACKINGS`, which takes two forward passes.
    """
    opened = yield from open_model(config)
    row = _packed_row(opened, data)
    model = yield from opened.load()
    model.eval()
    yield Phase("isolation", f"Exchanging 1 of {len(row)} packed examples and looking at the others")
    for packing in PACKINGS:
        if stop():
            return Outcome(stopped=True)
        change, looked_at = reach(model, opened.tokenizer, row, packing)
        yield Isolation(packing, change, row[0].row, len(row) - 1, looked_at)
    return Outcome()


def reach(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, row: Sequence[MaskedExample], packing: str
) -> tuple[float, int]:
    """Replace the tokens of the first example in a packed row.

    Returns the largest change, in nats, in any log-probability of the other examples, and the number of these
    log-probabilities.
    """
    examples = [example.input_ids for example in row]
    exchanged = [_exchanged(examples[0], model, tokenizer), *examples[1:]]
    before = _log_probabilities(model, examples, packing)
    after = _log_probabilities(model, exchanged, packing)
    return (after - before).abs().max().item(), before.numel()


def _packed_row(opened: OpenModel, data: ParsedExamples) -> list[MaskedExample]:
    """Return the first examples that fit into a row together, at least two.

    No example takes more than half of the row. Longer ones lose their end, on which no earlier token depends.

    Raises:
        DataError: if there are fewer than two.
    """
    config = opened.config
    room = min(config.max_length, ROW_TOKENS)
    half, row, refused = room // 2, [], list(data.problems)
    for example in _sequences(opened.masker.mask(data.train)):
        if isinstance(example, Problem):
            refused.append(example)
        elif example.trained:
            shortened = replace(example, input_ids=example.input_ids[:half], labels=example.labels[:half])
            room -= len(shortened.input_ids)
            if room < 0 or len(row) == ROW_EXAMPLES:
                break
            row.append(shortened)
    if len(row) < 2:
        reason = f" The first refused: {refused[0]}" if refused else ""
        raise DataError(f"two examples to train on are needed to see whether one sees another, not {len(row)}.{reason}")
    return row


def _sequences(masked: Iterable[tuple[MaskedExample, ...] | Problem]) -> Iterator[MaskedExample | Problem]:
    for row in masked:
        yield from [row] if isinstance(row, Problem) else row


def _exchanged(ids: Sequence[int], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Return a different token for each id: half the vocabulary further on, then the next one that is not special."""
    special = encoder_for(tokenizer).special_ids
    embeddings = cast("torch.Tensor", model.get_input_embeddings().weight)
    size = min(len(tokenizer), len(embeddings))  # either may be the larger one

    def other(index: int) -> int:
        candidates = ((index + size // 2 + step) % size for step in range(size))
        return next(candidate for candidate in candidates if candidate not in special)

    return tuple(other(index) for index in ids)


def _log_probabilities(model: PreTrainedModel, examples: Sequence[tuple[int, ...]], packing: str) -> torch.Tensor:
    """Return the log-probability, in nats, of each token of every example except the first, as a vector.

    The first token of an example is left out, because no token of its own example precedes it.

    Raises:
        ModelError: if the device runs out of memory.
    """
    import torch

    try:
        with torch.inference_mode():
            logits, targets, _ = _predictions(model, examples, packing)
            return -torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    except torch.OutOfMemoryError as error:
        tokens = sum(map(len, examples))
        raise ModelError(f"{model.device} has no room for a row of {tokens} tokens; lower max_length.") from error


def _predictions(model: PreTrainedModel, examples: Sequence[tuple[int, ...]], packing: str) -> Predictions:
    """Return what the trainer predicts for the row or, with `"wrapped"`, for the same tokens as one text."""
    from ..model.predictions import predict_batch, predict_shared
    from ..model.prefix_sharing import acceleration, can_share

    first, *others = examples
    rows: Rows = [(first, (IGNORE_INDEX,) * len(first)), *((ids, (IGNORE_INDEX, *ids[1:])) for ids in others)]
    if packing == "wrapped":
        input_ids, labels = (tuple(chain.from_iterable(column)) for column in zip(*rows, strict=True))
        rows = [(input_ids, labels)]
    elif can_share(model, max(map(len, examples))):
        with acceleration(model):
            return predict_shared(model, rows, model.device)
    batch = collate_packed(rows)
    return predict_batch(model, {name: _to(value, model.device) for name, value in batch.items()})


def _to(value: torch.Tensor | int, device: torch.device) -> torch.Tensor | int:
    return value if isinstance(value, int) else value.to(device)
