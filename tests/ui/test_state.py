"""What the person works on: pages of rows, and masks made by hand that stay with their examples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from desk import ROWS, SKIP, TEXT, drawn, event, made, named, parts, scanned, trained

from sftdemo.core.errors import DataError
from sftdemo.data.examples import parse_examples
from sftdemo.data.templates import get_template
from sftdemo.mask.labels import Masker
from sftdemo.ui.reading import PAGE_CHARACTERS, PAGE_ROWS, read
from sftdemo.ui.state import content_of

MANY = json.dumps([{"instruction": f"Count to {number}", "output": "1 2 3"} for number in range(120)])


def rows_of(ui, values) -> list[dict]:
    return drawn(ui, values)[0]["rows"]


class TestPages:
    def test_the_first_page(self, ui, values):
        mask, *_ = drawn(ui, values(examples=MANY))
        assert [row["row"] for row in mask["rows"]] == list(range(50))
        assert [mask[name] for name in ("first", "total", "page", "pages", "focus")] == [0, 120, 0, 3, None]

    @pytest.mark.parametrize(
        ("asked", "shown", "first", "count"),
        [(1, 1, 50, 50), (2, 2, 100, 20), (3, 2, 100, 20), (10**9, 2, 100, 20), (-1, 0, 0, 50), (0, 0, 0, 50)],
    )
    def test_turning(self, ui, values, asked, shown, first, count):
        mask, kept = parts(ui, ui.masking.turn(values(examples=MANY), event(page=asked)), "mask", "page")
        mask = json.loads(mask)
        assert (kept, mask["page"], mask["first"]) == (shown, shown, first)
        assert [row["row"] for row in mask["rows"]] == list(range(first, first + count))

    def test_a_drawn_page_stays_the_page_and_shrinks_with_the_rows(self, ui, values):
        mask, *_ = drawn(ui, values(examples=MANY, page=2))
        assert (mask["page"], mask["rows"][0]["row"]) == (2, 100)
        mask, *_ = drawn(ui, values(page=2))
        assert (mask["page"], mask["pages"], len(mask["rows"])) == (0, 1, 2)

    @pytest.mark.parametrize(("row", "number"), [(0, 0), (49, 0), (50, 1), (99, 1), (100, 2), (119, 2)])
    def test_going_to_a_row(self, ui, values, row, number):
        went = ui.masking.go_to(values(examples=MANY), event(row=row))
        mask, kept, picked = parts(ui, went, "mask", "page", "picked")
        mask = json.loads(mask)
        assert (mask["page"], mask["focus"], kept, picked) == (number, row, number, row)
        assert row in [drawn["row"] for drawn in mask["rows"]]

    def test_a_row_is_found_by_its_number_in_the_source(self, ui, values):
        """Refused rows keep their numbers."""
        rows = [{"instruction": "a"}, *json.loads(MANY)]
        went = ui.masking.go_to(values(examples=json.dumps(rows)), event(row=50))
        mask = json.loads(named(ui, went)["mask"])
        assert (mask["page"], mask["first"], mask["total"]) == (0, 0, 120)
        assert mask["rows"][-1]["row"] == 50

    def test_a_row_that_is_gone(self, ui, values):
        mask, kept, _ = parts(ui, ui.masking.go_to(values(), event(row=99)), "mask", "page", "picked")
        assert (json.loads(mask)["page"], kept) == (0, 0)

    def test_without_rows(self, ui, values):
        for changed in ({"examples": ""}, {"examples": json.dumps(ROWS[2:])}):
            mask, kept = parts(ui, ui.masking.turn(values(**changed), event(page=1)), "mask", "page")
            assert (json.loads(mask)["rows"], kept) == ([], 0)

    def test_long_rows_make_short_pages(self):
        third = "x" * (PAGE_CHARACTERS // 3)
        rows = [{"instruction": "", "output": third[3:]}] * 7 + [{"prompt": "", "completion": third * 4}] * 2
        reading = read(json.dumps(rows), None)
        assert reading.pages == (0, 3, 6, 7, 8)
        assert len(reading.data.train) == 9

    def test_all_shapes_count_their_text(self):
        text = "x" * (PAGE_CHARACTERS // 2 + 1)
        shapes = [
            {"instruction": text, "output": ""},
            {"instruction": "", "input": text, "output": ""},
            {"prompt": text, "completion": ""},
            {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": ""}]},
            {"prompt": "", "completion": text},
        ]
        assert read(json.dumps(shapes), None).pages == (0, 1, 2, 3, 4)

    @pytest.mark.parametrize(
        ("count", "pages"), [(1, 1), (PAGE_ROWS, 1), (PAGE_ROWS + 1, 2), (2 * PAGE_ROWS, 2), (2 * PAGE_ROWS + 1, 3)]
    )
    def test_short_rows_fill_pages(self, count, pages):
        assert len(read(json.dumps(ROWS[:1] * count), None).pages) == pages


class TestTheOpenedFile:
    def test_it_stands_before_the_text(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text('{"instruction": "a", "output": "b"}')
        assert read(TEXT, str(path)).data.train[0].instruction == "a"
        assert read(TEXT, None).data == parse_examples(TEXT)

    def test_a_mask_by_hand_is_kept_with_it_too(self, ui, values, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text("\n".join(map(json.dumps, ROWS)))
        changed = values(examples="Dear diary", opened=str(path))
        marked = ui.masking.toggle(changed, event(row=0, tokens=[3], trained=True))
        assert 3 in trained(rows_of(ui, changed | {ui.desk.session.masks: marked})[0])


class TestByHand:
    def toggled(self, ui, before: dict, row: int, tokens: list[int], to: bool) -> dict:
        """The inputs after tokens were marked."""
        masks = ui.masking.toggle(before, event(row=row, tokens=tokens, trained=to))
        return before | {ui.desk.session.masks: masks}

    @pytest.fixture
    def marked(self, ui, values) -> dict:
        """The inputs after token 2 of row 0 was marked."""
        return self.toggled(ui, values(), 0, [2], True)

    def test_edits_are_taken_back_one_by_one(self, ui, values):
        session, before = ui.desk.session, values()
        after = before
        for row, tokens in ((0, [2]), (1, [3])):
            after = after | ui.edits.toggle(after, event(row=row, part=0, tokens=tokens, trained=True))
        marked = after[session.masks]
        after = after | ui.edits.reset(after, event(row=0))
        assert [len(after[name]) for name in (session.masks, session.edits)] == [2, 3]
        after = after | ui.edits.undo(after[session.edits])
        assert after[session.masks] == marked
        for _ in range(2):
            after = after | ui.edits.undo(after[session.edits])
        assert (after[session.masks], after[session.edits]) == ({}, [])
        assert ui.edits.undo([]) == {session.masks: SKIP}
        gone = ui.edits.toggle(before | {ui.desk.controls.examples: "?"}, event(row=0, tokens=[2], trained=True))
        assert gone == {session.masks: SKIP}  # there is nothing to take back

    def test_training_a_token_and_ignoring_another(self, ui, values):
        usual = rows_of(ui, values())
        after = self.toggled(ui, values(), 0, [2], True)
        first, second = rows_of(ui, after)
        assert trained(first) == trained(usual[0]) | {2}
        assert (first["hand"], first["trained"]) == (True, usual[0]["trained"] + 1)
        assert second == usual[1]
        last = max(trained(usual[0]))
        again = rows_of(ui, self.toggled(ui, after, 0, [last, last - 1], False))[0]
        assert trained(again) == trained(first) - {last, last - 1}

    def test_the_tokens_and_the_other_rows_stay(self, ui, values):
        before, after = rows_of(ui, values()), rows_of(ui, self.toggled(ui, values(), 1, [1, 2], True))
        assert after[0] == before[0]
        for field in (0, 1, 2, 4):
            assert [token[field] for token in after[1]["tokens"]] == [token[field] for token in before[1]["tokens"]]

    def test_several_rows_one_after_the_other(self, ui, values):
        after = self.toggled(ui, self.toggled(ui, values(), 0, [2], True), 1, [3], True)
        assert [row["hand"] for row in rows_of(ui, after)] == [True, True]

    def test_the_masks_before_are_not_changed(self, ui, marked):
        """Gradio would not notice a change in place."""
        kept = dict(marked[ui.desk.session.masks])
        self.toggled(ui, marked, 1, [3], True)
        ui.masking.reset(marked, event(row=0))
        assert marked[ui.desk.session.masks] == kept

    def test_back_to_the_usual_mask(self, ui, values, marked):
        masks = ui.masking.reset(marked, event(row=0))
        assert drawn(ui, values(masks=masks)) == drawn(ui, values())
        assert ui.desk.data(values(masks=masks)) == ui.desk.data(values())

    def test_back_to_the_usual_mask_also_where_the_file_brought_one(self, ui, values, marked):
        (usual, _) = rows_of(ui, values())
        text = Path(made(ui, ui.masking.export(marked))).read_text()
        brought = values(examples=text)
        assert rows_of(ui, brought)[0]["hand"]
        masks = ui.masking.reset(brought, event(row=0))
        assert rows_of(ui, values(examples=text, masks=masks))[0] == usual

    def test_the_mask_goes_with_the_example_when_rows_move(self, ui, marked):
        expected = trained(rows_of(ui, marked)[0])
        moved = [{"instruction": "New", "output": "first"}, ROWS[1], ROWS[2], ROWS[0]]
        rows = rows_of(ui, marked | {ui.desk.controls.examples: json.dumps(moved)})
        assert [row["hand"] for row in rows] == [False, False, True]
        assert (rows[2]["row"], trained(rows[2])) == (3, expected)

    def test_it_survives_rows_that_go_and_come_back(self, ui, marked):
        assert not rows_of(ui, marked | {ui.desk.controls.examples: json.dumps(ROWS[1:])})[0]["hand"]
        assert rows_of(ui, marked)[0]["hand"]

    def test_it_stays_when_settings_change_and_max_length_cuts_it(self, ui, marked):
        for name, value in (("max_length", 10), ("batch_size", 1), ("steps", 50), ("turns", "last")):
            row = rows_of(ui, marked | {getattr(ui.desk.controls, name): value})[0]
            assert row["hand"], name
            assert 2 in trained(row), name

    def test_what_max_length_cut_off_is_still_trained_once_it_comes_back(self, ui, values):
        """The row was marked while its end was cut off."""
        usual = trained(rows_of(ui, values())[0])
        short = self.toggled(ui, values(max_length=10), 0, [2], True)
        assert trained(rows_of(ui, short | {ui.desk.controls.max_length: 128})[0]) == usual | {2}

    def test_under_another_template_the_usual_mask_is_used_and_the_audit_refuses(self, ui, marked):
        other = marked | {ui.desk.controls.template: "custom", ui.desk.controls.custom: "Q: {instruction}\n"}
        row = rows_of(ui, other)[0]
        assert not row["hand"]
        assert row["flags"][0][0] == "error"
        assert row["flags"][0][1].startswith("a hand-made mask belongs to another text")
        *_, scan = scanned(ui, other)
        assert scan.checks == ["mask_not_used"]
        assert not scan.train["interactive"]

    def test_twins_have_one_mask(self, ui, values):
        """Two rows that say the same are one example to the masks."""
        rows = rows_of(ui, self.toggled(ui, values(examples=json.dumps(ROWS[:1] * 2)), 1, [2], True))
        assert [row["hand"] for row in rows] == [True, True]

    def test_the_run_gets_it(self, ui, marked):
        data = ui.desk.data(marked)
        assert [bool(example.masks) for example in data.train] == [True, False]
        assert list(map(content_of, data.train)) == list(map(content_of, parse_examples(TEXT).train))
        examples, _ = Masker(ui.desk.view(marked).tokenizer, get_template("instruction"), 128).tokenize(data.train)
        for example, row in zip(examples, rows_of(ui, marked), strict=True):
            assert {index for index, label in enumerate(example.labels) if label != -100} == trained(row)

    def test_the_button_counts_it(self, ui, values):
        after = values()
        for row in (0, 1):
            after = self.toggled(ui, after, row, list(range(100)), False)
        *_, scan = scanned(ui, after)
        assert "0 trained" in scan.totals["summary"]
        assert (scan.train["interactive"], scan.train["value"]) == (False, "Nothing to train yet")
        *_, scan = scanned(ui, self.toggled(ui, after, 1, [4], True))
        assert "1 trained" in scan.totals["summary"]
        assert scan.checks[0] == "nothing_trained"
        assert scan.audit["findings"][0]["rows"] == [0]


class TestExport:
    def test_what_is_written_reads_back_as_what_is_drawn(self, ui, values):
        masks = ui.masking.toggle(values(), event(row=0, tokens=[2, 3], trained=True))
        update = ui.masking.export(values(masks=masks))
        path = Path(made(ui, update))
        assert path.name == "examples.jsonl"
        assert update["visible"]
        assert update["label"] == "Download the examples with 1 mask made by hand"
        records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert [record.pop("mask", None) is not None for record in records] == [True, False, False]
        assert records == ROWS
        text = path.read_text(encoding="utf-8")
        assert rows_of(ui, values(examples=text)) == rows_of(ui, values(masks=masks))
        assert not parse_examples(text).problems

    def test_several_masks(self, ui, values):
        masks = ui.masking.toggle(values(), event(row=0, tokens=[2], trained=True))
        masks = ui.masking.toggle(values(masks=masks), event(row=1, tokens=[2], trained=True))
        assert ui.masking.export(values(masks=masks))["label"] == "Download the examples with 2 masks made by hand"

    def test_without_a_mask_there_is_nothing_to_download(self, ui, values):
        masks = ui.masking.toggle(values(), event(row=0, tokens=[2], trained=True))
        masks = ui.masking.reset(values(masks=masks), event(row=0))
        assert not ui.masking.export(values(masks=masks))["visible"]

    def test_text_that_cannot_be_read(self, ui, values):
        with pytest.raises(DataError):
            ui.desk.data(values(examples="Dear diary"))


@pytest.mark.parametrize(
    "changed",
    [{"examples": ""}, {"examples": json.dumps(ROWS[:1])}, {"examples": json.dumps(ROWS[2:])}, {"model": "no/model"}],
    ids=["no text", "no such row", "no row", "no model"],
)
def test_clicks_that_come_too_late_change_nothing(ui, values, changed):
    """The text was edited between the click and its arrival, so that its last row is gone."""
    masks = ui.masking.toggle(values(), event(row=0, tokens=[2], trained=True))
    late = values(masks=masks, **changed)
    assert ui.masking.toggle(late, event(row=1, tokens=[2], trained=True)) in (masks, SKIP)
    assert ui.masking.reset(late, event(row=1)) in (masks, SKIP)
