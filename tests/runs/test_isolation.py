from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig, get_peft_model
from tiny import tiny_gpt2, tokenizer_named

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Failed, Finished, Isolation, Model, Phase, from_dict
from sftdemo.core.streams import Relay
from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.encoding import encoder_for
from sftdemo.mask.labels import Masker
from sftdemo.model import prefix_sharing
from sftdemo.model.loading import open_model
from sftdemo.model.prefix_sharing import Branches
from sftdemo.runs import isolation
from sftdemo.runs.isolation import PACKINGS, ROW_EXAMPLES, prove

ROUNDING = 1e-5  # nats; a change up to this is float32 rounding, not the effect of a neighbour

ROWS = [
    {"instruction": "Say hello", "output": ["Hello world!"]},
    {"instruction": "Capital of Italy?", "output": "Rome!"},
    {"instruction": "Never asked", "output": "x", "held_out": True},
    {"instruction": "Count to 3", "output": "1 2 3"},
]


def data_of(*rows):
    return parse_examples(json.dumps(rows or ROWS))


@pytest.fixture(params=["gpt2", "llama"])
def config(request, gpt2_folder, llama_folder):
    return RunConfig(str(gpt2_folder if request.param == "gpt2" else llama_folder), max_length=256)


@pytest.fixture
def gpt2(gpt2_folder):
    return RunConfig(str(gpt2_folder), max_length=128)


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def changes(config, data=None) -> dict[str, float]:
    events = list(prove(config, data or data_of()))
    assert isinstance(events[-1], Finished), events[-1]
    return {event.packing: event.change for event in of(Isolation, events)}


def packed_row(config, *rows):
    opening = Relay(open_model(config))
    list(opening)
    return isolation._packed_row(opening.result, data_of(*rows))


class TestProof:
    def test_packed_examples_do_not_see_each_other(self, config):
        found = changes(config)
        assert list(found) == list(PACKINGS) == ["bfd", "wrapped"]
        assert found["bfd"] <= ROUNDING
        assert found["wrapped"] > 1e-3

    def test_events(self, config):
        events = list(prove(config, data_of()))
        assert [type(event) for event in events if not isinstance(event, Phase)] == [Model, *[Isolation] * 2, Finished]
        assert [event.name for event in of(Phase, events)] == ["model", "load", "isolation"]
        assert of(Model, events)[0].dtype == "float32"
        assert not events[-1].stopped
        assert list(prove(config, data_of()))[-3:-1] == events[-3:-1]
        for event in events:
            assert from_dict(json.loads(json.dumps(event.to_dict()))) == event

    def test_what_was_looked_at(self, gpt2):
        rows, _ = Masker(tokenizer_named("gpt2"), get_template("instruction"), 128).tokenize(data_of().train)
        (bfd, wrapped) = of(Isolation, prove(gpt2, data_of()))
        assert (bfd.row, bfd.examples) == (0, 2)
        assert bfd.tokens == wrapped.tokens == sum(len(row.input_ids) - 1 for row in rows[1:])

    def test_a_saved_adapter(self, gpt2, tmp_path):
        lora = LoraConfig(target_modules="all-linear", fan_in_fan_out=True)
        model = get_peft_model(tiny_gpt2(tokenizer_named("gpt2")), lora)
        model.peft_config["default"].base_model_name_or_path = gpt2.model
        model.save_pretrained(tmp_path / "adapter")
        found = changes(replace(gpt2, model=str(tmp_path / "adapter")))
        assert found["bfd"] <= ROUNDING
        assert found["wrapped"] > 1e-3

    def test_no_dropout(self, gpt2, tmp_path):
        model = tiny_gpt2(tokenizer_named("gpt2"))
        model.config.resid_pdrop = model.config.attn_pdrop = model.config.embd_pdrop = 0.5
        model.save_pretrained(tmp_path / "model")
        tokenizer_named("gpt2").save_pretrained(tmp_path / "model")
        assert changes(replace(gpt2, model=str(tmp_path / "model")))["bfd"] <= ROUNDING


class TestBrokenIsolationIsSeen:
    def test_attention_over_the_whole_row(self, config, monkeypatch):
        whole = Branches.of

        def in_one_row(tree, device):
            nodes = torch.arange(len(tree.input_ids))
            return replace(whole(tree, device), spread=nodes[None], gather=nodes)

        monkeypatch.setattr(prefix_sharing, "can_share", lambda *_: True)  # or else it would not be trained so
        monkeypatch.setattr(Branches, "of", in_one_row)
        assert changes(config)["bfd"] > 1e-3


