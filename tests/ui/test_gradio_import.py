import inspect
import json
from unittest.mock import patch

import gradio as gr
import pytest
from gradio import component_meta

from sftdemo.ui.gradio_import import _file_unless_gradios


def test_no_stub_is_made_of_what_has_no_source_file(monkeypatch):
    monkeypatch.setattr(component_meta, "create_pyi", lambda *_: pytest.fail("a stub is made"))
    with patch.object(inspect, "getfile", _file_unless_gradios):
        component_meta.create_or_modify_pyi(gr.Button, "Button", [])


def test_others_keep_their_files():
    assert _file_unless_gradios(json.JSONDecoder) == json.decoder.__file__
    assert _file_unless_gradios(json.loads) == json.__file__
    assert inspect.getfile is not _file_unless_gradios
