"""How examples lie in what the trainer gets, laid out beforehand.

padded   [S S a a pad]       shared          [S S a b b c]     packed   [S S b b b][S S a a S c c]
         [S S b b b]         position_ids     0 1 2 2 3 1                0 1 2 3 4  0 1 2 3 0 1 2
         [S c c pad pad]
"""

# pyarrow and datasets have no type stubs, and TRL annotates its packing in part
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from .encoding import Span

SEED_LENGTH = 128  # what the original recipe cuts or pads every example to, whatever the settings


@dataclass(frozen=True, slots=True)
class Block:
    """A part of an example inside a row: the example's index in the lengths that were given, the part's tokens (none
    where all that is to be computed of it stands in earlier rows), and the first of them in the example."""

    example: int
    length: int
    begin: int = 0


@dataclass(frozen=True)
class Layout:
    """One way to lay examples into rows.

    Args:
        name (`str`):
            `"padded"`, `"shared"`, `"packed"` or `"seed"`.
        rows (`tuple[tuple[Block, ...], ...]`):
            The examples of each row, in the order of their positions.
        widths (`tuple[int, ...]`, one a row):
            Positions of each row, padding included.
        lost (`int`):
            Tokens that truncation cuts off.
        saved (`int`):
            Tokens that are kept and yet not computed, with `"shared"` only.
    """

    name: str
    rows: tuple[tuple[Block, ...], ...]
    widths: tuple[int, ...]
    lost: int
    saved: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of examples that are computed in all rows: neither those that are cut off nor those saved."""
        return sum(_sums(self.rows))

    @property
    def positions(self) -> int:
        """What the model computes: the tokens and the padding."""
        return sum(self.widths)

    @property
    def wasted(self) -> int:
        """Positions of padding."""
        return self.positions - self.tokens

    @property
    def fill(self) -> float:
        """The share of the positions that are tokens, 0.0 where there is none. Without padding it is always 1.0, so
        this does not say how full packed rows are: `filled` does."""
        return self.tokens / self.positions if self.positions else 0.0

    def filled(self, length: int) -> tuple[float, ...]:
        """How much of `length` tokens each row holds, 1.0 where it is full; for packed rows `length` is `max_length`.

        What a packed row leaves free is not padded and costs no computing, but the rows become more and the optimizer
        steps smaller."""
        return tuple(tokens / length for tokens in _sums(self.rows))

    def trained_parts(self, block: Block, spans: Sequence[Span]) -> list[Span]:
        """The runs of trained tokens in a block, counted from its beginning. `spans` are those of the whole example, as
        `labels.trained_spans` gives them. In a shared row a token stands for the one that it predicts."""
        begin = block.begin + (self.name == "shared")
        inside = ((max(first - begin, 0), min(last - begin, block.length)) for first, last in spans)
        return [(first, last) for first, last in inside if first < last]

    def to_dict(self) -> dict[str, Any]:
        """The layout as JSON can hold it, with its figures; a row is a list of [example, length]."""
        figures = {name: getattr(self, name) for name in ("tokens", "positions", "wasted", "fill", "saved")}
        rows = [[[block.example, block.length] for block in row] for row in self.rows]
        return {"name": self.name, "rows": rows, "widths": list(self.widths), "lost": self.lost} | figures


def layouts(lengths: Sequence[int], fresh: Sequence[int], batch_size: int, max_length: int) -> tuple[Layout, ...]:
    """The same examples laid out four ways, for comparison.

    - `"padded"`: an example a row; each `batch_size` rows are padded to the longest of them.
    - `"shared"`: each `batch_size` examples are one prefix tree, each common beginning in it once and no example's
      last token, which predicts nothing. Without packing, this is what the trainer computes outside attention, which
      goes row by row; where `can_share` forbids it, it pads.
    - `"packed"`: TRL's `bfd`, by TRL itself: whole examples into rows of at most `max_length`, the longest first, a
      thousand examples at a time. `batch_size` such rows are a batch, without padding; with packing, the trainer has
      their examples share their beginnings as well.
    - `"seed"`: the original recipe, an example a row, cut or padded to exactly 128.

    Without packing the examples are batched as they are given; the trainer draws them in another order each epoch, so
    its padding differs a little. The packed rows are the trainer's, in the order before it draws them.

    Args:
        lengths (`Sequence[int]`):
            Tokens of each example before any truncation; leave out the examples that have nothing to train, as
            the trainer does. An example without a token is in no row.
        fresh (`Sequence[int]`):
            Of each example, cut to `max_length`, the tokens that no earlier row of its batch has computed, as
            `Sharing` counts them; examples without a token take no part in its batches.
        batch_size (`int`):
            Examples an optimizer step sees; with packing, packed rows.
        max_length (`int`):
            Tokens an example keeps at most; with packing also those of a row. Not used by `"seed"`.
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
    """The first of `layouts` by itself, without loading any library."""
    blocks = _cut(lengths, max_length)
    widths = [max(block.length for block in batch) for batch in _batches(blocks, batch_size) for _ in batch]
    return _one_a_row("padded", lengths, blocks, widths)


def _one_a_row(name: str, lengths: Sequence[int], blocks: Sequence[Block], widths: Sequence[int]) -> Layout:
    lost = sum(lengths) - sum(block.length for block in blocks)
    return Layout(name, tuple((block,) for block in blocks), tuple(widths), lost)


def _cut(lengths: Sequence[int], limit: int) -> list[Block]:
    return [Block(example, min(length, limit)) for example, length in enumerate(lengths) if length]


def _fresh_part(block: Block, fresh: int) -> Block:
    """What is computed of an example where its beginning is shared; its last token predicts nothing."""
    return Block(block.example, fresh, block.length - 1 - fresh)


def _batches(blocks: Sequence[Block], size: int) -> Iterator[tuple[Block, ...]]:
    for begin in range(0, len(blocks), size):
        yield tuple(blocks[begin : begin + size])


def load_packer() -> None:
    """Imports what `layouts` needs, which takes 2 s beside torch and transformers, for nobody to wait for it."""
    import trl.data_utils  # noqa: F401  # pyright: ignore[reportUnusedImport]


def _packed(blocks: Sequence[Block], max_length: int) -> Iterator[tuple[Block, ...]]:
    """The rows that TRL makes: it is given, for each token, the index of its example, and these are read back."""
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
    """Counts, row by row, how many nodes each adds to the tree of its batch, without building the tree.

    Args:
        batch_size (`int`):
            Rows that share one tree.
    """

    def __init__(self, batch_size: int):
        self._batch_size = batch_size
        self._sorted: list[tuple[int, ...]] = []

    def add(self, input_ids: Sequence[int]) -> int:
        """Tokens of this row that no earlier row of its batch has computed, the row's last token not counted."""
        if len(self._sorted) == self._batch_size:
            self._sorted = []
        row = tuple(input_ids[:-1])
        at = bisect_left(self._sorted, row)  # the longest common beginning is with a neighbour in sorted order
        shared = max((_common(row, other) for other in self._sorted[max(at - 1, 0) : at + 1]), default=0)
        insort(self._sorted, row)
        return len(row) - shared


def _common(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    """Length of the common beginning; slices are compared in C, which is quicker than token by token."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def fresh_tokens(rows: Iterable[Sequence[int]], batch_size: int) -> list[int]:
    """`Sharing.add` of every row."""
    sharing = Sharing(batch_size)
    return [sharing.add(row) for row in rows]
