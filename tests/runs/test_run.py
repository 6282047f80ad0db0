from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from saved import load_saved
from tiny import tokenizer_named
from transformers import AutoModelForCausalLM, AutoTokenizer

from sftdemo.core import until
from sftdemo.core.config import RunConfig
from sftdemo.core.events import (
    Answer,
    Before,
    Comparison,
    Conclusion,
    Failed,
    Finished,
    HeldOut,
    Model,
    Phase,
    Prepared,
    Saved,
    Step,
    Weights,
)
from sftdemo.core.limits import Limits
from sftdemo.data.chat import render_prompt
from sftdemo.data.examples import parse_examples, read_examples, to_record
from sftdemo.data.templates import get_template
from sftdemo.model import scoring
from sftdemo.model.generation import generate
from sftdemo.runs.folder import load_events
from sftdemo.runs.run import answer, answers_after, run

SEED_DATA = [
    {"instruction": "Say hello", "output": ["Hello world!"]},
    {"instruction": "Count to 3", "output": ["1 2 3"]},
]
ROWS = [*SEED_DATA, {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True}]


def data_of(*rows):
    return parse_examples(json.dumps(rows or ROWS))


def settings(folder) -> RunConfig:
    return RunConfig(str(folder), steps=4, batch_size=2, max_length=128, max_new_tokens=12, learning_rate=1e-2)


@pytest.fixture
def config(gpt2_folder):
    return settings(gpt2_folder)


KINDS = {"adapter": {}, "merged": {"merge": True}, "full": {"full": True}}


@pytest.fixture(scope="module", params=KINDS)
def done(request, gpt2_folder, tmp_path_factory):
    """A run of each kind, which is the name of its folder, and its events. Leave it as it is."""
    out = tmp_path_factory.mktemp("done") / request.param
    return list(run(replace(settings(gpt2_folder), **KINDS[request.param]), data_of(), out)), out


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def greedy(model, tokenizer, data, template="instruction"):
    prompts = [render_prompt(example, get_template(template), tokenizer) for example in data.held_out]
    return [result.answer for result in generate(model.eval(), tokenizer, prompts, 12)]


