"""Prefix trees and linear layers in place against the model's own forward, row by row."""

from __future__ import annotations

import random
import types
from copy import deepcopy

import pytest
import torch
from hypothesis import given
from peft import get_peft_model
from torch.nn.functional import cross_entropy, linear
from train.test_loop import lora, losses_of, make, shown_for, trainer_of
from transformers import AutoConfig, AutoModelForCausalLM
from trl import SFTTrainer

from sftdemo.core.config import RunConfig
from sftdemo.model import prefix_sharing
from sftdemo.model.linear_layers import is_supported
from sftdemo.model.prefix_sharing import Branches, acceleration, can_share
from sftdemo.model.prefix_tree import prefix_tree
from sftdemo.train import loop
from sftdemo.train.trainer import MaskedTrainer

from .test_prefix_tree import batches_of_rows

LENGTH = 32
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "initializer_range": 0.2,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WINDOWED = {"sliding_window": LENGTH}
SHARES = {  # (model type, settings of its own)
    "llama": ("llama", {}),
    "llama with biases": ("llama", {"attention_bias": True, "mlp_bias": True}),
    "llama with tied embeddings": ("llama", {"tie_word_embeddings": True}),
    "gpt2": ("gpt2", {"n_positions": 64, "resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}),
    "qwen2": ("qwen2", {}),
    "qwen3": ("qwen3", {"head_dim": 8}),
    "mistral, a window as long as the rows": ("mistral", WINDOWED),
    "gemma": ("gemma", {"head_dim": 8}),
    "gemma3, a window as long as the rows": ("gemma3_text", {"head_dim": 8} | WINDOWED),
    "phi": ("phi", {}),
    "phi3": ("phi3", {}),
    "gpt_neox": ("gpt_neox", {}),
    "olmo2": ("olmo2", {}),
    "olmo3, a window as long as the rows": ("olmo3", WINDOWED),
    "smollm3": ("smollm3", {"no_rope_layers": [1, 0]}),
    "granite": ("granite", {"attention_multiplier": 0.3}),
    "cohere": ("cohere", {}),
    "cohere2, a window as long as the rows": ("cohere2", WINDOWED),
    "starcoder2": ("starcoder2", {}),
    "opt": ("opt", {"ffn_dim": 64, "word_embed_proj_dim": 32, "dropout": 0.0}),
    "mixtral": ("mixtral", {"num_local_experts": 2}),
}
DOES_NOT = {
    "a window shorter than the rows": ("mistral", {"sliding_window": LENGTH - 1}),
    "windows in some layers": ("gemma3_text", {"head_dim": 8, "sliding_window": LENGTH - 1}),
    "windows in qwen2": (
        "qwen2",
        {"use_sliding_window": True, "sliding_window": LENGTH - 1, "max_window_layers": 1},
    ),
    "mamba, which has no attention": ("mamba", {"num_hidden_layers": 2}),
    "bloom, whose positions are in its mask": ("bloom", {"n_head": 2, "n_layer": 2}),
    "convolutions in some layers": ("lfm2", {"layer_types": ["conv", "full_attention"]}),
    "gemma2, whose attention is not transformers' sdpa": ("gemma2", {"head_dim": 8}),
    "stablelm, which has an attention of its own": ("stablelm", {}),
    "bert, which looks ahead": ("bert", {}),
    "bart, which takes no position_ids": (
        "bart",
        {"d_model": 32, "decoder_layers": 2, "encoder_layers": 2, "decoder_attention_heads": 2},
    ),
    "nemotron, whose layers keep their arguments from the attention": ("nemotron", {}),
}


def built(kind: str, changed: dict, **settings):
    usual = AutoConfig.for_model(kind)
    # some have other names for these sizes, and what they inherit need not be a setting
    known = {name: value for name, value in SIZES.items() if hasattr(usual, name)}
    torch.manual_seed(0)
    config = AutoConfig.for_model(kind, **(known | changed))
    return AutoModelForCausalLM.from_config(config, **settings).eval()


def tiny(**changed):
    return built("llama", changed)


def some_rows() -> list:
    """Of up to 33 tokens, so 32 are computed; some begin alike, some are equal, the trained tokens come in pieces."""
    draw = random.Random(0)
    common = [draw.randrange(3, 60) for _ in range(20)]
    rows = []
    for length, shared in [(33, 20), (30, 20), (24, 12), (9, 20), (9, 20), (17, 0), (1, 1), (2, 1)]:
        ids = (*common[:shared], *(draw.randrange(3, 60) for _ in range(33)))[:length]
        rows.append((ids, tuple(token if index % 7 > 2 else -100 for index, token in enumerate(ids))))
    return rows


def row_by_row(model, rows) -> torch.Tensor:
    """The summed loss of the rows, each given to the model by itself, by the model's own forward."""
    losses = []
    for ids, labels in rows:
        logits = model(torch.tensor([ids]), use_cache=False).logits[0]
        losses.append(cross_entropy(logits[:-1], torch.tensor(labels[1:], dtype=torch.long), reduction="sum"))
    return sum(losses)


def shared(model, rows) -> torch.Tensor:
    branches = Branches.of(prefix_tree(rows), model.device)
    with acceleration(model):
        return cross_entropy(branches.logits(model), branches.targets, reduction="sum")


def gradients(model, loss) -> dict[str, torch.Tensor]:
    model.zero_grad()
    loss.backward()
    return {name: value.grad.clone() for name, value in model.named_parameters() if value.grad is not None}


def assert_equal(model, rows, tolerance: float) -> None:
    own, ours = row_by_row(model, rows), shared(model, rows)
    assert ours.item() == pytest.approx(own.item(), rel=tolerance)
    expected, found = gradients(model, own), gradients(model, ours)
    assert expected.keys() == found.keys()
    largest = max(value.abs().max().item() for value in expected.values())
    assert largest > 0.1
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=tolerance * largest, msg=lambda text: name + text)  # noqa: B023


@pytest.fixture(autouse=True)
def one_thread():
    """So small a product gains nothing from a second thread, which beside another process costs a hundred times."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def all_in_double(monkeypatch):
    """Whatever a model, a loss or a trainer would compute in float32 it computes in float64."""
    as_float, to = torch.Tensor.float, torch.Tensor.to

    def stays(tensor, *args, **kwargs):
        return tensor if tensor.dtype == torch.float64 else as_float(tensor, *args, **kwargs)

    def goes(tensor, *args, **kwargs):
        return tensor if tensor.dtype == torch.float64 and args == (torch.float32,) else to(tensor, *args, **kwargs)

    monkeypatch.setattr(torch.Tensor, "float", stays)
    monkeypatch.setattr(torch.Tensor, "to", goes)


class TestSharing:
    @pytest.mark.parametrize("name", SHARES)
    def test_in_float32(self, name):
        model = built(*SHARES[name])
        assert can_share(model, LENGTH)
        assert_equal(model, some_rows(), 1e-5)

    @pytest.mark.parametrize("name", [name for name in SHARES if name != "mixtral"])  # which has no float64
    def test_in_float64(self, name, all_in_double):
        model = built(*SHARES[name]).double()
        assert can_share(model, LENGTH)
        assert_equal(model, some_rows(), 1e-12)

    def test_while_training(self, all_in_double):
        assert_equal(tiny().double().train(), some_rows(), 1e-12)

    def test_with_checkpointed_gradients(self, all_in_double):
        model = tiny().double().train()
        expected = gradients(model, row_by_row(model, some_rows()))
        model.gradient_checkpointing_enable({"use_reentrant": False})
        with acceleration(model):  # the backward pass computes the layers anew, so it has to be inside
            branches = Branches.of(prefix_tree(some_rows()), model.device)
            loss = cross_entropy(branches.logits(model), branches.targets, reduction="sum")
            found = gradients(model, loss)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0, atol=1e-11)

    def test_any_rows(self):
        model = tiny().double()

        @given(batches_of_rows())
        def check(rows):
            rows = [(ids, (-100, *labels[1:])) for ids, labels in rows]
            if not any(label != -100 for _, labels in rows for label in labels):
                return  # no batch is without a trained token
            with torch.no_grad():
                assert shared(model, rows).item() == pytest.approx(row_by_row(model, rows).item(), rel=1e-6)

        check()

    @pytest.mark.parametrize("equal", [True, False])
    def test_a_row_trains_what_an_earlier_one_only_reads(self, equal):
        """Each node is asked once, and the later row asks the earlier node."""
        rows = [((1, 2, 3), (-100, -100, 3)), ((1, 2, 3 if equal else 9), (-100, 2, -100))]
        model = tiny()
        assert shared(model, rows).item() == pytest.approx(row_by_row(model, rows).item(), rel=1e-5)

    def test_what_stands_behind_a_rows_end_does_not_matter(self):
        """There it repeats node 0, and any other node would do."""
        model, branches = tiny(), Branches.of(prefix_tree(some_rows()), torch.device("cpu"))
        ends = torch.zeros_like(branches.spread, dtype=torch.bool)
        for row, path in enumerate(prefix_tree(some_rows()).paths):
            ends[row, len(path) :] = True
        assert ends.any()
        others = torch.where(ends, torch.randint(0, branches.input_ids.shape[1], ends.shape), branches.spread)
        changed = Branches(**(vars(branches) | {"spread": others}))
        with acceleration(model), torch.no_grad():
            assert torch.equal(branches.logits(model), changed.logits(model))

    def test_only_what_is_asked_for_reaches_the_head(self):
        model, seen = tiny(), []
        model.lm_head.register_forward_pre_hook(lambda module, args: seen.append(args[0].shape))
        rows = some_rows()
        shared(model, rows)
        assert seen == [(1, len(prefix_tree(rows).kept), 32)]


class TestCanShare:
    @pytest.mark.parametrize("name", DOES_NOT)
    def test_does_not(self, name):
        assert not can_share(built(*DOES_NOT[name]), LENGTH)

    def test_a_windows_length_is_looked_at(self):
        model = built("mistral", WINDOWED)
        assert can_share(model, LENGTH)
        assert not can_share(model, LENGTH + 1)

    @pytest.mark.parametrize("attention", ["eager", "flex_attention"])
    def test_only_with_transformers_sdpa(self, attention):
        assert not can_share(built("llama", {}, attn_implementation=attention), LENGTH)

    def test_not_when_positions_are_ignored(self):
        assert can_share(tiny(), LENGTH)
        model = tiny()
        own = model.model.forward

        def ignores(self, *args, position_ids=None, **kwargs):
            return own(*args, **kwargs)

        model.model.forward = types.MethodType(ignores, model.model)
        assert not can_share(model, LENGTH)

    def test_not_when_something_else_mixes_positions(self):
        """Here each token is told of the one that stands before it in the tensor."""
        model = tiny()
        model.model.layers[0].mlp.register_forward_hook(lambda module, args, output: output + 0.1 * output.roll(1, 1))
        assert not can_share(model, LENGTH)

    @pytest.mark.parametrize("training", [True, False])
    @pytest.mark.parametrize("name", ["mamba, which has no attention", "bert, which looks ahead"])
    def test_leaves_the_model_as_it_was(self, training, name):
        for model in (tiny(), built(*DOES_NOT[name])):
            model.train(training)
            attention, forwards = model.config._attn_implementation, own_forwards(model)
            before = deepcopy(model.state_dict())
            can_share(model, LENGTH)
            assert model.training is training
            assert (model.config._attn_implementation, own_forwards(model)) == (attention, forwards)
            assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
            assert all(parameter.grad is None for parameter in model.parameters())

    @pytest.mark.parametrize("bias", [True, False])
    def test_an_adapter_does_not_matter(self, bias):
        assert can_share(get_peft_model(tiny(attention_bias=bias), lora()), LENGTH)
        assert not can_share(get_peft_model(built("mistral", {"sliding_window": 4}), lora()), LENGTH)


def own_forwards(model) -> list[str]:
    """The modules that have a forward which is not their class's."""
    return [name for name, module in model.named_modules() if "forward" in vars(module)]


class TestAccelerated:
    @pytest.mark.parametrize("adapter", [False, True])
    def test_everything_is_as_before(self, adapter):
        model = get_peft_model(tiny(), lora()) if adapter else tiny()
        row = torch.tensor([[1, 2, 3]])
        before = model(row).logits
        with acceleration(model):
            assert model.config._attn_implementation == prefix_sharing.ATTENTION
            assert own_forwards(model) or not quick()
        assert model.config._attn_implementation == "sdpa"
        assert own_forwards(model) == []
        assert torch.equal(model(row).logits, before)

    def test_after_an_exception_too(self):
        model = tiny()
        with pytest.raises(ZeroDivisionError), acceleration(model):
            raise ZeroDivisionError
        assert (model.config._attn_implementation, own_forwards(model)) == ("sdpa", [])

    def test_after_an_exception_while_it_begins(self, monkeypatch):
        model, asked = tiny(), iter(range(5))
        own = prefix_sharing._quicker
        monkeypatch.setattr(prefix_sharing, "_quicker", lambda module: (next(asked), own(module))[1])
        with pytest.raises(RuntimeError), acceleration(model):  # a StopIteration inside a generator
            pass
        assert (model.config._attn_implementation, own_forwards(model)) == ("sdpa", [])

    def test_an_earlier_attention_is_put_back(self):
        model = built("llama", {}, attn_implementation="eager")
        with acceleration(model):
            pass
        assert model.config._attn_implementation == "eager"

    def test_what_is_not_plain_keeps_its_forward(self):
        model = get_peft_model(tiny(), lora()).double()
        with acceleration(model):
            assert own_forwards(model) == []

    def test_an_adapter_that_is_switched_off_has_no_part(self):
        base = tiny()
        ids = torch.tensor([[1, 2, 3, 4]])
        expected = base(ids).logits
        model = get_peft_model(base, lora())
        for name, weight in model.named_parameters():
            if "lora_" in name:
                torch.nn.init.constant_(weight, torch.nan)
        with model.disable_adapter(), acceleration(model):
            base.set_attn_implementation("sdpa")
            torch.testing.assert_close(model(ids).logits, expected)

    @pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "down_proj"]])
    @pytest.mark.parametrize("bias", [False, True])
    def test_lora_is_pefts(self, bias, targets):
        adapter = loop.adapter(RunConfig(lora_r=4))
        adapter.target_modules = targets
        model = get_peft_model(tiny(attention_bias=bias, mlp_bias=bias), adapter)
        for name, parameter in model.named_parameters():
            if "lora_B" in name or "bias" in name:  # a new adapter's B is zero, and so are biases
                torch.nn.init.normal_(parameter, std=0.2)
        rows = some_rows()
        expected, found = (gradients(model, loss(model, rows)) for loss in (row_by_row, shared))
        assert any("lora_A" in name for name in found)
        assert any("lora_B" in name for name in found)
        assert_equal(model, rows, 1e-5)
        assert expected.keys() == found.keys()
        assert all("lora" in name for name in found)


