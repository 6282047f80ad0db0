"""Make a training step faster with the same result: by prefix trees, attention per row and faster linear layers.

Importing this module imports transformers' models and peft, so import it where it is used.
"""

from __future__ import annotations

import types
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import cast
from weakref import WeakKeyDictionary

import torch
from peft import PeftModel
from peft.tuners.lora import Linear as LoraLinear
from transformers import AttentionInterface, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from .linear_layers import has_avx512, is_supported, product
from .prefix_tree import PrefixTree, prefix_tree

ATTENTION = "sftdemo_tree"
TOLERANCE = 1e-3  # of the largest log-probability; float32's rounding alone makes 5e-5 in the default model


@dataclass(frozen=True)
class Branches:
    """A `PrefixTree` as tensors: the inputs of the model, and the targets and weights of its predictions.

    Args:
        input_ids, position_ids (`torch.Tensor` of shape `(1, nodes)`):
            The nodes.
        spread (`torch.Tensor` of shape `(rows, length)`):
            The node at each position of each row. After the end of a row, any node: no earlier position attends to it.
        gather (`torch.Tensor` of shape `(nodes,)`):
            Index in the flattened `spread` of one place where the node stands.
        kept (`torch.Tensor` of shape `(kept,)`):
            The nodes whose logits are wanted.
        predicting (`torch.Tensor` of shape `(predictions,)`, or None):
            Index in `kept` of each prediction; None where that is just 0, 1, 2, …
        targets, weights (`torch.Tensor` of shape `(predictions,)`):
            The tokens that are predicted, and how much each counts in the loss.
    """

    input_ids: torch.Tensor
    position_ids: torch.Tensor
    spread: torch.Tensor
    gather: torch.Tensor
    kept: torch.Tensor
    predicting: torch.Tensor | None
    targets: torch.Tensor
    weights: torch.Tensor

    @classmethod
    def of(cls, tree: PrefixTree, device: torch.device) -> Branches:
        """Return the tensors of `tree` on `device`."""
        length = max(map(len, tree.paths))
        predicting = [index for index, _ in tree.predictions]
        place = {node: row * length + at for row, path in enumerate(tree.paths) for at, node in enumerate(path)}
        spread = [path + (0,) * (length - len(path)) for path in tree.paths]

        def tensor(values) -> torch.Tensor:
            return torch.tensor(values, dtype=torch.long, device=device)

        return cls(
            input_ids=tensor([tree.input_ids]),
            position_ids=tensor([tree.position_ids]),
            spread=tensor(spread),
            gather=tensor([place[node] for node in range(len(tree.input_ids))]),
            kept=tensor(tree.kept),
            predicting=None if predicting == list(range(len(tree.kept))) else tensor(predicting),
            targets=tensor([token for _, token in tree.predictions]),
            weights=torch.tensor(tree.weights, device=device),
        )

    def logits(self, model: torch.nn.Module) -> torch.Tensor:
        """Return the model's logits for each prediction, of shape `(predictions, vocabulary)`. Needs `acceleration`."""
        # use_cache=False: nothing is generated, and a cache would be of no use to a tree
        logits = model(
            input_ids=self.input_ids,
            position_ids=self.position_ids,
            use_cache=False,
            logits_to_keep=self.kept,
            branches=self,
        ).logits[0]
        return logits if self.predicting is None else logits[self.predicting]


def _attend(module, query, key, value, attention_mask, *, branches: Branches, **settings):
    """Attend within each row, by transformers' own attention, so that the cost depends on the lengths of the rows and
    not on that of the tree. It needs no mask here, since padding follows the tokens that it could disturb."""
    if value.device.type == "cpu" and value.dtype == torch.bfloat16:
        # torch's attention over 8 rows of 37 tokens took 25 ms in bf16, and 1 ms in float32
        with torch.autocast("cpu", enabled=False):
            return _attend_in_rows(module, query.float(), key.float(), value.float(), branches, **settings)
    return _attend_in_rows(module, query, key, value, branches, **settings)


def _attend_in_rows(module, query, key, value, branches: Branches, **settings):
    rows, length = branches.spread.shape
    nodes = branches.spread.view(-1)

    def in_rows(states: torch.Tensor) -> torch.Tensor:
        heads, size = states.shape[1], states.shape[3]
        flat = states[0].transpose(0, 1).reshape(-1, heads * size)
        return flat.index_select(0, nodes).view(rows, length, heads, size).transpose(1, 2)

    output, _ = sdpa_attention_forward(module, in_rows(query), in_rows(key), in_rows(value), None, **settings)
    heads, size = output.shape[2:]
    return output.reshape(rows * length, heads * size).index_select(0, branches.gather).view(1, -1, heads, size), None


AttentionInterface.register(ATTENTION, _attend)


@contextmanager
def acceleration(model: PreTrainedModel | PeftModel) -> Generator[None]:
    """Prepare the model for `Branches.logits` inside this block, and speed up its linear layers where that is known to
    help. The model cannot generate meanwhile."""
    base = _base(model)
    before = cast("str", base.config._attn_implementation)
    replaced = []
    base.set_attn_implementation(ATTENTION)
    try:
        for module in model.modules():
            forward = _quicker(module)
            if forward is not None and "forward" not in vars(module):  # an outer `acceleration` may have done it
                module.forward = types.MethodType(forward, module)
                replaced.append(module)
        yield
    finally:
        for module in replaced:
            del module.forward
        base.set_attn_implementation(before)


