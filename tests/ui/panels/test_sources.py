"""Where examples come from: samples, files, the Hub; and which of their columns are the prompt and the answer."""

from __future__ import annotations

import gzip
import json
import threading

import gradio as gr
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from desk import EVIL, ROWS, SKIP, TEXT, drawn, event, named, parts

from sftdemo.core.errors import DataError
from sftdemo.data.files import FILE_TYPES
from sftdemo.data.hub import FetchedRows, HubSource
from sftdemo.data.samples import SAMPLES
from sftdemo.ui import reading, state
from sftdemo.ui.panels.columns import chosen

ODD = [{"Frage": f"Was ist {row}?", "Antwort": f"Eine Zahl, {row}.", "id": row} for row in range(30)]
ODD_TEXT = "\n".join(map(json.dumps, ODD))

SOURCE = ("examples", "opened", "page", "card", "columns", "session_only", "hub_status", "sample")


class TestSources:
    def shown_text(self, ui, updates: dict) -> dict:
        """The text box, which is shown in place of an opened file, under the name of its sample, if it is one."""
        box, opened, page, card, *_, sample = parts(ui, updates, *SOURCE)
        assert (box["visible"], opened, page, card["visible"]) == (True, None, 0, False)
        own = (each.name for each in SAMPLES if each.path.read_text(encoding="utf-8") == box.get("value"))
        assert sample == (gr.update(value=next(own, None)) if "value" in box else None)
        return box

    def test_a_sample_comes_as_text(self, ui):
        box = self.shown_text(ui, ui.opening.take_sample(SAMPLES[1].name))
        assert box["value"] == SAMPLES[1].path.read_text(encoding="utf-8")

    def test_the_menu_brings_a_sample_where_another_text_stands(self, ui):
        """It changes as well when a sample, a file or a link is opened, which it follows."""
        sample = SAMPLES[1]
        own = sample.path.read_text(encoding="utf-8")
        for text, opened in (("mine", None), ("", None), (own, "file.csv")):
            assert self.shown_text(ui, ui.opening.change_sample(sample.name, text, opened))["value"] == own
        for name, text in ((sample.name, own), (None, "mine")):
            assert all(update == SKIP for update in ui.opening.change_sample(name, text, None).values())

    def test_a_short_file_goes_into_the_text_box(self, ui, tmp_path):
        (tmp_path / "mine.csv").write_text("\ufeffinstruction,output\na,b\n", encoding="utf-8")
        box = self.shown_text(ui, ui.opening.open_file(str(tmp_path / "mine.csv")))
        assert box["value"] == "instruction,output\na,b\n"

    @pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le"])
    def test_a_text_in_another_encoding_or_compressed_goes_there_as_well(self, ui, tmp_path, encoding):
        (tmp_path / "mine.csv").write_text("instruction,output\na,é\n", encoding=encoding)
        (tmp_path / "mine.gz").write_bytes(gzip.compress((tmp_path / "mine.csv").read_bytes()))
        for name in ("mine.csv", "mine.gz"):
            box = self.shown_text(ui, ui.opening.open_file(str(tmp_path / name)))
            assert box["value"] == "instruction,output\na,é\n"

    def test_a_table_stays_a_file(self, ui, values, tmp_path):
        path = tmp_path / "mine.parquet"
        pq.write_table(pa.Table.from_pylist(ROWS[:2]), path)
        box, opened, page, card, *_, sample, status = parts(ui, ui.opening.open_file(str(path)), *SOURCE, "status")
        assert sample["value"] is None
        assert "value" not in box
        assert (box["visible"], opened, page, card["visible"]) == (False, str(path), 0, True)
        assert json.loads(status)["title"] == f"mine.parquet: 2 rows, {path.stat().st_size / 1000:.1f} kB"
        assert json.loads(status)["detail"] == "a table, not a text to be edited here"
        assert (
            drawn(ui, values(opened=opened))[0]["rows"] == drawn(ui, values(examples=json.dumps(ROWS[:2])))[0]["rows"]
        )

    def test_another_format_is_named(self, ui, tmp_path):
        (tmp_path / "mine.txt").write_bytes(b"%PDF-1.7")
        with pytest.raises(gr.Error, match=r"^'mine\.txt is a PDF file\."):
            ui.opening.open_file(str(tmp_path / "mine.txt"))

    def test_the_button_offers_every_format(self, ui):
        assert ui.masking.sources.upload.file_types == [*FILE_TYPES]

    def test_a_long_file_does_not(self, ui, values, tmp_path):
        row = {"instruction": "Say hello", "output": "Hello " * 100}
        path = tmp_path / "long.jsonl"
        path.write_text(f"{json.dumps(row)}\n" * 1000 + '{"instruction": "a"}\n')
        assert path.stat().st_size > state.EDITABLE
        box, opened, page, card, *_, sample, status = parts(ui, ui.opening.open_file(str(path)), *SOURCE, "status")
        assert sample["value"] is None
        assert "value" not in box
        assert (box["visible"], opened, page, card["visible"]) == (False, str(path), 0, True)
        assert json.loads(status)["title"] == "long.jsonl: 1,001 rows, 0.6 MB"
        mask, *_ = drawn(ui, values(opened=opened))
        assert mask["total"] == 1000
        assert mask["problems"][0]["words"].startswith("row 1000 (line 1001)")

        assert "value" not in self.shown_text(ui, ui.opening.close())  # the text is as it was

    def test_just_as_long_as_may_be_edited(self, ui, tmp_path, monkeypatch):
        path = tmp_path / "rows.json"
        path.write_text(TEXT)
        monkeypatch.setattr("sftdemo.ui.panels.sources.EDITABLE", len(TEXT))
        assert named(ui, ui.opening.open_file(str(path)))["examples"]["value"] == TEXT
        monkeypatch.setattr("sftdemo.ui.panels.sources.EDITABLE", len(TEXT) - 1)
        assert named(ui, ui.opening.open_file(str(path)))["opened"] == str(path)

    @pytest.mark.parametrize(
        ("name", "content", "says"),
        [
            ("bad.json", b'[{"instruction": "\xff"}]', "bad.json is not UTF-8"),
            ("diary.csv", b"Dear diary", "neither JSON nor CSV"),
            ("empty.jsonl", b"", "no examples yet"),
        ],
    )
    def test_one_that_cannot_be_read_is_named_without_its_folder(self, ui, tmp_path, name, content, says):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(gr.Error, match=says) as error:
            ui.opening.open_file(str(tmp_path / name))
        assert str(tmp_path) not in error.value.message


