from __future__ import annotations

import gzip
import io
import json
import pickle
import tracemalloc
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sftdemo.core.errors import DataError
from sftdemo.data.files import FILE_TYPES, TooLarge, can_stream, file_lines, read_file, stream_file

ROWS = [{"instruction": "Say hello", "output": "Héllo"}, {"instruction": "a", "output": "b"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def parquet() -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), buffer)
    return buffer.getvalue()


def arrow(stream: bool) -> bytes:
    buffer, table = io.BytesIO(), pa.Table.from_pylist(ROWS)
    with (pa.ipc.new_stream if stream else pa.ipc.new_file)(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


PACKED = {
    "plain": lambda data: data,
    "gz": gzip.compress,
    "gz in two parts": lambda data: gzip.compress(data[:20]) + gzip.compress(data[20:]),
    "zst": lambda data: pa.compress(data, "zstd", asbytes=True),
    "zip": lambda data: zipped({"folder/": b"", "folder/rows": data, "__MACOSX/rows": b"x"}),
    "gz in zip": lambda data: zipped({"rows.gz": gzip.compress(data)}),
}
TABLES = {"Parquet": parquet(), "Arrow": arrow(stream=False), "Arrow stream": arrow(stream=True)}


@pytest.fixture
def file(tmp_path):
    """Writes a file and names it."""

    def write(data: bytes, name: str = "rows") -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return write


@pytest.mark.parametrize("pack", PACKED.values(), ids=PACKED)
class TestCompressed:
    def test_a_text(self, file, pack):
        path = file(pack(LINES.encode()))
        assert read_file(path) == LINES
        assert can_stream(path)
        assert [record for _, _, record in stream_file(path)] == ROWS

    @pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
    def test_a_table(self, file, pack, table):
        assert list(read_file(file(pack(table)))) == [(0, None, ROWS[0]), (1, None, ROWS[1])]

    def test_it_is_read_no_further_than_the_limit(self, file, pack):
        path = file(pack(b"a" * 10**6))
        with pytest.raises(TooLarge, match=r"(has more than|the limit is) 5,000"):
            read_file(path, limit=5_000)


@pytest.mark.parametrize("pack", [gzip.compress, PACKED["zst"], PACKED["zip"]], ids=["gz", "zst", "zip"])
def test_what_swells_is_not_held(file, pack):
    path = file(pack(bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(TooLarge):
        read_file(path, limit=200_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"]


class TestEncodings:
    @pytest.mark.parametrize("encoding", ENCODINGS)
    @pytest.mark.parametrize("text", [LINES, "instruction,output\né,日本\n"], ids=["JSON", "CSV"])
    def test_a_text_is_read(self, file, encoding, text):
        path = file(text.encode(encoding))
        assert read_file(path) == text
        assert list(file_lines(path)) == text.splitlines(keepends=True)

    def test_the_mark_of_the_other_byte_order(self, file):
        assert read_file(file(b"\xfe\xff" + LINES.encode("utf-16-be"))) == LINES

    def test_latin_1_is_refused_by_its_line(self, file):
        path = file("instruction,output\na,b\nc,café\n".encode("latin-1"), "latin.csv")
        with pytest.raises(DataError, match=r"latin\.csv is not UTF-8: byte 0xe9 in line 3\. Save the file as UTF-8"):
            read_file(path)
        with pytest.raises(DataError, match=r"is not UTF-8: byte 0xe9 behind line \d\. Save"):
            list(file_lines(path))

    def test_utf_16_that_is_cut(self, file):
        path = file("a\nb\n😀".encode("utf-16")[:-2])
        with pytest.raises(DataError, match=r"is not UTF-16: byte 0x.. in line 3\. Save the file as UTF-8"):
            read_file(path)


def riff(kind: bytes) -> bytes:
    return b"RIFF\0\0\0\0" + kind


NAMED = {
    "a PDF file": b"%PDF-1.7\n",
    "an image": b"\x89PNG\r\n\x1a\n",
    "an old Excel or Word file": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
    "an Excel workbook": zipped({"[Content_Types].xml": b"", "xl/workbook.xml": b""}),
    "a Word document": zipped({"word/document.xml": b""}),
    "a PyTorch file, which is never opened because it may run code": zipped({"archive/data.pkl": b""}),
    "a pickle, which is never opened because it may run code": pickle.dumps(ROWS),
    "an SQLite database": b"SQLite format 3\0",
    "a NumPy array": b"\x93NUMPY\1\0",
    "a GGUF model": b"GGUF\3\0\0\0",
    "compressed with bzip2": b"BZh91AY",
    "compressed with xz": b"\xfd7zXZ\0",
    "a 7-Zip archive": b"7z\xbc\xaf\x27\x1c",
    "a web page": b"\n<!DOCTYPE html><html>",
    "an XML file": b"<?xml version='1.0'?>",
    "a rich-text file": b"{\\rtf1\\ansi",
    "a sound or a video": riff(b"WAVEfmt "),
    "a video": b"\0\0\0 ftypisom",
    "a tar archive": b"rows.jsonl".ljust(257, b"\0") + b"ustar\0",
    "a file of weights (safetensors)": (100).to_bytes(8, "little") + b'{"a": {}}',
    "an empty zip": zipped({}),
}


class TestOtherFormats:
    @pytest.mark.parametrize("name", NAMED)
    @pytest.mark.parametrize("pack", [PACKED["plain"], gzip.compress], ids=["plain", "gz"])
    def test_they_are_named(self, file, name, pack):
        path = file(pack(NAMED[name]))
        with pytest.raises(DataError) as told:
            read_file(path)
        says = f"{path} is {name}. Rows are read from JSON, JSON Lines, CSV, Parquet and Arrow; save it as one of them."
        assert str(told.value) == says

    def test_bytes_of_no_known_format(self, file):
        with pytest.raises(DataError, match="is neither text nor of a format that is known here"):
            read_file(file(b"\x01\x02\x00\xff\xee\x00" * 10))

    @pytest.mark.parametrize("count", [0, 2])
    def test_a_zip_of_other_than_one_file(self, file, count):
        data = zipped({"folder/": b""} | {f"{index}.csv": b"a" for index in range(count)})
        with pytest.raises(DataError, match=f"is a zip of {count} files; put the one with the rows in it alone"):
            read_file(file(data))

    @pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
    def test_a_zip_that_is_read_without_a_bound(self, file, method):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            archive.writestr("rows.csv", b"instruction,output\na,b\n")
        with pytest.raises(DataError, match="is a zip compressed in an unusual way; zip it anew with Deflate"):
            read_file(file(buffer.getvalue()))

    @pytest.mark.parametrize("pack", [gzip.compress, PACKED["zst"], PACKED["zip"]], ids=["gz", "zst", "zip"])
    def test_what_is_cut_short_or_damaged(self, file, pack):
        data = pack(bytes(range(256)) * 100)
        for damaged in (data[:-10], data[:60] + b"\xff" * 20 + data[80:], data[:4]):
            with pytest.raises(DataError, match=r"cannot be read|neither text nor|is not UTF-8"):
                read_file(file(damaged))

    def test_compressed_again_and_again(self, file):
        with pytest.raises(DataError, match="is compressed more than 2 times"):
            read_file(file(gzip.compress(gzip.compress(gzip.compress(LINES.encode())))))


class TestStreams:
    @pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
    def test_tables(self, file, table):
        path = file(table)
        assert can_stream(path)
        assert list(stream_file(path)) == [(0, None, ROWS[0]), (1, None, ROWS[1])]

    @pytest.mark.parametrize(
        "data", [json.dumps(ROWS).encode(), b"instruction,output\na,b\n", gzip.compress(parquet())]
    )
    def test_others_are_not(self, file, data):
        assert not can_stream(file(data))

    def test_a_line_has_a_limit_too(self, file, monkeypatch):
        monkeypatch.setattr("sftdemo.data.files.MAX_BYTES", 100)
        with pytest.raises(DataError, match="has more than 100 characters in line 2, the limit"):
            list(file_lines(file(b"{}\n" + b"{" * 200)))


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_what_cannot_be_opened(name, tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        read_file(tmp_path / name)


def test_the_page_offers_what_is_read():
    assert {".json", ".jsonl", ".csv", ".parquet", ".arrow", ".gz", ".zst", ".zip"} <= {*FILE_TYPES}
