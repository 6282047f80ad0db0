"""Tell before a training begins how much memory it needs and how much there is, and refuse one that cannot fit.

The formula is for decoders like Llama. `tests/runs/test_memory.py` holds it to what a small one takes on a CPU
and, where there is one, on a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core import distributed
from ..core.config import RunConfig
from ..core.errors import ModelError, TrainingError, reason
from ..core.events import Phase
from ..core.json_files import read_object
from ..core.machine import free_memory
from ..data.row_file import RowFile
from ..mask.labels import MaskedExample
from ..model.devices import choose_device, precision_on
from ..model.linear_layers import copies_fit
from ..model.sources import ModelSource

TOLD = "memory"  # the name of the phase that tells it
_FLOAT, _HALF = 4, 2  # bytes
_FOUR_BITS = 0.52  # bytes of a weight in 4 bits with its share of the scales, which are kept in 8 bits
_RESERVED = 1.1  # what torch reserves of a GPU in place of 1 byte that its tensors hold
_PROCESS = 300_000_000  # bytes of a process beyond the model: its share of the libraries, and buffers
_LOGITS = 4  # copies of them that a step holds: themselves, their softmax and both gradients


@dataclass(frozen=True)
class ModelShape:
    """The sizes of a model that decide what memory a step takes: the numbers of its weights, its layers, the width of
    its states (`hidden`), of its MLP (`intermediate`), of its keys or values (`keys`), and of its vocabulary."""

    weights: int
    layers: int
    hidden: int
    intermediate: int
    keys: int
    vocabulary: int

    @classmethod
    def of(cls, source: ModelSource) -> ModelShape | None:
        """Read the shape of a model from its files; return None where its configuration does not tell it.

        Raises:
            ModelError: if they cannot be read.
        """
        folder = source.folder if source.base is None else source.base.folder
        known = read_object(folder / "config.json")
        layers, hidden = (_number(known, *names) for names in (("num_hidden_layers", "n_layer"), _HIDDEN))
        heads, vocabulary = _number(known, "num_attention_heads", "n_head"), _number(known, "vocab_size")
        if not (layers and hidden and heads and vocabulary):
            return None
        key_heads = _number(known, "num_key_value_heads") or heads
        size = _number(known, "head_dim") or hidden // heads
        intermediate = _number(known, "intermediate_size", "n_inner") or 4 * hidden
        from ..model.bounds import count_weights

        try:
            weights = count_weights(folder)
        except Exception as error:  # of many kinds, as the files may be anyone's
            raise ModelError(f"the weights of {source.name} cannot be read: {reason(error)}") from error
        return cls(weights, layers, hidden, intermediate, key_heads * size, vocabulary)

    def numbers_a_token(self, checkpoints: bool = False) -> int:
        """Return how many numbers a step keeps of a token for the way back; with gradient checkpoints, only each
        layer's input."""
        layer = 6 * self.intermediate + 6 * self.hidden + 12 * self.keys
        return layer + self.layers * self.hidden if checkpoints else self.layers * layer


_HIDDEN = ("hidden_size", "n_embd")


def tell_memory(
    config: RunConfig, source: ModelSource, rows: Sequence[MaskedExample] | RowFile, device: str
) -> Phase | None:
    """Return a phase that tells what memory a training needs and what there is; None on another device than a CPU or a
    CUDA GPU, or for a model of an unknown shape.

    Raises:
        ModelError: if the model's files cannot be read.
        TrainingError: if it cannot fit, and `config.anyway` is not set.
    """
    there = _free_on_gpu() if device == "cuda" else free_memory()
    needed = needed_bytes(config, source, rows, device, there)
    if needed is None:
        return None
    where = "of the GPU's memory" if device == "cuda" else "of memory"
    words = f"a training needs about {needed / 1e9:.1f} GB {where}"
    if needed > there and not config.anyway:
        lighter = "train with LoRA, lower" if config.full else "lower"
        raise TrainingError(
            f"{words}, and {there / 1e9:.1f} GB are free here; {lighter} batch_size or max_length, or choose a smaller "
            "model. Or train anyway (--anyway)."
        )
    return Phase(TOLD, f"{words[0].upper()}{words[1:]}; {there / 1e9:.1f} GB are free")