class TestEvents:
    def test_order(self, done):
        events, out = done
        kinds = [type(event) for event in events if not isinstance(event, Phase)]
        told = [Comparison, Weights, Conclusion, Saved, Finished]
        assert kinds == [Model, Before, HeldOut, Prepared, *[Step] * 4, HeldOut, *told]
        first, last = of(HeldOut, events)
        assert (first.step, last.step) == (0, 4)
        (concluded,) = of(Conclusion, events)
        lost = f"the loss from {first.completion_loss:.3f} to {last.completion_loss:.3f}"
        assert lost in concluded.words
        assert concluded.words in (out / "README.md").read_text(encoding="utf-8")
        (asked,), (comparison,) = of(Before, events), of(Comparison, events)
        assert (asked.prompt, asked.answer) == (comparison.prompt, comparison.before)
        phases = [event.name for event in of(Phase, events)]
        assert list(dict.fromkeys(phases)) == ["model", "load", "memory", "before", "train", "after", "save"]
        assert of(Saved, events) == [Saved(str(out), out.name)]
        assert (events[-1].steps, events[-1].total, events[-1].stopped) == (4, 4, False)

    def test_model(self, done, gpt2_folder):
        (model,) = of(Model, done[0])
        assert model.name == str(gpt2_folder)
        assert (model.copy, model.dtype) == ("local folder", "float32")
        assert model.parameters == AutoModelForCausalLM.from_pretrained(gpt2_folder).num_parameters()

    def test_every_event_is_json(self, done, tmp_path):
        events, out = done
        for event in events:
            assert json.loads(json.dumps(event.to_dict()))["event"] == type(event).__name__.lower()
        assert load_events(out) == events
        assert load_events(tmp_path) == []

    def test_sources_of_questions(self, config, tmp_path):
        def sources(config, *rows):
            events = run(config, data_of(*rows), tmp_path / "out", overwrite=True)
            return [(event.prompt, event.source) for event in of(Comparison, events)]

        assert sources(config) == [("Capital of Italy?", "held out")]
        asked = [("Why?", "typed"), ("Capital of Italy?", "held out")]
        assert sources(replace(config, prompts=("Why?",)), *ROWS) == asked
        assert sources(config, *SEED_DATA) == [("Say hello", "training"), ("Count to 3", "training")]

    def test_refused_rows_are_listed(self, config, tmp_path):
        long = {"instruction": "word " * 200, "output": "x"}
        chat = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}
        data = data_of(*ROWS, {"instruction": "a"}, long, chat)
        events = list(run(replace(config, anyway=True), data, tmp_path / "out"))
        (prepared,) = of(Prepared, events)
        assert prepared.examples == 2
        assert [text[:6] for text in prepared.left_out] == ["row 3:", "row 4:", "row 5:"]
        for reason, says in zip(
            prepared.left_out, ['has no "output"', "no token is trained", "chat template"], strict=True
        ):
            assert says in reason
        assert isinstance(events[-1], Finished)

    def test_dropped_rows_are_told_together(self, config, tmp_path):
        long = [{"instruction": "word " * count, "output": "x"} for count in (50, 60)]
        settings = replace(config, max_length=40, too_long="drop")
        (prepared,) = of(Prepared, run(settings, data_of(*ROWS, *long), tmp_path / "out"))
        assert prepared.examples == 2
        (told,) = prepared.left_out
        assert told.startswith("2 rows: has ")
        assert told.endswith(", first in row 3, row 4.")

    def test_too_long_rows_that_are_refused_stop_the_run(self, config, tmp_path):
        long = {"instruction": "a", "output": "word " * 60}
        settings = replace(config, max_length=40, too_long="refuse")
        (failed,) = of(Failed, run(settings, data_of(*ROWS, *ROWS, long), tmp_path / "out"))
        assert "the row has more tokens than max length (row 6)" in failed.message

    def test_max_length_is_held_below_the_models_positions(self, config, tmp_path):
        long = {"instruction": "a", "output": "word " * 400}  # one row of three: cut, but not as most are
        events = list(run(replace(config, max_length=4096), data_of(*ROWS, long), tmp_path / "out"))
        assert isinstance(events[-1], Finished)
        assert of(Prepared, events)[0].tokens < 256 + 100


ERRORS = {
    "a prompt too long": ([*ROWS, {"instruction": "word " * 200, "output": "x"}], "the prompt alone reaches"),
    "most answers cut": ([{"instruction": "a", "output": "word " * 200}], "the answer is cut by max length"),
    "a mask of another text": (
        [SEED_DATA[0] | {"mask": {"text": "x", "trained": [[0, 1]]}}, *ROWS[1:]],
        "a hand-made mask belongs to another text (row 0)",
    ),
    "a mask that trains nothing": (
        [{"prompt": "a", "completion": "b", "mask": {"text": "ab", "trained": [], "eos": False}}, *ROWS[1:]],
        "no token is trained (row 0)",
    ),
}


class TestAudit:
    """A run is refused where the audit finds an error, before the model is loaded, unless it is wanted anyway."""

    @pytest.mark.parametrize("name", ERRORS)
    def test_an_error_ends_the_run_before_the_model_is_loaded(self, config, tmp_path, name):
        rows, says = ERRORS[name]
        events = list(run(config, data_of(*rows), tmp_path / "out"))
        assert not of(Model, events)
        assert isinstance(events[-1], Failed)
        assert events[-1].message.startswith(f"The audit found an error: {says}")
        assert events[-1].message.endswith("Or train anyway (--anyway).")
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize("name", ERRORS)
    def test_or_not_if_it_is_wanted_anyway(self, config, tmp_path, name):
        rows, _ = ERRORS[name]
        events = list(run(replace(config, steps=1, anyway=True), data_of(*rows), tmp_path / "out"))
        assert isinstance(events[-1], Finished), events[-1]
        assert json.loads((tmp_path / "out" / "run.json").read_text())["config"]["anyway"] is True

    def test_a_warning_does_not(self, config, tmp_path):
        rows = [*ROWS, {"instruction": "a", "output": " "}, {"instruction": "SAY HELLO!", "output": "No."}]
        assert isinstance(list(run(replace(config, steps=1), data_of(*rows), tmp_path / "out"))[-1], Finished)


