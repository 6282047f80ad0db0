"""Compute the linear layers of a training step in bf16, and everything else as autocast does.

A CPU with AVX512-BF16 or AMX multiplies bf16 at twice the rate of float32 or more, a GPU at far more. torch's autocast
casts a frozen weight anew in each step, where it is cast once here. Weights that learn, norms, the loss and the
optimizer stay in float32, on a CPU attention as well.

Importing this module imports peft, so import it where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

from .linear_layers import product

# layers of one module that read the same states in transformers' models: their products are made as one
_SAME_STATES = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))


class Bf16Layers:
    """The linear layers of a model, with a copy of their weights in bf16: two bytes for each of those weights.

    A LoRA layer with dropout, with several adapters or of a variant such as DoRA is left out; autocast computes it.
    """

    def __init__(self, model: nn.Module):
        groups = list(_groups(model))
        self._forwards = {layer: forward for group in groups for layer, forward in group.forwards()}
        learned = [pair for group in groups for pair in group.learned()]
        self._learned, self._copies = [weight for weight, _ in learned], [copy for _, copy in learned]

    @contextmanager
    def used(self) -> Generator[None]:
        """Compute these layers in bf16 inside this block, with the weights as they are at its beginning. Gradients must
        be computed inside it as well."""
        before = {layer: vars(layer).get("forward") for layer in self._forwards}
        if self._copies:
            with torch.no_grad():
                torch._foreach_copy_(self._copies, self._learned)
        try:
            for layer, forward in self._forwards.items():
                layer.forward = forward
            yield
        finally:
            for layer, forward in before.items():
                if forward is None:
                    del layer.forward
                else:
                    layer.forward = forward


def _groups(model: nn.Module) -> Iterator[_Group]:
    grouped: set[nn.Module] = set()
    for parent in list(model.modules()):
        children = dict(parent.named_children())
        for names in _SAME_STATES:
            layers = [children[name] for name in names if name in children]
            if len(layers) == len(names) and len({_kind(layer) for layer in layers}) == 1 and _kind(layers[0]):
                grouped.update(layers)
                yield _Group(layers)
    for layer in list(model.modules()):
        if isinstance(layer, LoraLinear):
            grouped |= set(layer.modules()) - {layer}
    for layer in list(model.modules()):
        if layer not in grouped and _kind(layer):
            yield _Group([layer])


def _kind(layer: nn.Module) -> str:
    """Return what is computed for a layer, alike for those that can be in one group; "" for one that is left alone."""
    linear = layer.base_layer if isinstance(layer, LoraLinear) else layer
    if type(linear) is not nn.Linear or linear.weight.dtype != torch.float32:
        return ""
    biased = "" if linear.bias is None else ", biased"
    if isinstance(layer, LoraLinear):
        return f"adapted{biased}" if _is_plain(layer, linear) else ""
    return ("learns" if linear.weight.requires_grad else "frozen") + biased


def _is_plain(layer: LoraLinear, base: nn.Linear) -> bool:
    (name,) = layer.active_adapters if len(layer.active_adapters) == 1 else ("",)
    return (
        name in layer.lora_A
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and not layer.merged
        and name not in layer.lora_variant
        and cast("nn.Linear", layer.lora_B[name]).bias is None
        and not base.weight.requires_grad
        and (base.bias is None or not base.bias.requires_grad)
    )


class _Group:
    """Linear layers that read the same states, computed as one product with `weight`.

    Args:
        weight (`Tensor` of shape `(outputs + ranks, inputs)`):
            The weights of the layers one below the other, then the matrices A of their adapters, in bf16.
        lora_b (`Tensor` of shape `(outputs, ranks)`):
            The matrices B of the adapters along the diagonal, in bf16.
    """

    def __init__(self, layers: Sequence[nn.Module]):
        self.layers = layers
        plain = [cast("nn.Linear", layer.base_layer if isinstance(layer, LoraLinear) else layer) for layer in layers]
        self.adapters = [_adapter(layer) for layer in layers if isinstance(layer, LoraLinear)]
        self.scaling = [scaling for _, _, scaling in self.adapters]
        self.outputs = [linear.out_features for linear in plain]
        self.ranks = [len(lora_a) for lora_a, _, _ in self.adapters]
        self.learns = plain[0].weight.requires_grad
        self._weights = [linear.weight for linear in plain]
        self._biases = [linear.bias for linear in plain]
        rows, wide = sum(self.outputs), sum(self.ranks)
        like: Any = {"device": plain[0].weight.device, "dtype": torch.bfloat16}
        self.weight = torch.empty(rows + wide, plain[0].in_features, **like)
        self.lora_b = torch.zeros(rows, wide, **like)
        self.has_bias = plain[0].bias is not None
        self._states: Tensor | None = None
        self._waiting: dict[int, Tensor] = {}
        with torch.no_grad():
            for rows, weight in zip(self._rows(), self._weights, strict=True):
                rows.copy_(weight)

    def forwards(self) -> Iterator[tuple[nn.Module, Callable[[Tensor], Tensor]]]:
        """Return each layer with what computes it."""
        for index, layer in enumerate(self.layers):
            yield layer, lambda states, index=index: self._output(states, index)

    def _output(self, states: Tensor, index: int) -> Tensor:
        """Return the output of one layer. The first that is asked for computes those of all, which wait for their
        layers to be called with the same states."""
        if self._states is not states or index not in self._waiting:
            learned = [weight for lora_a, lora_b, _ in self.adapters for weight in (lora_a, lora_b)]
            learned = learned or [*self._weights, *(self._biases if self.has_bias else ())]
            self._states, self._waiting = states, dict(enumerate(_Product.apply(self, states, *learned)))
        output = self._waiting.pop(index)
        if not self._waiting:
            self._states = None
        return output

    def _rows(self) -> tuple[Tensor, ...]:
        return self.weight[: sum(self.outputs)].split(self.outputs)

    def learned(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return each weight that learns, with the place of its copy."""
        if self.learns:
            yield from zip(self._weights, self._rows(), strict=True)
        if self.adapters:
            below = self.weight[sum(self.outputs) :].split(self.ranks)
            for (lora_a, lora_b, _), rows, block in zip(self.adapters, below, self.blocks(self.lora_b), strict=True):
                yield lora_a, rows
                yield lora_b, block

    def blocks(self, matrix: Tensor) -> list[Tensor]:
        """Return the parts along the diagonal of a matrix of the shape of `lora_b`, one for each adapter."""
        rows = matrix.split(self.outputs)
        return [part.split(self.ranks, 1)[index] for index, part in enumerate(rows)]

    def bias(self) -> Tensor | None:
        """Return the biases of the layers, in bf16, with 0 for the adapters."""
        if not self.has_bias:
            return None
        zeros = self.weight.new_zeros(sum(self.ranks))
        return torch.cat([*(bias.detach() for bias in self._biases), zeros]).to(torch.bfloat16)


