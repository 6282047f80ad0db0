"""Gradio's toasts draw HTML: what the user wrote reaches them as words."""

from __future__ import annotations

import gradio as gr
import pytest

from sftdemo.core.errors import DataError
from sftdemo.ui.toasts import refusal, warn


def test_markup_is_escaped(monkeypatch):
    said = []
    monkeypatch.setattr(gr, "Warning", said.append)
    warn(DataError("the text begins with <img src=x onerror='a'> & more."))
    assert said == ["The text begins with &lt;img src=x onerror='a'&gt; &amp; more."]
    assert refusal("<b>").message == "&lt;b&gt;"


def test_a_file_of_markup_is_refused_without_it(ui, tmp_path):
    path = tmp_path / "<b>.txt"
    path.write_text("<img src='http://elsewhere/x'>\nc\n")
    with pytest.raises(gr.Error, match=r"its first line is .*&lt;img") as error:
        ui.opening.open_file(str(path))
    assert "<" not in error.value.message
