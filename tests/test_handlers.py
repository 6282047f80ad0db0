"""The page without a browser: its handlers over a tiny model, its components as keys of the values they get."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from zipfile import ZipFile

import gradio as gr
import pytest
from transformers import AutoTokenizer

from sftdemo.config import DEFAULT_MODEL, RunConfig
from sftdemo.errors import ConfigError
from sftdemo.estimate import rate_for
from sftdemo.events import Failed, Finished, Phase
from sftdemo.examples import parse_examples
from sftdemo.jobs import BusyError
from sftdemo.runs import run
from sftdemo.templates import get_template
from sftdemo.tokenization import tokenize_examples
from sftdemo.ui import build, controls
from sftdemo.ui.backend import KEPT_RUNS, Backend
from sftdemo.ui.handlers import Outputs
from sftdemo.ui.widgets import STATIC
from sftdemo.ui.zero_gpu import gpu_run, on_zero_gpu

ROWS = [
    {"instruction": "Say hello", "output": "Hello world!"},
    {"instruction": "Count to 3", "output": "1 2 3"},
    {"instruction": "Capital of Italy?", "output": "Rome!", "held_out": True},
]
TEXT = json.dumps(ROWS)
SKIP = gr.skip()
EVIL = ["<script>alert(1)</script>", "${1+1}", "{{value}}", "<img src=x onerror=alert(1)>", "</script>`'\"\\"]


class OnLentGpu(Backend):
    """A backend whose runs go on in this process, as on a ZeroGPU Space."""

    def __init__(self):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr("sftdemo.ui.backend.on_zero_gpu", lambda: True)
            patched.setattr("sftdemo.ui.backend.gpu_run", lambda: run)
            super().__init__()


class Busy(Backend):
    def start(self, config, data):
        raise BusyError("another run is under way.")


def page_of(backend: Backend):
    """The page, and the handlers that it has wired to its components."""
    page = build(backend)
    draw = next(fn.fn for fn in page.fns.values() if getattr(fn.fn, "__name__", "") == "draw")
    return page, draw.__self__


@pytest.fixture(scope="module")
def page_and_handlers():
    return page_of(OnLentGpu())


@pytest.fixture
def blocks(page_and_handlers):
    return page_and_handlers[0]


@pytest.fixture
def handlers(page_and_handlers):
    return page_and_handlers[1]


@pytest.fixture(autouse=True)
def only_a_cpu(monkeypatch):
    monkeypatch.delenv("SPACE_ID", raising=False)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: False)


def values_of(handlers, **changed) -> dict:
    """What the page's inputs hold when nothing but `changed` was touched."""
    values = {component: component.value for component in handlers.controls.all()}
    return values | {getattr(handlers.controls, name): value for name, value in changed.items()}


@pytest.fixture
def values(handlers, gpt2_folder):
    """The inputs for a short run of the tiny model."""

    def made(**changed):
        tiny = {"model": str(gpt2_folder), "examples": TEXT, "steps": 2, "max_new_tokens": 4, "max_length": 128}
        return values_of(handlers, **tiny | changed)

    return made


def named(outputs: tuple) -> dict:
    """What a run's handler yields, by the names of the components that it changes."""
    names = [field.name for field in fields(Outputs) if field.name not in ("model_status", "mask", "asked")]
    return {name: value for name, value in zip(names, outputs, strict=True) if value != SKIP}


def drawn(handlers, values) -> tuple[dict, dict, dict, str]:
    mask, asked, button, command = handlers.draw(values)
    return json.loads(mask), json.loads(asked), button, command


def merged(looks) -> dict:
    """The page after all updates, as (component: its last value)."""
    shown = {}
    for look in looks:
        shown |= named(look)
    return shown


