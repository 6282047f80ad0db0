"""A run as a script of plain TRL, and as settings for TRL's command line: both train what the run trained."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import peft
import pyarrow.parquet as parquet
import pytest
import torch
import trl
import yaml
from forked import forked
from safetensors.torch import load_file
from tiny import tiny_llama, tokenizer_named

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError
from sftdemo.core.events import Failed, Finished
from sftdemo.data import examples
from sftdemo.data.examples import parse_examples
from sftdemo.export.formats import export
from sftdemo.export.recipe import about, counted_labels, read_recipe
from sftdemo.export.script import script_of
from sftdemo.export.trl_config import trl_settings
from sftdemo.model.predictions import split_batch
from sftdemo.runs.run import run

ROOT = Path(__file__).parents[2]
# Rows that begin alike, of unlike lengths, so that their order shows; 7 of them leave a short last batch.
ROWS = [{"instruction": f"Say {number}", "output": "answer " * (1 + number % 4)} for number in range(7)]
ROWS.append({"instruction": "Count", "held_out": True})
CASES = {
    "lora": ("llama", {"epochs": 2.0}),
    "full": ("gpt2", {"steps": 3, "full": True, "prompt_loss_weight": 1.0}),
    "packed": ("llama", {"steps": 3, "packing": True, "max_length": 64, "full": True, "learning_rate": 1e-3}),
    "weighted": (
        "gpt2",
        {"epochs": 2.0, "prompt_loss_weight": 0.1, "merge": True, "set": ("gradient_accumulation_steps=2",)},
    ),
    "weighted and packed": ("llama", {"steps": 3, "prompt_loss_weight": 0.1, "packing": True, "max_length": 64}),
}
COMMANDS = ("lora", "full")  # through TRL's command line as well
WEIGHTS = ("adapter_model.safetensors", "model.safetensors")

DRIVER = """
import importlib.util, json, os, runpy, sys
from trl import SFTTrainer

assert importlib.util.find_spec("sftdemo") is None
batches, losses, step, log = [], [], SFTTrainer.training_step, SFTTrainer.log

def kept(self, model, inputs, *args, **kwargs):
    batches.append({name: value.tolist() for name, value in inputs.items() if name in NAMES})
    return step(self, model, inputs, *args, **kwargs)

def told(self, logs, *args, **kwargs):
    losses.extend([logs["loss"]] if "loss" in logs else [])
    return log(self, logs, *args, **kwargs)

NAMES = ("input_ids", "labels", "attention_mask", "position_ids")
SFTTrainer.training_step, SFTTrainer.log = kept, told
for folder, program, words in json.loads(sys.argv[1]):
    batches.clear(), losses.clear()
    sys.argv = [program, *words]
    os.chdir(folder)
    runpy.run_path(program, run_name="__main__")
    with open("told.json", "w") as file:
        json.dump({"batch": batches[0], "losses": losses}, file)
