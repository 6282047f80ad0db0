"""What the page offers on a Hugging Face Space."""

from __future__ import annotations

import pytest

from sftdemo.ui.space import duplicate_address


@pytest.mark.parametrize("text", ["", "someone", "a/b/c", 'a/b"><script>', "a/b?c", "../b", "a/b\n", "ä/b"])
def test_what_is_no_space_becomes_no_link(monkeypatch, text):
    monkeypatch.setenv("SPACE_ID", text)
    assert duplicate_address() is None


def test_a_space_can_be_duplicated(monkeypatch):
    monkeypatch.setenv("SPACE_ID", "some-one/sft.demo_2")
    assert duplicate_address() == "https://huggingface.co/spaces/some-one/sft.demo_2?duplicate=true"
    monkeypatch.delenv("SPACE_ID")
    assert duplicate_address() is None
