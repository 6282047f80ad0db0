"""What a model makes of every token, against an oracle that takes one row at a time and knows nothing of batches."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peft import LoraConfig, get_peft_model
from strategies import texts, tokenize
from tiny import tiny_gpt2, tiny_llama, tokenizer_named
from transformers import LlamaConfig, LlamaForCausalLM

from sftdemo.data.examples import Example
from sftdemo.mask.labels import IGNORE_INDEX, MaskedExample
from sftdemo.model import scoring
from sftdemo.model.scoring import LIKELIEST, MeanLosses, RowScores, mean_losses, score

ANSWERS = ["Hello world!", "1 2 3", "Arr, the capital of Italy be Rome!", "a", "two words"]


def adapted(model):
    """With a LoRA adapter that does something: a new one's B is zero."""
    torch.manual_seed(1)
    model = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def built(kind: str):
    name = "gpt2" if kind.startswith("gpt2") else "chatml"
    model = (tiny_gpt2 if name == "gpt2" else tiny_llama)(tokenizer_named(name))
    return (adapted(model) if kind.endswith("lora") else model), name


@pytest.fixture(scope="module", params=["gpt2", "llama", "gpt2 lora", "llama lora"])
def made(request):
    """A model, and rows that begin alike."""
    model, name = built(request.param)
    return model, [
        tokenize(name, Example(row, text, instruction="Say it"), "instruction") for row, text in enumerate(ANSWERS)
    ]


def row_of(*ids: int, trained: int = 1) -> MaskedExample:
    """A row whose last so many tokens are trained."""
    labels = [IGNORE_INDEX] * (len(ids) - trained) + list(ids[len(ids) - trained :])
    return MaskedExample(0, ids, tuple(labels), 0, ())


def by_hand(model, input_ids) -> torch.Tensor:
    """For each token but the first the log-probabilities of all tokens, in float64 from the logits of a plain pass."""
    was_training = model.training
    with torch.no_grad():
        logits = model.eval()(torch.tensor([list(input_ids)])).logits[0]
    model.train(was_training)
    return logits[:-1].double().log_softmax(-1)


def assert_right(model, row, found: RowScores) -> None:
    expected = by_hand(model, row.input_ids)
    assert len(found.losses) == len(found.ranks) == len(found.likeliest) == len(row.input_ids) - 1
    for logs, token, loss, rank, likeliest in zip(
        expected, row.input_ids[1:], found.losses, found.ranks, found.likeliest, strict=True
    ):
        assert loss == pytest.approx(-logs[token].item(), abs=2e-5)
        order = logs.argsort(descending=True).tolist()
        # two that are equally likely but for rounding may change places
        assert abs(logs[order[rank - 1]] - logs[token]) < 2e-5
        assert [index for index, _ in likeliest] == order[:LIKELIEST] or all(
            abs(logs[index] - logs[other]) < 2e-5
            for (index, _), other in zip(likeliest, order[:LIKELIEST], strict=True)
        )
        assert [share for _, share in likeliest] == pytest.approx(
            [logs[index].exp().item() for index, _ in likeliest], rel=1e-4
        )


def losses_of(scores) -> list[float]:
    return [loss for each in scores for loss in each.losses]


