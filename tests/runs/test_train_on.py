"""A saved run is a model to train on: its adapter, or its weights."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from saved import load_saved
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Answer, Columns, Comparison, Failed, Finished, Saved, Step, TokenLosses, Weights
from sftdemo.data.examples import parse_examples
from sftdemo.runs.ablation import ablate
from sftdemo.runs.revisit import answers_at, token_losses
from sftdemo.runs.run import answer, run

ROWS = """{"instruction": "Say hello", "output": "Hello world!"}
{"instruction": "Count to 3", "output": "1 2 3"}
{"instruction": "Capital of Italy?", "output": "Rome!", "held_out": true}
"""
KINDS = {"adapter": {}, "merged": {"merge": True}, "full": {"full": True}}


def of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def trained(config, output) -> list:
    events = list(run(config, parse_examples(ROWS), output))
    assert isinstance(events[-1], Finished), events[-1]
    return events


def record_of(folder) -> dict:
    return json.loads((folder / "run.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def config(gpt2_folder) -> RunConfig:
    return RunConfig(
        str(gpt2_folder), steps=3, batch_size=2, max_length=128, max_new_tokens=8, learning_rate=2e-2, lora_r=4
    )


@pytest.fixture(scope="module")
def first(config, tmp_path_factory):
    """A run of each kind: its folder and what it answered."""
    folder = tmp_path_factory.mktemp("first")
    return {
        kind: (folder / kind, of(Comparison, trained(replace(config, **settings), folder / kind)))
        for kind, settings in KINDS.items()
    }


class TestTheAdapter:
    @pytest.fixture(scope="class")
    def again(self, config, first, tmp_path_factory):
        """The run that goes on from an adapter: its folder and events. The rank is not given."""
        out = tmp_path_factory.mktemp("again") / "again"
        return out, trained(replace(config, model=str(first["adapter"][0]), lora_r=16, steps=2), out)

    def test_before_is_the_saved_run_and_after_the_new_one(self, first, again):
        out, events = again
        assert [each.before for each in of(Comparison, events)] == [each.after for each in first["adapter"][1]]
        told = of(Answer, answer(RunConfig(str(out), max_new_tokens=8), ["Capital of Italy?"]))
        assert [each.answer for each in told] == [each.after for each in of(Comparison, events)]

    def test_its_own_weights_are_what_learns(self, config, first, again, gpt2_folder):
        """They have moved a little from where they were saved, and the base not at all."""
        out, events = again
        (told,) = of(Weights, events)
        assert told.before == told.after
        old, new = load_saved(first["adapter"][0]).state_dict(), load_saved(out).state_dict()
        lora = [name for name in old if "lora_" in name]
        assert all(0 < (old[name] - new[name]).abs().max() < 0.1 for name in lora)
        base = AutoModelForCausalLM.from_pretrained(gpt2_folder).state_dict()
        for name, weight in base.items():
            assert torch.equal(weight, new[_in_peft(name, new)])

    def test_the_record_names_the_run_and_the_base(self, config, first, again):
        out, _ = again
        record = record_of(out)
        assert (record["from"], record["model"]["base"], record["kind"]) == ("adapter", config.model, "adapter")
        assert (record["config"]["lora_r"], record["model"]["public_name"]) == (4, "tiny-gpt2")
        saved = json.loads((out / "adapter_config.json").read_text())
        assert (saved["base_model_name_or_path"], saved["r"]) == ("tiny-gpt2", 4)
        card = (out / "README.md").read_text()
        assert "It goes on from the run `adapter`." in card
        assert str(first["adapter"][0].parent) not in card
        assert record_of(first["adapter"][0])["from"] is None

    def test_strength_and_losses_stand_on_the_base(self, config, first, again):
        out, events = again
        asked = [each.before for each in first["adapter"][1]]
        assert [each.answer for each in of(Answer, answers_at(out, 0.0))] == asked
        assert [each.answer for each in of(Answer, answers_at(out, 1.0))] == [
            each.after for each in of(Comparison, events)
        ]
        ours, theirs = (of(TokenLosses, token_losses(folder)) for folder in (out, first["adapter"][0]))
        for our, their in zip(ours, theirs, strict=True):
            assert our.losses[0] == pytest.approx(their.losses[0], abs=1e-5)
        assert ours[0].losses[1] != theirs[0].losses[1]

    def test_it_goes_on_again_where_the_first_is_gone(self, config, first, tmp_path):
        shutil.copytree(first["adapter"][0], tmp_path / "one")
        trained(replace(config, model=str(tmp_path / "one")), tmp_path / "two")
        shutil.rmtree(tmp_path / "one")
        trained(replace(config, model=str(tmp_path / "two")), tmp_path / "three")
        assert (record_of(tmp_path / "three")["from"], record_of(tmp_path / "three")["model"]["base"]) == (
            "two",
            config.model,
        )
        assert of(TokenLosses, token_losses(tmp_path / "three"))

    def test_merged_at_the_end(self, config, first, tmp_path):
        events = trained(replace(config, model=str(first["adapter"][0]), merge=True), tmp_path / "out")
        assert of(Saved, events)[0].kind == "merged"
        told = of(Answer, answer(RunConfig(str(tmp_path / "out"), max_new_tokens=8), ["Capital of Italy?"]))
        assert [each.answer for each in told] == [each.after for each in of(Comparison, events)]
        AutoModelForCausalLM.from_pretrained(tmp_path / "out")

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"lora_r": 8}, "has rank 4, which stays. Leave lora_r out."),
            ({"full": True}, "is a LoRA adapter, and full trains all weights."),
        ],
    )
    def test_what_it_cannot_be_trained_with(self, config, first, tmp_path, settings, says):
        again = replace(config, model=str(first["adapter"][0]), **settings)
        (*_, failed) = run(again, parse_examples(ROWS), tmp_path / "out")
        assert isinstance(failed, Failed)
        assert says in failed.message
        assert not (tmp_path / "out").exists()

    def test_an_adapter_of_another_kind(self, config, first, tmp_path):
        shutil.copytree(first["adapter"][0], tmp_path / "other")
        known = json.loads((tmp_path / "other" / "adapter_config.json").read_text())
        (tmp_path / "other" / "adapter_config.json").write_text(json.dumps(known | {"peft_type": "IA3"}))
        (*_, failed) = run(replace(config, model=str(tmp_path / "other")), parse_examples(ROWS), tmp_path / "out")
        assert "of the kind IA3; only LoRA adapters are trained on" in failed.message

    def test_every_arm_of_an_ablation_begins_with_it(self, config, first, tmp_path):
        again = replace(config, model=str(first["adapter"][0]), steps=1)
        events = list(ablate(again, parse_examples(ROWS), tmp_path / "out"))
        assert isinstance(events[-1], Finished), events[-1]
        (columns,) = of(Columns, events)
        assert columns.answers[0] == first["adapter"][1][0].after
        afresh = of(Step, ablate(replace(config, steps=1), parse_examples(ROWS), tmp_path / "afresh"))
        assert all(again.loss < begun.loss for again, begun in zip(of(Step, events), afresh, strict=True))


def _in_peft(name: str, names) -> str:
    """The name of a base's weight in the model with an adapter."""
    plain = f"base_model.model.{name}"
    module, _, part = plain.rpartition(".")
    return plain if plain in names else f"{module}.base_layer.{part}"


@pytest.mark.parametrize("kind", ["merged", "full"])
@pytest.mark.parametrize("full", [False, True])
def test_whole_weights_are_trained_on(config, first, tmp_path, kind, full):
    folder, said = first[kind]
    events = trained(replace(config, model=str(folder), full=full), tmp_path / "out")
    (comparison,) = of(Comparison, events)
    assert comparison.before == said[0].after
    record = record_of(tmp_path / "out")
    assert (record["from"], record["model"]["base"]) == (kind, None)
    told = of(Answer, answer(RunConfig(str(tmp_path / "out"), max_new_tokens=8), ["Capital of Italy?"]))
    assert [each.answer for each in told] == [comparison.after]


def test_the_models_own_chat_template_comes_through(llama_folder, tmp_path):
    config = RunConfig(str(llama_folder), steps=1, batch_size=2, max_new_tokens=4)
    own = AutoTokenizer.from_pretrained(llama_folder).chat_template
    trained(config, tmp_path / "one")
    trained(replace(config, model=str(tmp_path / "one"), template="chat"), tmp_path / "two")
    assert AutoTokenizer.from_pretrained(tmp_path / "one").chat_template != own
    assert AutoTokenizer.from_pretrained(tmp_path / "two").chat_template == own