class TestMaskMadeByHand:
    TEXT = "Q: a\nA: one two"

    def row(self, *trained, eos=True):
        spans = [[self.TEXT.index(words), self.TEXT.index(words) + len(words)] for words in trained]
        mask = {"text": self.TEXT, "trained": spans, "eos": eos}
        return {"prompt": "Q: a\nA:", "completion": " one two", "mask": mask}

    def test_it_is_what_is_trained(self, config, tmp_path):
        tokenizer = tokenizer_named("gpt2")
        data = data_of(self.row(" two"), self.row("a", " one", eos=False))
        (prepared,) = of(Prepared, run(replace(config, steps=1), data, tmp_path / "out"))
        counts = [len(tokenizer(words)["input_ids"]) for words in (" two", "a", " one")]
        assert (prepared.trained_tokens, prepared.left_out) == (sum(counts) + 1, [])

    def test_it_is_saved_with_the_examples(self, config, tmp_path):
        data = data_of(self.row(" two"), self.row("a", " one", eos=False), *ROWS)
        list(run(replace(config, steps=1), data, tmp_path / "out"))
        again = read_examples(tmp_path / "out" / "examples.jsonl")
        assert [example.masks for example in again.train] == [example.masks for example in data.train]
        assert [len(example.masks) for example in again.train] == [1, 1, 0, 0]


class TestBeforeAndAfter:
    def test_before_is_the_base_model_and_after_the_saved_one(self, done, gpt2_folder):
        data, (events, out) = data_of(), done
        (comparison,) = of(Comparison, events)
        tokenizer = AutoTokenizer.from_pretrained(out)
        base = AutoModelForCausalLM.from_pretrained(gpt2_folder)
        saved = load_saved(out)
        assert [comparison.before] == greedy(base, tokenizer, data)
        assert [comparison.after] == greedy(saved, tokenizer, data)
        assert comparison.before != comparison.after

    def test_answer_asks_the_saved_run(self, done):
        told, out = done
        (comparison,) = of(Comparison, told)
        events = list(answer(RunConfig(str(out), max_new_tokens=12), ["Capital of Italy?"]))
        assert [(each.prompt, each.answer, each.stop) for each in of(Answer, events)] == [
            ("Capital of Italy?", comparison.after, comparison.after_stop)
        ]
        assert isinstance(events[-1], Finished)

    def test_training_leaves_the_models_own_folder_alone(self, config, tmp_path, gpt2_folder):
        files = {file.name: file.read_bytes() for file in gpt2_folder.iterdir()}
        list(run(replace(config, full=True), data_of(), tmp_path / "out"))
        assert {file.name: file.read_bytes() for file in gpt2_folder.iterdir()} == files


def test_the_seeds_own_call(gpt2_folder, tmp_path):
    file = tmp_path / "train.json"
    file.write_text(json.dumps(SEED_DATA))
    config = RunConfig(
        str(gpt2_folder), epochs=1, learning_rate=5e-5, batch_size=2, max_length=128, full=True, packing=True
    )
    data = read_examples(file)
    events = list(run(config, data, tmp_path / "out"))
    (prepared,) = of(Prepared, events)
    eos, tokenizer = tokenizer_named("gpt2").eos_token_id, tokenizer_named("gpt2")
    assert (prepared.examples, prepared.steps, prepared.left_out) == (2, 1, [])
    answers = [tokenizer(text)["input_ids"] for text in ("Hello world!", "1 2 3")]
    assert prepared.trained_tokens == sum(len(ids) + 1 for ids in answers)
    assert eos not in [token for ids in answers for token in ids]
    assert isinstance(events[-1], Finished)
    AutoModelForCausalLM.from_pretrained(tmp_path / "out")


