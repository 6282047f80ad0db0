"""Fixtures of the page's tests."""

from __future__ import annotations

import gradio as gr
import pytest
from desk import only_a_cpu


@pytest.fixture(autouse=True)
def this_machine(monkeypatch, tmp_path):
    only_a_cpu(monkeypatch)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "served"))


@pytest.fixture
def warned(monkeypatch) -> list[str]:
    """The warnings that Gradio shows."""
    shown: list[str] = []
    monkeypatch.setattr(gr, "Warning", shown.append)
    return shown
