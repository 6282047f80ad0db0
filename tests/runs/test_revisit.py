"""A saved run looked at again: its adapter at other strengths, and every token's loss, against what the run itself said
and against a forward pass of its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from saved import load_saved
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError, ModelError
from sftdemo.core.events import Answer, Columns, Comparison, Failed, Finished, Phase, TokenLosses
from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import IGNORE_INDEX, Masker
from sftdemo.runs import revisit
from sftdemo.runs.ablation import ablate
from sftdemo.runs.revisit import MOST_STRENGTH, answers_at, read_run, token_losses
from sftdemo.runs.run import run

TEXT = """{"instruction": "Say hello", "output": "Hello world!"}
{"instruction": "Count to 3", "output": "1 2 3"}
{"instruction": "Capital of Italy?", "output": "Rome!", "held_out": true}
{"instruction": "Say nothing", "held_out": true}
"""
KINDS = {"adapter": {}, "merged": {"merge": True}, "full": {"full": True}}


def of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def config(gpt2_folder) -> RunConfig:
    settings = {"max_length": 256, "steps": 6, "batch_size": 2, "learning_rate": 5e-2, "max_new_tokens": 6}
    return RunConfig(str(gpt2_folder), **settings)


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """A run's folder, of each kind, and its comparisons."""
    folder, found = tmp_path_factory.mktemp("runs"), {}
    for kind, settings in KINDS.items():
        changed = replace(config, learning_rate=5e-3 if kind == "full" else 5e-2, **settings)
        events = list(run(changed, parse_examples(TEXT), folder / kind))
        assert isinstance(events[-1], Finished), events[-1]
        found[kind] = folder / kind, of(Comparison, events)
    return found