class TestPage:
    def test_it_is_no_api(self, blocks):
        info = blocks.get_api_info()
        assert (info["named_endpoints"], info["unnamed_endpoints"]) == ({}, {})
        assert len(blocks.fns) >= 7
        assert {fn.api_visibility for fn in blocks.fns.values()} == {"private"}

    def test_drawing_follows_every_input(self, blocks, handlers):
        triggers = {target[0] for fn in blocks.fns.values() for target in fn.targets}
        assert {component._id for component in handlers.controls.all()} <= triggers

    def test_the_browser_draws_with_text_content_only(self):
        scripts = sorted(STATIC.glob("*.js"))
        assert scripts
        for script in scripts:
            found = re.search(
                r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|srcdoc|DOMParser",
                script.read_text(),
            )
            assert not found, script.name

    def test_no_value_reaches_a_widgets_template(self, blocks):
        widgets = [block for block in blocks.blocks.values() if isinstance(block, gr.HTML) and block.js_on_load]
        drawn = [block for block in widgets if 'class="widget' in (block.html_template or "")]
        assert len(drawn) >= 5
        for block in drawn:
            assert re.fullmatch(r'<div class="widget \w+"></div>', block.html_template)


class TestDraw:
    def test_the_mask_is_the_trainers(self, handlers, values, gpt2_folder):
        mask, asked, button, command = drawn(handlers, values())
        tokenizer = AutoTokenizer.from_pretrained(gpt2_folder)
        examples, _ = tokenize_examples(parse_examples(TEXT).train, tokenizer, get_template("instruction"), 128)
        assert [row["row"] for row in mask["rows"]] == [0, 1]
        for row, example in zip(mask["rows"], examples, strict=True):
            tokens = row["tokens"]
            assert [index for _, _, index, _, _ in tokens] == list(example.input_ids)
            assert [index if trained else -100 for _, _, index, trained, _ in tokens] == list(example.labels)
            assert [kind for _, kind, _, _, _ in tokens] == [kind[0] for kind in example.kinds]
            assert (row["trained"], row["prompt"]) == (example.trained, len(tokens) - example.trained)
        assert "1 held out" in mask["summary"]
        assert asked["questions"] == [{"text": "Capital of Italy?", "source": "held out"}]
        assert button["interactive"]
        assert button["value"].startswith("Train 2 steps")
        assert command.startswith("python -m sftdemo train examples.jsonl --model")

    def test_max_length_and_template_are_followed(self, handlers, values):
        changed = values(template="custom", custom="Q: {instruction}\nA:\n", max_length=10)
        mask, *_ = drawn(handlers, changed)
        row = mask["rows"][0]
        assert len(row["tokens"]) == 10
        assert "".join(text for text, *_ in row["tokens"]).startswith("Q:␣")
        assert row["cut"] > 0
        assert any(flag.startswith("eos cut") for flag in row["flags"])

    def test_good_rows_survive_beside_refused_ones(self, handlers, values):
        mask, _, button, _ = drawn(handlers, values(examples=json.dumps([ROWS[0], {"instruction": "a"}, 5])))
        assert len(mask["rows"]) == 1
        assert [problem[:6] for problem in mask["problems"]] == ["row 1:", "row 2:"]
        assert button["interactive"]

    def test_many_rows_are_not_all_drawn(self, handlers, values):
        mask, *_ = drawn(handlers, values(examples=json.dumps(ROWS[:1] * 60)))
        assert (len(mask["rows"]), mask["more"]) == (50, 10)
        assert mask["summary"].startswith("60 examples")

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"examples": ""}, "no examples yet"),
            ({"examples": None}, "no examples yet"),
            ({"examples": "Dear diary"}, "neither JSON nor CSV"),
            ({"examples": "[{"}, ""),
            ({"examples": '[{"instruction": "a"}]'}, "No example to train on yet"),
            ({"examples": json.dumps(ROWS[2:])}, "No example to train on yet"),
            ({"model": None}, "Model is empty"),
            ({"template": "custom", "custom": "Q:"}, "has no {instruction} in it"),
            ({"template": "custom", "custom": ""}, "has no {instruction} in it"),
            ({"template": "chat"}, "No example to train on yet"),
            ({"max_length": None}, "Max length is empty"),
            ({"max_length": 2.5}, "Max length is 2.5"),
            ({"max_length": 1}, "Max_length is 1"),
            ({"steps": 0}, "Steps is 0"),
            ({"steps": float("inf")}, "inf"),
            ({"seed": float("nan")}, "nan"),
            ({"batch_size": 10**9}, "Batch_size is 1e+09"),
            ({"lora_r": -1}, "Lora_r is -1"),
            ({"learning_rate": "fast"}, "The learning rate is 'fast'"),
            ({"learning_rate": "nan"}, "Learning_rate is nan"),
            ({"device": "tpu"}, "Device is 'tpu'"),
        ],
        ids=str,
    )
    def test_what_cannot_be_trained_is_a_sentence_and_no_button(self, handlers, values, changed, says):
        mask, _, button, command = drawn(handlers, values(**changed))
        assert says in mask["message"]
        assert (mask["rows"], command) == ([], "")
        assert (button["interactive"], button["value"]) == (False, "Nothing to train yet")

    def test_a_device_that_is_not_there_is_said(self, handlers, values):
        mask, _, button, _ = drawn(handlers, values(device="cuda"))
        assert not button["interactive"]
        assert "no cuda device" in mask["message"] + button["value"]

    def test_a_model_that_is_still_to_come_leaves_the_page_as_it_is(self, handlers, values):
        assert handlers.draw(values(model="someone/something")) == (SKIP,) * 4

    @pytest.mark.parametrize("evil", EVIL)
    def test_user_text_travels_inside_the_json_only(self, handlers, values, evil):
        rows = [{"instruction": evil, "output": evil}, {"instruction": "a", evil: evil}]
        changed = values(examples=json.dumps(rows), prompts=evil, template="custom", custom=evil + "{instruction}\n")
        outputs = handlers.draw(changed)
        mask, asked, button, _ = drawn(handlers, changed)
        assert all(isinstance(output, str) for output in (outputs[0], outputs[1], outputs[3]))
        text = "".join(token[0] for token in mask["rows"][0]["tokens"])
        assert text.replace("␣", " ").count(evil) == 3
        assert [question["text"] for question in asked["questions"]] == [evil]
        assert evil not in json.dumps(button)


