"""What a model's files say of themselves is checked against them; `tests/hold/test_mutants.py` tries 300 more."""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import time
from collections.abc import Callable

import pytest
import torch
from gguf import GGUFReader, GGUFWriter
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tiny import tiny_gpt2, tokenizer_named
from tiny_gguf import tiny_gguf

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ModelError
from sftdemo.core.events import Failed
from sftdemo.model.bounds import check_gguf
from sftdemo.model.loading import load_tokenizer, stop_ids
from sftdemo.model.sources import find_local
from sftdemo.runs.run import answer

NORM = "transformer.ln_f.weight"


def changed(folder, at: int, form: str, value: int):
    """Change one number of the GGUF file."""
    path = folder / "model.gguf"
    content = bytearray(path.read_bytes())
    struct.pack_into(form, content, at, value)
    path.write_bytes(bytes(content))
    return path


@pytest.fixture
def gguf(tmp_path):
    tiny_gguf(tmp_path / "model.gguf")
    check_gguf(tmp_path / "model.gguf")
    return GGUFReader(tmp_path / "model.gguf")


def test_a_weight_of_another_type_than_its_bytes_is_refused(gguf, tmp_path):
    first = gguf.tensors[0]
    kind = first.field.offset + 8 + len(first.name) + 4 + 8 * len(first.shape)
    with pytest.raises(ModelError, match=r"says of '.*' that it begins at byte"):
        check_gguf(changed(tmp_path, kind, "<I", 1))


def test_layers_that_are_in_no_file(gguf, tmp_path):
    at = gguf.fields["llama.block_count"].offset + 8 + len("llama.block_count") + 4
    with pytest.raises(ModelError, match=r"num_hidden_layers is 2,147,483,647, and its files have 21 tensors"):
        check_gguf(changed(tmp_path, at, "<I", 2**31 - 1))


def test_a_file_that_was_cut(gguf, tmp_path):
    path = tmp_path / "model.gguf"
    path.write_bytes(path.read_bytes()[: gguf.data_offset + 100])
    with pytest.raises(ModelError, match="it has been cut"):
        check_gguf(path)


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("token_merges", ["ab"], "has a merge 'ab' of tokens; each joins two. Fetch it anew."),
        ("eos_token_id", 10**6, r"eos_token_id is 1000000, and it has \d+ tokens. Fetch it anew."),
        ("feed_forward_length", 0, "intermediate_size is 0; it must be a whole number above 0."),
        ("feed_forward_length", 7, r"the shape \(32, 64\), and its configuration asks for \(32, 7\)"),
        ("head_count", 0, r"is not what it must be \(.*zero\). Fetch it anew, or name another model."),
    ],
)
def test_a_head_that_says_what_cannot_be(field, value, told, tmp_path, monkeypatch):
    add = getattr(GGUFWriter, f"add_{field}")
    monkeypatch.setattr(GGUFWriter, f"add_{field}", lambda writer, _: add(writer, value))
    tiny_gguf(tmp_path / "model.gguf")
    *_, last = answer(RunConfig(str(tmp_path / "model.gguf"), max_new_tokens=2), ["Hello"])
    assert re.search(told, last.message), last.message


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"n_layer": -1}, "says that n_layer is -1; it must be a whole number above 0"),
        ({"n_layer": 10**9}, "says that n_layer is 1,000,000,000, and its files have"),
        ({"vocab_size": 10**12}, "says that vocab_size is 1,000,000,000,000, and its files have"),
        ({"n_inner": 10**8}, "weights, and its files have"),
        ({"is_encoder_decoder": True}, "is_encoder_decoder is true"),
        ({"num_labels": 10**12}, "num_labels is 1,000,000,000,000, and the limit is"),
    ],
)
def test_settings_that_cannot_be(change, told, tmp_path, gpt2_folder):
    shutil.copytree(gpt2_folder, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    *_, last = answer(RunConfig(str(tmp_path / "model"), max_new_tokens=2), ["Hello"])
    assert told in last.message


@pytest.mark.parametrize("name", ["tokenizer.json", "chat_template.jinja", "config.json", "vocab.txt"])
def test_files_that_are_longer_than_any(name, tmp_path, gpt2_folder):
    """They are refused by their size, and not read."""
    shutil.copytree(gpt2_folder, tmp_path / "model")
    with (tmp_path / "model" / name).open("ab") as file:
        file.truncate(2**30)
    begin = time.process_time()
    *_, last = answer(RunConfig(str(tmp_path / "model"), max_new_tokens=2), ["Hello"])
    assert "1,073,741,824 bytes, and the limit is 67,108,864" in last.message
    assert time.process_time() - begin < 1


@pytest.mark.parametrize(
    ("kind", "told"), [("I32", "'transformer.h.0.attn.c_attn.weight' in whole numbers (I32)"), ("F32", "")]
)
def test_weights_in_whole_numbers(kind, told, tmp_path, gpt2_folder):
    shutil.copytree(gpt2_folder, tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    content = path.read_bytes()
    length = struct.unpack_from("<Q", content)[0]
    head = json.loads(content[8 : 8 + length])
    head["transformer.h.0.attn.c_attn.weight"]["dtype"] = kind
    written = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + length :])
    *_, last = answer(RunConfig(str(tmp_path / "model"), max_new_tokens=2), ["Hello"])
    assert isinstance(last, Failed) == bool(told)
    assert told in getattr(last, "message", "")


