"""What a model's files say of themselves is checked against them; `tests/hold/test_mutants.py` tries 300 more."""

from __future__ import annotations

import json
import shutil
import struct
import time

import pytest
from gguf import GGUFReader
from tiny_gguf import tiny_gguf

from sftdemo.core.config import RunConfig
from sftdemo.core.errors import ModelError
from sftdemo.core.events import Failed
from sftdemo.model.bounds import check_gguf
from sftdemo.runs.run import answer


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
