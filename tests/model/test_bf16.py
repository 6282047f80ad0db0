"""Linear layers in bf16 against the same model in float32."""

from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import nn

from sftdemo.core.config import RunConfig
from sftdemo.core.events import HeldOut, Model, Prepared, Step
from sftdemo.data.examples import read_examples
from sftdemo.data.samples import SAMPLES
from sftdemo.model import bf16
from sftdemo.model.bf16 import Bf16Layers
from sftdemo.runs.run import run

from .test_prefix_sharing import SHARES, built

ROUNDING = 0.02  # of the largest value; bf16 has 8 bits, and its errors add up over the layers


@contextmanager
def in_bf16(model):
    with Bf16Layers(model).used(), torch.autocast("cpu", torch.bfloat16):
        yield


def learns(model, ids) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of a model on some ids, and the gradients of what learns."""
    model.zero_grad()
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    return loss.item(), {name: each.grad for name, each in model.named_parameters() if each.grad is not None}


def alike(a: torch.Tensor, b: torch.Tensor) -> float:
    return nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).item()


def adapted(model, **settings):
    """The model with adapters that change what it computes."""
    torch.manual_seed(1)
    adapter = LoraConfig(r=4, lora_alpha=12, target_modules="all-linear", task_type="CAUSAL_LM", **settings)
    wrapped = get_peft_model(model, adapter)
    for name, weight in wrapped.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    return wrapped


IDS = torch.tensor([[1, 5, 9, 33, 20, 7, 12, 40, 2], [1, 6, 8, 30, 21, 17, 11, 3, 2]])


@pytest.mark.parametrize("full", [False, True], ids=["lora", "full"])
@pytest.mark.parametrize("name", ["llama", "llama with biases", "qwen3", "phi3"])
def test_loss_and_gradients_are_float32s_but_for_rounding(name, full):
    model = built(*SHARES[name]) if full else adapted(built(*SHARES[name]))
    loss, gradients = learns(model, IDS)
    layers = Bf16Layers(model)
    with layers.used(), torch.autocast("cpu", torch.bfloat16):
        found, others = learns(model, IDS)
    assert 0 < abs(found - loss) < ROUNDING * loss  # not the same: it was bf16
    assert others.keys() == gradients.keys()
    assert all(gradient.dtype == torch.float32 for gradient in others.values())
    assert min(alike(gradients[each], others[each]) for each in gradients) > 0.99
    sizes = [(others[each].norm() / gradients[each].norm()).item() for each in gradients]
    assert min(sizes) > 0.9
    assert max(sizes) < 1.1
    assert learns(model, IDS)[0] == loss  # after it the layers are their own again


@pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")  # peft's own, for mixtral
def test_every_kind_of_model_computes_what_it_did():
    for name, kind in SHARES.items():
        model = adapted(built(*kind)).eval()
        with torch.no_grad():
            expected = model(input_ids=IDS, use_cache=False).logits
            with in_bf16(model):
                found = model(input_ids=IDS, use_cache=False).logits
        assert (found.float() - expected).abs().max() < 3 * ROUNDING * expected.abs().max(), name


def test_weights_that_learned_are_taken_as_they_are_now():
    model = adapted(built(*SHARES["llama"]))
    layers = Bf16Layers(model)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name:
                weight.mul_(2)
    loss, _ = learns(model, IDS)
    with layers.used(), torch.autocast("cpu", torch.bfloat16):
        assert learns(model, IDS)[0] == pytest.approx(loss, rel=ROUNDING)


def test_layers_of_one_module_may_read_different_states():
    attention = built(*SHARES["llama"]).model.layers[0].self_attn
    layers = (attention.q_proj, attention.k_proj, attention.v_proj)
    states = torch.randn(3, 5, 32)
    expected = [layer(each) for layer, each in zip(layers, states, strict=True)]
    with torch.no_grad(), Bf16Layers(attention).used():
        found = [layer(each) for layer, each in zip(layers, states, strict=True)]
        again = layers[0](states[1])
    for each, wanted in zip([*found, again], [*expected, layers[0](states[1])], strict=True):
        assert (each - wanted).abs().max() < ROUNDING * wanted.abs().max()


def test_what_is_no_plain_adapter_is_left_to_autocast(monkeypatch):
    made = []
    monkeypatch.setattr(bf16, "_Group", lambda layers: made.append(layers) or pytest.fail("it was taken"))
    model = adapted(built(*SHARES["llama"]), lora_dropout=0.5)
    model.base_model.model.lm_head = nn.Identity()
    Bf16Layers(model)
    assert not made


def test_an_error_inside_gives_the_layers_back():
    model = adapted(built(*SHARES["llama"]))
    with pytest.raises(ZeroDivisionError), Bf16Layers(model).used():
        raise ZeroDivisionError
    assert not any("forward" in vars(module) for module in model.modules())


SHORT = {"steps": 3, "max_new_tokens": 2, "device": "cpu"}


class TestRun:
    @pytest.fixture(scope="class")
    def both(self, llama_folder, tmp_path_factory):
        def events(precision, **settings):
            output = tmp_path_factory.mktemp("runs") / "run"
            config = RunConfig(model=str(llama_folder), **SHORT, precision=precision, **settings)
            return list(run(config, read_examples(SAMPLES[0].path), output))

        return events

    @staticmethod
    def only(events, kind):
        return [event for event in events if isinstance(event, kind)]

    @pytest.mark.parametrize(
        "settings",
        [{}, {"full": True}, {"set": ("activation_checkpointing=true",)}],
        ids=["lora", "full", "recomputed"],
    )
    def test_the_same_in_both_but_for_rounding(self, both, settings):
        float32, half = both("float32", **settings), both("bf16", **settings)
        assert [self.only(events, Model)[0].dtype for events in (float32, half)] == ["float32", "bf16"]
        assert self.only(float32, Prepared)[0].mask_hash == self.only(half, Prepared)[0].mask_hash
        losses = [[step.loss for step in self.only(events, Step)] for events in (float32, half)]
        assert losses[0] != losses[1]
        assert losses[1] == pytest.approx(losses[0], rel=ROUNDING)
        first, last = self.only(half, HeldOut)
        assert first == self.only(float32, HeldOut)[0]  # held-out losses are measured in float32
        assert last.completion_loss == pytest.approx(self.only(float32, HeldOut)[-1].completion_loss, rel=ROUNDING)

    def test_a_small_model_is_not_quicker_in_it(self, both, monkeypatch):
        monkeypatch.setattr("sftdemo.model.linear_layers.is_quicker_in_bf16", lambda: True)
        assert self.only(both("auto"), Model)[0].dtype == "float32"