def quick() -> bool:
    return prefix_sharing._quicker(torch.nn.Linear(2, 2)) is not None


def made(*shape: int, contiguous: bool = True) -> torch.Tensor:
    values = torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)))
    return values if contiguous else values.mT.contiguous().mT


def derivatives(function, tensors, weights):
    """The function's result, and the derivatives by each tensor that wants one of its sum, so weighted. `weights` None
    has them all be 1, which torch gives as one number that is everywhere."""
    result = function(*tensors)
    total = result.sum() if weights is None else (result * weights).sum()
    return result, torch.autograd.grad(
        total, [tensor for tensor in tensors if tensor is not None and tensor.requires_grad]
    )


def assert_same(ours, stock, tensors, out: int, weighted: bool) -> None:
    weights = made(*tensors[0].shape[:-1], out) if weighted else None
    expected, found = derivatives(stock, tensors, weights), derivatives(ours, tensors, weights)
    torch.testing.assert_close(found[0], expected[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found[1], expected[1], rtol=1e-5, atol=2e-5)


@pytest.mark.skipif(not is_supported(torch.nn.Linear(2, 2)), reason="only with oneDNN")
class TestLinear:
    SHAPES = ((5, 8), (2, 3, 8), (1, 1, 8), (2, 2, 3, 8))

    @pytest.fixture(autouse=True, params=[True, False], ids=["oneDNN", "torch"])
    def way(self, request, monkeypatch):
        """With the products of either library, whatever this processor is."""
        monkeypatch.setattr(prefix_sharing, "has_avx512", lambda: request.param)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("wanted", [(True, True), (True, False), (False, True)], ids=["both", "states", "weight"])
    def test_is_torchs(self, shape, bias, wanted):
        for contiguous in (True, False):
            for weighted in (True, False):
                states = made(*shape, contiguous=contiguous).requires_grad_(wanted[0])
                weight = made(6, 8, contiguous=contiguous).requires_grad_(wanted[1])
                last = made(6).requires_grad_(wanted[1]) if bias else None
                assert_same(prefix_sharing._Linear.apply, linear, (states, weight, last), 6, weighted)

    def test_a_bias_alone(self):
        tensors = made(5, 8), made(6, 8), made(6).requires_grad_()
        assert_same(prefix_sharing._Linear.apply, linear, tensors, 6, True)

    @pytest.mark.parametrize("shape", SHAPES)
    @pytest.mark.parametrize("bias", [False, True])
    @pytest.mark.parametrize("states_wanted", [True, False])
    def test_lora_is_three_products(self, shape, bias, states_wanted):
        def stock(states, weight, last, a, b):
            return linear(states, weight, last) + 1.7 * linear(linear(states, a), b)

        def ours(*tensors):
            return prefix_sharing._LoraLinear.apply(*tensors, 1.7)

        for contiguous in (True, False):
            for weighted in (True, False):
                states = made(*shape, contiguous=contiguous).requires_grad_(states_wanted)
                frozen = made(6, 8, contiguous=contiguous), made(6) if bias else None
                a, b = made(3, 8).requires_grad_(), made(6, 3).requires_grad_()
                assert_same(ours, stock, (states, *frozen, a, b), 6, weighted)


def double(trainer):
    trainer.model.double()
    return trainer


def nothing_left_out(outputs, labels, num_items_in_batch=None):
    """TRL's loss, which is computed in float32 otherwise."""
    logits = outputs.logits[:, :-1].flatten(0, 1)
    return cross_entropy(logits, labels[:, 1:].flatten(), reduction="sum") / num_items_in_batch


@pytest.mark.parametrize("optimizer", ["adamw_torch", pytest.param("sgd", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("adapter", [None, lora()], ids=["full", "lora"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_ten_steps_equal_stock_trls(kind, adapter, optimizer, tmp_path, all_in_double):
    """In float64, where rounding cannot hide a difference; rows with a common preamble."""
    model, tokenizer = make(kind)
    shown = shown_for(tokenizer)
    rows = [(row.input_ids, row.labels) for row in shown]
    assert len(prefix_tree(rows).input_ids) < 0.8 * sum(len(ids) - 1 for ids, _ in rows)
    settings = {"max_steps": 10, "optim": optimizer, "learning_rate": 1e-3}
    ours, stock = (
        double(trainer_of(which, (model, tokenizer, shown), tmp_path / which.__name__, deepcopy(adapter), **settings))
        for which in (MaskedTrainer, SFTTrainer)
    )
    before = {name: value.detach().clone() for name, value in ours.model.named_parameters()}
    assert ours.shares
    stock.compute_loss_func = nothing_left_out
    assert losses_of(ours) == pytest.approx(losses_of(stock), rel=1e-12)
    theirs = dict(stock.model.named_parameters())
    for name, value in ours.model.named_parameters():
        torch.testing.assert_close(value, theirs[name], atol=1e-11, rtol=0)
    assert max((value - before[name]).abs().max().item() for name, value in ours.model.named_parameters()) > 1e-4
    assert ours.state.global_step == 10


def test_a_trainer_leaves_the_model_as_it_was(tmp_path):
    model, tokenizer = make("llama")
    trainer = trainer_of(MaskedTrainer, (model, tokenizer, shown_for(tokenizer)), tmp_path, lora())
    before = own_forwards(trainer.model)  # TRL has put one in
    assert trainer.shares
    losses_of(trainer)
    assert (model.config._attn_implementation, own_forwards(trainer.model)) == ("sdpa", before)
    base = trainer.model.get_base_model()
    assert base.generate(torch.tensor([[1, 2]]), max_new_tokens=3, do_sample=False).shape[1] > 2
