"""The laboratory: the boundary and its remedy, packing, the proof on the model, two ways to make tokens of a row."""

from __future__ import annotations

import json

import pytest
from desk import ROWS, SKIP, Busy, OnLentGpu, build_page, drawn, event, parts, scanned, tiny
from masked import fresh_tokens

from sftdemo.core.errors import ModelError
from sftdemo.core.events import Failed, Finished, Isolation, Model, Phase
from sftdemo.mask.boundary import inspect_boundary
from sftdemo.mask.labels import Masker
from sftdemo.model.prefix_tree import prefix_tree
from sftdemo.ui.controls import CUSTOM

MERGES = [{"instruction": "Which city?", "output": "the capital"}, {"instruction": "And?", "output": "the word"}]
MERGING = {"examples": json.dumps(MERGES), "template": "custom", "custom": "Q: {instruction} A: "}
HELD_OUT_ONLY = json.dumps(ROWS[2:])


@pytest.fixture
def values(ui, gpt2_folder):
    return lambda **changed: tiny(ui, gpt2_folder, **{"is_open": True} | changed)


class TestTheDoor:
    def test_closed_at_first(self, ui):
        assert ui.laboratory.panel.is_open.value is False

    def test_nothing_is_computed_behind_it(self, ui, values, monkeypatch):
        *_, scan = scanned(ui, values())
        closed = values(is_open=False, audit=scan.kept)

        def must_not(*_):
            raise AssertionError("computed")

        monkeypatch.setattr(ui.desk.backend, "source", must_not)
        monkeypatch.setattr("sftdemo.ui.panels.laboratory.inspect_boundary", must_not)
        monkeypatch.setattr("sftdemo.ui.panels.laboratory.layouts", must_not)
        assert ui.laboratory.look_at_boundary(closed) == SKIP
        assert list(ui.laboratory.look_at_packing(closed)) == [SKIP]
        assert ui.laboratory.look_at_boundary(closed | {ui.desk.controls.examples: "Dear diary"}) == SKIP

    def test_a_model_that_is_still_to_come_is_waited_for(self, ui, values):
        waiting = values(model="someone/something")
        assert ui.laboratory.look_at_boundary(waiting) == SKIP
        assert list(ui.laboratory.look_at_packing(waiting)) == [SKIP]

    def test_opening_it_looks(self, ui):
        for name in ("look_at_boundary", "look_at_packing"):
            fns = [fn for fn in ui.blocks.fns.values() if getattr(fn.fn, "__name__", "") == name]
            assert ui.laboratory.panel.is_open._id in {target[0] for fn in fns for target in fn.targets}, name


class TestBoundary:
    def look(self, ui, values) -> dict:
        return json.loads(ui.laboratory.look_at_boundary(values))

    def test_the_chosen_row(self, ui, values):
        for picked, row in ((0, 0), (1, 1), (99, 0)):  # a row that is gone is not asked for
            shown = self.look(ui, values(picked=picked))
            assert shown["message"].startswith(f"Row {row}. Prompt and answer meet between two tokens")
            assert (shown["merged"], shown["remedy"]) == (False, None)
            assert [name for name, _ in shown["lanes"]] == ["alone", "together", "used"]

    def test_a_merging_template_and_its_remedy(self, ui, values):
        shown = self.look(ui, values(**MERGING))
        assert shown["merged"]
        assert "a token reaches across the end of the prompt" in shown["message"]
        assert shown["remedy"] == {"template": "Q: {instruction} A:\n", "merging": 2, "remaining": 0}
        mended = ui.laboratory.mend(event(template=shown["remedy"]["template"]))
        assert parts(ui, mended, "template", "custom") == (CUSTOM, "Q: {instruction} A:\n")
        again = self.look(ui, values(**MERGING) | mended)
        assert (again["merged"], again["remedy"]) == (False, None)

    def test_the_remedy_looks_at_no_more_rows_than_it_says(self, ui, values, monkeypatch):
        monkeypatch.setattr("sftdemo.ui.panels.laboratory.REMEDY_ROWS", 3)
        shown = self.look(ui, values(**MERGING | {"examples": json.dumps(MERGES[:1] * 5)}))
        assert shown["remedy"]["merging"] == 3

    def test_it_is_that_of_the_settings(self, ui, values):
        view = ui.desk.view(values(**MERGING))
        expected = inspect_boundary(view.data.train[1], Masker(view.tokenizer, view.template, 10_000))
        shown = self.look(ui, values(picked=1, **MERGING))
        assert shown["at"] == expected.at
        ids = [[piece[1] for piece in pieces] for _, pieces in shown["lanes"]]
        assert ids == [[piece.id for piece in way] for way in (expected.alone, expected.together, expected.used)]

    @pytest.mark.parametrize(
        ("changed", "says"),
        [
            ({"examples": "Dear diary"}, "neither JSON nor CSV"),
            ({"template": "custom", "custom": "Q:"}, "has no {instruction} in it"),
            ({"template": "chat"}, "row 0: "),
            ({"max_length": None}, "Max length is empty"),
        ],
        ids=str,
    )
    def test_what_cannot_be_shown_is_a_sentence(self, ui, values, changed, says):
        shown = self.look(ui, values(**changed))
        assert says.casefold() in shown["message"].casefold()
        assert (shown["lanes"], shown["remedy"]) == ([], None)

    def test_without_a_row(self, ui, values):
        assert ui.laboratory.look_at_boundary(values(examples=HELD_OUT_ONLY)) == SKIP