def needed_bytes(
    config: RunConfig, source: ModelSource, rows: Sequence[MaskedExample] | RowFile, device: str, there: int
) -> int | None:
    """Return how many bytes a training on these rows, and the answers around it, take where so many are free; None on
    another device than a CPU or a CUDA GPU, or for a model of an unknown shape.

    Raises:
        ModelError: if the model's files cannot be read.
    """
    shape = ModelShape.of(source) if device in ("cpu", "cuda") else None
    if shape is None:
        return None
    training = training_bytes(config, shape, *_largest_batch(config, rows), device)
    weights = _FLOAT * shape.weights
    # the answers are quicker with copies of the weights, into which the adapter is merged, a layer at a time
    merged = 3 * _FLOAT * shape.intermediate * shape.hidden
    answers = _PROCESS + 2 * weights + (0 if config.full else merged + _adapter_bytes(config, shape))
    has_copies = device == "cpu" and copies_fit(weights, there - weights - _PROCESS)
    return max(training, answers) if has_copies else training


def _adapter_bytes(config: RunConfig, shape: ModelShape) -> int:
    """Return the bytes of a LoRA adapter on every linear layer, with its gradients and AdamW's two moments."""
    ends = 9 * shape.hidden + 2 * shape.keys + 3 * shape.intermediate  # inputs and outputs of a layer's seven products
    return 4 * _FLOAT * config.lora_r * shape.layers * ends


def _free_on_gpu() -> int:
    import torch

    return torch.cuda.mem_get_info()[0]


def training_bytes(config: RunConfig, shape: ModelShape, tokens: int, trained: int, device: str = "cpu") -> int:
    """Return about how many bytes a training takes at most, for a largest batch of so many tokens, of which so many are
    trained.

    The weights are there in float32, and those of linear layers in bf16 as well. A full training has two moments of
    AdamW for each, and its gradients while what the batch has left is freed. On a GPU a training in bf16 keeps what it
    has computed in bf16.
    """
    weights = _FLOAT * shape.weights
    checkpoints = bool(config.trl_settings.get("activation_checkpointing"))
    size = _HALF if device == "cuda" and precision_on(choose_device(device), config.precision) == "bf16" else _FLOAT
    batch = tokens * size * shape.numbers_a_token(checkpoints) + trained * _LOGITS * _FLOAT * shape.vocabulary
    if config.full:
        needed = 3 * weights + max(batch, weights)
    elif config.load_in_4bit:
        ends = 2 * shape.vocabulary * shape.hidden  # embeddings and head, which are not
        needed = _FLOAT * min(ends, shape.weights) + _FOUR_BITS * max(0, shape.weights - ends) + batch
    else:
        needed = weights + (weights // 2 if config.precision != "float32" else 0) + batch
    if not config.full:
        needed += _adapter_bytes(config, shape)
    return _PROCESS + round(_RESERVED * needed if device == "cuda" else needed)


def _largest_batch(config: RunConfig, rows: Sequence[MaskedExample] | RowFile) -> tuple[int, int]:
    """Return how many tokens the largest batch of a process may have, and how many of them are trained."""
    size = config.batch_size // distributed.count()
    if isinstance(rows, RowFile):
        most = size * (config.max_length if config.packing else rows.longest)
        tokens, trained = min(most, rows.tokens), min(most, rows.trained)
    else:
        lengths, labels = [len(row.input_ids) for row in rows], [row.trained for row in rows]
        if config.packing:
            most = size * config.max_length
            tokens, trained = min(most, sum(lengths)), min(most, sum(labels))
        else:
            tokens, trained = (sum(sorted(numbers, reverse=True)[:size]) for numbers in (lengths, labels))
    return tokens, tokens if config.prompt_loss_weight else trained


def _number(known: dict[str, Any], *names: str) -> int:
    """Return the first of these numbers that a configuration has; 0 without any."""
    found = (known[name] for name in names if isinstance(known.get(name), int))
    return next((number for number in found if number > 0), 0)