def with_weights(folder, change: Callable[[dict[str, torch.Tensor]], object], name="model.safetensors"):
    weights = load_file(folder / name)
    change(weights)
    save_file(weights, folder / name, metadata={"format": "pt"})


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda w: w.update({NORM: w[NORM] * float("nan")}), "The model computes what is no number (NaN)"),
        (
            lambda w: w.update({NORM: torch.zeros(3)}),
            f"has {NORM!r} with the shape (3,), and its configuration asks for (32,)",
        ),
    ],
    ids=["NaN", "shape"],
)
def test_weights_that_cannot_be(change, told, tmp_path, gpt2_folder):
    shutil.copytree(gpt2_folder, tmp_path / "model")
    with_weights(tmp_path / "model", change)
    *_, last = answer(RunConfig(str(tmp_path / "model"), max_new_tokens=2), ["Hello"])
    assert told in last.message


def test_an_index_of_another_kind(tmp_path, gpt2_folder):
    shutil.copytree(gpt2_folder, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors.index.json").write_text('{"weight_map": 5}')
    *_, last = answer(RunConfig(str(tmp_path / "model"), max_new_tokens=2), ["Hello"])
    assert "index.json does not say which file has which weight" in last.message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="Windows has no named pipes")
def test_a_pipe_in_the_place_of_weights_is_not_waited_for(tmp_path, gpt2_folder):
    shutil.copytree(gpt2_folder, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    os.mkfifo(tmp_path / "model" / "model.safetensors")
    *_, last = answer(RunConfig(str(tmp_path / "model"), max_new_tokens=2), ["Hello"])
    assert "it has no weights in safetensors files" in last.message


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, gpt2_folder):
    folder = tmp_path_factory.mktemp("adapter")
    model = get_peft_model(tiny_gpt2(tokenizer_named("gpt2")), LoraConfig(r=2, target_modules=["c_attn", "c_fc"]))
    model.peft_config["default"].base_model_name_or_path = str(gpt2_folder)
    model.save_pretrained(str(folder))
    return folder


@pytest.mark.parametrize(
    ("settings", "change", "told"),
    [
        ({}, lambda w: next(iter(w.values())).fill_(float("nan")), "The model computes what is no number (NaN)"),
        ({}, lambda w: next(iter(w.values())).fill_(float("inf")), "The model computes what is no number (NaN)"),
        ({}, lambda w: w.update({key: weight.int() for key, weight in w.items()}), "in whole numbers (I32)"),
        ({}, dict.popitem, "lacks 1 of its weights"),
        ({"r": 10**9}, dict, "says that r is 1,000,000,000, and no weight of the adapter has more than 128"),
        ({"rank_pattern": {"c_fc": 10**9}}, dict, "says that r is 1,000,000,000"),
        (
            {"target_modules": ["c_attn", "nothing"]},
            dict,
            "has 4 weights that its adapter_config.json has no place for",
        ),
        ({"lora_alpha": float("nan")}, dict, "The model computes what is no number (NaN)"),
        ({"peft_type": "nothing"}, dict, "cannot be loaded: there is no 'nothing'"),
    ],
    ids=["NaN", "infinite", "whole", "missing", "r", "pattern", "modules", "alpha", "kind"],
)
def test_adapters_that_cannot_be(adapter, settings, change, told, tmp_path):
    """None of them may answer as if nothing had been trained."""
    shutil.copytree(adapter, tmp_path / "adapter")
    with_weights(tmp_path / "adapter", change, "adapter_model.safetensors")
    path = tmp_path / "adapter" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    *_, last = answer(RunConfig(str(tmp_path / "adapter"), max_new_tokens=2), ["Hello"])
    assert told in getattr(last, "message", "")


def with_tokenizer(folder, base, change: Callable[[dict], object]):
    shutil.copytree(base, folder)
    content = json.loads((folder / "tokenizer.json").read_text())
    change(content)
    (folder / "tokenizer.json").write_text(json.dumps(content))
    *_, last = answer(RunConfig(str(folder), max_new_tokens=2), ["Hello"])
    return getattr(last, "message", "")


WORDS = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 9}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["model"]["vocab"].update(a=4_000_000_000), "it gives 'a' the id 4,000,000,000, and the limit is"),
        (lambda c: c["model"]["vocab"].update(a=5, b=5, e=5), "tokenizer cannot encode a text (Token `"),
        (lambda c: c.update(model=WORDS | {"vocab": {"a": 0}}), "cannot encode a text (WordPiece error: Missing [UNK]"),
    ],
    ids=["gaps", "twice", "unknown"],
)
def test_vocabularies_that_cannot_be(change, told, tmp_path, gpt2_folder):
    assert told in with_tokenizer(tmp_path / "model", gpt2_folder, change)


def added(text: str, special: bool):
    token = {"id": 400, "content": text, "special": special}
    token |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return lambda content: content["added_tokens"].append(token)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: c["model"]["vocab"].update(other=400), "gives 'other' the id 400, and the model's embedding has "),
        (added("<word>", False), "gives '<word>' the id "),
        (added("<image>", True), ""),
    ],
    ids=["another model's", "added", "special"],
)
def test_a_tokenizer_with_ids_beyond_the_embedding(change, told, tmp_path, gpt2_folder):
    message = with_tokenizer(tmp_path / "model", gpt2_folder, change)
    assert told in message
    assert bool(message) == bool(told)


def test_a_tokenizer_that_drops_merges_at_random_masks_a_row_the_same_each_time(tmp_path, gpt2_folder):
    assert not with_tokenizer(tmp_path / "model", gpt2_folder, lambda content: content["model"].update(dropout=0.9))
    tokenizer = load_tokenizer(find_local(str(tmp_path / "model")))
    assert tokenizer.encode("Say hello") == tokenizer_named("gpt2").encode("Say hello")


def test_an_end_that_is_no_id_is_none(tmp_path, gpt2_folder):
    shutil.copytree(gpt2_folder, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text('{"eos_token_id": [-1, true, 3, 99999999999]}')
    assert stop_ids(find_local(str(tmp_path / "model"))) == {3}