class TestPacking:
    def look(self, ui, values: dict) -> dict:
        """What is laid out after the rows were looked over."""
        *_, scan = scanned(ui, values)
        *_, shown = ui.laboratory.look_at_packing(values | {ui.desk.session.audit: scan.kept})
        return json.loads(shown)

    def test_four_layouts_of_what_is_trained(self, ui, values):
        shown = self.look(ui, values(batch_size=2, max_length=64))
        assert [layout["name"] for layout in shown["layouts"]] == ["padded", "shared", "packed", "seed"]
        rows = [[token[2] for token in row["tokens"]] for row in drawn(ui, values())[0]["rows"]]
        lengths = [len(row) for row in rows]
        packed = shown["layouts"][2]
        assert sorted(block[2] for row in packed["rows"] for block in row["blocks"]) == sorted(lengths)
        assert [row["width"] for row in packed["rows"]] == [sum(lengths)]
        assert "batches of 2" in shown["layouts"][0]["title"]
        shared = shown["layouts"][1]
        assert [row["width"] for row in shared["rows"]] == [len(prefix_tree([(row, row) for row in rows]).input_ids)]
        assert [block[2:3] + block[4:] for block in shared["rows"][0]["blocks"]] == [
            [count, len(row) - 1 - count] for row, count in zip(rows, fresh_tokens(rows, 2), strict=True)
        ]

    def test_a_row_without_a_trained_token_is_left_out(self, ui, values):
        masks = ui.masking.toggle(values(), event(row=0, tokens=list(range(99)), trained=False))
        shown = self.look(ui, values(masks=masks))
        blocks = [block[:2] for row in shown["layouts"][0]["rows"] for block in row["blocks"]]
        assert blocks == [[0, 1]]

    def test_where_nothing_is_trained(self, ui, values):
        shown = self.look(ui, values(max_length=8))
        assert shown == {"layouts": [], "message": "No row has a trained token, so there is nothing to pack."}

    def test_before_the_rows_were_looked_over(self, ui, values):
        assert list(ui.laboratory.look_at_packing(values())) == [SKIP]


class TestProof:
    EVENTS = (
        Phase("load", "Loading the model"),
        Model("tiny", "local folder", "CPU (2 threads)", "float32", 1),
        Phase("isolation", "Exchanging 1 of 2", 0.5),
        Isolation("bfd", 0.0, 0, 1, 12),
        Isolation("wrapped", 2.5, 0, 1, 12),
    )

    def told(self, ui, values, monkeypatch, events) -> list[tuple[object, dict]]:
        asked = []

        def prove(config, data):
            asked.append((config, data))
            yield from events

        monkeypatch.setattr(ui.desk.backend, "prove", prove)
        looks = [parts(ui, updates, "prove", "proof") for updates in ui.laboratory.prove(values)]
        looks = [(button, json.loads(status)) for button, status in looks]
        assert asked == [(ui.desk.controls.config(values), ui.desk.data(values))]
        return looks

    def test_from_events_to_text(self, ui, values, monkeypatch):
        looks = self.told(ui, values(), monkeypatch, [*self.EVENTS, Finished(0, 0, 3.2, False)])
        assert looks[0][0]["interactive"] is False
        assert [status["state"] for _, status in looks] == ["working", "working", "working", "done"]
        assert (looks[2][1]["title"], looks[2][1]["fraction"]) == ("Exchanging 1 of 2", 0.5)
        assert looks[2][1]["notes"] == ["tiny · local folder · CPU (2 threads), float32"]
        button, last = looks[-1]
        assert button["interactive"] is True
        assert (last["title"], last["detail"]) == ("Measured", "3 s")
        _, packed, control = last["notes"]
        assert "packed (bfd)" in packed
        assert "by 0 nats" in packed
        assert "the control" in control
        assert "by 2.5 nats" in control

    def test_a_failure(self, ui, values, monkeypatch):
        looks = self.told(ui, values(), monkeypatch, [*self.EVENTS[:2], Failed("Too few examples.")])
        button, last = looks[-1]
        assert (button["interactive"], last["state"], last["title"]) == (True, "failed", "Too few examples.")
        assert len(last["notes"]) == 1

    @pytest.mark.parametrize("changed", [{"examples": "Dear diary"}, {"steps": 0}, {"model": ""}], ids=str)
    def test_wrong_settings_are_a_sentence(self, ui, values, changed):
        *_, last = ui.laboratory.prove(values(**changed))
        button, status = parts(ui, last, "prove", "proof")
        assert button["interactive"]
        assert json.loads(status)["state"] == "failed"

    def test_a_busy_machine(self, gpt2_folder, warned):
        busy = build_page(Busy())
        *_, last = busy.laboratory.prove(tiny(busy, gpt2_folder))
        button, status = parts(busy, last, "prove", "proof")
        assert warned == ["Another run is under way."]
        assert (button["interactive"], json.loads(status)["state"]) == (True, "idle")

    def test_on_a_real_model_in_a_process_of_its_own(self, ui, values):
        *_, last = ui.laboratory.prove(values())
        button, status = parts(ui, last, "prove", "proof")
        status = json.loads(status)
        assert (status["state"], button["interactive"]) == ("done", True), status
        assert len(status["notes"]) == 3
        assert "by 0 nats" in status["notes"][1]
        assert "by 0 nats" not in status["notes"][2]