class TestColumns:
    def shown(self, ui, values) -> dict:
        panel = ui.opening.sources.columns
        updates = ui.masking.draw(values)
        return {name: updates.get(part) for name, part in vars(panel).items()}

    def test_they_are_asked_for_and_the_mask_follows(self, ui, values):
        shown = self.shown(ui, values(examples=ODD_TEXT))
        assert shown["card"]["visible"]
        assert (shown["prompt"]["value"], shown["answer"]["value"], shown["how"]) == ("Frage", "Antwort", "template")
        assert shown["prompt"]["choices"] == ["Frage", "Antwort", "id"]
        preview = json.loads(shown["preview"])
        assert preview["rows"][2] == {"row": 2, "prompt": "Was ist 2?", "answer": "Eine Zahl, 2."}
        assert len(preview["rows"]) == 3
        mask, _, command = drawn(ui, values(examples=ODD_TEXT))
        assert (len(mask["rows"]), mask["problems"]) == (30, [])
        assert command.startswith("python -m sftdemo train data.jsonl --columns instruction=Frage output=Antwort")

    def test_refused_on_request(self, ui, values):
        columns = chosen("Frage", "Antwort", "refused")
        shown = self.shown(ui, values(examples=ODD_TEXT, columns=columns))
        assert not shown["prompt"]["interactive"]
        assert json.loads(shown["preview"])["rows"] == []
        (group,) = drawn(ui, values(examples=ODD_TEXT, columns=columns))[0]["problems"]
        assert group["count"] == 30

    def test_beside_an_error_they_can_still_be_chosen(self, ui, values):
        csv = "Frage,Antwort\na,b\n"
        shown = self.shown(ui, values(examples=csv, columns=chosen("Frage", None, "template")))
        assert shown["card"]["visible"]
        assert (
            "neither JSON nor CSV"
            in drawn(ui, values(examples=csv, columns=chosen("Frage", None, "template")))[0]["message"]
        )

    def test_known_columns_hide_the_card(self, ui, values):
        for text in (TEXT, "Dear diary", ""):
            assert self.shown(ui, values(examples=text))["card"] == gr.update(visible=False)

    def test_the_run_gets_them(self, ui, values):
        given = values(examples=ODD_TEXT, columns=chosen("Antwort", "Frage", "template"))
        assert ui.desk.data(given).train[0].completion == "Was ist 0?"

    def test_another_source_forgets_them(self, ui):
        assert named(ui, ui.opening.take_sample(SAMPLES[1].name))["columns"] is None

    @pytest.mark.parametrize("evil", EVIL)
    def test_their_names_and_texts_stay_text(self, ui, values, evil):
        shown = self.shown(ui, values(examples=json.dumps([{evil: evil, "b": evil}] * 2)))
        assert json.loads(shown["preview"])["rows"][0] == {"row": 0, "prompt": evil, "answer": evil}


