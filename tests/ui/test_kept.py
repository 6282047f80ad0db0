"""What a browser keeps of a visit: it comes back as it was, and nothing that it holds breaks the page."""

from __future__ import annotations

import json

import pytest
from desk import ROWS, TEXT, event
from hypothesis import given
from hypothesis import strategies as st

from sftdemo.ui.kept import KEPT_BYTES, from_kept, settings_of, to_keep, too_much
from sftdemo.ui.panels.keep import KeepHandlers

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def keeping(ui) -> KeepHandlers:
    handlers = (getattr(fn.fn, "__self__", None) for fn in ui.blocks.fns.values())
    return next(each for each in handlers if isinstance(each, KeepHandlers))


def kept(keeping, values) -> dict:
    """What the browser gets, as it comes back."""
    return json.loads(json.dumps(keeping.keep(values | {keeping.panel.restored: True})[keeping.panel.store]))


class TestThereAndBack:
    def test_everything_comes_back(self, ui, values, keeping):
        marked = ui.masking.toggle(values(), event(row=0, tokens=[2], trained=True))
        columns = {"prompt": "a", "answer": None, "how": "unchanged"}
        changed = {"template": "alpaca", "max_length": 77, "packing": True, "learning_rate": "1e-3", "against": 0.5}
        given = values(masks=marked, columns=columns, **changed)
        updates = keeping.restore(kept(keeping, given))
        assert updates[ui.desk.controls.examples] == TEXT
        assert updates[ui.desk.session.masks] == marked
        assert updates[ui.desk.session.columns] == columns
        for name, component in settings_of(ui.desk.controls).items():
            assert updates[component] == given[component], name
        assert json.loads(updates[keeping.panel.told])["notes"] == []
        assert updates[keeping.panel.restored]

    def test_a_mask_that_was_taken_back_stays_so(self, ui, values, keeping):
        marked = values(masks=ui.masking.toggle(values(), event(row=0, tokens=[2], trained=True)))
        usual = ui.masking.reset(marked, event(row=0))
        assert keeping.restore(kept(keeping, values(masks=usual)))[ui.desk.session.masks] == usual

    def test_nothing_is_kept_before_the_browser_was_asked(self, values, keeping):
        assert keeping.keep(values() | {keeping.panel.restored: False}) == {keeping.panel.store: {"__type__": "update"}}

    def test_the_first_visit(self, ui, keeping):
        updates = keeping.restore(None)
        assert set(updates) == {keeping.panel.restored, keeping.panel.told}

    def test_starting_over(self, ui, values, keeping):
        updates = keeping.start_over()
        for component in settings_of(ui.desk.controls).values():
            assert updates[component] == component.value
        assert updates[keeping.panel.store] is None
        assert (updates[ui.desk.session.masks], updates[ui.desk.session.columns]) == ({}, None)
        assert updates[ui.desk.controls.examples]["value"] == ui.desk.controls.examples.value


class TestLimits:
    def test_what_is_too_long_is_not_kept_and_told(self, ui, values, keeping):
        text = json.dumps([ROWS[0] | {"output": "x" * KEPT_BYTES}])
        given = values(examples=text) | {keeping.panel.restored: True}
        updates = keeping.keep(given)
        assert updates[keeping.panel.store]["text"] is None
        (note,) = json.loads(updates[keeping.panel.limit])["notes"]
        assert note == "A reload loses the text: a browser keeps at most 200 kB of that."
        (note,) = json.loads(keeping.restore(kept(keeping, given))[keeping.panel.told])["notes"]
        assert note.startswith("The text was too long to be kept")
        assert too_much({"text": None, "masks": None}).startswith("A reload loses the text and the masks made by hand:")

    @pytest.mark.parametrize(
        ("opened", "hub", "says"),
        [("/tmp/rows.parquet", "", "The file that was open"), ("hub:a/b@c", "hub:a/b@c", "press Open to read it")],
    )
    def test_what_was_open_is_named(self, ui, opened, hub, says):
        value = to_keep(TEXT, opened, {}, None, {})
        assert "/tmp" not in json.dumps(value)
        found = from_kept(value, ui.desk.controls)
        assert (found.text, found.hub) == (TEXT, hub)
        assert says in found.notes[0]


class TestUntrusted:
    @pytest.mark.parametrize(
        ("name", "value"),
        [
            *(("steps", wrong) for wrong in (0, "12", True, None, 10**400, 2.5)),
            *(("template", wrong) for wrong in ("no such", 5)),
            *(("model", wrong) for wrong in ("", "\ud800", 7)),
            *(("learning_rate", wrong) for wrong in ("fast", 1, "2")),
            *(("packing", wrong) for wrong in (1, "yes")),
            *(("device", "tpu"), ("turns", "none"), ("full", 3), ("prompt_loss_weight", 2), ("against", -1)),
            *(("chat_template_kwargs", "{"), ("no such setting", 1)),
        ],
        ids=str,
    )
    def test_a_setting_out_of_its_range_falls_back_and_is_named(self, ui, name, value):
        found = from_kept({"text": TEXT, "settings": {name: value, "seed": 7}}, ui.desk.controls)
        assert found.settings == {"seed": 7}
        assert found.notes == (f"Not used of what this browser kept: {name}. The defaults stand instead.",)

    def test_a_public_page_allows_no_more_than_ever(self, ui, monkeypatch):
        monkeypatch.setenv("SPACE_ID", "some/space")
        found = from_kept({"settings": {"model": "someone/something", "steps": 5000, "seed": 7}}, ui.desk.controls)
        assert found.settings == {"seed": 7}

    @pytest.mark.parametrize(
        ("value", "says"),
        [
            ("rubbish", "cannot be read; the defaults are back"),
            ([1], "cannot be read; the defaults are back"),
            ({"masks": [{"instruction": 5}]}, "1 of the masks"),
            ({"masks": [[[[]]]]}, "1 of the masks"),
            ({"text": 5}, "the sample is back"),
            ({"text": "\ud800"}, "the sample is back"),
            ({"later": 1}, "Not used of what this browser kept: later."),
        ],
        ids=str,
    )
    def test_what_is_of_another_form_is_told(self, ui, value, says):
        (note,) = from_kept(value, ui.desk.controls).notes
        assert says in note

    def test_columns_of_another_form_are_not_used(self, ui):
        for columns in (
            5,
            {"prompt": 5, "answer": "a", "how": "template"},
            {"prompt": "a", "answer": "b"},
            {"how": []},
        ):
            assert from_kept({"columns": columns}, ui.desk.controls).columns is None

    @given(JSON | st.fixed_dictionaries(dict.fromkeys(("text", "masks", "columns", "settings", "opened"), JSON)))
    def test_no_value_breaks_it(self, ui, value):
        found = from_kept(value, ui.desk.controls)
        shown = [found.text, found.settings, found.hub, found.notes]
        json.dumps(shown, ensure_ascii=False).encode()  # it reaches the browser

    def test_half_a_character_is_not_sent_back(self, ui):
        value = {"settings": {"\ud800": 1}, "\ud800": 1, "opened": "hub:\ud800"}
        json.dumps(from_kept(value, ui.desk.controls).notes, ensure_ascii=False).encode()