class TestContrast:
    def shown(self, ui, values: dict, model, template: str) -> list[dict]:
        asked = {ui.laboratory.panel.model: str(model), ui.laboratory.panel.template: template}
        return [json.loads(each) for each in ui.laboratory.contrast(values | asked)]

    def test_two_tokenizers_and_templates_on_one_row(self, ui, values, llama_folder, gpt2_folder):
        *phases, last = self.shown(ui, values(picked=1), llama_folder, "chat")
        assert all(phase["columns"] == [] and phase["message"].endswith("…") for phase in phases)
        left, right = last["columns"]
        assert left["title"] == f"{gpt2_folder} · instruction"
        assert right["title"] == f"{llama_folder} · chat"
        assert left["tokens"] == drawn(ui, values())[0]["rows"][1]["tokens"]
        other = values(model=str(llama_folder), template="chat")
        assert right["tokens"] == drawn(ui, other)[0]["rows"][1]["tokens"]
        assert last["message"].startswith("Row 1, both ways.")
        assert not last["failed"]

    def test_a_custom_template_is_named(self, ui, values, gpt2_folder):
        *_, last = self.shown(ui, values(**MERGING), gpt2_folder, "instruction")
        assert [column["title"].rpartition(" · ")[2] for column in last["columns"]] == [
            "custom template",
            "instruction",
        ]

    @pytest.mark.parametrize(
        ("changed", "model", "template", "says"),
        [
            ({}, "no/such/folder", "instruction", "'no/such/folder' is no folder or file here"),
            ({}, "", "instruction", "model is empty"),
            ({}, None, "chat", "ow 0"),
            ({"examples": "Dear diary"}, None, "instruction", ""),
        ],
        ids=["no model", "no name", "no chat template", "no rows"],
    )
    def test_what_cannot_be_shown_is_a_sentence(self, ui, values, gpt2_folder, changed, model, template, says):
        *_, last = self.shown(ui, values(**changed), gpt2_folder if model is None else model, template)
        assert last["failed"]
        assert says in last["message"]
        assert last["columns"] == []

    def test_a_model_that_is_lost_on_the_way(self, gpt2_folder, monkeypatch):
        fresh = build_page(OnLentGpu())

        def prepare(_):
            yield Phase("model", "Fetching", 0.5)
            raise ModelError("the connection broke.")

        monkeypatch.setattr(fresh.desk.backend, "prepare_tokenizer", prepare)
        shown = self.shown(fresh, tiny(fresh, gpt2_folder), "gpt2", "instruction")
        assert [each["message"] for each in shown] == ["Fetching…", "The connection broke."]
        assert [each["failed"] for each in shown] == [False, True]

    def test_without_a_row(self, ui, values, gpt2_folder):
        for examples in (HELD_OUT_ONLY, '[{"instruction": "a"}]'):
            (last,) = self.shown(ui, values(examples=examples), gpt2_folder, "instruction")
            assert last["message"] == "There is no row to compare yet."

    def test_a_public_page_offers_models_from_its_list_only(self, ui, values, gpt2_folder, llama_folder, monkeypatch):
        """The dropdown refuses others as well, as the one above does."""
        monkeypatch.setattr("sftdemo.core.limits.MODELS", (str(gpt2_folder),))
        monkeypatch.setenv("SPACE_ID", "someone/space")
        *_, last = self.shown(ui, values(), llama_folder, "instruction")
        assert last["failed"], last["columns"]