class TestCommand:
    def test_a_file_that_is_open_is_named(self, ui, values, tmp_path):
        path = tmp_path / "my faq.csv"
        path.write_text("Frage,Antwort\na,b\n")
        command, says = ui.desk.command(values(), ui.desk.controls.config(values()))
        assert (command.split()[4], says) == ("examples.jsonl", "the download holds examples.jsonl")
        given = values(opened=str(path))
        command, _ = ui.desk.command(given, ui.desk.controls.config(given), (0.0, 1.0))
        assert command.startswith("python -m sftdemo ablate 'my faq.csv' --columns instruction=Frage output=Antwort")

    def test_masks_by_hand_are_in_the_download_alone(self, ui, values):
        marked = ui.masking.toggle(values(examples=ODD_TEXT), event(row=0, tokens=[2], trained=True))
        given = values(examples=ODD_TEXT, masks=marked)
        command, says = ui.desk.command(given, ui.desk.controls.config(given))
        assert "--columns" not in command
        assert says == "the download holds examples.jsonl"


class TestHub:
    COMMIT = "c" * 40

    @pytest.fixture(autouse=True)
    def hub(self, monkeypatch):
        """The Hub with one data set of 30 rows."""

        def fetch(source, limit, token):
            if source != "hub:a/b[test]":
                raise DataError(f"{source} is not there.")
            records = tuple((row, None, record) for row, record in enumerate(ODD))
            return FetchedRows(HubSource("a/b", revision=self.COMMIT, split="test"), limit, records, ())

        monkeypatch.setattr(reading, "fetch_rows", fetch)

    @pytest.mark.parametrize("name", ["a/b[test]", " hub:a/b[test] "])
    def test_it_takes_the_place_of_the_text(self, ui, values, name):
        first, *_, last = ui.opening.open_hub(name)
        status, button = parts(ui, first, "hub_status", "open_hub")
        assert json.loads(status)["state"] == "working"
        assert not button["interactive"]
        last = named(ui, last)
        assert last["opened"] == f"hub:a/b@{self.COMMIT}[test]"
        assert json.loads(last["status"])["title"] == "a/b[test]: all 30 rows"
        assert json.loads(last["status"])["detail"] == "a data set on the Hub, at commit cccccccccccc"
        assert (last["examples"], last["card"]["visible"]) == ({"visible": False, "__type__": "update"}, True)
        assert last["open_hub"]["interactive"]
        mask, _, command = drawn(ui, values(opened=last["opened"]))
        assert len(mask["rows"]) == 30
        source = f"'hub:a/b@{self.COMMIT}[test]' --limit 1000 --columns instruction=Frage output=Antwort"
        assert command.startswith(f"python -m sftdemo train {source}")

    def test_its_first_rows_where_there_are_more(self, ui, monkeypatch):
        monkeypatch.setattr("sftdemo.ui.panels.sources.FIRST_ROWS", 30)
        *_, last = ui.opening.open_hub("a/b[test]")
        assert json.loads(named(ui, last)["status"])["title"].endswith(": the first 30 rows")

    @pytest.mark.parametrize("name", ["x/y", "", None])
    def test_an_error_stands_at_the_field_and_changes_nothing_else(self, ui, name):
        *_, last = ui.opening.open_hub(name)
        status, button = parts(ui, last, "hub_status", "open_hub")
        assert json.loads(status)["state"] == "failed"
        assert "is not there" in json.loads(status)["title"]
        assert button["interactive"]

    def test_choosing_something_else_ends_the_reading(self, ui):
        """A sample that is chosen by the keyboard is told as a change alone."""
        (reading,) = [fn for fn in ui.blocks.fns.values() if fn.fn == ui.opening.open_hub]
        ends = [target for fn in ui.blocks.fns.values() if reading._id in fn.cancels for target in fn.targets]
        sources = ui.opening.sources
        assert {(sources.sample._id, "select"), (sources.sample._id, "change")} <= set(ends)
        assert {(sources.upload._id, "upload"), (sources.close._id, "click")} <= set(ends)
        button, status = parts(ui, ui.opening.end_reading(), "open_hub", "hub_status")
        assert button["interactive"]
        assert json.loads(status)["state"] == "idle"

    def test_progress_is_told_while_it_is_read(self, ui, monkeypatch):
        go_on = threading.Event()

        def fetch(source, limit, token):
            go_on.wait()
            raise DataError("late.")

        monkeypatch.setattr(reading, "fetch_rows", fetch)
        monkeypatch.setattr("sftdemo.ui.panels.sources.LOOK", 0.01)
        opening = ui.opening.open_hub("a/b")
        states = [json.loads(named(ui, next(opening))["hub_status"])["state"] for _ in range(3)]
        go_on.set()
        *_, last = opening
        assert states == ["working"] * 3
        assert json.loads(named(ui, last)["hub_status"])["state"] == "failed"
