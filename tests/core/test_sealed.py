"""A folder of the cache that was cut or changed is known; one that was copied, or is an earlier version's, is good."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sftdemo.core.sealed import SEAL, is_whole, seal


@pytest.fixture(params=["sealed", "of an earlier version"])
def folder(request, tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    save_file({"a": torch.zeros(100)}, folder / "model.safetensors")
    (folder / "config.json").write_text('{"a": 1}')
    if request.param == "sealed":
        seal(folder)
    return folder


def test_whole(folder, tmp_path):
    assert is_whole(folder)
    assert not is_whole(tmp_path / "none")
    shutil.copytree(folder, tmp_path / "copy", copy_function=shutil.copyfile)
    assert is_whole(tmp_path / "copy")


@pytest.mark.parametrize("length", [0, 4, 50, 399])
def test_cut(folder, length):
    for name in ("model.safetensors", "config.json"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[: min(length, len(whole) - 1)])
        assert not is_whole(folder), name
        (folder / name).write_bytes(whole)
        assert is_whole(folder)


@pytest.mark.parametrize("length", [2**31, 2**40, 2**63])
def test_a_head_that_is_longer_than_the_file(folder, length):
    whole = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(length.to_bytes(8, "little") + whole[8:])
    assert not is_whole(folder)


def test_zeros_of_the_same_length(folder):
    size = (folder / "model.safetensors").stat().st_size
    (folder / "model.safetensors").write_bytes(b"\0" * size)
    assert not is_whole(folder)


def test_a_seal_that_is_broken_or_a_file_that_is_missing(folder):
    if not (folder / SEAL).exists():
        pytest.skip("the folder of an earlier version, which has none")
    flipped = bytearray((folder / "model.safetensors").read_bytes())
    flipped[-1] ^= 1
    (folder / "model.safetensors").write_bytes(flipped)
    assert not is_whole(folder)
    seal(folder)
    for text in ("", "[]", '{"config.json": 5}', '{"config.json": [1]}', '{"x": [1, 2, "3"]}'):
        (folder / SEAL).write_text(text)
        assert not is_whole(folder), text
    seal(folder)
    assert is_whole(folder)
    os.remove(folder / "config.json")
    assert not is_whole(folder)