class TestGetReady:
    def test_a_model_that_is_there(self, handlers, values):
        *phases, last = list(handlers.get_ready(values()))
        assert phases
        for status, *rest in phases:
            assert json.loads(status)["state"] == "working"
            assert rest == [SKIP] * 4
        status, *rest = last
        assert json.loads(status)["state"] == "done"
        assert "local folder · CPU" in json.loads(status)["title"]
        assert rest == [SKIP] * 4  # the mask is drawn next, of the text as it is by then

    def test_a_model_that_is_nowhere(self, handlers, values):
        *_, (status, mask, _, button, _) = handlers.get_ready(values(model="no/such/folder"))
        assert json.loads(status)["state"] == "failed"
        assert "'no/such/folder' is no folder or file here" in json.loads(status)["title"]
        assert json.loads(mask)["message"] == json.loads(status)["title"]
        assert not button["interactive"]


class TestTrain:
    def finish(self, handlers, values) -> tuple[list, str]:
        looks = list(handlers.train(values))
        return looks, named(looks[0])["run_id"]

    @pytest.fixture(autouse=True)
    def zips_go_away(self, tmp_path, monkeypatch):
        monkeypatch.setattr(
            "sftdemo.ui.backend.tempfile",
            SimpleNamespace(gettempdir=lambda: str(tmp_path), TemporaryDirectory=TemporaryDirectory),
        )

    def test_a_run_from_the_click_to_the_download(self, handlers, values):
        looks, run_id = self.finish(handlers, values(prompts="Why?\n\n  How?  "))
        begun = named(looks[0])
        assert (begun["train"]["interactive"], begun["stop"]["visible"]) == (False, True)
        ended = merged(looks)
        assert json.loads(ended["run_status"])["state"] == "done"
        assert (ended["train"]["interactive"], ended["stop"]["visible"]) == (True, False)
        pairs = json.loads(ended["compare"])["rows"]
        assert [(pair["prompt"], pair["source"]) for pair in pairs] == [
            ("Why?", "typed"),
            ("How?", "typed"),
            ("Capital of Italy?", "held out"),
        ]
        assert all(isinstance(pair["after"], str) for pair in pairs)
        while_training = [json.loads(named(look)["compare"])["rows"] for look in looks if "compare" in named(look)]
        assert [None, None, None] in [[pair.get("after", "") for pair in rows] for rows in while_training]
        assert list(ended["curve"]["value"]["step"]) == [1, 2]
        with ZipFile(ended["download"]["value"]) as archive:
            names = {Path(name).name for name in archive.namelist()}
            assert {"run.json", "adapter_model.safetensors", "examples.jsonl"} <= names
            assert [json.loads(line) for line in archive.read("examples.jsonl").splitlines()] == ROWS
        assert rate_for(handlers.controls.config(values()), "cpu").measured

        after_a_reload = [named(look) for look in handlers.come_back(run_id)]
        assert len(after_a_reload) == 1
        for name in ("run_status", "compare", "train", "stop"):
            assert after_a_reload[0][name] == ended[name], name

    def test_in_a_process_of_its_own(self, values, gpt2_folder):
        _, handlers = page_of(Backend())
        texts = {"model": str(gpt2_folder), "examples": TEXT, "steps": 2, "max_new_tokens": 4}
        looks, run_id = self.finish(handlers, values_of(handlers, **texts))
        ended = merged(looks)
        assert json.loads(ended["run_status"])["state"] == "done", ended["run_status"]
        again = merged(handlers.come_back(run_id))
        assert again["compare"] == ended["compare"]
        handlers.stop(run_id)

    def test_a_failed_run(self, handlers, values):
        looks, _ = self.finish(handlers, values(max_new_tokens=300))
        ended = merged(looks)
        assert json.loads(ended["run_status"])["state"] == "failed"
        assert "over the model's 256 positions" in json.loads(ended["run_status"])["title"]
        assert (ended["train"]["interactive"], ended["stop"]["visible"]) == (True, False)
        assert not ended["download"]["interactive"]

    @pytest.mark.parametrize("changed", [{"steps": 0}, {"examples": "Dear diary"}, {"learning_rate": "fast"}], ids=str)
    def test_wrong_settings_are_a_sentence(self, handlers, values, changed):
        (look,) = handlers.train(values(**changed))
        assert named(look).keys() == {"run_status"}
        assert json.loads(named(look)["run_status"])["state"] == "failed"

    def test_a_device_that_is_not_there(self, handlers, values):
        ended = merged(handlers.train(values(device="cuda")))
        assert json.loads(ended["run_status"])["state"] == "failed"
        assert "no cuda device here" in json.loads(ended["run_status"])["title"]

    def test_a_busy_machine_changes_nothing(self, gpt2_folder, monkeypatch):
        said = []
        monkeypatch.setattr(gr, "Warning", said.append)
        _, handlers = page_of(Busy())
        looks = list(handlers.train(values_of(handlers, model=str(gpt2_folder), examples=TEXT)))
        assert [named(look) for look in looks if named(look)] == []
        assert said == ["Another run is under way."]


