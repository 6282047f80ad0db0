"""The first rows of files, read with `limit`."""

from __future__ import annotations

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sftdemo.core.errors import ConfigError, DataError
from sftdemo.data import examples
from sftdemo.data.examples import StreamedExamples, open_examples, read_examples

ROWS = [{"instruction": f"Say {row}", "output": f"{row}!"} for row in range(20)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


@pytest.fixture(params=["jsonl", "json", "csv", "parquet", "gz"])
def path(request, tmp_path):
    path = tmp_path / f"rows.{request.param}"
    if request.param == "parquet":
        pq.write_table(pa.Table.from_pylist(ROWS), path)
        return path
    texts = {"json": json.dumps(ROWS), "csv": "instruction,output\n" + "".join(f"Say {n},{n}!\n" for n in range(20))}
    data = texts.get(request.param, LINES).encode()
    path.write_bytes(gzip.compress(data) if request.param == "gz" else data)
    return path


@pytest.mark.parametrize("reads", [read_examples, open_examples])
def test_are_those_of_the_whole(path, reads):
    whole, first = reads(path), reads(path, limit=3)
    assert first.train == whole.train[:3]
    assert first.notes == (f"the first 3 rows of {path} are read; there are more.",)
    assert whole.notes == ()


def test_no_more_than_there_are(path):
    for limit in (20, 21):
        found = read_examples(path, limit=limit)
        assert len(found.train) == 20
        assert found.notes == (f"{path} has 20 rows, all of which are read; the limit is {limit}.",)


def test_refused_rows_count(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("{slip}\n" + LINES)
    found = read_examples(path, limit=2)
    assert (len(found.train), len(found.problems)) == (1, 1)


def test_of_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(examples, "MAX_BYTES", 400)
    path = tmp_path / "rows.jsonl"
    path.write_text(LINES)
    found = read_examples(path, limit=3)
    assert [example.instruction for example in found.train] == ["Say 0", "Say 1", "Say 2"]
    assert found.notes == (f"the first 3 rows of {path} are read; there are more.",)
    with pytest.raises(DataError, match=r"more than 400 characters up to the last row wanted\. Take fewer rows"):
        read_examples(path, limit=15)
    opened = open_examples(path, limit=15)
    assert isinstance(opened.train, StreamedExamples)
    assert [len(opened.train), *(example.row for example in opened.train)] == [15, *range(15)]
    assert [example.row for example in opened.train] == [*range(15)]


def test_none_is_refused(path):
    with pytest.raises(ConfigError, match="limit is 0, which leaves no row; give 1 or more"):
        read_examples(path, limit=0)