"""


def first_rows(batch, weight: float) -> list:
    """The examples of a batch with the labels that count in the loss."""
    return [(ids, counted_labels(ids, labels, weight)) for ids, labels in split_batch(batch)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory, gpt2_folder, llama_folder):
    """A run of each case: its folder, its base and the first batch that it trained on."""
    folder, found, step = tmp_path_factory.mktemp("trained"), {}, trl.SFTTrainer.training_step
    batches: list[dict] = []

    def kept(self, model, inputs, *args, **kwargs):
        batches.append(dict(inputs))
        return step(self, model, inputs, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trl.SFTTrainer, "training_step", kept)
        for name, (model, settings) in CASES.items():
            base = gpt2_folder if model == "gpt2" else llama_folder
            config = RunConfig(str(base), batch_size=3, max_new_tokens=2, device="cpu", **settings)
            batches.clear()
            *_, last = run(config, parse_examples(json.dumps(ROWS)), folder / name)
            assert isinstance(last, Finished)
            found[name] = (folder / name, base, first_rows(batches[0], config.prompt_loss_weight))
    return found


def export_to(run: Path, to: str, output: Path) -> Path:
    *_, last = export(run, to, output)
    assert isinstance(last, Finished), last
    return output


@pytest.fixture(scope="module")
def repeated(runs, tmp_path_factory):
    """What plain TRL has trained from each run, in one process that cannot import this program: by case and format, the
    folder, the losses and the first batch."""
    folder, jobs, places = tmp_path_factory.mktemp("exported"), [], {}
    for name, (saved, base, _) in runs.items():
        places[name, "script"] = export_to(saved, "script", folder / f"{name} script")
        jobs.append((str(places[name, "script"]), "train.py", ["--model", str(base)]))
        if name in COMMANDS:
            places[name, "trl-config"] = export_to(saved, "trl-config", folder / f"{name} config")
            sft = str(Path(str(trl.__file__)).parent / "scripts" / "sft.py")  # what `trl sft` launches
            words = ["--config", "config.yaml", "--model_name_or_path", str(base)]
            jobs.append((str(places[name, "trl-config"]), sft, words))
    forked("-c", DRIVER, json.dumps(jobs), folder=folder, ours=False)
    return {key: (place, json.loads((place / "told.json").read_text())) for key, place in places.items()}


ALL = [(name, "script") for name in CASES] + [(name, "trl-config") for name in COMMANDS]


@pytest.mark.parametrize(("name", "to"), ALL)
class TestTrainsTheSame:
    def test_losses_of_every_step(self, runs, repeated, name, to):
        record = json.loads((runs[name][0] / "run.json").read_text())
        assert len(record["losses"]) == record["steps"] >= 3
        assert repeated[name, to][1]["losses"] == pytest.approx(record["losses"], rel=1e-4)

    def test_labels_of_the_first_batch(self, runs, repeated, name, to):
        weight = CASES[name][1].get("prompt_loss_weight", 0.0)
        batch = {key: torch.tensor(value) for key, value in repeated[name, to][1]["batch"].items()}
        assert split_batch(batch) == first_rows(batch, weight) == runs[name][2]
        masked = [label == -100 for _, labels in split_batch(batch) for label in labels[1:]]
        assert any(masked) == (weight != 1)

    def test_what_is_saved(self, runs, repeated, name, to):
        saved, written = runs[name][0], repeated[name, to][0] / "trained"
        (file,) = [each for each in WEIGHTS if (saved / each).is_file()]
        assert [each for each in WEIGHTS if (written / each).is_file()] == [file]
        ours, theirs = (load_file(folder / file) for folder in (saved, written))
        assert ours.keys() == theirs.keys()
        for key, weight in ours.items():
            torch.testing.assert_close(theirs[key], weight, rtol=1e-4, atol=1e-4)
        assert (written / "chat_template.jinja").read_text() == (saved / "chat_template.jinja").read_text()
        beside = written if to == "script" else written.parent  # from there its README copies it
        ends = [json.loads((each / "generation_config.json").read_text()) for each in (saved, beside)]
        assert ends[0]["eos_token_id"] == ends[1]["eos_token_id"]
        if to == "script":
            assert not [*written.glob("*.bin")]


@pytest.mark.thorough
def test_trls_command_trains_the_same(runs, tmp_path):
    saved, base, _ = runs["lora"]
    folder = export_to(saved, "trl-config", tmp_path / "config")
    command = [str(Path(sys.executable).with_name("trl")), "sft", "--config", "config.yaml"]
    subprocess.run([*command, "--model_name_or_path", str(base)], cwd=folder, check=True, capture_output=True)
    ours, theirs = (load_file(each / WEIGHTS[0]) for each in (saved, folder / "trained"))
    for key, weight in ours.items():
        torch.testing.assert_close(theirs[key], weight, rtol=1e-4, atol=1e-4)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["full", "weighted and packed"])
def test_two_processes_train_the_same(runs, tmp_path, name):
    saved, base, _ = runs[name]
    script = export_to(saved, "script", tmp_path / "script") / "train.py"
    even = re.sub(r"BATCH_SIZE = 3", "BATCH_SIZE = 2", script.read_text())
    script.write_text(even.replace("'max_steps': 3", "'max_steps': 1"))  # no batch is short: accelerate would fill it
    losses = []
    for processes in (1, 2):
        output = tmp_path / f"{processes} processes"
        words = [str(script), "--model", str(base), "--output", str(output)]
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", str(processes), *words]
        subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
        history = json.loads((output / "trainer_state.json").read_text())["log_history"]
        losses.append([each["loss"] for each in history if "loss" in each])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    assert len(losses[0]) == 1


@pytest.fixture
def recipe_of(runs, tmp_path):
    def read(name: str):
        work = read_recipe(runs[name][0], tmp_path)
        while True:
            try:
                next(work)
            except StopIteration as done:
                return done.value

    return read


def assigned(script: str) -> dict:
    """The names that a script gives values to, without running it."""
    found = [node for node in ast.parse(script).body if isinstance(node, ast.Assign)]
    return {ast.unparse(node.targets[0]): ast.literal_eval(node.value) for node in found}


class TestTheScript:
    def test_names_what_it_needs_as_it_is_tested(self, recipe_of):
        block = re.search(r"^# /// script\n((?:#.*\n)+?)# ///$", script_of(recipe_of("lora")), re.MULTILINE)
        known = tomllib.loads(re.sub(r"^# ?", "", block[1], flags=re.MULTILINE))
        pins = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
        assert set(known["dependencies"]) <= set(pins)
        assert {each.split("==")[0] for each in known["dependencies"]} >= {"torch", "transformers", "trl", "peft"}
        assert "3.11" in known["requires-python"]

    def test_has_every_setting(self, recipe_of):
        recipe = recipe_of("weighted")
        config = replace(
            recipe.config,
            set=("weight_decay=0.5", "lora.alpha=5", "lora.rank_pattern={q_proj: 3}"),
            seed=9,
            report_to="trackio",
        )
        text = script_of(replace(recipe, config=config))
        found = assigned(text)
        assert found["SETTINGS"].items() >= {"weight_decay": 0.5, "seed": 9, "num_train_epochs": 2.0}.items()
        assert found["SETTINGS"]["report_to"] == "trackio"
        assert found["ADAPTER"].items() >= {"lora_alpha": 5, "r": 16, "rank_pattern": {"q_proj": 3}}.items()
        assert (found["BATCH_SIZE"], found["PROMPT_LOSS_WEIGHT"]) == (3, 0.1)
        assert '#     "trackio",' in text

    def test_what_a_user_wrote_stays_a_text(self, recipe_of):
        odd = "\"\"\"'''\\\n# ///\n$x ${y}\u2028{{}} é"
        recipe = replace(recipe_of("lora"), base=odd, chat_template=odd, pad_token=odd)
        found = assigned(script_of(recipe))
        assert [found[name] for name in ("MODEL", "CHAT_TEMPLATE", "PAD_TOKEN")] == [odd] * 3

    def test_says_nothing_of_this_machine(self, runs, repeated):
        for (name, _), (place, _) in repeated.items():
            for file in ("train.py", "README.md", "config.yaml"):
                if (place / file).is_file():
                    assert str(runs[name][1].parent) not in (place / file).read_text()

    def test_a_base_on_the_hub_has_its_id(self, runs, tmp_path):
        folder = shutil.copytree(runs["lora"][0], tmp_path / "run")
        record = json.loads((folder / "run.json").read_text())
        record["model"]["hub_id"] = "owner/name"
        (folder / "run.json").write_text(json.dumps(record))
        script = export_to(folder, "script", tmp_path / "script")
        assert assigned((script / "train.py").read_text())["MODEL"] == "owner/name"
        assert "\nuv run train.py\n" in (script / "README.md").read_text()
        config = export_to(folder, "trl-config", tmp_path / "config")
        assert yaml.safe_load((config / "config.yaml").read_text())["model_name_or_path"] == "owner/name"


class TestWhatIsTold:
    def test_the_mask_and_the_losses(self, recipe_of):
        recipe = recipe_of("lora")
        told, losses = about(recipe), recipe.record["losses"]
        assert f"Their mask is the run's: sha256 `{recipe.record['mask']['sha256']}`." in told
        assert f"{losses[0]:.4f} at its first step and {losses[-1]:.4f} at its last" in told
        assert "Its base, `tiny-llama" in told
        assert "stopped" not in told

    def test_what_differs(self, recipe_of):
        recipe = recipe_of("lora")
        copy = recipe.record["model"] | {"hub_id": "a/b", "copy": "bundled 4-bit weights, dequantised"}
        told = about(replace(recipe, planned=9, same_mask=False, record=recipe.record | {"model": copy}))
        assert "It was stopped after 6 of 9 steps; this trains them all." in told
        assert "Their numbers are the run's." in told
        assert "trained on another copy of its base: bundled 4-bit weights, dequantised." in told
        assert 'gguf_file="tiny.gguf"' in about(replace(recipe, base="tiny.gguf"))

    def test_rows_refused_before_others_change_the_hash_alone(self, gpt2_folder, tmp_path):
        rows = [{"instruction": "no answer"}, *ROWS]
        config = RunConfig(str(gpt2_folder), steps=1, batch_size=2, max_new_tokens=2, device="cpu")
        *_, last = run(config, parse_examples(json.dumps(rows)), tmp_path / "run")
        assert isinstance(last, Finished)
        script = export_to(tmp_path / "run", "script", tmp_path / "script")
        assert "Their numbers are the run's." in (script / "README.md").read_text()


def test_more_rows_than_memory_are_read_from_the_disk(runs, repeated, tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "MAX_BYTES", 1)
    script = export_to(runs["lora"][0], "script", tmp_path / "script")
    ours, theirs = (parquet.read_table(each / "rows.parquet") for each in (script, repeated["lora", "script"][0]))
    assert ours.equals(theirs)


class TestRefusals:
    def refused(self, run: Path, to: str, output: Path) -> str:
        *_, last = export(run, to, output)
        assert isinstance(last, Failed)
        assert not output.exists()
        return last.message

    def changed(self, runs, folder: Path, file: str, change) -> Path:
        copied = shutil.copytree(runs["lora"][0], folder / "run")
        (copied / file).write_text(change((copied / file).read_text()))
        return copied

    def test_a_weight_that_labels_cannot_say(self, runs, tmp_path):
        says = self.refused(runs["weighted and packed"][0], "trl-config", tmp_path / "out")
        assert says.startswith("prompt_loss_weight is 0.1:")
        assert says.endswith("Export with --to script.")

    @pytest.mark.parametrize(
        ("settings", "says"),
        [
            ({"merge": True}, "merge is set"),
            ({"set": ("lora.rank_pattern={q_proj: 3}",)}, "set names lora.rank_pattern"),
        ],
    )
    def test_what_the_command_line_has_no_place_for(self, recipe_of, settings, says):
        recipe = recipe_of("lora")
        with pytest.raises(ConfigError, match=rf"{says}.* Export with --to script\.$"):
            trl_settings(replace(recipe, config=replace(recipe.config, **settings)))

    def test_other_rows_than_were_trained(self, runs, tmp_path):
        run = self.changed(runs, tmp_path, "examples.jsonl", lambda text: text.split("\n", 1)[1])
        assert "was trained on 7 examples, but its rows now come to 6" in self.refused(run, "script", tmp_path / "out")
        record = json.loads((run / "run.json").read_text())
        for change in (
            *({"mask": 5}, {"mask": None}, {"mask": record["mask"] | {"tokens": None}}),
            *({"losses": 5}, {"losses": None}, {"steps": "x"}),
        ):
            (run / "run.json").write_text(json.dumps(record | change))
            assert "does not say what was trained" in self.refused(run, "script", tmp_path / "out")

    def test_a_run_that_went_on_from_another(self, runs, tmp_path):
        def change(text: str) -> str:
            record = json.loads(text)
            return json.dumps(record | {"model": record["model"] | {"base": "tiny"}})

        run = self.changed(runs, tmp_path, "run.json", change)
        assert "went on from the adapter of another run" in self.refused(run, "script", tmp_path / "out")


@pytest.mark.parametrize(
    ("labels", "weight", "wanted"),
    [
        ((-100, -100, 7, 8), 0.0, (-100, -100, 7, 8)),
        ((-100, -100, 7, 8), 0.1, (-100, -100, 7, 8)),
        ((-100, -100, 7, 8), 1.0, (-100, 6, 7, 8)),
        ((5, 6, 7, 8), 0.0, (-100, 6, 7, 8)),
    ],
)
def test_labels_count_what_the_loss_counts(labels, weight, wanted):
    assert counted_labels((5, 6, 7, 8), labels, weight) == wanted


@pytest.mark.parametrize("names", ["[q_proj]", "[q_proj, v_proj]", ".*up_proj"])
def test_the_adapter_sits_on_the_same_layers(recipe_of, names):
    recipe = recipe_of("lora")
    config = replace(recipe.config, set=(f"lora.target_modules={names}",))
    settings = trl_settings(replace(recipe, config=config))
    known = {name: value for name, value in settings.items() if name.startswith(("lora_", "use_peft"))}
    theirs = trl.get_peft_config(trl.ModelConfig(**known))
    ours = peft.LoraConfig(r=16, target_modules=yaml.safe_load(names), task_type="CAUSAL_LM")
    adapted = [peft.get_peft_model(tiny_llama(tokenizer_named("chatml")), each) for each in (ours, theirs)]
    first, second = ([name for name, _ in each.named_parameters() if "lora_" in name] for each in adapted)
    assert first == second != []