class TestOutput:
    def test_what_is_saved(self, config, tmp_path):
        out = tmp_path / "out"
        list(run(config, data_of(), out))
        names = {file.name for file in out.iterdir()}
        assert {"run.json", "examples.jsonl", "events.jsonl", "README.md", "adapter_model.safetensors"} <= names
        assert not [name for name in names if name.endswith((".bin", ".pt", ".pkl"))]
        record = json.loads((out / "run.json").read_text())
        assert (record["kind"], record["steps"], record["config"]["batch_size"]) == ("adapter", 4, 2)
        assert (record["data"], record["command"]) == (None, config.command_line("examples.jsonl"))
        data, again = data_of(), read_examples(out / "examples.jsonl")
        assert [to_record(example) for example in (*again.train, *again.held_out)] == [
            to_record(example) for example in (*data.train, *data.held_out)
        ]
        assert list(tmp_path.iterdir()) == [out]

    def test_a_foreign_folder_is_refused_untouched(self, config, tmp_path):
        out = tmp_path / "out"
        out.mkdir()
        (out / "thesis.txt").write_text("years of work")
        events = list(run(config, data_of(), out))
        assert len(events) == 1
        assert "holds files that are not an earlier run's; name another folder" in events[0].message
        assert [file.read_text() for file in out.iterdir()] == ["years of work"]

    def test_a_file_is_refused(self, config, tmp_path):
        (tmp_path / "out").write_text("x")
        (event,) = run(config, data_of(), tmp_path / "out")
        assert "is a file; name a folder" in event.message

    def test_a_folder_that_cannot_be_written(self, config, tmp_path):
        (tmp_path / "file").write_text("x")
        (event,) = run(config, data_of(), tmp_path / "file" / "out")
        assert re.search(r"out cannot be written: .*\. Name another folder\.$", event.message)

    def test_a_name_that_is_not_utf_8(self, config, tmp_path):
        (event,) = run(config, data_of(), tmp_path / "out\udcff")
        assert "has a name that is not UTF-8; name another folder" in event.message

    def test_an_empty_folder_is_taken(self, config, tmp_path):
        (tmp_path / "out").mkdir()
        assert of(Saved, run(config, data_of(), tmp_path / "out"))

    def test_an_earlier_run_is_replaced(self, config, tmp_path):
        out = tmp_path / "out"
        list(run(replace(config, full=True), data_of(), out))
        assert (out / "model.safetensors").exists()
        list(run(config, data_of(), out, overwrite=True))
        assert (out / "adapter_model.safetensors").exists()
        assert not (out / "model.safetensors").exists()
        assert list(tmp_path.iterdir()) == [out]

    def test_a_failed_run_leaves_the_earlier_one(self, config, tmp_path, gpt2_folder):
        out = tmp_path / "out"
        list(run(config, data_of(), out))
        before = {file.name: file.read_bytes() for file in out.iterdir()}
        model = AutoModelForCausalLM.from_pretrained(gpt2_folder)
        with torch.no_grad():
            model.transformer.wte.weight[5:] = float("nan")
        model.save_pretrained(tmp_path / "poisoned")
        tokenizer_named("gpt2").save_pretrained(tmp_path / "poisoned")
        events = list(run(replace(config, model=str(tmp_path / "poisoned")), data_of(), out, overwrite=True))
        assert isinstance(events[-1], Failed)
        assert "computes what is no number (NaN)" in events[-1].message
        assert {file.name: file.read_bytes() for file in out.iterdir()} == before

    def test_what_has_diverged_at_the_last_step_is_kept(self, config, tmp_path, monkeypatch):
        def diverged(setup, model, stop):
            with torch.no_grad():
                next(model.parameters()).fill_(float("nan"))
            return (yield from answers_after(setup, model, stop))

        monkeypatch.setattr("sftdemo.runs.run.answers_after", diverged)
        data = replace(data_of(), held_out=())
        events = list(run(config, data, tmp_path / "out"))
        assert isinstance(events[-1], Finished)
        assert {(each.after, each.after_stop) for each in of(Comparison, events)} == {("", "NaN")}
        (found,) = of(Conclusion, events)
        assert found.words.startswith("The trained model computes what is no number (NaN): the training has diverged.")


