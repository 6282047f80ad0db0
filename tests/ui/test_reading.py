"""What is read: text, files and the Hub's rows, and columns that no shape has."""

from __future__ import annotations

import json

import pytest

from sftdemo.core.errors import DataError
from sftdemo.data.hub import FetchedRows, HubSource
from sftdemo.ui import reading
from sftdemo.ui.reading import REFUSED, TEMPLATE, UNCHANGED, ColumnChoice, choice_for, read, text_of_row

ODD = [{"Frage": f"Was ist {row}?", "Antwort": f"Eine Zahl, {row}.", "id": row} for row in range(30)]
LINES = "\n".join(map(json.dumps, ODD))
CSV = "Frage,Antwort\n" + "".join(f'{row["Frage"]},"{row["Antwort"]}"\n' for row in ODD)
COLUMNS = {"instruction": "Frage", "output": "Antwort"}


def chosen(prompt, answer, how=TEMPLATE) -> dict:
    return {"prompt": prompt, "answer": answer, "how": how}


class TestColumns:
    @pytest.mark.parametrize("text", [LINES, json.dumps(ODD), CSV], ids=["lines", "array", "csv"])
    def test_unknown_ones_are_guessed_and_read(self, text):
        found = read(text, None)
        assert found.choice
        assert found.choice.columns == COLUMNS
        assert [(each.instruction, each.completion) for each in found.data.train[:1]] == [
            ("Was ist 0?", "Eine Zahl, 0.")
        ]
        assert (len(found.data.train), found.data.problems) == (30, ())

    def test_of_a_file_too(self, tmp_path):
        path = tmp_path / "faq.csv"
        path.write_text(CSV)
        assert len(read("", str(path)).data.train) == 30

    def test_what_is_chosen_counts(self):
        found = read(LINES, None, chosen("Antwort", "Frage", UNCHANGED))
        assert found.data.train[0].prompt == "Eine Zahl, 0."
        assert found.data.train[0].completion == "Was ist 0?"

    @pytest.mark.parametrize(
        "choice", [chosen("Frage", "Antwort", REFUSED), chosen("Frage", "Frage"), chosen(None, "Frage")]
    )
    def test_until_both_are_chosen_all_rows_are_refused(self, choice):
        found = read(LINES, None, choice)
        assert found.choice
        assert found.choice.names == ("Frage", "Antwort", "id")
        assert (len(found.data.train), len(found.data.problems)) == (0, 30)
        with pytest.raises(DataError, match="neither JSON nor CSV with known columns"):
            read(CSV, None, choice)
        assert choice_for(CSV, None, choice)

    def test_a_choice_for_other_columns_gives_way_to_a_guess(self):
        assert read(LINES, None, chosen("q", "a")).choice == ColumnChoice(
            ("Frage", "Antwort", "id"), "Frage", "Antwort"
        )

    def test_known_columns_are_not_asked_for(self):
        known = [{"instruction": "a", "output": "b"}] * 4
        for rows in (known, [*known, ODD[0]], [{"instruction": "a"}], [{"id": 1}, {"id": 2}]):
            assert choice_for(json.dumps(rows), None, chosen("instruction", "output")) is None

    def test_nearly_all_rows_are_enough(self):
        rows = [*ODD, {"instruction": "a", "output": "b"}]
        assert len(read(json.dumps(rows), None).data.train) == 31

    @pytest.mark.parametrize(
        "text", ["", "Dear diary", "Dear diary, it rains", "[", "a,b\nc", "a,b\n1,2,3\n", "a,b\n1,2\n1,2,3\n"]
    )
    def test_no_table_no_question(self, text):
        assert choice_for(text, None) is None


def test_a_text_whose_columns_are_known_in_part():
    rows = [{"instruction": "Say it", "said": "It"}] * 3
    assert read(json.dumps(rows), None).choice == ColumnChoice(("instruction", "said"), "instruction", "said")
    assert read(json.dumps(rows), None).data.train[0].completion == "It"


class TestHub:
    SOURCE = HubSource("a/b", revision="c" * 40)

    @pytest.fixture
    def asked(self, monkeypatch):
        """The Hub with one data set, and what it was asked for."""
        calls = []

        def fetch(source, limit, token):
            calls.append((source, limit, token))
            records = tuple((row, None, record) for row, record in enumerate(ODD))
            return FetchedRows(self.SOURCE, limit, records, ("a note",))

        monkeypatch.setattr(reading, "fetch_rows", fetch)
        monkeypatch.setattr(reading, "_fetched", type(reading._fetched)())
        reading._hub.cache_clear()
        return calls

    def test_it_is_read_once_whatever_the_columns(self, asked):
        rows = reading.fetch_hub("hub:a/b")
        for choice in (None, chosen("Antwort", "Frage")):
            found = read("the text", str(rows.source), choice)
            assert len(found.data.train) == 30
        assert found.data.origin
        assert found.data.origin.columns == {"instruction": "Antwort", "output": "Frage"}
        assert asked == [("hub:a/b", 1000, None)]

    def test_what_is_no_longer_kept_is_read_again(self, asked):
        assert len(read("", str(self.SOURCE)).data.train) == 30
        assert asked == [(str(self.SOURCE), 1000, None)]

    def test_a_public_page_asks_without_a_token(self, asked, monkeypatch):
        monkeypatch.setenv("SPACE_ID", "some/space")
        reading.fetch_hub("hub:a/b")
        assert asked == [("hub:a/b", 1000, False)]

    def test_a_row_of_it(self, asked):
        assert json.loads(text_of_row("", str(self.SOURCE), 3, None)) == ODD[3]


class TestTextOfRow:
    def test_a_line_or_a_record(self, tmp_path):
        path = tmp_path / "rows.jsonl"
        path.write_text(LINES)
        assert json.loads(text_of_row("", str(path), 4, 5)) == ODD[4]
        assert json.loads(text_of_row(json.dumps(ODD), None, 7, None)) == ODD[7]
        assert "Was ist 2" in text_of_row(CSV, None, 2, None)

    def test_a_long_one_is_cut(self):
        assert len(text_of_row(json.dumps([{"a": "b" * 10_000}]), None, 0, None)) == reading.ROW_SHOWN


def test_long_conversations_cost_a_public_page_no_more_than_it_allows(monkeypatch):
    """Each answer is rendered with all before it, so that the work grows with the square of a conversation."""
    talk = [{"role": role, "content": "a"} for _ in range(20) for role in ("user", "assistant")]
    text = json.dumps([{"messages": talk}, {"messages": talk, "held_out": True}, {"instruction": "a", "output": "b"}])
    messages = 2 * sum(before + before + 1 for before in range(1, 40, 2))
    monkeypatch.setenv("SFTDEMO_MAX_RENDERED", str(messages))
    assert len(read(text, None).data.train) == 2
    monkeypatch.setenv("SFTDEMO_MAX_RENDERED", str(messages - 1))
    with pytest.raises(DataError, match=r"^the conversations have 1,640 messages to render, .* limit here is 1,639 "):
        read(text, None)
