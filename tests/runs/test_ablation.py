"""An ablation against what it is made of: `run` with each weight, answers and losses by hand, files read back."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from saved import load_saved
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftdemo.core import until
from sftdemo.core.config import RunConfig
from sftdemo.core.errors import DataError
from sftdemo.core.events import (
    Answer,
    Arm,
    Before,
    Columns,
    Conclusion,
    Event,
    Failed,
    Figures,
    Finished,
    HeldOut,
    Model,
    Phase,
    Prepared,
    Saved,
    Step,
    Weights,
)
from sftdemo.data.examples import parse_examples, read_examples, to_record
from sftdemo.model import scoring
from sftdemo.model.loading import weights_sha256
from sftdemo.runs import ablation, base
from sftdemo.runs.ablation import ablate, arm_folder, figures_of, held_out_rows
from sftdemo.runs.folder import RunFolder, load_events
from sftdemo.runs.run import answer, run
from sftdemo.runs.setup import set_up
from sftdemo.train import callbacks
from sftdemo.train.trainer import MaskedTrainer

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Say a word", "output": "two words"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
    {"instruction": "Say nothing", "held_out": True},
    {"instruction": "Count to 2", "output": "1 2", "held_out": True},
]
PROMPT = "### Instruction:\n{}\n\n### Response:\n"
STEPS, NEW_TOKENS = 12, 12
ARMS = (0.0, 1.0)


def data_of(*rows):
    return parse_examples(json.dumps(rows or ROWS))


def of(kind, events) -> list:
    return [event for event in events if isinstance(event, kind)]


def by_arm(kind, events) -> list[list]:
    """The events of one kind that each arm told."""
    arms: list[list] = []
    for event in events:
        if isinstance(event, Arm):
            arms.append([])
        elif isinstance(event, kind) and arms:
            arms[-1].append(event)
    return arms


def config_of(folder, **settings) -> RunConfig:
    settings = {"steps": STEPS, "batch_size": 2, "max_length": 128, "learning_rate": 2e-2, **settings}
    return RunConfig(str(folder), max_new_tokens=NEW_TOKENS, **settings)


@dataclass
class Done:
    config: RunConfig
    events: list[Event]
    folder: Path

    def models(self) -> list:
        """The base and the arms, from the disk."""
        places = [self.folder / name for name in json.loads((self.folder / "run.json").read_text())["arms"]]
        base = AutoModelForCausalLM.from_pretrained(self.config.model)
        return [base.eval(), *(load_saved(place).eval() for place in places)]


@pytest.fixture(scope="module", params=["gpt2", pytest.param("llama", marks=pytest.mark.thorough)])
def done(request, tmp_path_factory, gpt2_folder, llama_folder):
    config = config_of(gpt2_folder if request.param == "gpt2" else llama_folder)
    folder = tmp_path_factory.mktemp("ablation") / "out"
    events = list(ablate(config, data_of(), folder, ARMS))
    assert isinstance(events[-1], Finished), events[-1]
    return Done(config, events, folder)


@pytest.fixture
def config(gpt2_folder) -> RunConfig:
    return config_of(gpt2_folder, steps=3)


def weights_in(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*model.safetensors")
    return load_file(file)


def assert_equal(first: dict, second: dict) -> None:
    assert first.keys() == second.keys()
    for name, weight in first.items():
        torch.testing.assert_close(weight, second[name], rtol=0, atol=1e-6)


class TestEvents:
    def test_order(self, done):
        kinds = [type(event) for event in done.events if not isinstance(event, Phase)]
        arm = [Arm, Prepared, HeldOut, *[Step, Step, HeldOut] * (STEPS // 2)]
        told = [*[Columns] * 3, *[Figures] * 3, Weights, Conclusion, Saved, Finished]
        assert kinds == [Model, *[Before] * 3, *arm, *arm, *told]
        phases = [event.name for event in of(Phase, done.events)]
        assert list(dict.fromkeys(phases)) == ["model", "load", "memory", "before", "train", "after", "save"]
        assert phases.count("train") == phases.count("after") == 2
        assert done.events[-3] == Phase("save", f"Saving to {done.folder}")
        finished = done.events[-1]
        assert (finished.steps, finished.total, finished.stopped) == (2 * STEPS, 2 * STEPS, False)

    def test_arms_in_the_order_of_the_weights(self, config, tmp_path):
        events = list(ablate(config, data_of(), tmp_path / "out", (1.0, 0.25, 0.0)))
        assert of(Arm, events) == [Arm(index, [1.0, 0.25, 0.0]) for index in range(3)]
        assert [each.prompt_loss_weight for each in of(Figures, events)] == [None, 1.0, 0.25, 0.0]
        assert [len(each.answers) for each in of(Columns, events)] == [4] * 3
        assert of(Saved, events) == [Saved(str(tmp_path / "out"), "ablation")]
        record = json.loads((tmp_path / "out" / "run.json").read_text())
        assert record["arms"] == ["weight-1", "weight-0.25", "weight-0"]

    def test_every_event_is_json_and_comes_back(self, done):
        assert load_events(done.folder) == done.events

    def test_typed_prompts_are_asked_as_well(self, config, tmp_path):
        events = list(ablate(replace(config, prompts=("Why?",)), data_of(), tmp_path / "out", ARMS))
        assert [(each.prompt, each.source) for each in of(Columns, events)] == [
            ("Why?", "typed"),
            *((row["instruction"], "held out") for row in ROWS[3:]),
        ]
        assert {each.answers for each in of(Figures, events)} == {4}

    def test_the_columns_begin_with_the_bases_answers(self, done):
        before = of(Before, done.events)
        assert [(each.prompt, each.answers[0], each.stops[0], each.source) for each in of(Columns, done.events)] == [
            (each.prompt, each.answer, each.stop, each.source) for each in before
        ]


class TestTheArms:
    """They differ in the weight, and in nothing else."""

    @pytest.mark.parametrize("settings", [{}, {"full": True, "learning_rate": 1e-3}], ids=["lora", "full"])
    @pytest.mark.parametrize("model", [pytest.param("gpt2", marks=pytest.mark.thorough), "llama"])
    def test_each_is_what_run_makes_with_its_weight(self, tmp_path, gpt2_folder, llama_folder, model, settings):
        config = config_of(gpt2_folder if model == "gpt2" else llama_folder, **{"steps": 4, "seed": 3, **settings})
        events = list(ablate(config, data_of(), tmp_path / "out", ARMS))
        found = [weights_in(tmp_path / "out" / arm_folder(weight)) for weight in ARMS]
        for index, weight in enumerate(ARMS):
            alone = replace(config, prompt_loss_weight=weight)
            told = list(run(alone, data_of(), tmp_path / f"alone-{index}"))
            assert_equal(found[index], weights_in(tmp_path / f"alone-{index}"))
            assert [step.loss for step in by_arm(Step, events)[index]] == pytest.approx(
                [step.loss for step in of(Step, told)], abs=1e-6
            )
        differences = [(found[0][name] - found[1][name]).abs().max().item() for name in found[0]]
        assert max(differences) > 1e-3, "both weights make the same: a poor test"

    @pytest.mark.parametrize("packing", [pytest.param(False, marks=pytest.mark.thorough), True])
    def test_they_begin_alike_and_see_the_same_rows(self, config, tmp_path, monkeypatch, packing):
        begun, seen = [], []
        own_train, own_loss = MaskedTrainer.train, MaskedTrainer.compute_loss

        def train(self, *words, **settings):
            begun.append({name: value.detach().clone() for name, value in self.model.named_parameters()})
            seen.append([])
            return own_train(self, *words, **settings)

        def compute_loss(self, model, inputs, *words, **settings):
            seen[-1].append((inputs["input_ids"].tolist(), inputs["labels"].tolist()))
            return own_loss(self, model, inputs, *words, **settings)

        monkeypatch.setattr(MaskedTrainer, "train", train)
        monkeypatch.setattr(MaskedTrainer, "compute_loss", compute_loss)
        torch.manual_seed(5)  # what stands before a run plays no part in it
        list(ablate(replace(config, packing=packing), data_of(), tmp_path / "out", ARMS))
        first, second = begun
        assert first.keys() == second.keys()
        assert all(torch.equal(weight, second[name]) for name, weight in first.items())
        assert any("lora_A" in name and weight.abs().max() > 0 for name, weight in first.items())
        assert seen[0] == seen[1]
        assert len(seen[0]) == config.steps
        assert len({str(batch) for batch in seen[0]}) > 1 or packing, "one batch again and again: a poor test"

    def test_as_many_steps_and_the_same_examples(self, done):
        for kind, own in ((Prepared, ["prompt_loss_weight"]), (Step, ["loss", "seconds", "remaining"])):
            first, second = (
                [replace(each, **dict.fromkeys(own, 0)) for each in arm] for arm in by_arm(kind, done.events)
            )
            assert first == second
        assert [step.step for step in by_arm(Step, done.events)[0]] == list(range(1, STEPS + 1))

    def test_rows_that_are_held_out_are_not_trained(self, done):
        assert {each.examples for each in of(Prepared, done.events)} == {3}


class TestHeldOut:
    def test_before_the_first_step_both_arms_are_the_base(self, done):
        base = of(Figures, done.events)[0]
        first, second = (told[0] for told in by_arm(HeldOut, done.events))
        assert first == second
        assert (first.step, base.prompt_loss_weight) == (0, None)
        assert first.completion_loss == pytest.approx(base.completion_loss, abs=1e-5)
        assert first.prompt_loss == pytest.approx(base.prompt_loss, abs=1e-5)
        tokens = {(each.completion_tokens, each.prompt_tokens) for each in of((HeldOut, Figures), done.events)}
        assert len(tokens) == 1

    def test_after_the_last_step_each_arm_is_its_figures(self, done):
        for told, figures in zip(by_arm(HeldOut, done.events), of(Figures, done.events)[1:], strict=True):
            assert told[-1].step == STEPS
            assert told[-1].completion_loss == pytest.approx(figures.completion_loss, abs=1e-5)
            assert told[-1].prompt_loss == pytest.approx(figures.prompt_loss, abs=1e-5)

    @pytest.mark.parametrize(
        ("most", "steps"),
        [
            (2, [0, 3, 5]),
            pytest.param(1, [0, 5], marks=pytest.mark.thorough),
            pytest.param(5, [0, 1, 2, 3, 4, 5], marks=pytest.mark.thorough),
        ],
    )
    def test_both_arms_tell_of_it_at_the_same_steps(self, config, tmp_path, monkeypatch, most, steps):
        monkeypatch.setattr(callbacks, "EVALUATIONS", most)
        events = list(ablate(replace(config, steps=5), data_of(), tmp_path / "out", ARMS))
        assert [[each.step for each in told] for told in by_arm(HeldOut, events)] == [steps] * 2

    def test_the_unmasked_arm_learns_prompts(self, done):
        base, masked, unmasked = of(Figures, done.events)
        assert unmasked.prompt_loss < min(base.prompt_loss, masked.prompt_loss) / 1.2
        assert masked.completion_loss < base.completion_loss

    def test_looking_does_not_change_what_is_learned(self, config, tmp_path, monkeypatch):
        list(ablate(config, data_of(), tmp_path / "often", ARMS))
        monkeypatch.setattr(callbacks, "EVALUATIONS", 1)
        list(ablate(config, data_of(), tmp_path / "once", ARMS))
        for weight in ARMS:
            assert_equal(*(weights_in(tmp_path / name / arm_folder(weight)) for name in ("often", "once")))


def said(model, tokenizer, prompt: str) -> Answer:
    """A greedy answer, token by token, from whole forward passes."""
    ids, new = tokenizer(PROMPT.format(prompt))["input_ids"], []
    while len(new) < NEW_TOKENS:
        with torch.no_grad():
            chosen = model(torch.tensor([ids + new])).logits[0, -1].argmax().item()
        if chosen == tokenizer.eos_token_id:
            break
        new.append(chosen)
    text = tokenizer.decode(new, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    return Answer(prompt, text, "length" if len(new) == NEW_TOKENS else "EOS", len(new))


def losses_by_hand(model, tokenizer) -> tuple[list[float], list[float]]:
    """-log p of each held-out completion's tokens, EOS among them, and of each prompt's but the first."""
    found: tuple[list[float], list[float]] = ([], [])
    for row in ROWS:
        if not row.get("held_out") or "output" not in row:
            continue
        prompt = tokenizer(PROMPT.format(row["instruction"]))["input_ids"]
        ids = [*prompt, *tokenizer(row["output"])["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logs = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
        for position, token in list(enumerate(ids))[1:]:
            found[position < len(prompt)].append(-logs[position - 1, token].item())
    return found


class TestFigures:
    def test_answers_and_their_counts_by_hand(self, done):
        tokenizer = AutoTokenizer.from_pretrained(done.config.model)
        columns, figures = of(Columns, done.events), of(Figures, done.events)
        for index, (model, told) in enumerate(zip(done.models(), figures, strict=True)):
            answers = [said(model, tokenizer, row["instruction"]) for row in ROWS[3:]]
            assert [(each.answers[index], each.stops[index]) for each in columns] == [
                (each.answer, each.stop) for each in answers
            ]
            assert told.answers == 3
            assert told.ended == sum(each.stops[index] == "EOS" for each in columns)
            assert told.ran_on == sum("### Instruction:" in each.answers[index] for each in columns)
            assert told.mean_tokens == pytest.approx(sum(each.tokens for each in answers) / 3)
        assert {figures[0].ended} != {each.ended for each in figures}, "all answers end alike: a poor test"

    def test_losses_by_hand(self, done):
        tokenizer = AutoTokenizer.from_pretrained(done.config.model)
        for model, told in zip(done.models(), of(Figures, done.events), strict=True):
            completion, prompt = losses_by_hand(model, tokenizer)
            assert (told.completion_tokens, told.prompt_tokens) == (len(completion), len(prompt))
            assert told.completion_loss == pytest.approx(sum(completion) / len(completion), abs=1e-4)
            assert told.prompt_loss == pytest.approx(sum(prompt) / len(prompt), abs=1e-4)

    def test_how_the_held_out_rows_are_batched_plays_no_part(self, config, tmp_path, monkeypatch):
        found = []
        for size in (1, 10_000):
            monkeypatch.setattr(scoring, "BATCH_TOKENS", size)
            found.append(of(Figures, ablate(config, data_of(), tmp_path / f"out{size}", ARMS)))
        for first, second in zip(*found, strict=True):
            assert first.completion_loss == pytest.approx(second.completion_loss, abs=1e-5)
            assert first.prompt_loss == pytest.approx(second.prompt_loss, abs=1e-5)


def prepared(config: RunConfig, data, tmp_path):
    """The `Setup`, and the base."""
    work = set_up(config, data, RunFolder(tmp_path / "out"), str(tmp_path))
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value, AutoModelForCausalLM.from_pretrained(config.model)


def chat(text: str, answer: str = "", **more) -> dict:
    turns = [{"role": "user", "content": text}] + [{"role": "assistant", "content": answer}] * bool(answer)
    return {"messages": turns} | more


class TestRanOn:
    """An answer that goes on with the template's last line before the user's words asks a question of its own."""

    def count(self, config, tmp_path, answers, *rows):
        data = data_of(*rows)
        setup, model = prepared(config, data, tmp_path)
        told = [Answer("", text, "length", 5) for text in answers]
        rows = held_out_rows(setup, data)
        return figures_of(setup, scoring.judge(model, rows, lambda: False), rows, told, 0.5)

    @pytest.mark.parametrize(
        ("template", "opening"),
        [
            ("instruction", "### Instruction:"),
            ("alpaca", "### Instruction:"),
            ("Q: {instruction}\nA:\n", "Q:"),
            ("Be kind.\n\n  Ask me: {instruction}\n", "Ask me:"),
        ],
    )
    def test_by_the_templates_own_words(self, config, tmp_path, template, opening):
        answers = [f"Rome!\n\n{opening}\nMore", "Rome! Instruction. Question", f"{opening}{opening}"]
        told = self.count(replace(config, template=template), tmp_path, answers)
        assert (told.ran_on, told.answers, told.prompt_loss_weight) == (2, 3, 0.5)
        assert self.count(replace(config, template=template), tmp_path, ["", "a", "b"]).ran_on == 0

    def test_nothing_to_know_it_by(self, config, tmp_path):
        verbatim = [{"prompt": text, "completion": "b"} for text in "ac"] + [
            {"prompt": "Q", "completion": "b", "held_out": True}
        ]
        assert self.count(config, tmp_path, ["Q"], *verbatim).ran_on is None
        assert self.count(replace(config, template="{instruction}\n"), tmp_path, ["", "", ""]).ran_on is None

    def test_a_chats_turns_open_with_special_tokens(self, llama_folder, tmp_path):
        rows = [chat("a", "b"), chat("c", "d"), chat("e", "f", held_out=True)]
        assert self.count(config_of(llama_folder), tmp_path, ["user\n"], *rows).ran_on is None

    def test_ended_and_length(self, config, tmp_path):
        data = data_of()
        setup, _ = prepared(config, data, tmp_path)
        answers = [Answer("", "", stop, tokens) for stop, tokens in (("EOS", 3), ("length", 12), ("stopped", 1))]
        told = figures_of(setup, [], [], answers, None)
        assert (told.ended, told.answers, told.mean_tokens, told.prompt_loss_weight) == (1, 3, 16 / 3, None)


class TestFolder:
    def test_what_is_saved(self, done):
        names = {file.name for file in done.folder.iterdir()}
        assert names == {
            "weight-0",
            "weight-1",
            "config.yaml",
            "run.json",
            "examples.jsonl",
            "events.jsonl",
            "README.md",
        }
        record = json.loads((done.folder / "run.json").read_text())
        assert (record["kind"], record["arms"], record["steps"]) == ("ablation", ["weight-0", "weight-1"], STEPS)
        assert record["figures"] == [each.to_dict() for each in of(Figures, done.events)]
        assert record["command"] == done.config.command_line("examples.jsonl", ARMS)
        data, again = data_of(), read_examples(done.folder / "examples.jsonl")
        assert [to_record(each) for each in (*again.train, *again.held_out)] == [
            to_record(each) for each in (*data.train, *data.held_out)
        ]
        assert "`weight-0`, `weight-1`" in (done.folder / "README.md").read_text()
        assert list(done.folder.parent.iterdir()) == [done.folder]

    def test_each_arm_is_a_run_of_its_own(self, done):
        columns = of(Columns, done.events)
        for index, weight in enumerate(ARMS):
            place = done.folder / arm_folder(weight)
            record = json.loads((place / "run.json").read_text())
            assert record["config"] == replace(done.config, prompt_loss_weight=weight).to_dict()
            assert (record["kind"], record["steps"]) == ("adapter", STEPS)
            assert record["command"] == replace(done.config, prompt_loss_weight=weight).command_line("examples.jsonl")
            assert record["loss"] == by_arm(Step, done.events)[index][-1].loss
            assert record["figures"] == [of(Figures, done.events)[1 + index].to_dict()]
            asked = [row["instruction"] for row in ROWS[3:]]
            told = list(answer(RunConfig(str(place), max_new_tokens=NEW_TOKENS), asked))
            assert isinstance(told[-1], Finished), told[-1]
            assert [(each.answer, each.stop) for each in of(Answer, told)] == [
                (each.answers[1 + index], each.stops[1 + index]) for each in columns
            ]

    def test_an_earlier_run_is_replaced(self, config, tmp_path):
        list(run(config, data_of(), tmp_path / "out"))
        list(ablate(config, data_of(), tmp_path / "out", ARMS, overwrite=True))
        assert not (tmp_path / "out" / "adapter_model.safetensors").exists()
        assert (tmp_path / "out" / "weight-1" / "adapter_model.safetensors").exists()
        list(run(config, data_of(), tmp_path / "out", overwrite=True))
        assert not (tmp_path / "out" / "weight-1").exists()

    def test_a_foreign_folder_is_refused_untouched(self, config, tmp_path):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.txt").write_text("years of work")
        (event,) = ablate(config, data_of(), tmp_path / "out", ARMS)
        assert "holds files that are not an earlier run's" in event.message
        assert [file.read_text() for file in (tmp_path / "out").iterdir()] == ["years of work"]


class TestWeights:
    @pytest.mark.parametrize("kind", ["adapter", pytest.param("merged", marks=pytest.mark.thorough), "full"])
    def test_before_and_after(self, config, tmp_path, kind):
        settings = {"adapter": {}, "merged": {"merge": True}, "full": {"full": True, "learning_rate": 1e-3}}[kind]
        events = list(ablate(replace(config, **settings), data_of(), tmp_path / "out", ARMS))
        (told,) = of(Weights, events)
        assert told.before == weights_sha256(AutoModelForCausalLM.from_pretrained(config.model))
        assert (told.before == told.after) == (kind != "full")
        assert told.full == (kind == "full")
        arms = [load_saved(tmp_path / "out" / arm_folder(weight)) for weight in ARMS]
        hashes = {weights_sha256(arm) for arm in arms}
        assert (hashes == {told.before}) == (kind == "adapter")
        assert len(hashes) == (1 if kind == "adapter" else 2)

    @pytest.mark.parametrize("changed", [1, 2])
    def test_a_change_in_either_arm_is_told(self, config, tmp_path, monkeypatch, changed):
        hashes = ["same"] * 2
        hashes[changed - 1] = "other"
        monkeypatch.setattr(base, "weights_sha256", lambda model: "same")
        monkeypatch.setattr(ablation, "weights_sha256", lambda model: hashes.pop(0))
        (told,) = of(Weights, ablate(config, data_of(), tmp_path / "out", ARMS))
        assert told == Weights("same", "other", False)

    def test_the_models_own_folder_is_left_alone(self, config, tmp_path, gpt2_folder):
        files = {file.name: file.read_bytes() for file in gpt2_folder.iterdir()}
        list(ablate(replace(config, full=True), data_of(), tmp_path / "out", ARMS))
        assert {file.name: file.read_bytes() for file in gpt2_folder.iterdir()} == files


class TestStop:
    def stopped(self, config, tmp_path, after: int) -> list[Event]:
        """An ablation of 2 x 4 steps that is asked to stop once so many are done."""
        seen: list[Step] = []
        events = []
        work = ablate(replace(config, steps=4), data_of(), tmp_path / "out", ARMS, stop=lambda: len(seen) >= after)
        for event in work:
            events.append(event)
            if isinstance(event, Step):
                seen.append(event)
        return events

    def test_it_compares_what_there_was_time_to_judge(self, config, tmp_path, monkeypatch):
        monkeypatch.setattr(until, "HASTE", 0.0)
        monkeypatch.setattr(scoring, "FEW_TOKENS", 1)
        events = self.stopped(config, tmp_path, 5)
        base, first, second = of(Figures, events)
        assert base.completion_tokens == first.completion_tokens == second.completion_tokens
        assert base.completion_tokens < of(HeldOut, events)[0].completion_tokens
        (told,) = of(Conclusion, events)
        share = f"{base.completion_tokens} of {of(HeldOut, events)[0].completion_tokens}"
        assert f"On {share} held-out answer tokens" in told.words

    def test_during_the_second_arm_keeps_both(self, config, tmp_path):
        events = self.stopped(config, tmp_path, 5)
        last = events[-1]
        assert [len(steps) for steps in by_arm(Step, events)] == [4, last.steps - 4]
        assert 5 <= last.steps < 8
        assert (last.total, last.stopped) == (8, True)
        assert [told[-1].step for told in by_arm(HeldOut, events)] == [4, last.steps - 4]
        assert len(of(Figures, events)) == 3
        steps = [
            json.loads((tmp_path / "out" / arm_folder(weight) / "run.json").read_text())["steps"] for weight in ARMS
        ]
        assert steps == [4, last.steps - 4]
        list(run(replace(config, steps=4), data_of(), tmp_path / "whole"))
        assert_equal(weights_in(tmp_path / "out" / "weight-0"), weights_in(tmp_path / "whole"))

    def test_between_the_arms_keeps_the_first(self, config, tmp_path):
        events = self.stopped(config, tmp_path, 4)
        assert of(Arm, events) == [Arm(0, [0.0, 1.0])]
        assert [each.prompt_loss_weight for each in of(Figures, events)] == [None, 0.0]
        assert [len(each.answers) for each in of(Columns, events)] == [2] * 3
        assert (events[-1].steps, events[-1].total, events[-1].stopped) == (4, 8, True)
        assert json.loads((tmp_path / "out" / "run.json").read_text())["arms"] == ["weight-0"]
        assert not (tmp_path / "out" / "weight-1").exists()
        assert load_events(tmp_path / "out") == events
        load_saved(tmp_path / "out" / "weight-0")

    def test_before_the_first_step_saves_nothing(self, config, tmp_path):
        events = self.stopped(config, tmp_path, 0)
        assert (events[-1].stopped, events[-1].steps) == (True, 0)
        assert not of((Arm, Saved), events)
        assert not (tmp_path / "out").exists()

    def test_closing_leaves_nothing(self, config, tmp_path):
        events = ablate(replace(config, steps=500), data_of(), tmp_path / "out", ARMS)
        for event in events:
            if isinstance(event, HeldOut):
                break
        events.close()
        assert not list(tmp_path.iterdir())


ONE_QUESTION = [{"instruction": "Say it", "output": text} for text in "abc"]


@pytest.mark.parametrize(
    ("rows", "weights", "says"),
    [
        (ROWS[1:2] + ROWS[3:], ARMS, "There is one row to train on; a comparison of two ways to train needs at least"),
        (
            ROWS[:3],
            ARMS,
            'No row is held out, so nothing can be measured on rows that no arm has seen. Give some rows "',
        ),
        (
            [*ONE_QUESTION, ONE_QUESTION[0] | {"held_out": True}],
            ARMS,
            "All rows ask the same, 'Say it', so the loss on",
        ),
        (ROWS[:3] + ROWS[4:5], ARMS, "No held-out row has an answer, so there is no loss to measure; give those rows"),
        (ROWS[3:4], ARMS, "There is no example to train on (1 held out)."),
        (ROWS[3:], ARMS, "There is no example to train on (3 held out)."),
        (ROWS, (0.0, 0.0), "The weights 0, 0 are not all different."),
        (ROWS, (0.5, 1.0, 0.5), "The weights 0.5, 1, 0.5 are not all different."),
        (ROWS, (), "There are 0 weights; two to 4 can be compared."),
        (ROWS, (1.0,), "There is one weight; two to 4 can be compared."),
        (ROWS, (0.0, 0.1, 0.2, 0.3, 0.4), "There are 5 weights; two to 4 can be compared."),
        (ROWS, (0.0, 1.5), "prompt_loss_weight is 1.5; it must lie between 0 and 1."),
        (ROWS, (-0.1, 1.0), "prompt_loss_weight is -0.1; it must lie between 0 and 1."),
        (ROWS, (float("nan"), 1.0), "prompt_loss_weight is nan; it must lie between 0 and 1."),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(config, tmp_path, rows, weights, says):
    events = list(ablate(config, data_of(*rows), tmp_path / "out", weights))
    assert not of((Model, Arm), events)
    assert isinstance(events[-1], Failed), events[-1]
    assert events[-1].message.startswith(says)
    assert events[-1].message.endswith(".")
    assert not (tmp_path / "out").exists()


def test_one_name_for_several_trainings_is_refused(config, tmp_path):
    named = replace(config, report_to="trackio", set=("run_name=one",))
    (event,) = ablate(named, data_of(), tmp_path / "out", ARMS)
    assert event == Failed("set names run_name, but an ablation trains several times under one name; leave it out.")


def test_several_processes_are_refused(config, tmp_path, monkeypatch):
    for name, value in (("LOCAL_RANK", "0"), ("RANK", "0"), ("WORLD_SIZE", "2")):
        monkeypatch.setenv(name, value)
    (event,) = ablate(config, data_of(), tmp_path / "out", ARMS)
    assert event == Failed("An ablation runs in one process; start it without torchrun.")


class TestHeldOutRows:
    def test_under_the_mask_of_the_settings(self, config, tmp_path):
        data = data_of()
        setup, _ = prepared(replace(config, max_length=22), data, tmp_path)
        tokenizer = AutoTokenizer.from_pretrained(config.model)
        rows = held_out_rows(setup, data)
        assert all(len(row.input_ids) <= 22 for row in rows)
        for row in rows:
            prompt = tokenizer(PROMPT.format(ROWS[row.row]["instruction"]))["input_ids"]
            whole = [*prompt, *tokenizer(ROWS[row.row]["output"])["input_ids"], tokenizer.eos_token_id]
            assert list(row.input_ids) == whole[:22]
            assert list(row.labels) == ([-100] * len(prompt) + whole[len(prompt) :])[:22]

    def test_which_turns_count(self, llama_folder, tmp_path):
        turns = [("user", "a"), ("assistant", "one"), ("user", "b"), ("assistant", "two")]
        talk = {"messages": [{"role": role, "content": text} for role, text in turns], "held_out": True}
        counts = {}
        for which in ("all", "last"):
            data = data_of(chat("a", "b"), chat("c", "d"), talk)
            setup, _ = prepared(config_of(llama_folder, turns=which), data, tmp_path)
            counts[which] = sum(row.trained for row in held_out_rows(setup, data))
        assert counts["all"] > counts["last"] > 0

    def test_rows_that_cannot_be_masked_do_not_count(self, config, tmp_path):
        data = data_of(*ROWS, chat("a", "b", held_out=True))  # GPT-2 has no chat template
        setup, _ = prepared(config, data_of(), tmp_path)
        assert [row.row for row in held_out_rows(setup, data)] == [3, 5]
        with pytest.raises(DataError, match="no held-out row has an answer"):
            held_out_rows(setup, data_of(*ROWS[:3], chat("a", "b", held_out=True)))
