"""The weights' fingerprint: the same where nothing of the base has changed, another wherever anything has."""

from __future__ import annotations

import hashlib
from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from tiny import tiny_gpt2, tiny_llama, tokenizer_named
from torch import nn

from sftdemo.core.config import RunConfig
from sftdemo.data.examples import Example
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker
from sftdemo.model.devices import choose_device
from sftdemo.model.loading import load_model, weights_sha256
from sftdemo.model.sources import find_local
from sftdemo.train.loop import train

TINY = {"gpt2": (tiny_gpt2, "gpt2"), "llama": (tiny_llama, "chatml")}


@pytest.fixture(params=TINY)
def made(request):
    maker, name = TINY[request.param]
    tokenizer = deepcopy(tokenizer_named(name))
    tokenizer.pad_token = tokenizer.eos_token
    return maker(tokenizer), tokenizer


def trained(model, tokenizer, folder, **settings):
    examples = [Example(0, "Hello world!", instruction="Say hello"), Example(1, "1 2 3", instruction="Count to 3")]
    rows = [row for (row,) in Masker(tokenizer, get_template("instruction"), 96).mask(examples)]
    config = RunConfig(**{"steps": 3, "batch_size": 2, "learning_rate": 1e-2, "lora_r": 4, **settings})
    work = train(model, tokenizer, rows, config, lambda: False, str(folder))
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


class Weights(nn.Module):
    """A model of nothing but named weights."""

    def __init__(self, **weights: torch.Tensor):
        super().__init__()
        for name, weight in weights.items():
            self.register_parameter(name, nn.Parameter(weight, requires_grad=False))


class TestTraining:
    def test_lora_leaves_the_base_as_it_was(self, made, tmp_path):
        model, tokenizer = made
        before = weights_sha256(model)
        result = trained(model, tokenizer, tmp_path)
        assert any("lora_" in name for name, _ in result.named_parameters())
        learned = [value.abs().max().item() for name, value in result.named_parameters() if "lora_B" in name]
        assert max(learned) > 1e-3, "nothing was learned: a poor test"
        assert weights_sha256(result) == before
        assert weights_sha256(result.get_base_model()) == before

    def test_full_fine_tuning_does_not(self, made, tmp_path):
        model, tokenizer = made
        before = weights_sha256(deepcopy(model))
        assert weights_sha256(trained(model, tokenizer, tmp_path, full=True)) != before

    def test_neither_does_an_adapter_that_is_merged(self, made, tmp_path):
        model, tokenizer = made
        before = weights_sha256(model)
        assert weights_sha256(trained(model, tokenizer, tmp_path).merge_and_unload()) != before

    def test_a_fresh_copy_has_the_same(self, gpt2_folder):
        def loaded():
            return load_model(find_local(str(gpt2_folder)), choose_device("cpu"))

        assert weights_sha256(loaded()) == weights_sha256(loaded())


class TestAdapter:
    @pytest.mark.parametrize("targets", ["all-linear", "some"])
    def test_is_ignored(self, made, targets):
        model, _ = made
        before = weights_sha256(model)
        if targets == "some":
            targets = ["c_attn"] if "GPT2" in type(model).__name__ else ["q_proj", "down_proj"]
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=targets, task_type="CAUSAL_LM"))
        assert weights_sha256(adapted) == before
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                nn.init.normal_(weight)
        assert weights_sha256(adapted) == before

    def test_a_weight_under_an_adapter_counts(self, made):
        model, _ = made
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
        before = weights_sha256(adapted)
        (name, weight) = next(pair for pair in adapted.named_parameters() if ".base_layer." in pair[0])
        with torch.no_grad():
            weight.view(-1)[-1] += 1
        assert weights_sha256(adapted) != before, name


class TestEveryPartCounts:
    def test_each_weight_of_a_model(self, made):
        model, _ = made
        before = weights_sha256(model)
        seen = {before}
        for _, weight in model.named_parameters():
            for place in (0, -1):
                with torch.no_grad():
                    flat = weight.view(-1)
                    kept = flat[place].clone()
                    flat[place] = torch.nextafter(kept, torch.tensor(torch.inf))  # the least change there is
                    seen.add(weights_sha256(model))
                    flat[place] = kept
        assert len(seen) == 1 + 2 * len(list(model.parameters()))
        assert weights_sha256(model) == before

    @given(
        st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=12).map(torch.tensor),
        st.sampled_from(["one", "two", "lora_x"]),
    )
    def test_name_shape_and_kind(self, values, name):
        same = weights_sha256(Weights(**{name: values.clone()}))
        assert same == weights_sha256(Weights(**{name: values}))
        others = [
            Weights(**{name + "s": values}),
            Weights(**{name: values[None]}),
            Weights(**{name: values.double()}),
            Weights(**{name: torch.cat([values, torch.zeros(1)])}),
            Weights(**{name: values, "zero": torch.zeros(0)}),
            Weights(**{name: values.view(torch.int32)}),
        ]
        found = [weights_sha256(other) for other in others]
        assert len({same, *found}) == 1 + len(found)

    def test_weights_that_change_places(self):
        first, second = torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])
        assert weights_sha256(Weights(a=first, b=second)) != weights_sha256(Weights(a=second, b=first))

    @given(st.permutations(["a", "b", "c", "d"]))
    def test_the_order_does_not_count(self, names):
        values = {name: torch.full((2,), float(ord(name))) for name in sorted(names)}
        assert weights_sha256(Weights(**{name: values[name] for name in names})) == weights_sha256(Weights(**values))

    def test_how_they_lie_in_memory_does_not_count(self):
        values = torch.arange(12.0).view(3, 4)
        turned = values.t().contiguous().t()
        assert not turned.is_contiguous()
        assert weights_sha256(Weights(a=turned)) == weights_sha256(Weights(a=values))

    @pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
    def test_is_a_sha256_of_what_is_written_here(self, kind):
        """Another program can come to the same number."""
        first, second = torch.tensor([[1.5, -2.0]], dtype=kind), torch.tensor(0.25, dtype=kind)
        whole = torch.int32 if kind.itemsize == 4 else torch.int16  # numpy has no bfloat16
        text = f"a (1, 2) {kind}\n".encode() + first.view(whole).numpy().tobytes()
        text += f"b () {kind}\n".encode() + second.view(whole).numpy().tobytes()
        assert weights_sha256(Weights(b=second, a=first)) == hashlib.sha256(text).hexdigest()