def can_share(model: PreTrainedModel | PeftModel, length: int) -> bool:
    """Return whether rows of up to `length` tokens may share prefixes: every layer uses transformers' causal attention,
    nothing else in the model mixes positions, and a small tree yields the same logits as its rows."""
    base = _base(model)
    config = base.config.get_text_config()
    window = getattr(config, "sliding_window", None)  # not every model has one
    layers = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
    if not window or length <= window:
        layers.discard("sliding_attention")
    known = base._supports_attention_backend and not base._is_stateful and base.config._attn_implementation == "sdpa"
    if not known or layers - {"full_attention"}:
        return False
    layout = tuple(map(type, model.modules()))  # an adapter changes it, and what is learned does not
    known = _AGREEING.setdefault(base, {})
    if layout not in known:
        known[layout] = _agrees(model)
    return known[layout]


_AGREEING: WeakKeyDictionary[PreTrainedModel, dict[tuple[type, ...], bool]] = WeakKeyDictionary()


def agree_alike(model: PreTrainedModel, twin: PreTrainedModel) -> None:
    """Take over what `can_share` has found of a twin, which has the same weights and may have got an adapter."""
    _AGREEING.setdefault(model, {}).update(_AGREEING.get(twin, {}))


def _agrees(model: PreTrainedModel | PeftModel) -> bool:
    rows = [(1, 2, 3, 4, 5), (1, 2, 3, 6, 7, 8), (2, 3)]
    branches = Branches.of(prefix_tree([(ids, ids) for ids in rows]), model.device)
    longest = max(map(len, rows)) - 1
    padded = torch.tensor([[*ids[:-1], *[0] * (longest - len(ids) + 1)] for ids in rows], device=model.device)
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        logits = model(padded, use_cache=False).logits
        try:
            with acceleration(model):
                found = branches.logits(model).log_softmax(-1)
        except TypeError:  # a layer that keeps `branches` from its attention, such as Nemotron's
            return False
        finally:
            model.train(was_training)
    expected = torch.cat([row[: len(ids) - 1] for row, ids in zip(logits, rows, strict=True)]).log_softmax(-1)
    return bool((found - expected).abs().max() < TOLERANCE * expected.abs().max())


def _base(model: PreTrainedModel | PeftModel) -> PreTrainedModel:
    return cast("PreTrainedModel", model.get_base_model()) if isinstance(model, PeftModel) else model


def _quicker(module: torch.nn.Module):
    """Return a faster `forward` for this module, or None: a LoRA layer need not write its result four times, and
    oneDNN's matrix products are faster than MKL's on some processors."""
    if isinstance(module, LoraLinear) and type(module.base_layer) is torch.nn.Linear:
        plain = all(isinstance(each, torch.nn.Identity) for each in module.lora_dropout.values())
        frozen = not module.base_layer.weight.requires_grad
        switched_on = not module.disable_adapters
        return _lora_forward if plain and frozen and switched_on and is_supported(module.base_layer) else None
    return _linear_forward if type(module) is torch.nn.Linear and is_supported(module) and has_avx512() else None


def _product(states: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    """Return states @ weight.T + bias, by the faster product."""
    return (product if has_avx512() else torch.nn.functional.linear)(states, weight, bias)


def _linear_forward(self: torch.nn.Linear, states: torch.Tensor) -> torch.Tensor:
    return _Linear.apply(states, self.weight, self.bias)


def _lora_forward(self: LoraLinear, states: torch.Tensor) -> torch.Tensor:
    (name,) = self.active_adapters
    lora = self.lora_A[name].weight, self.lora_B[name].weight, self.scaling[name]
    return _LoraLinear.apply(states, self.base_layer.weight, self.base_layer.bias, *lora)


class _Linear(torch.autograd.Function):
    """torch.nn.functional.linear."""

    @staticmethod
    def forward(ctx, states, weight, bias):
        ctx.save_for_backward(states, weight)
        return _product(states, weight, bias)

    @staticmethod
    def backward(ctx, gradient):
        states, weight = ctx.saved_tensors
        wanted = ctx.needs_input_grad
        flat = gradient.reshape(-1, gradient.shape[-1])
        return (
            _product(gradient, weight.t()) if wanted[0] else None,
            flat.t() @ states.reshape(-1, states.shape[-1]) if wanted[1] else None,
            flat.sum(0) if wanted[2] else None,
        )


class _LoraLinear(torch.autograd.Function):
    """states @ (weight + scaling B A).T + bias, with weight and bias frozen (Hu et al. 2021, arXiv 2106.09685)."""

    @staticmethod
    def forward(ctx, states, weight, bias, lora_a, lora_b, scaling):
        output = _product(states, weight, bias)
        low = states.reshape(-1, states.shape[-1]) @ lora_a.t()
        output.view(-1, output.shape[-1]).addmm_(low, lora_b.t(), alpha=scaling)
        ctx.save_for_backward(states, weight, lora_a, lora_b, low)
        ctx.scaling = scaling
        return output

    @staticmethod
    def backward(ctx, gradient):
        states, weight, lora_a, lora_b, low = ctx.saved_tensors
        flat = gradient.reshape(-1, gradient.shape[-1])
        low_gradient = (flat @ lora_b).mul_(ctx.scaling)
        a_gradient = low_gradient.t() @ states.reshape(-1, states.shape[-1])
        b_gradient = (flat.t() @ low).mul_(ctx.scaling)
        states_gradient = None
        if ctx.needs_input_grad[0]:
            states_gradient = _product(gradient, weight.t())
            states_gradient.view(-1, weight.shape[1]).addmm_(low_gradient, lora_a)
        return states_gradient, None, None, a_gradient, b_gradient, None
