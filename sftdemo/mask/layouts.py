"""Lay out examples as the rows of a batch, before training, to compare padding, shared prefixes and packing.

padded   [S S a a pad]       shared          [S S a b b c]     packed   [S S b b b][S S a a S c c]
         [S S b b b]         position_ids     0 1 2 2 3 1                0 1 2 3 4  0 1 2 3 0 1 2
         [S c c pad pad]
"""

# pyarrow and datasets have no type stubs, and TRL annotates its packing in part
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .encoding import Span

SEED_LENGTH = 128  # the original recipe cuts or pads every example to it, whatever the settings


@dataclass(frozen=True, slots=True)
class Block:
    """A part of an example inside a row. `example` is its index in the given lengths. `length` is the number of tokens
    in this part, 0 if earlier rows compute all of the example. `begin` is the position of its first token."""

    example: int
    length: int
    begin: int = 0


@dataclass(frozen=True)
class Layout:
    """One way to arrange examples in rows.

    Args:
        name (`str`):
            `"padded"`, `"shared"`, `"packed"` or `"seed"`.
        rows (`tuple[tuple[Block, ...], ...]`):
            The examples of each row, in the order of their positions.
        widths (`tuple[int, ...]`, one a row):
            The number of positions in each row, padding included.
        lost (`int`):
            The number of tokens that truncation removes.
        saved (`int`):
            The number of tokens that are kept but not computed again; only with `"shared"`.
    """

    name: str
    rows: tuple[tuple[Block, ...], ...]
    widths: tuple[int, ...]
    lost: int
    saved: int = 0

    @property
    def tokens(self) -> int:
        """Return the number of tokens computed in all rows, without those that are cut off or saved."""
        return sum(_sums(self.rows))

    @property
    def positions(self) -> int:
        """Return the number of positions that the model computes: tokens and padding."""
        return sum(self.widths)

    @property
    def wasted(self) -> int:
        """Return the number of positions that are padding."""
        return self.positions - self.tokens

    @property
    def fill(self) -> float:
        """Return the share of positions that are tokens, or 0.0 if there are no positions. Without padding it is always
        1.0; use `filled` to see how full packed rows are."""
        return self.tokens / self.positions if self.positions else 0.0

    def filled(self, length: int) -> tuple[float, ...]:
        """Return how full each row is, as a share of `length` tokens; 1.0 is full. For packed rows, pass `max_length`.

        The free part of a packed row is not padded and costs no compute. But there are more rows, and fewer tokens in
        each optimizer step."""
        return tuple(tokens / length for tokens in _sums(self.rows))

    def trained_parts(self, block: Block, spans: Sequence[Span]) -> list[Span]:
        """Return the runs of trained tokens in a block, counted from its beginning. `spans` are those of the whole
        example, from `labels.trained_spans`. In a shared row, each position stands for the token that it predicts."""
        begin = block.begin + (self.name == "shared")
        inside = ((max(first - begin, 0), min(last - begin, block.length)) for first, last in spans)
        return [(first, last) for first, last in inside if first < last]

    def to_dict(self) -> dict[str, Any]:
        """Return the layout and its figures as JSON can hold them. A row is a list of [example, length]."""
        figures = {name: getattr(self, name) for name in ("tokens", "positions", "wasted", "fill", "saved")}
        rows = [[[block.example, block.length] for block in row] for row in self.rows]
        return {"name": self.name, "rows": rows, "widths": list(self.widths), "lost": self.lost} | figures


def layouts(lengths: Sequence[int], fresh: Sequence[int], batch_size: int, max_length: int) -> tuple[Layout, ...]:
    """Lay out the same examples in four ways, for comparison.

    - `"padded"`: one example per row. Every `batch_size` rows are padded to the longest of them.
    - `"shared"`: every `batch_size` examples form one prefix tree. It has each common beginning once, and leaves out
      the last token of each example, which predicts nothing. Without packing, this is what the trainer computes, except
      in attention, which runs row by row. If `can_share` does not allow it, the trainer pads.
    - `"packed"`: packed by TRL itself, with its strategy `bfd`. Whole examples go into rows of at most `max_length`
      tokens, the longest first, a thousand examples at a time. `batch_size` such rows are a batch, without padding.
      With packing, the trainer shares the beginnings of their examples as well.
    - `"seed"`: the original recipe. One example per row, cut or padded to exactly 128 tokens.

    Without packing, batches follow the order in which the examples are given. The trainer shuffles them each epoch, so
    its padding differs a little. The packed rows are those of the trainer, before it shuffles them.

    Args:
        lengths (`Sequence[int]`):
            The number of tokens of each example before truncation. Leave out examples with nothing to train, as the
            trainer does. An example without tokens is in no row.
        fresh (`Sequence[int]`):
            For each example, cut to `max_length`, the number of tokens that no earlier row of its batch has computed,
            as counted by `Sharing`. Examples without tokens do not count towards its batches.
        batch_size (`int`):
            Examples per optimizer step; with packing, packed rows per step.
        max_length (`int`):
            The most tokens that an example keeps; with packing, also the most in a row. Not used by `"seed"`.
    """
    blocks, seed = _cut(lengths, max_length), _cut(lengths, SEED_LENGTH)
    packed = tuple(_packed(blocks, max_length)) if blocks else ()
    shared = tuple(_batches([_fresh_part(block, fresh[block.example]) for block in blocks], batch_size))
    kept = sum(block.length for block in blocks)
    lost = sum(lengths) - kept
    return (
        padded(lengths, batch_size, max_length),
        Layout("shared", shared, _sums(shared), lost, kept - sum(_sums(shared))),
        Layout("packed", packed, _sums(packed), lost),
        _one_a_row("seed", lengths, seed, [SEED_LENGTH] * len(seed)),
    )


