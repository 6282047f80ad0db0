"""A link shows the view that it was made from, and nothing that stands in one breaks the page or starts anything."""

from __future__ import annotations

import base64
import json
import zlib
from urllib.parse import parse_qsl

import pytest
from desk import ROWS, TEXT, event
from hypothesis import given
from hypothesis import strategies as st

from sftdemo.core.errors import ConfigError
from sftdemo.data.samples import SAMPLES
from sftdemo.ui.controls import PAGE_SETTINGS
from sftdemo.ui.kept import settings_of, to_keep
from sftdemo.ui.link import DOORS, LINK_BYTES, LINK_CHARACTERS, LINKED_SETTINGS, from_link, is_link, link_of
from sftdemo.ui.panels.link import LinkHandlers


@pytest.fixture
def linking(ui) -> LinkHandlers:
    handlers = (getattr(fn.fn, "__self__", None) for fn in ui.blocks.fns.values())
    return next(each for each in handlers if isinstance(each, LinkHandlers))


def copied(linking, values, **more) -> dict:
    """What the widget gets after a click."""
    about = event(**({"open": "", "lesson": None, "step": None} | more))
    return json.loads(linking.copy(values | {linking.panel.made: 0}, about)[linking.panel.link])


def packed(rows: object) -> str:
    return base64.urlsafe_b64encode(zlib.compress(json.dumps(rows).encode())).decode()


def said(ui, **query: str) -> tuple[str, ...]:
    return from_link(query, ui.desk.controls).kept.notes


class TestThereAndBack:
    def test_the_same_view(self, ui, values, linking):
        marked = ui.masking.toggle(values(), event(row=0, tokens=[2], trained=True))
        changed = {"template": "custom", "custom": "X: {instruction}\nA:\n", "max_length": 77, "packing": True}
        given = values(masks=marked, picked=1, model="gpt2", prompt_loss_weight=0.25, seed=7, **changed)
        linked = from_link(dict(parse_qsl(copied(linking, given, open="packing")["query"])), ui.desk.controls)
        updates = linking.show(linked)
        inputs = settings_of(ui.desk.controls)
        assert updates[ui.desk.controls.examples] == TEXT
        assert updates[ui.desk.session.masks] == marked
        assert {name: updates[inputs[name]] for name in linked.kept.settings} == changed | {
            "model": "gpt2",
            "prompt_loss_weight": 0.25,
            "steps": 2,
        }
        assert (updates[linking.panel.row], json.loads(updates[linking.panel.link])["open"]) == (1, "packing")
        assert linked.kept.notes == ()

    def test_a_sample_goes_by_its_name_and_the_browsers_store_stays_as_it_was(self, ui, values, linking):
        text = SAMPLES[1].path.read_text(encoding="utf-8")
        query = copied(linking, values(examples=text, model=ui.desk.controls.model.value, max_length=512, steps=12))[
            "query"
        ]
        assert query == f"sample={SAMPLES[1].name}"
        updates = linking.show(from_link(dict(parse_qsl(query)), ui.desk.controls))
        assert updates[ui.desk.controls.examples] == text
        assert {linking.keeping.panel.store, linking.keeping.panel.restored}.isdisjoint(updates)

    def test_epochs_go_along_in_place_of_steps(self, ui, values, linking):
        query = dict(parse_qsl(copied(linking, values(epochs="2", steps=None, model="gpt2"))["query"]))
        assert (query["epochs"], "steps" in query) == ("2", False)
        linked = from_link(query, ui.desk.controls).kept
        assert (linked.settings["epochs"], linked.settings["steps"], linked.notes) == ("2", None, ())
        assert said(ui, epochs="2", steps="5") == ("Not used of this link: steps.",)

    def test_a_row_is_gone_to_once(self, ui, values, linking):
        given = values() | {linking.panel.row: 1}
        updates = linking.show_row(given)
        assert json.loads(updates[ui.masking.out.mask])["focus"] == 1
        assert updates[linking.panel.row] is None
        assert ui.masking.out.mask not in linking.show_row(values() | {linking.panel.row: None})

    def test_only_an_address_with_a_view_is_a_link(self):
        assert is_link({"row": "1"})
        assert not is_link({"__theme": "dark", "present": ""})