def _product(states: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return states @ weight.T + bias; of bf16 on a CPU, oneDNN's product is the quicker."""
    return (product if states.device.type == "cpu" else nn.functional.linear)(states, weight, bias)


def _adapter(layer: LoraLinear) -> tuple[Tensor, Tensor, float]:
    (name,) = layer.active_adapters
    return (
        cast("nn.Linear", layer.lora_A[name]).weight,
        cast("nn.Linear", layer.lora_B[name]).weight,
        layer.scaling[name],
    )


class _Product(torch.autograd.Function):
    """states @ weight.T + bias of each layer of a group, with states @ A.T @ B.T * scaling of its adapter (Hu et al.
    2021, arXiv 2106.09685). What comes out is in bf16."""

    @staticmethod
    def forward(ctx, group: _Group, states, *learned):
        flat = states.reshape(-1, states.shape[-1]).to(torch.bfloat16)
        found = _product(flat, group.weight, group.bias())
        rows = sum(group.outputs)
        output, low = found[:, :rows], found[:, rows:]
        if group.adapters:
            for part, scaling in zip(low.split(group.ranks, 1), group.scaling, strict=True):
                part.mul_(scaling)
            output.addmm_(low, group.lora_b.t())
        ctx.group, ctx.shape = group, states.shape
        ctx.save_for_backward(flat, low)
        return tuple(part.view(*states.shape[:-1], -1) for part in output.split(group.outputs, 1))

    @staticmethod
    def backward(ctx, *gradients):
        group: _Group = ctx.group
        flat, low = ctx.saved_tensors
        rows = sum(group.outputs)
        whole = flat.new_empty(len(flat), len(group.weight))
        output, low_gradient = whole[:, :rows], whole[:, rows:]
        for part, gradient in zip(output.split(group.outputs, 1), gradients, strict=True):
            part.copy_(gradient.reshape(-1, gradient.shape[-1]))
        learned: list[Tensor | None] = [None] * (len(ctx.needs_input_grad) - 2)
        if group.adapters:
            low_gradient.copy_(output @ group.lora_b)
            for part, scaling in zip(low_gradient.split(group.ranks, 1), group.scaling, strict=True):
                part.mul_(scaling)
            learned[::2] = (low_gradient.t() @ flat).float().split(group.ranks)
            learned[1::2] = [block.float() for block in group.blocks(output.t() @ low)]
        elif group.learns:
            learned[: len(group.outputs)] = (output.t() @ flat).float().split(group.outputs)
            if group.has_bias:
                learned[len(group.outputs) :] = output.float().sum(0).split(group.outputs)
        states_gradient = _product(whole, group.weight.t()).view(ctx.shape) if ctx.needs_input_grad[1] else None
        return None, states_gradient, *learned
