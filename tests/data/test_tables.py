from __future__ import annotations

import datetime
import decimal
import io
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sftdemo.core.errors import DataError
from sftdemo.data import examples
from sftdemo.data.examples import StreamedExamples, open_examples, read_examples
from sftdemo.data.files import TooLarge, read_file
from sftdemo.data.records import Refused

ROW = {"instruction": "a", "output": "b"}


def records(table: pa.Table, tmp_path, limit: int = 10**6) -> list:
    pq.write_table(table, tmp_path / "rows.parquet")
    return [record for _, _, record in read_file(tmp_path / "rows.parquet", limit)]


@pytest.mark.parametrize("kind", ["parquet", "folder"])
def test_values_of_arrows_json_are_what_their_text_says(kind, tmp_path):
    """`datasets` writes objects of unlike keys in this way; a null in them was written by somebody."""
    from datasets import Dataset, Features, Json, List, Value

    features = Features({"deep": {"calls": List(Json()), "name": Value("string")}, "flat": Json()})
    written = [
        {"deep": {"calls": [{"x": None}, [1], "a"]}, "flat": {"z": "1"}},
        {"deep": {"name": "b"}, "flat": [None]},
        {"flat": 1},
    ]
    empty = {"calls": None, "name": None}
    rows = [{"deep": empty | row["deep"] if "deep" in row else None, "flat": row["flat"]} for row in written]
    data = Dataset.from_list(rows, features=features)
    path = tmp_path / kind
    data.save_to_disk(path) if kind == "folder" else data.to_parquet(path)
    assert [record for _, _, record in read_file(path)] == written


class TestValues:
    def test_null_is_left_out_as_in_a_row_without_the_key(self, tmp_path):
        rows = [
            ROW,
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [{"a": 1}]}]},
            ROW | {"held_out": True},
        ]
        assert records(pa.Table.from_pylist(rows, schema=_schema(rows)), tmp_path) == rows

    def test_what_json_does_not_have_is_its_text(self, tmp_path):
        values = {
            "date": datetime.datetime(2024, 1, 2, tzinfo=datetime.UTC),
            "price": decimal.Decimal("1.50"),
            "bytes": "é".encode(),
            "deep": [{"day": datetime.date(2024, 1, 2)}],
            "number": 1,
        }
        (found,) = records(pa.Table.from_pylist([values]), tmp_path)
        assert found == {
            "date": "2024-01-02 00:00:00+00:00",
            "price": "1.50",
            "bytes": "é",
            "deep": [{"day": "2024-01-02"}],
            "number": 1,
        }
        json.dumps(found)

    def test_bytes_that_are_no_text(self, tmp_path):
        table = pa.Table.from_pylist([ROW | {"image": {"bytes": b"\xff\xd8"}}, ROW | {"output": None}])
        table = table.append_column("raw", pa.array([None, b"\xff"]))
        pq.write_table(table, tmp_path / "rows.parquet")
        parsed = read_examples(tmp_path / "rows.parquet")
        assert len(parsed.train) == 1
        assert parsed.notes == ("columns not used: 'image' (1 row).",)
        pq.write_table(pa.table({"instruction": ["a"], "output": [b"\xff"]}), tmp_path / "rows.parquet")
        (problem,) = read_examples(tmp_path / "rows.parquet").problems
        assert str(problem) == 'row 0: "output" is 1 bytes that are no text; write a string: "output": "…".'

    @pytest.mark.parametrize(
        ("kind", "value", "reason"),
        [
            (pa.date32(), 10**7, "date value out of range"),
            (pa.timestamp("us", tz="Mars/Olympus"), 0, "'Mars/Olympus'"),
        ],
    )
    def test_what_python_cannot_hold(self, kind, value, reason, tmp_path):
        when = pa.array([None, value], kind)
        pq.write_table(pa.table({"instruction": ["a", "b"], "output": ["c", "d"], "when": when}), tmp_path / "rows")
        parsed = read_examples(tmp_path / "rows")
        assert [row.completion for row in parsed.train] == ["c", "d"]
        assert parsed.notes[0].startswith("columns not used: 'when' (1 row")
        pq.write_table(pa.table({"instruction": ["a", "b"], "output": when}), tmp_path / "rows")
        assert read_examples(tmp_path / "rows").problems[1].message == (
            f'"output" is a value that Python cannot hold ({reason}); write a string: "output": "…".'
        )

    def test_maps_and_categories(self, tmp_path):
        table = pa.table(
            {
                "instruction": pa.array(["a", "a"]).dictionary_encode(),
                "x": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())),
            }
        )
        assert records(table, tmp_path) == [{"instruction": "a", "x": {"k": 1}}, {"instruction": "a"}]

    def test_nan_below_a_column_is_refused_in_its_row_alone(self, tmp_path):
        found = records(pa.table({"x": [[1.0], [float("nan")], [2.0]]}), tmp_path)
        assert [isinstance(record, Refused) for record in found] == [False, True, False]