class TestLimits:
    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"opened": "/tmp/secret/rows.parquet"}, "a file that is open"),
            ({"examples": "".join(chr(33 + i * i % 9001) for i in range(30_000))}, "a link to these rows would have"),
            ({"examples": "x" * 300_000}, "at most 200 kB of text"),
        ],
    )
    def test_what_no_link_can_hold(self, values, linking, changed, says):
        made = copied(linking, values(**changed))
        assert made["query"] == ""
        assert says.lower() in made["notes"][0].lower()
        assert "secret" not in made["notes"][0]

    def test_rows_that_unpack_without_end_are_not_unpacked(self, ui):
        bomb = base64.urlsafe_b64encode(zlib.compress(b" " * 5_000_000)).decode()
        assert len(bomb) < LINK_CHARACTERS
        (note,) = said(ui, rows=bomb)
        assert note.startswith(f"The rows of this link are longer than {LINK_BYTES // 1000} kB")

    def test_a_link_that_is_too_long(self, ui):
        (note,) = said(ui, rows="x" * 3 * LINK_CHARACTERS)
        assert note.startswith("This link is too long")


class TestUntrusted:
    @pytest.mark.parametrize(
        ("query", "says"),
        [
            ({"rows": "eJy"}, "it was cut or changed"),
            ({"rows": packed({"text": TEXT})[:-9]}, "it was cut or changed"),
            ({"rows": packed([1])}, "it was cut or changed"),
            ({"rows": "é"}, "it was cut or changed"),
            ({"rows": packed({"masks": [{"instruction": 5}]})}, "1 of the masks that this link holds"),
            ({"sample": "no such"}, "There is no sample no such; there are pirate,"),
            ({"model": "someone/something"}, "asks for the model someone/something; if you trust it"),
            ({"model": "/home"}, "asks for the model /home; if you trust it"),
            ({"max_length": "-5"}, "Not used of this link: max_length."),
            ({"prompt_loss_weight": "2"}, "Not used of this link: prompt_loss_weight."),
            ({"packing": "maybe"}, "Not used of this link: packing."),
            ({"set": "report_to=wandb"}, "Not used of this link: set."),
            ({"learning_rate": "9"}, "Not used of this link: learning_rate."),
            ({"row": "-1"}, "a row is a number from 0"),
            ({"open": "train"}, "what can be opened is settings"),
            ({"hub": "a/b"}, "press Open to read it"),
        ],
        ids=str,
    )
    def test_what_is_not_used_is_told(self, ui, query, says):
        (note,) = said(ui, **query)
        assert says in note
        found = from_link(query, ui.desk.controls)
        assert (found.kept.settings, found.row, found.door) == ({}, None, "")

    def test_no_setting_of_a_link_sends_or_trains_anything(self):
        assert {"set", "prompts", "anyway", "device", "learning_rate"}.isdisjoint(LINKED_SETTINGS)
        assert set(LINKED_SETTINGS) - {"custom", "against"} <= set(PAGE_SETTINGS)

    @given(
        st.dictionaries(
            st.sampled_from(["sample", "rows", "hub", "row", "open", "x", *LINKED_SETTINGS]), st.text(max_size=12)
        )
    )
    def test_no_text_breaks_it(self, ui, query):
        found = from_link(query, ui.desk.controls)
        shown = [found.kept.text, found.kept.settings, found.kept.hub, found.kept.notes]
        json.dumps(shown, ensure_ascii=False).encode("utf-8")  # it reaches the browser

    def test_every_door_is_a_panel_of_the_page(self, ui):
        there = {getattr(block, "elem_id", None) for block in ui.blocks.blocks.values()}
        assert {name for name, _ in DOORS.values()} <= there


def test_a_file_that_is_open_names_no_path(ui):
    settings = {name: each.value for name, each in settings_of(ui.desk.controls).items()}
    with pytest.raises(ConfigError, match="close it"):
        link_of(to_keep(json.dumps(ROWS), "/tmp/a.csv", {}, None, settings), ui.desk.controls, {})
