"""A saved model stops where it was trained to, also under plain transformers."""

from __future__ import annotations

import json

import pytest
import torch
from tiny import CHATML, byte_level, tiny_llama
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from sftdemo.core.config import RunConfig
from sftdemo.core.events import Failed, Prepared
from sftdemo.core.streams import Relay
from sftdemo.data.examples import parse_examples
from sftdemo.mask.audit import Audit
from sftdemo.model.loading import load_model, load_tokenizer, stop_ids
from sftdemo.model.sources import find_local, resolve
from sftdemo.model.stopping import mend_stopping
from sftdemo.runs.run import run

WORDS = ("red", "blue", "green", "black")
SAYS = [
    {"messages": [{"role": "user", "content": f"say {word}"}, {"role": "assistant", "content": word}]} for word in WORDS
]


def chat_tokenizer(pad_token: str | None = None):
    """Its EOS is not the token that ends a turn of its chat template."""
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"]
    return byte_level(*special, chat_template=CHATML, pad_token=pad_token)


@pytest.fixture(scope="module")
def chat_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = chat_tokenizer()
    tiny_llama(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def answer(folder, word: str) -> list[int]:
    """What plain transformers generates, with the saved settings alone."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": f"say {word}"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**asked, max_new_tokens=30, do_sample=False)
    return output[0, asked["input_ids"].shape[1] :].tolist()


def test_a_model_that_was_trained_on_a_chat_stops_under_plain_transformers(chat_folder, tmp_path):
    config = RunConfig(str(chat_folder), full=True, steps=60, batch_size=4, learning_rate=1e-2, max_new_tokens=4)
    events = list(run(config, parse_examples(json.dumps(SAYS)), tmp_path / "out"))
    assert not [event for event in events if isinstance(event, Failed)]
    assert [event for event in events if isinstance(event, Prepared)]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    saved = GenerationConfig.from_pretrained(tmp_path / "out")
    assert saved.eos_token_id == [tokenizer.eos_token_id, end]
    for word in WORDS:
        assert tokenizer.decode(answer(tmp_path / "out", word)) == f"{word}<|im_end|>"


def test_an_adapter_stops_as_well_loaded_by_this_program_or_as_its_card_says(chat_folder, tmp_path, monkeypatch):
    config = RunConfig(str(chat_folder), steps=1, batch_size=4, max_new_tokens=4)
    events = run(config, parse_examples(json.dumps(SAYS)), tmp_path / "out")
    assert not [event for event in events if isinstance(event, Failed)]
    looking = Relay(resolve(str(tmp_path / "out")))
    list(looking)
    source = looking.result
    assert stop_ids(source) == {0, 2}
    assert load_model(source, torch.device("cpu")).generation_config.eos_token_id == [0, 2]
    code = (tmp_path / "out" / "README.md").read_text().split("```python\n")[1].split("```")[0]
    monkeypatch.syspath_prepend(tmp_path / "out")
    monkeypatch.chdir(chat_folder.parent)  # where the base lies under its name
    names: dict = {}
    exec(code, names)
    assert names["model"].generation_config.eos_token_id == [0, 2]


def test_the_audit_says_it_before_the_training(chat_folder):
    from sftdemo.data.templates import get_template
    from sftdemo.mask.labels import Masker

    source = find_local(str(chat_folder))
    tokenizer = load_tokenizer(source)
    masker = Masker(tokenizer, get_template("instruction"), 100, stop_ids(source))
    audit, data = Audit(8, 100), parse_examples(json.dumps([*SAYS, {"messages": SAYS[0]["messages"] * 2}]))
    list(audit.review(data.train, masker))
    first = audit.findings()[0]
    assert (first.check, first.severity, first.count) == ("stop_differs", "warning", 5)
    assert "<|im_end|> (id 2) is trained, and generation stops at <|endoftext|> (id 0)" in first.what
    assert audit.ends == {2}


@pytest.mark.parametrize(
    ("known", "ends", "saved"),
    [(0, {2}, [0, 2]), (0, {0}, 0), ([0, 1], {2, 1}, [0, 1, 2]), (None, {2}, 2), (None, (), None)],
)
def test_the_generation_config_ends_on_every_trained_end(known, ends, saved):
    tokenizer = chat_tokenizer("<|pad|>")
    model = tiny_llama(tokenizer)
    model.generation_config.eos_token_id = known
    assert mend_stopping(model, tokenizer, ends).eos_token_id == saved
    assert tokenizer.pad_token == "<|pad|>"


def test_the_padding_token_is_no_end_where_another_is_to_be_had():
    tokenizer = chat_tokenizer("<|im_end|>")
    config = mend_stopping(tiny_llama(tokenizer), tokenizer, {2})
    assert (tokenizer.pad_token, config.pad_token_id) == ("<|pad|>", 3)


def test_without_another_token_the_padding_stays():
    tokenizer = byte_level("<|endoftext|>", pad_token="<|endoftext|>")
    config = mend_stopping(tiny_llama(tokenizer), tokenizer, {0})
    assert (tokenizer.pad_token, config.pad_token_id) == ("<|endoftext|>", 0)


def test_a_generation_config_that_transformers_does_not_write_costs_no_training(tmp_path):
    tokenizer = byte_level("<|endoftext|>", pad_token="<|endoftext|>")
    model = tiny_llama(tokenizer)
    model.generation_config.update(do_sample=False, temperature=0.6)
    mend_stopping(model, tokenizer, {0}).save_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    assert GenerationConfig.from_pretrained(tmp_path).eos_token_id == 0
