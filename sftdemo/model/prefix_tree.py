"""Build a tree of tokens from rows that begin alike, so that a common beginning is computed once. Exact for causal
models.

rows   S S S a a a     computed   S S S a a     What a causal model makes of a token depends on no later token, so rows
       S S S b b b                      b b     agree as far as they begin alike: in a preamble, a system prompt, a
       S S S a c c                        c     question asked twice. A row's last token predicts nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..mask.labels import IGNORE_INDEX, loss_weights

Rows = Sequence[tuple[tuple[int, ...], tuple[int, ...]]]


@dataclass(frozen=True)
class PrefixTree:
    """A tree of tokens. Each node has a higher number than its parent.

    Args:
        input_ids, position_ids (`tuple[int, ...]`, one a node):
            The node's token, and how many tokens stand before it in its row.
        paths (`tuple[tuple[int, ...], ...]`, one a row):
            The row's nodes in order; all its tokens but the last have one.
        kept (`tuple[int, ...]`):
            The nodes that predict a token which counts in the loss, in order.
        predictions (`tuple[tuple[int, int], ...]`):
            For each such token, row by row, the index in `kept` of the node that predicts it, and the token. Rows that
            part at a node ask it for different tokens.
        weights (`tuple[float, ...]`, one a prediction):
            How much it counts, by `loss_weights`.
    """

    input_ids: tuple[int, ...]
    position_ids: tuple[int, ...]
    paths: tuple[tuple[int, ...], ...]
    kept: tuple[int, ...]
    predictions: tuple[tuple[int, int], ...]
    weights: tuple[float, ...]


def prefix_tree(rows: Rows, prompt_loss_weight: float = 0.0) -> PrefixTree:
    """Return the prefix tree of rows of (input_ids, labels). First tokens are never predicted, even if labelled."""
    nodes: dict[tuple[int, int], int] = {}  # (the node before, the token) -> the node
    positions, paths, predicted = [], [], []
    for input_ids, labels in rows:
        node, path = -1, []
        for position, token in enumerate(input_ids[:-1]):
            node = nodes.setdefault((node, token), len(nodes))
            if node == len(positions):
                positions.append(position)
            path.append(node)
        paths.append(tuple(path))
        weights = loss_weights(labels, prompt_loss_weight)
        for at, token, label, weight in zip(path, input_ids[1:], labels[1:], weights[1:], strict=True):
            if weight:
                predicted.append((at, token if label == IGNORE_INDEX else label, weight))
    kept = sorted({node for node, _, _ in predicted})
    index_of = {node: index for index, node in enumerate(kept)}
    return PrefixTree(
        input_ids=tuple(token for _, token in nodes),
        position_ids=tuple(positions),
        paths=tuple(paths),
        kept=tuple(kept),
        predictions=tuple((index_of[node], token) for node, token, _ in predicted),
        weights=tuple(weight for _, _, weight in predicted),
    )