class TestStop:
    def test_keeps_what_it_has(self, config, tmp_path):
        seen = []
        events = []
        for event in run(replace(config, steps=500), data_of(), tmp_path / "out", stop=lambda: len(seen) >= 2):
            events.append(event)
            if isinstance(event, Step):
                seen.append(event)
        assert 2 <= len(seen) <= 20
        assert events[-1].stopped
        assert (events[-1].steps, events[-1].total) == (len(seen), 500)
        assert of(Comparison, events)
        assert json.loads((tmp_path / "out" / "run.json").read_text())["steps"] == len(seen)

    def test_it_judges_what_there_is_time_for_and_says_how_much(self, config, tmp_path, monkeypatch):
        monkeypatch.setattr(until, "HASTE", 0.0)
        monkeypatch.setattr(scoring, "FEW_TOKENS", 1)
        more = {"instruction": "Capital of France?", "output": "Paris, on the Seine!", "held_out": True}
        seen, events = [], []
        work = run(replace(config, steps=500), data_of(*ROWS, more), tmp_path / "out", stop=lambda: len(seen) > 0)
        for event in work:
            events.append(event)
            seen += of(Step, [event])
        whole, before, after = of(HeldOut, events)
        assert (before.step, after.step) == (0, len(seen))
        assert before.completion_tokens == after.completion_tokens < whole.completion_tokens
        assert {each.after_stop for each in of(Comparison, events)} == {"stopped"}
        (told,) = of(Conclusion, events)
        assert f"On {after.completion_tokens} of {whole.completion_tokens} held-out answer tokens" in told.words
        assert f"from {before.completion_loss:.3f} to {after.completion_loss:.3f}" in told.words

    def test_before_the_first_step_saves_nothing(self, config, tmp_path):
        events = list(run(config, data_of(), tmp_path / "out", stop=lambda: True))
        assert (events[-1].stopped, events[-1].steps) == (True, 0)
        assert not of(Saved, events)
        assert not (tmp_path / "out").exists()

    def test_closing_leaves_nothing(self, config, tmp_path):
        events = run(replace(config, steps=500), data_of(), tmp_path / "out")
        for event in events:
            if isinstance(event, Step):
                break
        events.close()
        assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rows", "settings", "says"),
    [
        ([{"instruction": "a"}], {}, "no example to train on (0 held out). The first refused: row 0"),
        (ROWS[2:], {}, "no example to train on (1 held out)"),
        ([{"instruction": "word " * 400, "output": "x"}], {}, "No row has a token to train. row 0"),
        ([{"instruction": "word " * 400, "output": "x"}], {"anyway": True}, "No row has a token to train. row 0"),
        (ROWS, {"template": "chat"}, "No row has a token to train. row 0: this model has no chat template"),
        (ROWS, {"template": "Q: {question}"}, "has no {instruction} in it"),
        (ROWS, {"max_new_tokens": 300}, "over the model's 256 positions"),
        (ROWS, {"model": "no-such-folder/with/more"}, "is no folder or file here"),
        (ROWS, {"device": "cuda"}, "There is no cuda device here; there is: cpu"),
    ],
)
def test_failures_are_sentences(config, tmp_path, rows, settings, says, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)
    events = list(run(replace(config, **settings), data_of(*rows), tmp_path / "out"))
    assert isinstance(events[-1], Failed)
    assert says in events[-1].message
    assert events[-1].message[0].isupper() or not events[-1].message[0].isalpha()
    assert not (tmp_path / "out").exists()