class TestScore:
    @pytest.mark.parametrize("shares", [False, True, None])
    def test_equals_log_softmax_by_hand(self, made, shares):
        model, rows = made
        found = list(score(model, rows, shares))
        for row, each in zip(rows, found, strict=True):
            assert_right(model, row, each)
        assert len({rank for each in found for rank in each.ranks}) > 10, "a poor test"

    def test_a_rank_counts_what_is_likelier(self, made):
        """Without the oracle: of all tokens, each has a rank of its own, and those of rank 1 to 3 are the likeliest."""
        model, rows = made
        prompt, size = rows[0].input_ids[:5], model.get_input_embeddings().num_embeddings
        found = list(score(model, [row_of(*prompt, token) for token in range(size)]))
        ranks = {token: each.ranks[-1] for token, each in enumerate(found)}
        assert sorted(ranks.values()) == list(range(1, size + 1))
        ids = [index for index, _ in found[0].likeliest[-1]]
        assert [ranks[index] for index in ids] == [1, 2, 3]
        assert math.fsum(math.exp(-each.losses[-1]) for each in found) == pytest.approx(1, abs=1e-4)

    @pytest.mark.parametrize("shares", [False, True])
    @pytest.mark.parametrize("size", [1, 40, 100, 10_000])
    def test_how_rows_are_batched_plays_no_part(self, made, shares, size, monkeypatch):
        model, rows = made
        expected = losses_of(score(model, rows, False))
        monkeypatch.setattr(scoring, "BATCH_TOKENS", size)
        assert losses_of(score(model, rows, shares)) == pytest.approx(expected, abs=2e-5)

    @pytest.mark.parametrize("shares", [False, True])
    def test_a_batch_holds_so_many_tokens(self, made, shares, monkeypatch):
        model, rows = made
        lengths, seen = [len(row.input_ids) for row in rows], []
        most, batches = lengths[0] + lengths[1], scoring.batches
        monkeypatch.setattr(scoring, "batches", lambda *asked: (seen.append(b) or b for b in batches(*asked)))
        list(score(model, rows, shares, most))
        assert [row for batch in seen for row in batch] == rows
        assert len(seen[0]) == 2
        assert all(sum(len(row.input_ids) for row in batch) <= most for batch in seen)

    @pytest.mark.parametrize("shares", [False, True])
    def test_the_order_plays_no_part(self, made, shares):
        model, rows = made
        expected = [each.losses for each in score(model, rows, shares)]
        turned = [each.losses for each in score(model, rows[::-1], shares)][::-1]
        for ours, theirs in zip(expected, turned, strict=True):
            assert theirs == pytest.approx(ours, abs=2e-5)

    @pytest.mark.parametrize("shares", [False, True])
    def test_labels_play_no_part(self, made, shares):
        model, rows = made
        others = [
            [replace(row, labels=(IGNORE_INDEX,) * len(row.labels)) for row in rows],
            [replace(row, labels=row.input_ids) for row in rows],
        ]
        expected = list(score(model, rows, shares))
        assert [list(score(model, other, shares)) for other in others] == [expected, expected]

    @pytest.mark.parametrize("shares", [False, True])
    def test_a_row_of_one_token_has_no_scores(self, made, shares):
        model, rows = made
        nothing = RowScores((), (), ())
        mixed = [row_of(5), rows[0], row_of(6), row_of(rows[0].input_ids[0])]
        first, second, *others = score(model, mixed, shares)
        assert [first, *others] == [nothing] * 3
        assert_right(model, rows[0], second)
        assert list(score(model, [row_of(5)], shares)) == [nothing]
        assert list(score(model, [row_of(5), row_of(6)], shares)) == [nothing] * 2

    @pytest.mark.parametrize("shares", [False, True, None])
    def test_no_row_no_scores(self, made, shares):
        assert list(score(made[0], [], shares)) == []

    @pytest.mark.parametrize("shares", [False, True, None])
    @pytest.mark.parametrize("training", [False, True])
    def test_the_model_is_left_as_it_was(self, made, training, shares):
        model, rows = made
        model.train(training)
        before = {name: value.detach().clone() for name, value in model.named_parameters()}
        attention = model.config._attn_implementation
        assert len(list(score(model, rows, shares))) == len(rows)
        left = score(model, rows, shares)
        next(left)
        left.close()
        assert model.training is training
        assert model.config._attn_implementation == attention
        assert all(torch.equal(value, before[name]) for name, value in model.named_parameters())
        assert all(parameter.grad is None for parameter in model.parameters())

    @pytest.mark.parametrize("shares", [False, True])
    def test_no_dropout_is_applied(self, made, shares):
        _, rows = made
        tokenizer = tokenizer_named("chatml")
        torch.manual_seed(0)
        config = LlamaConfig(
            vocab_size=max(len(tokenizer), max(max(row.input_ids) for row in rows) + 1),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            attention_dropout=0.9,
            initializer_range=0.2,
        )
        model = LlamaForCausalLM(config).train()
        for row, each in zip(rows, score(model, rows, shares), strict=True):
            assert_right(model, row, each)

    @pytest.mark.parametrize("shares", [False, True])
    def test_a_gradient_can_be_taken_afterwards(self, made, shares):
        """Nothing that inference mode has made stays in the model."""
        model, rows = made
        list(score(model, rows, shares))
        loss = model(torch.tensor([rows[0].input_ids])).logits.sum()
        wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
        found = torch.autograd.grad(loss, wanted, allow_unused=True)
        assert any(gradient is not None and gradient.abs().max() > 0 for gradient in found)

    @pytest.mark.parametrize("shares", [True, False])
    def test_it_asks_whether_it_may_share(self, made, shares, monkeypatch):
        model, rows = made
        asked = []
        monkeypatch.setattr(scoring, "can_share", lambda model, length: asked.append(length) or shares)
        used = []
        for name in ("_shared", "_alone"):
            own = getattr(scoring, name)
            monkeypatch.setattr(scoring, name, lambda *words, own=own, name=name: used.append(name) or own(*words))
        list(score(model, rows))
        assert asked == [max(len(row.input_ids) for row in rows)]
        assert set(used) == {"_shared" if shares else "_alone"}