def _schema(rows: list[dict]) -> pa.Schema:
    call = pa.struct({"a": pa.int64()})
    message = pa.struct({"role": pa.string(), "content": pa.string(), "tool_calls": pa.list_(call)})
    columns = {"instruction": pa.string(), "output": pa.string(), "messages": pa.list_(message)}
    return pa.schema(columns | {"held_out": pa.bool_()})


class TestDamage:
    def test_a_column_twice(self, tmp_path):
        pq.write_table(pa.table([["a"], ["b"], ["c"]], names=["instruction", "output", "output"]), tmp_path / "rows")
        with pytest.raises(DataError, match='the table has the column "output" twice; rename or remove one of them'):
            list(read_file(tmp_path / "rows"))

    @pytest.mark.parametrize("cut", [slice(0, 40), slice(0, -20)])
    @pytest.mark.parametrize("kind", ["Parquet", "Arrow", "an Arrow stream"])
    def test_one_that_is_cut_short(self, tmp_path, kind, cut):
        buffer, table = io.BytesIO(), pa.Table.from_pylist([ROW] * 100)
        if kind == "Parquet":
            pq.write_table(table, buffer)
        else:
            with (pa.ipc.new_file if kind == "Arrow" else pa.ipc.new_stream)(buffer, table.schema) as writer:
                writer.write_table(table)
        (tmp_path / "rows").write_bytes(buffer.getvalue()[cut])
        if kind == "an Arrow stream" and cut.stop == -20:  # only the mark of its end is missing
            return
        with pytest.raises(DataError, match=rf"rows cannot be read as {kind}, in row \d+ or behind: "):
            list(read_file(tmp_path / "rows"))

    def test_text_that_is_no_utf_8(self, tmp_path):
        damaged = pa.Array.from_buffers(
            pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")]
        )
        pq.write_table(pa.table({"output": damaged}), tmp_path / "rows")
        with pytest.raises(DataError, match=r"cannot be read as Parquet, in row 0 or behind: .*UTF8"):
            list(read_file(tmp_path / "rows"))

    def test_a_table_that_is_larger_than_its_file(self, tmp_path):
        table = pa.table({"instruction": ["a" * 1000] * 5000, "output": ["b"] * 5000})
        with pytest.raises(TooLarge, match=r"has more than 1,000,000 bytes of values, the limit"):
            records(table, tmp_path)
        assert (tmp_path / "rows.parquet").stat().st_size < 20_000


class TestFolders:
    @pytest.fixture
    def saved(self, tmp_path):
        import datasets

        data = datasets.Dataset.from_list([ROW] * 300)
        data.save_to_disk(tmp_path / "one")
        datasets.DatasetDict({"train": data, "test": data.select([0])}).save_to_disk(tmp_path / "two")
        datasets.DatasetDict({"dev": data, "test": data}).save_to_disk(tmp_path / "neither")
        return tmp_path

    def test_a_data_set(self, saved):
        parsed = read_examples(saved / "one")
        assert [example.row for example in parsed.train] == [*range(300)]

    def test_of_splits_train_is_read_and_the_others_told(self, saved):
        parsed = read_examples(saved / "two")
        assert len(parsed.train) == 300
        assert parsed.notes == ("of the splits, train is read; the others are two/test.",)
        assert len(read_examples(saved / "two" / "test").train) == 1

    def test_without_train_one_is_to_be_named(self, saved):
        with pytest.raises(DataError, match=r"has the splits dev, test; name one: .*neither/dev"):
            read_examples(saved / "neither")

    def test_any_other_folder(self, tmp_path):
        with pytest.raises(DataError, match=r"cannot be read: it is a folder\. Name a file in it"):
            read_examples(tmp_path)

    def test_above_the_limit_it_stays_on_the_disk(self, saved, monkeypatch):
        monkeypatch.setattr(examples, "MAX_BYTES", 1000)
        opened = open_examples(saved / "two")
        assert isinstance(opened.train, StreamedExamples)
        assert len(opened.train) == len([*opened.train]) == 300
        assert len(opened.notes) == 1


@pytest.mark.parametrize("kind", ["parquet", "arrow", "stream"])
def test_large_tables_stay_on_the_disk(kind, tmp_path, monkeypatch):
    rows = [ROW, {"instruction": "a"}, ROW | {"held_out": True}, ROW | {"x": "1"}] * 100
    table = pa.Table.from_pylist(rows, schema=pa.schema(dict.fromkeys(["instruction", "output", "x"], pa.string())))
    table = table.append_column("held_out", pa.array([row.get("held_out") for row in rows]))
    path = tmp_path / kind
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with (pa.ipc.new_file if kind == "arrow" else pa.ipc.new_stream)(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=70)
    held = read_examples(path)
    monkeypatch.setattr(examples, "MAX_BYTES", 100)
    with pytest.raises(DataError, match="the limit is 100"):
        read_examples(path)
    opened = open_examples(path)
    assert isinstance(opened.train, StreamedExamples)
    assert tuple(opened.train) == tuple(opened.train) == held.train
    assert (opened.held_out, opened.problems, opened.notes) == (held.held_out, held.problems, held.notes)
    assert (len(opened.train), len(opened.problems), len(opened.held_out)) == (200, 100, 100)