def test_chat_rows_and_the_chat_template(llama_folder, tmp_path):
    turns = [{"role": "user", "content": "a <|im_end|>"}, {"role": "assistant", "content": "b"}]
    config = RunConfig(str(llama_folder), template="chat", steps=2, batch_size=2, max_new_tokens=4)
    events = list(run(config, data_of({"messages": turns}, *SEED_DATA), tmp_path / "out"))
    assert isinstance(events[-1], Finished), events[-1]
    assert [event.prompt for event in of(Comparison, events)] == ["a <|im_end|>", "Say hello", "Count to 3"]


@pytest.mark.parametrize("packing", [False, True])
def test_rows_that_came_tokenised_and_texts(llama_folder, tmp_path, packing):
    tokenizer = tokenizer_named("chatml")
    prompt, answer = (tokenizer(text)["input_ids"] for text in ("Name a fruit.\n", "A cherry.<|im_end|>"))
    ids = [*prompt, *answer]
    row = {"input_ids": ids, "labels": [-100] * len(prompt) + answer}
    packed = {"input_ids": ids * 2, "seq_lengths": [len(ids)] * 2}
    data = data_of(row, packed, {"text": "Once upon a time."}, row | {"held_out": True})
    config = RunConfig(str(llama_folder), steps=2, batch_size=2, max_new_tokens=4, packing=packing)
    events = list(run(config, data, tmp_path / "out"))
    assert isinstance(events[-1], Finished)
    (prepared,) = of(Prepared, events)
    whole = len(tokenizer("Once upon a time.")["input_ids"])
    assert (prepared.examples, prepared.trained_tokens) == (4, len(answer) + 2 * (len(ids) - 1) + whole)
    again = read_examples(tmp_path / "out" / "examples.jsonl")
    assert list(map(to_record, again.train)) == list(map(to_record, data.train))


@pytest.mark.parametrize(
    ("state", "steps", "answers"),
    [("load", 0, 0), ("before", 0, 1), ("train", 1, 1), ("after", 4, 1)],
)
def test_stop_is_heard_in_every_state_and_what_was_trained_is_kept(config, tmp_path, state, steps, answers):
    seen, events = set[str](), []
    for event in run(config, data_of(), tmp_path / "out", stop=lambda: state in seen):
        events.append(event)
        seen.update([event.name] if isinstance(event, Phase) else [])
    assert (events[-1].steps, len(of(Before, events))) == (steps, answers)
    assert bool(of(Saved, events)) == (tmp_path / "out").exists() == bool(steps)
    if state in ("before", "after"):
        found = of(Before, events)[0].stop if state == "before" else of(Comparison, events)[0].after_stop
        assert found == "stopped"


def test_a_run_takes_no_longer_than_it_may_and_says_so(config, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sftdemo.core.until.time", SimpleNamespace(monotonic=lambda: now[0]))
    events = []
    for event in run(replace(config, steps=500), data_of(), tmp_path / "out", limits=Limits(seconds=60)):
        events.append(event)
        now[0] += 25 * isinstance(event, Step)
    assert 3 <= events[-1].steps <= 5
    assert events[-1].stopped
    (told,) = [each.message for each in of(Phase, events) if each.name == "limit"]
    assert told == "The time that a run may take is up; what it has learned is kept"
    assert of(Saved, events)


def test_more_tokens_or_questions_than_allowed_are_refused_before_the_weights_are_loaded(config, tmp_path):
    for limits, says in [
        (Limits(tokens=50), "The training computes about"),
        (Limits(answer_tokens=11), "The answers before and after have up to 12 tokens"),
        (Limits(questions=1), "There are 2 prompts to answer before and after; the limit here is 1"),
    ]:
        asked = replace(config, prompts=("a",)) if limits.questions == 1 else config
        events = list(run(asked, data_of(), tmp_path / "out", limits=limits))
        assert isinstance(events[-1], Failed)
        assert events[-1].message.startswith(says)
        assert not of(Model, events)