PUBLIC_MOST = {"steps": 200, "max_length": 1024, "batch_size": 32, "max_new_tokens": 128}


class TestPublicPage:
    def test_the_defaults_pass(self, handlers, monkeypatch):
        monkeypatch.setenv("SPACE_ID", "someone/space")
        assert handlers.controls.config(values_of(handlers)).model == DEFAULT_MODEL

    @pytest.mark.parametrize("name", PUBLIC_MOST)
    def test_limits(self, handlers, monkeypatch, name):
        over = values_of(handlers, **{name: PUBLIC_MOST[name] + 1})
        assert getattr(handlers.controls.config(over), name) == PUBLIC_MOST[name] + 1
        monkeypatch.setenv("SPACE_ID", "someone/space")
        assert handlers.controls.config(values_of(handlers, **{name: PUBLIC_MOST[name]}))
        with pytest.raises(ConfigError, match=f"^{name} is .* this public page allows {PUBLIC_MOST[name]}"):
            handlers.controls.config(over)
        mask, _, button, _ = drawn(handlers, over)
        assert "this public page allows" in mask["message"]
        assert not button["interactive"]

    @pytest.mark.parametrize("model", ["/etc", "../x", "someone/other", "model.gguf"])
    def test_models_come_from_the_list(self, handlers, monkeypatch, model):
        monkeypatch.setenv("SPACE_ID", "someone/space")
        with pytest.raises(ConfigError, match=r"^this public page offers .*run it on your own machine"):
            handlers.controls.config(values_of(handlers, model=model))
        for offered in controls.MODELS:
            assert handlers.controls.config(values_of(handlers, model=offered)).model == offered

    def test_prompts_are_counted(self, handlers, monkeypatch):
        monkeypatch.setenv("SPACE_ID", "someone/space")
        assert len(handlers.controls.config(values_of(handlers, prompts="a\n" * 16)).prompts) == 16
        with pytest.raises(ConfigError, match="there are 17 prompts"):
            handlers.controls.config(values_of(handlers, prompts="a\n" * 17))

    def test_nothing_is_started(self, handlers, monkeypatch, tmp_path):
        monkeypatch.setenv("SPACE_ID", "someone/space")
        (look,) = handlers.train(values_of(handlers, steps=201))
        assert "this public page allows" in json.loads(named(look)["run_status"])["title"]
        assert not list((tmp_path / "cache").glob("runs/*"))


