"""Proves, with the user's own model on the user's own device, that packed examples do not see each other.

row       [A A A A][B B B][C C C C C]    A's tokens are exchanged; how far do the probabilities of B's and C's move?
bfd        0 1 2 3  0 1 2  0 1 2 3 4     not at all: each example attends to itself only
wrapped    0 1 2 3  4 5 6  7 8 9 …       they do: one long text. This control shows that a leak would be seen.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import accumulate
from typing import TYPE_CHECKING

from ..core.config import RunConfig
from ..core.errors import DataError, ModelError, SftdemoError, sentence
from ..core.events import Event, Failed, Finished, Isolation, Phase
from ..data.examples import ParsedExamples, Problem
from ..data.templates import get_template
from ..mask.encoding import encoder_for
from ..mask.labels import MaskedExample, mask_examples
from ..model.devices import choose_device
from ..model.loading import effective_max_length, load_model, load_tokenizer, model_event
from ..model.prefix_tree import prefix_tree
from ..model.sources import ModelSource, located

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

ROUNDING = 1e-5  # nats; a change up to this is float32's rounding, not a neighbour
ROW_TOKENS = 512  # the row's length at most: attention costs the square of it
ROW_EXAMPLES = 8

PACKINGS = ("bfd", "wrapped")


def prove(config: RunConfig, data: ParsedExamples, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Packs a few examples, exchanges the first one's tokens, and tells how far that reaches into the others.

    An `Isolation` for each of `PACKINGS`; the last event is `Finished` or `Failed`. The model is called as the trainer
    calls it on a packed row, but in float32 and without dropout, so that nothing else moves. `stop` is asked before
    each of `PACKINGS`, which takes two forward passes.
    """
    begin = time.perf_counter()
    try:
        yield from _prove(config, data, stop, begin)
    except SftdemoError as error:
        yield Failed(sentence(error))


def _prove(config: RunConfig, data: ParsedExamples, stop: Callable[[], bool], begin: float) -> Iterator[Event]:
    device = choose_device(config.device)
    source = yield from located(config.model)
    yield Phase("load", "Loading the model")
    tokenizer = load_tokenizer(source)
    row = _packed_row(config, data, source, tokenizer)
    model = load_model(source, device).eval()
    yield model_event(source, model, "float32")

    yield Phase("isolation", f"Exchanging 1 of {len(row)} packed examples and looking at the others")
    for packing in PACKINGS:
        if stop():
            yield Finished(0, 0, time.perf_counter() - begin, stopped=True)
            return
        change, looked_at = reach(model, tokenizer, row, packing)
        yield Isolation(packing, change, row[0].row, len(row) - 1, looked_at)
    yield Finished(0, 0, time.perf_counter() - begin, stopped=False)


def reach(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, row: Sequence[MaskedExample], packing: str
) -> tuple[float, int]:
    """Exchanges the tokens of the first example of a packed row. How far that moves any log-probability of the others
    at most, in nats, and how many of these there are."""
    examples = [example.input_ids for example in row]
    exchanged = [_exchanged(examples[0], model, tokenizer), *examples[1:]]
    before = _log_probabilities(model, examples, packing)
    after = _log_probabilities(model, exchanged, packing)
    return (after - before).abs().max().item(), before.numel()


def _packed_row(
    config: RunConfig, data: ParsedExamples, source: ModelSource, tokenizer: PreTrainedTokenizerBase
) -> list[MaskedExample]:
    """The first examples that fit into a row together, two of them at least.

    None takes more than half of the row: what is longer loses its end, which no earlier token depends on.
    """
    max_length = effective_max_length(config.max_length, source)
    template = get_template(config.template, config.turns)
    room = min(max_length, ROW_TOKENS)
    half, row, refused = room // 2, [], list(data.problems)
    for example in mask_examples(data.train, tokenizer, template, max_length):
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


def _exchanged(ids: Sequence[int], model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Another ordinary token for every one: half the vocabulary further on, and then the next that is not special."""
    special = encoder_for(tokenizer).special_ids
    size = min(len(tokenizer), len(model.get_input_embeddings().weight))  # either may be the larger one

    def other(index: int) -> int:
        candidates = ((index + size // 2 + step) % size for step in range(size))
        return next(candidate for candidate in candidates if candidate not in special)

    return tuple(other(index) for index in ids)


def _packed_batch(examples: Sequence[Sequence[int]], packing: str) -> dict[str, torch.Tensor | int]:
    """The row as one line of tokens: with `"bfd"` all that TRL's collator says of it, with `"wrapped"` as one text."""
    import torch

    lengths = [len(ids) for ids in examples]
    batch = {"input_ids": torch.tensor([[index for ids in examples for index in ids]])}
    if packing == "wrapped":
        return batch | {"position_ids": torch.arange(sum(lengths))[None]}
    bounds = torch.tensor([0, *accumulate(lengths)], dtype=torch.int32)
    owners = torch.arange(len(lengths), dtype=torch.int32).repeat_interleave(torch.tensor(lengths))
    return batch | {
        "position_ids": torch.cat([torch.arange(length) for length in lengths])[None],
        "cu_seq_lens_q": bounds,
        "cu_seq_lens_k": bounds,
        "max_length_q": max(lengths),
        "max_length_k": max(lengths),
        "seq_idx": owners[None],
    }


def _log_probabilities(model: PreTrainedModel, examples: Sequence[Sequence[int]], packing: str) -> torch.Tensor:
    """What each token of all examples but the first gets from those before it, in nats; a vector.

    An example's first token is left out, since nothing in its own example predicts it.
    """
    import torch

    try:
        with torch.inference_mode():
            logits, targets = (
                _shared(model, examples)
                if packing == "bfd" and _is_shared(model, examples)
                else _in_a_line(model, examples, packing)
            )
            return -torch.nn.functional.cross_entropy(logits.float(), targets, reduction="none")
    except torch.OutOfMemoryError as error:
        tokens = sum(map(len, examples))
        raise ModelError(f"{model.device} has no room for a row of {tokens} tokens; lower max_length.") from error


def _is_shared(model: PreTrainedModel, examples: Sequence[Sequence[int]]) -> bool:
    from ..model.prefix_sharing import can_share

    return can_share(model, max(map(len, examples)))


def _shared(model: PreTrainedModel, examples: Sequence[Sequence[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets as the trainer has them: what the examples begin with in common is computed once."""
    from ..model.prefix_sharing import Branches, accelerated

    branches = Branches.of(prefix_tree([(tuple(ids), tuple(ids)) for ids in examples]), model.device)
    first = len(examples[0]) - 1
    with accelerated(model):
        return branches.logits(model)[first:], branches.targets[first:]


def _in_a_line(
    model: PreTrainedModel, examples: Sequence[Sequence[int]], packing: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits and targets of a row in one line, which is how the trainer has it of a model that cannot share."""
    import torch

    batch = _packed_batch(examples, packing)
    batch = {name: value.to(model.device) if torch.is_tensor(value) else value for name, value in batch.items()}
    begins = list(accumulate((len(ids) for ids in examples), initial=0))
    keep = torch.zeros_like(batch["input_ids"], dtype=torch.bool)
    keep[:, begins[1] : -1] = True  # a position predicts the token after it
    keep[:, [begin - 1 for begin in begins[1:]]] = False
    # use_cache=False: with a cache, transformers does not isolate packed examples by their position_ids
    logits = model(**batch, use_cache=False, logits_to_keep=keep).logits
    return logits.view(-1, logits.shape[-1]), batch["input_ids"][:, 1:][keep[:, :-1]]
