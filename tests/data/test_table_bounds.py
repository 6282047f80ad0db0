"""A few bytes of a table that stand for many are refused in a sentence, before they are written out."""

from __future__ import annotations

import tracemalloc

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sftdemo.core.errors import DataError
from sftdemo.data.examples import read_examples
from sftdemo.data.files import read_file
from sftdemo.data.table_bounds import bytes_of, parquet_batches

LONG = "a" * 2_000_000
ZEROS = pa.array([0] * 200, pa.int32())


def dictionary() -> pa.DictionaryArray:
    return pa.DictionaryArray.from_arrays(ZEROS, pa.array([LONG]))


# what stands for 400 MB or more, by how it does
BOMBS = {
    "a dictionary": dictionary,
    "a dictionary in lists": lambda: pa.ListArray.from_arrays(pa.array([0, 200], pa.int32()), dictionary()),
    "a dictionary in objects": lambda: pa.StructArray.from_arrays([dictionary()], ["content"]),
    "a run": lambda: pa.RunEndEncodedArray.from_arrays(pa.array([200], pa.int32()), pa.array([LONG])),
    "a view of lists": lambda: pa.ListViewArray.from_arrays(ZEROS, pa.array([1] * 200, pa.int32()), pa.array([LONG])),
}


def written(path, column: pa.Array) -> None:
    table = pa.table({"instruction": column, "output": ["b"] * len(column)})
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)


@pytest.mark.parametrize("name", BOMBS)
def test_an_arrow_file(tmp_path, name):
    written(tmp_path / "rows.arrow", BOMBS[name]())
    tracemalloc.start()
    with pytest.raises(
        DataError, match=r"rows\.arrow, in row 0 or behind, holds [\d,]+ bytes that stand for [\d,]+ in"
    ):
        read_examples(tmp_path / "rows.arrow")
    assert tracemalloc.get_traced_memory()[1] < 100_000_000
    tracemalloc.stop()


@pytest.mark.thorough
def test_on_a_public_page_it_is_read_apart_first(tmp_path, monkeypatch):
    """What pyarrow itself decompresses without a bound."""
    monkeypatch.setenv("SPACE_ID", "someone/sftdemo")
    written(tmp_path / "good.arrow", pa.array(["a", "c"]))
    assert len(read_examples(tmp_path / "good.arrow").train) == 2
    table = pa.table({"instruction": ["a" * 10_000_000] * 100, "output": ["b"] * 100})
    pq.write_table(table, tmp_path / "bad.parquet", compression="zstd", use_dictionary=False)
    zstd = pa.ipc.IpcWriteOptions(compression="zstd")
    with pa.OSFile(str(tmp_path / "bad.arrow"), "wb") as file, pa.ipc.new_stream(file, table.schema, options=zstd) as w:
        w.write_table(table)
    for name in ("bad.parquet", "bad.arrow"):
        assert (tmp_path / name).stat().st_size < 1_000_000
        with pytest.raises(DataError, match=r"cannot be read as .*: (it takes too much memory|.*malloc).*JSON Lines"):
            read_examples(tmp_path / name)


def test_what_is_written_out_counts(tmp_path):
    short = pa.DictionaryArray.from_arrays(pa.array([0, 1, 0], pa.int32()), pa.array(["abc", "d"]))
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["abc", "d"]))
    views = pa.array(["abc", "d" * 20, "e"], pa.string_view())
    for column, size in ((short, 7), (runs, 7), (views, 24)):
        batch = pa.record_batch({"a": column})
        assert bytes_of(batch, "") == max(batch.nbytes, size)
        written(tmp_path / "rows.arrow", column)
        assert [row.instruction for row in read_examples(tmp_path / "rows.arrow").train] == column.to_pylist()


def test_parquet_is_read_in_smaller_pieces(tmp_path):
    held = "b" * 5_000_000
    places, value = pa.array([0] * 8, pa.int32()), pa.array([held])
    flat = pa.DictionaryArray.from_arrays(places, value)
    table = pa.table({"instruction": flat, "m": pa.array([[{"c": held}]] * 8), "output": ["x"] * 8})
    pq.write_table(table, tmp_path / "rows.parquet", compression="zstd")
    rows, dictionaries = parquet_batches(pq.read_metadata(tmp_path / "rows.parquet"), 256)
    assert (200 < rows < 256, dictionaries) == (True, ["m.list.element.c"])
    records = [record for _, _, record in read_file(tmp_path / "rows.parquet", 10**9)]
    assert records == [{"instruction": held, "m": [{"c": held}], "output": "x"}] * 8