@pytest.fixture(scope="module")
def ablation(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ablation") / "run"
    events = list(ablate(config, parse_examples(TEXT), folder, (0.0, 1.0)))
    assert isinstance(events[-1], Finished), events[-1]
    return folder, of(Columns, events)


def diverged(run, folder):
    """Return a copy of a run whose adapter came to be no numbers."""
    file = shutil.copytree(run, folder) / "adapter_model.safetensors"
    save_file({name: torch.full_like(weight, torch.nan) for name, weight in load_file(file).items()}, file)
    return folder


class TestReadRun:
    def test_it_is_what_was_saved(self, trained, config):
        saved = read_run(trained["adapter"][0])
        assert (saved.config, saved.kind) == (config, "adapter")
        assert saved.arms == ((0.0, trained["adapter"][0]),)
        assert [each.completion for each in saved.examples().train] == ["Hello world!", "1 2 3"]

    def test_an_ablation_has_its_arms(self, ablation):
        saved = read_run(ablation[0])
        assert [weight for weight, _ in saved.arms] == [0.0, 1.0]
        assert saved.arm(None) == saved.arm(0.0) != saved.arm(1.0)
        with pytest.raises(ConfigError, match=r"weight 0\.5; it has 0, 1"):
            saved.arm(0.5)

    @pytest.mark.parametrize("text", ["", "{}", "[]", '{"config": {"steps": 0, "prompts": []}}'])
    def test_what_is_no_run_is_a_sentence(self, tmp_path, text):
        (tmp_path / "run.json").write_text(text)
        with pytest.raises(ModelError, match="no run that can be read"):
            read_run(tmp_path)

    @pytest.mark.parametrize("template", [True, {"a": 5}, None])
    def test_a_template_that_is_no_text(self, trained, tmp_path, template):
        record = json.loads((trained["adapter"][0] / "run.json").read_text())
        record["config"]["template"] = template
        (tmp_path / "run.json").write_text(json.dumps(record))
        with pytest.raises(ModelError, match="no run that can be read"):
            read_run(tmp_path)

    def test_a_folder_that_is_not_there(self, tmp_path):
        with pytest.raises(ModelError, match="no run that can be read"):
            read_run(tmp_path / "nothing")


class TestStrength:
    def test_off_is_the_base_beside_an_adapter_that_has_diverged_too_and_on_is_refused(self, trained, tmp_path):
        run, comparisons = trained["adapter"]
        folder = diverged(run, tmp_path / "run")
        assert [each.answer for each in of(Answer, answers_at(folder, 0.0))] == [each.before for each in comparisons]
        *_, last = answers_at(folder, 1.0)
        assert "The model computes what is no number (NaN)" in last.message

    def test_off_is_the_base_and_on_is_what_was_trained(self, trained):
        folder, comparisons = trained["adapter"]
        assert any(each.before != each.after for each in comparisons), "the training changes nothing: a poor test"
        off = of(Answer, answers_at(folder, 0.0))
        assert [(each.prompt, each.answer, each.stop) for each in off] == [
            (each.prompt, each.before, each.before_stop) for each in comparisons
        ]
        on = of(Answer, answers_at(folder, 1.0))
        assert [(each.prompt, each.answer, each.stop) for each in on] == [
            (each.prompt, each.after, each.after_stop) for each in comparisons
        ]

    def test_between_them_the_weights_are_between(self, trained, monkeypatch):
        folder, _ = trained["adapter"]
        model = load_saved(folder)
        name = next(name for name, _ in model.named_modules() if name.endswith("mlp.c_fc"))
        expected = 0.25 * model.get_submodule(name).get_delta_weight("default")
        seen = []

        def look(model, *_):
            seen.append(model.get_submodule(name).get_delta_weight("default").detach())
            return [Answer("", "", "EOS", 0)] * 2

        monkeypatch.setattr("sftdemo.model.generation.generate", look)
        *_, last = answers_at(folder, 0.25)
        assert isinstance(last, Finished), last
        torch.testing.assert_close(seen[0], expected)

    def test_typed_prompts_come_first(self, trained):
        found = of(Answer, answers_at(trained["adapter"][0], 0.5, ["Why?"]))
        assert [each.prompt for each in found] == ["Why?", "Capital of Italy?", "Say nothing"]

    def test_each_arm_of_an_ablation(self, ablation):
        folder, columns = ablation
        assert any(len(set(each.answers)) > 2 for each in columns), "both arms learn the same: a poor test"
        for index, weight in enumerate((0.0, 1.0)):
            found = of(Answer, answers_at(folder, 1.0, weight=weight))
            assert [each.answer for each in found] == [each.answers[1 + index] for each in columns]

    @pytest.mark.parametrize("kind", ["merged", "full"])
    def test_whole_weights_have_no_adapter_to_turn(self, trained, kind):
        (last,) = answers_at(trained[kind][0], 0.5)
        assert isinstance(last, Failed)
        assert "no adapter" in last.message

    @pytest.mark.parametrize("strength", [-0.1, MOST_STRENGTH + 0.1, float("nan")])
    def test_out_of_range(self, trained, strength):
        (last,) = answers_at(trained["adapter"][0], strength)
        assert isinstance(last, Failed)
        assert "between 0 (off) and 1.5" in last.message


def losses_by_hand(model, input_ids) -> tuple[list[float], list[int]]:
    """-log p of each token but the first, and its rank, by a plain forward pass."""
    with torch.no_grad():
        shares = model(torch.tensor([input_ids])).logits[0, :-1].double().log_softmax(-1)
    chosen = [shares[index, token].item() for index, token in enumerate(input_ids[1:])]
    return [-each for each in chosen], [(shares[index] > each).sum().item() + 1 for index, each in enumerate(chosen)]


class TestTokenLosses:
    @pytest.mark.parametrize("kind", KINDS)
    def test_they_are_the_models_own(self, trained, config, kind):
        folder, _ = trained[kind]
        *rows, last = of((TokenLosses, Finished), token_losses(folder))
        assert isinstance(last, Finished)
        models = [AutoModelForCausalLM.from_pretrained(config.model).eval(), load_saved(folder).eval()]
        assert [(row.row, row.source) for row in rows] == [(2, "held out"), (0, "training"), (1, "training")]
        assert all(row.weights == [None, 0.0] for row in rows)
        for row in rows:
            ids = [token[2] for token in row.tokens]
            for model, losses, ranks in zip(models, row.losses, row.ranks, strict=True):
                by_hand, ranked = losses_by_hand(model, ids)
                assert losses == pytest.approx(by_hand, abs=1e-4)
                assert ranks == ranked
        assert any(row.losses[0] != pytest.approx(row.losses[1], abs=1e-3) for row in rows)

    def test_the_tokens_are_the_masks(self, trained, config):
        folder, _ = trained["adapter"]
        rows = of(TokenLosses, token_losses(folder))
        data = parse_examples(TEXT)
        tokenizer = AutoTokenizer.from_pretrained(config.model)
        examples, _ = Masker(tokenizer, get_template("instruction"), 512).tokenize([*data.held_out[:1], *data.train])
        for row, example in zip(rows, examples, strict=True):
            assert [token[2] for token in row.tokens] == list(example.input_ids)
            assert [token[3] for token in row.tokens] == [label != IGNORE_INDEX for label in example.labels]

    def test_the_likeliest_are_words(self, trained):
        row = of(TokenLosses, token_losses(trained["adapter"][0]))[0]
        for model, losses, ranks in zip(row.likeliest, row.losses, row.ranks, strict=True):
            for place, loss, rank in zip(model, losses, ranks, strict=True):
                shares = [share for _, share in place]
                assert len(place) == 3
                assert shares == sorted(shares, reverse=True)
                if rank <= 3:
                    assert shares[rank - 1] == pytest.approx(torch.tensor(-loss).exp().item(), rel=1e-4)

    def test_an_ablation_has_a_column_each(self, ablation):
        rows = of(TokenLosses, token_losses(ablation[0]))
        assert all(row.weights == [None, 0.0, 1.0] for row in rows)
        prompt = [i for i, token in enumerate(rows[1].tokens[1:]) if not token[3]]
        masked, unmasked = (sum(rows[1].losses[model][i] for i in prompt) for model in (1, 2))
        assert unmasked < masked, "the unmasked model learns its prompts"

    def test_rows_are_told_of_before_the_last_is_scored(self, ablation, monkeypatch):
        together = of(TokenLosses, token_losses(ablation[0]))
        monkeypatch.setattr(revisit, "PART", 1)
        told = of((TokenLosses, Phase), token_losses(ablation[0]))
        kinds = [type(event) for event in told if not isinstance(event, Phase) or event.name == "score"]
        assert kinds == [Phase, Phase, Phase, TokenLosses] * len(together)
        for alone, row in zip(of(TokenLosses, told), together, strict=True):
            assert (alone.row, alone.tokens, alone.weights) == (row.row, row.tokens, row.weights)
            for losses, expected in zip(alone.losses, row.losses, strict=True):
                assert losses == pytest.approx(expected, abs=1e-4)

    def test_the_base_is_itself_beside_an_adapter_that_has_diverged(self, trained, tmp_path):
        folder = diverged(trained["adapter"][0], tmp_path / "run")
        kept = of(TokenLosses, token_losses(trained["adapter"][0]))
        for row, expected in zip(of(TokenLosses, token_losses(folder)), kept, strict=True):
            assert row.losses[0] == pytest.approx(expected.losses[0], abs=1e-4)

    def test_not_more_than_can_be_looked_at(self, trained, monkeypatch):
        monkeypatch.setattr(revisit, "ROWS", 2)
        assert len(of(TokenLosses, token_losses(trained["adapter"][0]))) == 2
        monkeypatch.setattr(revisit, "TOKENS", 1)
        assert len(of(TokenLosses, token_losses(trained["adapter"][0]))) == 1

    def test_it_can_be_stopped(self, trained):
        *others, last = token_losses(trained["adapter"][0], stop=lambda: True)
        assert not of(TokenLosses, others)
        assert last.stopped

    def test_no_run(self, tmp_path):
        (last,) = token_losses(tmp_path)
        assert isinstance(last, Failed)