class TestBackend:
    def saved(self, folder: Path) -> Path:
        folder.mkdir(parents=True)
        lines = [json.dumps(event.to_dict()) for event in (Phase("a", "b"), Finished(1, 1, 1.0, False))]
        (folder / "events.jsonl").write_text("\n".join(lines))
        return folder

    def test_a_saved_run_is_found_again(self, tmp_path):
        self.saved(tmp_path / "cache" / "runs" / ("0a" * 8))
        assert list(Backend().watch("0a" * 8)) == [[Phase("a", "b"), Finished(1, 1, 1.0, False)]]

    @pytest.mark.parametrize(
        "run_id",
        [
            "../../etc",
            "../elsewhere",
            "..",
            ".",
            "",
            None,
            "short",
            "0A" * 8,
            "0a" * 8 + "\n",
            "0a" * 8 + "/",
            "0b" * 8,
        ],
    )
    def test_other_ids_yield_nothing(self, tmp_path, run_id):
        self.saved(tmp_path / "cache" / "elsewhere")
        for name in ("0a" * 8, "0A" * 8, "short"):
            if not (tmp_path / "cache" / "runs" / name).exists():
                self.saved(tmp_path / "cache" / "runs" / name)
        backend = Backend()
        assert list(backend.watch(run_id)) == []
        backend.stop(run_id)

    def test_an_absolute_path_is_no_id(self, tmp_path):
        assert list(Backend().watch(str(self.saved(tmp_path / "elsewhere")))) == []

    def test_old_runs_make_room(self, tmp_path):
        backend = OnLentGpu()
        for number in range(KEPT_RUNS + 5):
            self.saved(tmp_path / "cache" / "runs" / f"{number:016x}")
        run_id = backend.start(RunConfig("no/such/folder"), parse_examples(TEXT))
        assert isinstance(list(backend.watch(run_id))[-1][-1], Failed)
        assert len(list((tmp_path / "cache" / "runs").iterdir())) == KEPT_RUNS - 1


class TestZeroGpu:
    def test_the_real_decorator_changes_nothing_elsewhere(self, gpt2_folder, tmp_path):
        pytest.importorskip("spaces")
        assert not on_zero_gpu()
        config = RunConfig(str(gpt2_folder), steps=2, batch_size=2, max_new_tokens=4)
        data = parse_examples(TEXT)

        def told(events):
            timed = ("seconds", "remaining")
            return [{k: v for k, v in event.to_dict().items() if k not in timed} for event in events]

        expected = told(run(config, data, tmp_path / "out"))
        assert expected[-1]["event"] == "finished"
        assert told(gpu_run()(config, data, tmp_path / "out")) == expected

    def test_a_failure_is_an_event(self, tmp_path):
        pytest.importorskip("spaces")
        *_, last = gpu_run()(RunConfig("no/such/folder"), parse_examples(TEXT), tmp_path / "out")
        assert isinstance(last, Failed)


def test_a_file_that_cannot_be_read_is_named_without_its_folder(handlers, tmp_path):
    (tmp_path / "mine.csv").write_text("instruction,output\na,b\n")
    assert handlers.open_file(str(tmp_path / "mine.csv")) == "instruction,output\na,b\n"
    (tmp_path / "bad.json").write_bytes(b'[{"instruction": "\xff"}]')
    with pytest.raises(gr.Error, match=r"bad\.json is not UTF-8") as error:
        handlers.open_file(str(tmp_path / "bad.json"))
    assert str(tmp_path) not in error.value.message