class TestBrokenIsolationInALineIsSeen:
    """Of a model whose examples cannot share what they begin with."""

    @pytest.fixture(autouse=True)
    def in_a_line(self, config, monkeypatch):
        monkeypatch.setattr(prefix_sharing, "can_share", lambda *_: False)
        assert changes(config)["bfd"] <= ROUNDING

    def test_positions_that_count_on(self, config, monkeypatch):
        whole = isolation.collate_packed

        def counting_on(rows):
            batch = whole(rows)
            return batch | {"position_ids": torch.arange(batch["input_ids"].shape[1])[None]}

        monkeypatch.setattr(isolation, "collate_packed", counting_on)
        assert changes(config)["bfd"] > 1e-3

    def test_an_attention_mask(self, config, monkeypatch):
        """With a mask supplied, transformers no longer tells the examples apart by their positions."""
        whole = isolation.collate_packed

        def masked(rows):
            batch = whole(rows)
            return batch | {"attention_mask": torch.ones_like(batch["input_ids"])}

        monkeypatch.setattr(isolation, "collate_packed", masked)
        assert changes(config)["bfd"] > 1e-3


class TestParts:
    def test_log_probabilities_are_those_of_each_example_alone(self, gpt2):
        model = tiny_gpt2(tokenizer_named("gpt2")).eval()
        examples = [(5, 6, 7), (8, 9), (1, 2, 3, 4)]
        alone = [model(torch.tensor([ids]), use_cache=False).logits[0].log_softmax(-1) for ids in examples[1:]]
        expected = [
            table[at - 1, ids[at]] for ids, table in zip(examples[1:], alone, strict=True) for at in range(1, len(ids))
        ]
        found = isolation._log_probabilities(model, examples, "bfd")
        torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=0)

    def test_every_token_is_exchanged_for_an_ordinary_one(self):
        tokenizer = tokenizer_named("chatml")
        model = tiny_gpt2(tokenizer)
        every = range(len(tokenizer))
        exchanged = isolation._exchanged(every, model, tokenizer)
        assert all(new != old for new, old in zip(exchanged, every, strict=True))
        assert not set(exchanged) & encoder_for(tokenizer).special_ids
        assert 0 <= min(exchanged) <= max(exchanged) < len(tokenizer)
        model.resize_token_embeddings(100)
        assert max(isolation._exchanged(range(100), model, tokenizer)) < 100

    def test_the_row_holds_at_most_eight(self, gpt2):
        row = packed_row(replace(gpt2, template="{instruction}\n"), *[{"instruction": "a", "output": "b"}] * 20)
        assert [example.row for example in row] == list(range(ROW_EXAMPLES))

    def test_two_long_examples_fit(self, gpt2):
        row = packed_row(gpt2, *[{"instruction": "a", "output": "word " * 400}] * 5)
        assert [(len(example.input_ids), len(example.labels)) for example in row] == [(64, 64)] * 2
        assert changes(gpt2, data_of(*[{"instruction": "a", "output": "word " * 400}] * 5))["bfd"] <= ROUNDING

    @pytest.mark.parametrize(("max_length", "at_most"), [(8, 8), (100, 100), (32_768, 256)])
    def test_the_row_is_no_longer_than_max_length_or_the_models_positions(self, gpt2, max_length, at_most):
        settings = replace(gpt2, max_length=max_length, template="{instruction}\n")
        row = packed_row(settings, *[{"instruction": "a", "output": "word " * count} for count in range(1, 300, 7)])
        assert len(row) >= 2
        assert sum(len(example.input_ids) for example in row) <= at_most


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        (ROWS[:1], {}, "Two examples to train on are needed to see whether one sees another, not 1."),
        ([*ROWS[:1], {"instruction": "a"}], {}, "not 1. The first refused: row 1"),
        (ROWS[2:3], {}, "Two examples to train on are needed to see whether one sees another, not 0."),
        (ROWS, {"template": "chat"}, "not 0. The first refused: row 0: this model has no chat template"),
        (ROWS, {"max_length": 8}, "Two examples to train on are needed"),
        (ROWS, {"model": "no-such-folder/with/more"}, "is no folder or file here"),
        (ROWS, {"device": "cuda"}, "There is no cuda device here; there is: cpu"),
    ],
)
def test_failures_are_sentences(gpt2, rows, settings, says, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    events = list(prove(replace(gpt2, **settings), data_of(*rows)))
    assert isinstance(events[-1], Failed)
    assert says in events[-1].message
    assert not of(Isolation, events)


def test_no_memory_in_words(gpt2, monkeypatch):
    def fails(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("transformers.GPT2LMHeadModel.forward", fails)
    events = list(prove(gpt2, data_of()))
    assert "no room for a row of" in events[-1].message


def test_stop(gpt2):
    events = []
    for event in prove(gpt2, data_of(), stop=lambda: bool(of(Isolation, events))):
        events.append(event)
    assert [event.packing for event in of(Isolation, events)] == ["bfd"]
    assert events[-1].stopped


def test_nothing_is_printed(gpt2, capfd):
    list(prove(gpt2, data_of()))
    assert capfd.readouterr().out == ""
