"""The mask that the page brings along: drawn once, kept for the next server, and shown until the model is ready."""

from __future__ import annotations

import json
import os
from pathlib import Path

import gradio as gr
import pytest
from desk import OnLentGpu, Page, build_page

from sftdemo.core.files import cache_folder
from sftdemo.model.sources import ModelSource
from sftdemo.ui import first_mask, spoken
from sftdemo.ui.first_mask import FirstMask, is_kept
from sftdemo.ui.widgets import mask_message, widget
from sftdemo.ui.words import Speaks

KEPT = "first-mask.json"


class WithItsModel(OnLentGpu):
    """A backend whose default model is a tiny one."""

    folder: Path

    def source(self, name: str) -> ModelSource:
        return ModelSource("tiny", self.folder, "made here")


@pytest.fixture(scope="module")
def built(gpt2_folder) -> Page:
    WithItsModel.folder = gpt2_folder
    return build_page(WithItsModel())


@pytest.fixture
def opened(built: Page) -> Page:
    """A page that brings nothing along yet."""
    built.blocks._first.clear()
    built.blocks.config = built.blocks._layout
    return built


def brought(blocks: spoken.Page, widget: gr.HTML) -> dict | None:
    """The mask that is in the page when it is opened, before any handler is asked."""
    props = {each["id"]: each["props"] for each in blocks.config["components"]}
    return json.loads(props[widget._id]["value"]).get("ahead", {}).get("drawn")


def next_server(opened: Page) -> dict | None:
    """The mask in the page of a server that starts after it."""
    with spoken.Page() as later:
        mask = widget("mask", mask_message("", waiting=True))
    FirstMask(later, mask, opened.desk.backend).bring()
    return brought(later, mask)


def draw(opened: Page, **changed: object) -> dict:
    return json.loads(opened.masking.draw(opened.values(**changed))[opened.masking.out.mask])


def test_who_comes_later_finds_the_mask_in_the_page_and_so_after_the_next_start(opened):
    assert (brought(opened.blocks, opened.masking.out.mask), next_server(opened)) == (None, None)
    assert not is_kept()
    changes, drawn = opened.blocks.changes, draw(opened)
    assert drawn["rows"]
    assert drawn["waiting"] is False
    assert brought(opened.blocks, opened.masking.out.mask) == drawn | {"waiting": True}
    assert next_server(opened) == drawn | {"waiting": True}
    assert is_kept()
    draw(opened)
    assert opened.blocks.changes == changes + 1


@pytest.mark.parametrize(
    "changed", [{"examples": '[{"instruction": "a", "output": "b"}]'}, {"max_length": 9}, {"page": 1}]
)
def test_what_a_visitor_makes_of_it_is_no_others(opened, changed):
    assert draw(opened, **changed)["rows"]
    assert (brought(opened.blocks, opened.masking.out.mask), next_server(opened)) == (None, None)
    assert not is_kept()
    assert not (cache_folder() / KEPT).exists()


def test_each_language_has_its_own(opened):
    with Speaks("zh"):
        drawn = draw(opened)
        assert brought(opened.blocks, opened.masking.out.mask) == drawn | {"waiting": True}
    assert brought(opened.blocks, opened.masking.out.mask) is None
    draw(opened)
    with Speaks("zh"):
        assert next_server(opened) == drawn | {"waiting": True}  # the second did not take the place of the first


def test_it_is_not_brought_by_another_version_or_with_another_tokenizer(opened, monkeypatch, gpt2_folder):
    draw(opened)
    with monkeypatch.context() as patched:
        patched.setattr(first_mask, "__version__", "0.0.1")
        assert next_server(opened) is None
    assert next_server(opened)
    file = gpt2_folder / "tokenizer.json"
    stat = file.stat()
    try:
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
        assert next_server(opened) is None
    finally:
        os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda kept: "",
        lambda kept: json.dumps(kept)[:-9],
        lambda kept: "[]",
        lambda kept: json.dumps(kept | {"drawn": 1}),
        lambda kept: json.dumps(kept | {"drawn": {"en": {"rows": []}}}),
        lambda kept: json.dumps(kept | {"tokenizer": [[]]}),
        lambda kept: json.dumps(kept | {"tokenizer": 7}),
        lambda kept: json.dumps(kept | {"tokenizer": [["/nowhere", 1, 2]]}),
    ],
)
def test_a_file_that_is_not_whole_is_no_mask(opened, spoil):
    draw(opened)
    file = cache_folder() / KEPT
    file.write_text(spoil(json.loads(file.read_text())))
    assert next_server(opened) is None
    opened.blocks._first.clear()
    draw(opened)  # and it is kept anew
    assert next_server(opened)


def test_a_cache_that_cannot_be_written_costs_the_next_server_its_mask_alone(opened, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFTDEMO_CACHE", str(tmp_path / "file" / "cache"))
    assert draw(opened)["rows"]
    assert brought(opened.blocks, opened.masking.out.mask)
    assert next_server(opened) is None
