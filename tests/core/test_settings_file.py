from __future__ import annotations

import pytest
from hypothesis import example, given
from run_settings import configs

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ConfigError
from sftdemo.core.settings_file import merge_settings, parse_settings, read_settings, write_settings


@given(configs())
@example(RunConfig())
def test_any_settings_are_read_back(config):
    text = write_settings(config, ("python -m sftdemo train d.jsonl --config config.yaml", "two\nlines"))
    assert text.startswith("# python -m sftdemo train d.jsonl --config config.yaml\n# two lines\n")
    assert RunConfig(**parse_settings(text, "f")) == config


def test_what_decides_the_training_is_written_and_what_differs():
    usual = "model: SmolLM2-135M-Instruct\ntemplate: instruction\n{}learning_rate: 0.{}\nseed: 0\n{}"
    assert write_settings(RunConfig()) == usual.format("steps: 12\n", "002", "")
    changed = write_settings(RunConfig(full=True, epochs=2, prompts=("Why?",), set=("weight_decay=0.1",)))
    tail = "full: true\nset:\n  weight_decay: 0.1\nprompts:\n- Why?\n"
    assert changed == usual.format("epochs: 2\n", "0001", tail)
    assert write_settings(RunConfig("/home/me/model"), model="org/model").startswith("model: org/model\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("batchsize: 4", "f: 'batchsize' is no setting; the nearest is batch_size."),
        ("batch-size: 4", "f: 'batch-size' is no setting; the nearest is batch_size."),
        ("zzz: 4", "f: 'zzz' is no setting; there are model, template,"),
        ("steps: four", "f: steps is four; write a whole number."),
        ("steps: 1.5", "f: steps is 1.5; write a whole number."),
        ("steps: true", "f: steps is true; write a whole number."),
        ("batch_size:", "f: batch_size is empty; write a whole number."),
        ("learning_rate: fast", "f: learning_rate is fast; write a number."),
        ("hold_out: 1" + "0" * 400, "f: hold_out is 1000"),
        ("seed: 1" + "0" * 400, "f: seed is an integer beyond all bounds; it must lie between 0 and 4,294,967,295."),
        ("packing: 1", "f: packing is 1; write true or false."),
        ("model: 12", 'f: model is 12; write text, in "quotes" if YAML takes it for something else.'),
        ("prompts: Why?", 'f: prompts is Why?; write a list of texts in "quotes".'),
        ("prompts: [1]", 'f: prompts is [1]; write a list of texts in "quotes".'),
        (
            "set: [weight_decay=1]",
            "f: set is [weight_decay=1]; write name: value under it, such as weight_decay: 0.01.",
        ),
        ("set: {weight_dekay: 1}", "f: set names 'weight_dekay', which is no setting"),
        ("set: {learning_rate: 1}", "f: set names learning_rate, which this program sets itself; use --learning-rate."),
        ("steps: 0", "f: steps is 0; it must lie between 1 and 1,000,000 optimizer steps."),
        ("steps: 1\nepochs: 1", "f: steps and epochs both say how long to train; give one of them."),
        ("turns: first", "f: turns is 'first'; choose one of all, last."),
        ("seed: 1\nseed: 2", "f, line 2 cannot be read as YAML: 'seed' stands twice."),
        ("- seed", "f names no settings; write each as name: value, on a line of its own."),
    ],
    ids=lambda part: part[:24],
)
def test_refused(text, says):
    with pytest.raises(ConfigError) as error:
        parse_settings(text, "f")
    assert str(error.value).startswith(says)


def test_numbers_and_an_empty_file():
    assert parse_settings("learning_rate: 2e-3\nhold_out: 2\nsteps:\nepochs: 1\n", "f") == {
        "learning_rate": 0.002,
        "hold_out": 2.0,
        "steps": None,
        "epochs": 1.0,
    }
    assert parse_settings("", "f") == parse_settings("# nothing\n", "f") == {}


def test_a_file_that_cannot_be_read(tmp_path):
    file = tmp_path / "run.yaml"
    with pytest.raises(ConfigError, match=r"run\.yaml cannot be read: No such file"):
        read_settings(file)
    file.write_bytes("\ufeffmodel: naïve".encode())
    assert read_settings(file) == {"model": "naïve"}
    file.write_bytes("model: naïve".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"run\.yaml is not UTF-8 at byte 9; save it as UTF-8"):
        read_settings(file)
    file.write_bytes(b"#" * 1_000_001)
    with pytest.raises(ConfigError, match=r"run\.yaml has 1,000,001 bytes; settings have at most 1,000,000"):
        read_settings(file)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ({"seed": 1}, {"seed": 2, "steps": 3}, {"seed": 1, "steps": 3}),
        ({"epochs": 1}, {"steps": 3, "seed": 1}, {"epochs": 1, "seed": 1}),
        ({"lora_r": 4}, {"full": True}, {"lora_r": 4}),
        ({"prompts": ("a",)}, {"prompts": ("b",)}, {"prompts": ("a",)}),
        (
            {"set": ("lora.alpha=1", "weight_decay=2")},
            {"set": ("warmup_steps=3", "lora.lora_alpha=4")},
            {"set": ("warmup_steps=3", "lora.alpha=1", "weight_decay=2")},
        ),
        ({}, {"set": ("warmup_steps=3",)}, {"set": ("warmup_steps=3",)}),
    ],
)
def test_the_first_goes_before_the_second(first, second, merged):
    assert merge_settings(first, second) == merged