def padded(lengths: Sequence[int], batch_size: int, max_length: int) -> Layout:
    """Return the first of `layouts` alone, without importing any library."""
    blocks = _cut(lengths, max_length)
    widths = [max(block.length for block in batch) for batch in _batches(blocks, batch_size) for _ in batch]
    return _one_a_row("padded", lengths, blocks, widths)


def _one_a_row(name: str, lengths: Sequence[int], blocks: Sequence[Block], widths: Sequence[int]) -> Layout:
    lost = sum(lengths) - sum(block.length for block in blocks)
    return Layout(name, tuple((block,) for block in blocks), tuple(widths), lost)


def _cut(lengths: Sequence[int], limit: int) -> list[Block]:
    return [Block(example, min(length, limit)) for example, length in enumerate(lengths) if length]


def _fresh_part(block: Block, fresh: int) -> Block:
    """Return the part of an example that no earlier row computes. Its last token is left out: it predicts nothing."""
    return Block(block.example, fresh, block.length - 1 - fresh)


def _batches(blocks: Sequence[Block], size: int) -> Iterator[tuple[Block, ...]]:
    for begin in range(0, len(blocks), size):
        yield tuple(blocks[begin : begin + size])


def load_packer() -> None:
    """Import what `layouts` needs. It takes 2 s and 100 MB on top of torch and transformers."""
    import trl.data_utils  # noqa: F401  # pyright: ignore[reportUnusedImport]


def _packed(blocks: Sequence[Block], max_length: int) -> Iterator[tuple[Block, ...]]:
    """Yield the rows that TRL packs. TRL gets the index of the example in place of each token id; read these back."""
    import numpy as np
    import pyarrow as pa
    from datasets import Dataset, disable_progress_bars
    from trl.data_utils import pack_dataset

    disable_progress_bars()
    lengths = [block.length for block in blocks]
    owners = np.repeat(np.array([block.example for block in blocks], dtype=np.int32), lengths)
    tokens = pa.LargeListArray.from_arrays(np.cumsum([0, *lengths]), owners)
    table = pack_dataset(Dataset(pa.table({"tokens": tokens})), max_length, "bfd").with_format("arrow")[:]
    owners = table["tokens"].combine_chunks().flatten().to_numpy()
    rows = table["seq_lengths"].to_pylist()
    begins = np.cumsum([0, *(length for row in rows for length in row)])[:-1]
    examples = iter(owners[begins].tolist())
    for row in rows:
        yield tuple(Block(next(examples), length) for length in row)


def _sums(rows: Iterable[Sequence[Block]]) -> tuple[int, ...]:
    return tuple(sum(block.length for block in row) for row in rows)


class Sharing:
    """Count how many nodes each row adds to the prefix tree of its batch, without building the tree.

    Args:
        batch_size (`int`):
            The number of rows that share one tree.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._sorted: list[tuple[int, ...]] = []

    def add(self, input_ids: Sequence[int]) -> int:
        """Return how many tokens of this row no earlier row of its batch has computed, not counting its last token."""
        if len(self._sorted) == self._batch_size:
            self._sorted = []
        row = tuple(input_ids[:-1])
        at = bisect_left(self._sorted, row)  # a neighbour in sorted order has the longest common beginning
        shared = 0
        for other in self._sorted[max(at - 1, 0) : at + 1]:
            shared = common_length(row, other, shared)
        self._sorted.insert(at, row)
        return len(row) - shared


def common_length(first: Sequence[object], second: Sequence[object], least: int = 0) -> int:
    """Return the length of the common beginning, or `least` if it is no longer than that. Slices are compared in C,
    which is faster than token by token."""
    low, high = least, min(len(first), len(second))
    if first[: low + 1] != second[: low + 1]:
        return least
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
