"""What a compressed batch comes to is known, and refused, before it is decompressed."""

from __future__ import annotations

from contextlib import suppress

import datasets
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftdemo.core.errors import DataError
from sftdemo.data import arrow_bounds
from sftdemo.data.arrow_bounds import _written_out
from sftdemo.data.examples import read_examples

LONG = ["a" * 1000] * 200
PLAIN = pa.table({"instruction": LONG, "output": ["b"] * 200})
IN_A_DICTIONARY = PLAIN.set_column(
    0, "instruction", pa.array([*"abcd", "e" * 400_000]).dictionary_encode().take([4] * 200)
)
WAYS = {"file": pa.ipc.new_file, "stream": pa.ipc.new_stream}
CELL = st.none() | st.text(max_size=40)


def written(path, table: pa.Table, way: str, compression: str | None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.OSFile(str(path), "wb") as file, WAYS[way](file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=100)


@pytest.fixture
def bounded(monkeypatch):
    """Small bounds, so that small files reach them."""
    monkeypatch.setattr(arrow_bounds, "MOST", 50_000)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("table", [PLAIN, IN_A_DICTIONARY], ids=["records", "a dictionary"])
@pytest.mark.parametrize("compression", ["lz4", "zstd"])
def test_what_comes_to_far_more_is_refused(tmp_path, bounded, way, table, compression):
    written(tmp_path / "rows.arrow", table, way, compression)
    says = r"a batch of the table has [\d,]+ bytes that come to [\d,]+ when they are decompressed; write it without"
    with pytest.raises(DataError, match=says):
        read_examples(tmp_path / "rows.arrow")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("compression", [None, "lz4", "zstd"])
def test_all_others_are_read_as_they_are(tmp_path, bounded, way, compression):
    rows = pa.table({"instruction": [f"{row * 7919 % 10_007} of {row}" for row in range(200)], "output": ["b"] * 200})
    written(tmp_path / "rows.arrow", rows, way, compression)
    assert [row.instruction for row in read_examples(tmp_path / "rows.arrow").train] == rows["instruction"].to_pylist()


def test_what_is_not_compressed_may_have_any_size(tmp_path, bounded):
    written(tmp_path / "rows.arrow", PLAIN, "file", None)
    assert len(read_examples(tmp_path / "rows.arrow").train) == 200


def test_in_a_folder_of_datasets(tmp_path, bounded):
    datasets.Dataset(PLAIN).save_to_disk(tmp_path / "rows")
    assert len(read_examples(tmp_path / "rows").train) == 200
    written(next((tmp_path / "rows").glob("*.arrow")), PLAIN, "stream", "zstd")
    with pytest.raises(DataError, match="when they are decompressed"):
        read_examples(tmp_path / "rows")


@pytest.mark.parametrize("way", WAYS)
def test_a_damaged_file_is_a_sentence(tmp_path, way):
    """Cut, or with a byte changed anywhere, it is read or refused."""
    path = tmp_path / "rows.arrow"
    written(path, PLAIN.slice(0, 3), way, "zstd")
    whole = path.read_bytes()
    for place in range(8, len(whole), 7):
        for damaged in (whole[:place], whole[:place] + b"\x80" + whole[place + 1 :]):
            path.write_bytes(damaged)
            with suppress(DataError):
                assert len(read_examples(path).train) <= 3


@given(st.lists(st.tuples(CELL, st.none() | st.integers(-9, 9), st.lists(CELL, max_size=3)), min_size=1, max_size=30))
def test_the_bytes_are_those_that_pyarrow_makes_of_it(rows):
    """Its own buffers, read back, are the oracle."""
    texts, numbers, lists = map(list, zip(*rows, strict=True))
    batch = pa.record_batch(
        {
            "texts": pa.array([text and text * 50 for text in texts], pa.string()),
            "numbers": pa.array(numbers, pa.int64()),
            "lists": pa.array(lists, pa.list_(pa.string())),
        }
    )
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    messages = list(pa.ipc.MessageReader.open_stream(sink.getvalue()))
    read = pa.ipc.read_record_batch(messages[1], batch.schema)
    buffers = [each for column in read.columns for each in column.buffers() if each is not None and each.size]
    assert [_written_out(message) for message in messages] == [0, sum(each.size for each in buffers)]