@st.composite
def labelled(draw):
    """Some rows of gpt2's tokens, with labels that are anything."""
    rows = []
    for number in range(draw(st.integers(1, 3))):
        text = draw(st.sampled_from(["Say it", "Say it again"])) + draw(texts(special=False))
        row = tokenize("gpt2", Example(number, draw(texts(special=False)), instruction=text), "instruction", 40)
        chosen = draw(st.lists(st.booleans(), min_size=len(row.input_ids), max_size=len(row.input_ids)))
        labels = [token if yes else IGNORE_INDEX for token, yes in zip(row.input_ids, chosen, strict=True)]
        rows.append(MaskedExample(number, row.input_ids, tuple(labels), 0, ()))
    return rows


@pytest.fixture(scope="module")
def gpt2():
    return built("gpt2")[0]


class TestMeanLosses:
    @given(rows=labelled(), size=st.integers(1, 300), shares=st.booleans())
    def test_sums_over_all_tokens_by_hand_and_not_over_batches(self, gpt2, rows, size, shares):
        sums = {True: [], False: []}
        for row in rows:
            logs = by_hand(gpt2, row.input_ids)
            for position, token in enumerate(row.input_ids[1:]):
                sums[row.labels[position + 1] != IGNORE_INDEX].append(-logs[position, token].item())
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(scoring, "BATCH_TOKENS", size)
            found = mean_losses(list(score(gpt2, rows, shares)), rows)
        assert (found.completion_tokens, found.prompt_tokens) == (len(sums[True]), len(sums[False]))
        for mean, losses in ((found.completion, sums[True]), (found.prompt, sums[False])):
            assert mean == pytest.approx(math.fsum(losses) / max(len(losses), 1), abs=2e-5)

    @given(st.lists(st.lists(st.tuples(st.floats(0, 50), st.booleans()), min_size=1, max_size=9), max_size=9))
    def test_it_is_the_mean_of_tokens_and_not_of_rows(self, drawn):
        scores = [RowScores(tuple(loss for loss, _ in row), (), ()) for row in drawn]
        labels = [(IGNORE_INDEX, *(7 if own else IGNORE_INDEX for _, own in row)) for row in drawn]
        rows = [MaskedExample(0, (7,) * len(each), each, 0, ()) for each in labels]
        flat = [pair for row in drawn for pair in row]
        found = mean_losses(scores, rows)
        assert found.completion_tokens + found.prompt_tokens == len(flat)
        assert found.completion * found.completion_tokens == pytest.approx(sum(loss for loss, own in flat if own))
        assert found.prompt * found.prompt_tokens == pytest.approx(sum(loss for loss, own in flat if not own))

    def test_a_long_answer_weighs_more_than_a_short_one(self):
        scores = [RowScores((1.0, 1.0, 1.0), (), ()), RowScores((5.0,), (), ())]
        rows = [row_of(7, 8, 9, 10, trained=3), row_of(7, 8)]
        assert mean_losses(scores, rows) == MeanLosses(2.0, 0.0, 4, 0)

    def test_a_first_token_is_neither(self):
        """Nothing predicts it, so its label is not asked for."""
        assert mean_losses([RowScores((2.0,), (), ())], [row_of(7, 8, trained=2)]) == MeanLosses(2.0, 0.0, 1, 0)

    def test_no_token_no_loss(self):
        nothing = RowScores((), (), ())
        assert mean_losses([], []) == MeanLosses(0.0, 0.0, 0, 0)
        assert mean_losses([nothing], [row_of(7)]) == MeanLosses(0.0, 0.0, 0, 0)
        found = mean_losses([RowScores((2.0, 4.0), (), ())], [row_of(7, 8, 9, trained=0)])
        assert found == MeanLosses(0.0, 3.0, 0, 2)

    def test_scores_of_other_rows_are_refused(self):
        with pytest.raises(ValueError, match="zip"):
            mean_losses([RowScores((1.0,), (), ())], [row_of(7, 8), row_of(7, 8)])
        with pytest.raises(ValueError, match="zip"):
            mean_losses([RowScores((1.0,), (), ())], [row_of(7, 8, 9)])
