"""Open files: text in its encodings, tables (Parquet, Arrow, a folder of `datasets`), each also compressed. What cannot
be read is named by its format, from its first bytes."""

# pyarrow and datasets have no type stubs
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from math import inf
from pathlib import Path
from typing import IO, Any

from ..core.errors import DataError
from ..core.limits import is_public
from .json_records import json_lines
from .records import MAX_BYTES, Record
from .table_bounds import check_apart
from .tables import ROWS_AT_ONCE, TABLES, folder_batches, is_table_folder, table_records

FILE_TYPES = (
    *(".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet", ".arrow", ".feather"),
    *(".gz", ".zst", ".zip"),
)
_READ = "Rows are read from JSON, JSON Lines, CSV, Parquet and Arrow"
_LAYERS = 2  # of compression: a compressed file in a zip
_GZIP, _ZSTD, _ZIP = b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"PK\x03\x04"
_PICKLE = "a pickle, which is never opened because it may run code"
# The first bytes of what is named and never opened.
_NAMED = (
    (b"%PDF", "a PDF file"),
    ((b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"II*\0", b"MM\0*"), "an image"),
    ((b"OggS", b"fLaC", b"ID3"), "a sound"),
    (b"\xd0\xcf\x11\xe0", "an old Excel or Word file"),
    (
        tuple(bytes([0x80, version]) for version in range(2, 6)),
        _PICKLE,
    ),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF model"),
    (b"Obj\x01", "an Avro file"),
    (b"ORC", "an ORC file"),
    (b"FEA1", "a Feather file of the first version"),
    (b"PARE", "an encrypted Parquet file"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ", "compressed with xz"),
    (b"\x04\x22\x4d\x18", "compressed with LZ4"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"Rar!", "a RAR archive"),
    (b"PK\x05\x06", "an empty zip"),
    (b"{\\rtf", "a rich-text file"),
    (b"\x7fELF", "a program"),
)
_WEB = ((b"<!doctype html", "a web page"), (b"<html", "a web page"), (b"<?xml", "an XML file"))
_IN_ZIP = (
    ("xl/workbook", "an Excel workbook"),
    ("word/document", "a Word document"),
    ("ppt/presentation", "a PowerPoint file"),
    ("content.xml", "an OpenDocument file"),
    ("data.pkl", "a PyTorch file, which is never opened because it may run code"),
)


class TooLarge(DataError):
    """A source has more bytes than may be held in memory."""


def read_file(path: Path, limit: int = MAX_BYTES, notes: list[str] | None = None) -> str | Iterator[Record]:
    """Return the text of a file, or the records of a table.

    Args:
        limit (`int`, *optional*, defaults to `MAX_BYTES`):
            The bytes that may be held: of the file, of what is compressed in it, of a table's values.
        notes (`list[str]`, *optional*):
            Takes what is to be told of the file as a whole.

    Raises:
        DataError: when the file cannot be read or is of another format; `TooLarge` when it has more bytes than `limit`.
    """
    notes = [] if notes is None else notes
    if path.is_dir():
        return limited(path, limit, _folder(path, notes))
    try:
        size = path.stat().st_size
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}.") from error
    if size > limit:
        raise TooLarge(f"{path} has {size:,} bytes; the limit is {limit:,}. Split the file.")
    with _opened(path, limit) as stream:
        data = stream.read(limit + 1)  # a pipe reports 0 bytes, and what is compressed has more: stop at the limit
    if len(data) > limit:
        raise TooLarge(f"{path} has more than {limit:,} bytes, the limit. Split the file.")
    table = _table_of(data)
    if table is None:
        return _decoded(data, path)
    if is_public():
        check_apart(data, table, ROWS_AT_ONCE, path)
    return limited(path, limit, table_records(TABLES[table](data), str(path), table))


def can_stream(path: Path) -> bool:
    """Whether `stream_file` reads this: JSON Lines, a table that is not compressed, a folder of `datasets`."""
    if path.is_dir():
        return is_table_folder(path)
    with path.open("rb") as file:
        if _table_of(file.read(8)) is not None:
            return True
    with _opened(path, MAX_BYTES) as stream:
        head = _head(stream)
    return _table_of(head) is None and head.decode(_encoding(head), "ignore").lstrip().startswith("{")


def stream_file(path: Path, notes: list[str] | None = None, limit: float = inf) -> Iterator[Record]:
    """Yield the records of a file of any size, none of which are held. Of more bytes than `limit` none are read.

    Raises:
        DataError: when the file cannot be read; `TooLarge` behind `limit`.
    """
    if path.is_dir():
        yield from limited(path, limit, _folder(path, [] if notes is None else notes))
        return
    with path.open("rb") as file:
        table = _table_of(file.read(8))
    if table is not None:
        yield from limited(path, limit, table_records(TABLES[table](str(path)), str(path), table))
    else:
        yield from json_lines(_limited_lines(path, limit))


def _limited_lines(path: Path, limit: float) -> Iterator[str]:
    size = 0
    for line in file_lines(path):
        size += len(line)
        if size > limit:
            raise TooLarge(f"{path} has more than {limit:,} characters up to the last row wanted. Take fewer rows.")
        yield line


def file_lines(path: Path) -> Iterator[str]:
    """Yield the lines of a text file, split at newlines only.

    Raises:
        DataError: when the file cannot be read, is in another encoding, or has a line of more than `MAX_BYTES`.
    """
    line = 0
    with _opened(path, MAX_BYTES) as stream:
        text = io.TextIOWrapper(stream, encoding=_encoding(_head(stream)), newline="\n")
        try:
            while content := text.readline(MAX_BYTES + 1):
                line += 1
                if len(content) > MAX_BYTES:
                    raise DataError(f"{path} has more than {MAX_BYTES:,} characters in line {line}, the limit.")
                yield content
        except UnicodeDecodeError as error:
            byte = f"byte 0x{error.object[error.start]:02x} behind line {line}"
            raise DataError(f"{path} is not {_name_of(error)}: {byte}. Save the file as UTF-8.") from error


def _folder(path: Path, notes: list[str]) -> Iterator[tuple[Record, int]]:
    return table_records(folder_batches(path, notes), str(path), "a folder of datasets")


def limited(
    source: object, limit: float, records: Iterator[tuple[Record, int]], remedy: str = "Split the file."
) -> Iterator[Record]:
    """Yield the records, each of which comes with the bytes of all values up to there.

    Raises:
        TooLarge: when they are more than `limit`.
    """
    for record, size in records:
        if size > limit:
            raise TooLarge(f"{source} has more than {limit:,} bytes of values, the limit. {remedy}")
        yield record


def held_rows(records: Iterator[Record], source: object, most: int) -> Iterator[Record]:
    """Yield the records of a source that is held in memory.

    Raises:
        TooLarge: when there are more than `most`.
    """
    for count, record in enumerate(records):
        if count == most:
            raise TooLarge(f"{source} has more than {most:,} rows, the limit. Split it, or take fewer (--limit).")
        yield record


@contextmanager
def _opened(path: Path, limit: int) -> Generator[io.BufferedReader[Any]]:
    """Open a file, decompressed.

    Raises:
        DataError: when it cannot be read, here or in the body, or is of a format that is named and not opened.
    """
    try:
        with path.open("rb") as file:
            stream: io.BufferedReader[Any] = file
            for layer in range(_LAYERS + 1):
                inner = _decompressed(stream, path, limit)
                if inner is None:
                    break
                if layer == _LAYERS:
                    raise DataError(f"{path} is compressed more than {_LAYERS} times. Decompress it.")
                stream = inner
            _refuse_named(_head(stream), path)
            yield stream
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, NotImplementedError) as error:
        reason = str(getattr(error, "strerror", None) or error).rstrip(".") or "it ends early"
        raise DataError(f"{path} cannot be read: {reason}.") from error


def _head(stream: io.BufferedReader[Any]) -> bytes:
    return stream.peek(512)[:512]


def _decompressed(stream: io.BufferedReader[Any], path: Path, limit: int) -> io.BufferedReader[Any] | None:
    """Return what is compressed in a stream; None if it is not compressed."""
    import pyarrow as pa

    head = _head(stream)
    for mark, name in ((_GZIP, "gzip"), (_ZSTD, "zstd")):
        if head.startswith(mark):
            return io.BufferedReader(pa.CompressedInputStream(stream, name))  # pyright: ignore[reportArgumentType]
    return _only_file(stream, path, limit) if head.startswith(_ZIP) else None


def _only_file(stream: io.BufferedReader[Any], path: Path, limit: int) -> io.BufferedReader[Any]:
    """Return the only file in a zip."""
    source: IO[bytes] = stream if stream.seekable() else io.BytesIO(stream.read(limit))
    archive = zipfile.ZipFile(source)
    names = archive.namelist()
    for part, name in _IN_ZIP:
        if any(part in each for each in names):
            _refuse(path, name)
    files = [each for each in archive.infolist() if not each.is_dir() and not each.filename.startswith("__MACOSX/")]
    if len(files) != 1:
        raise DataError(f"{path} is a zip of {len(files):,} files; put the one with the rows in it alone.")
    if files[0].compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):  # zipfile reads others without bound
        raise DataError(f"{path} is a zip compressed in an unusual way; zip it anew with Deflate, as most programs do.")
    if files[0].flag_bits & 1:
        raise DataError(f"{path} is a zip with a password; unpack it and open the file in it.")
    return io.BufferedReader(archive.open(files[0]))  # pyright: ignore[reportArgumentType]


def _refuse_named(head: bytes, path: Path) -> None:
    for marks, name in _NAMED:
        if head.startswith(marks):
            _refuse(path, name)
    for mark, name in _WEB:
        if head.lstrip().lower().startswith(mark):
            _refuse(path, name)
    if head[:4] == b"RIFF":
        _refuse(path, "an image" if head[8:12] == b"WEBP" else "a sound or a video")
    if head[4:8] == b"ftyp":
        _refuse(path, "a video")
    if head[257:262] == b"ustar":
        _refuse(path, "a tar archive")
    if head[8:10] == b'{"' and head[7:8] == b"\0":
        _refuse(path, "a file of weights (safetensors)")


def _refuse(path: Path, name: str) -> None:
    raise DataError(f"{path} is {name}. {_READ}; save it as one of them.")


def _table_of(head: bytes) -> str | None:
    return next((name for name in TABLES if head.startswith(_TABLE_MARKS[name])), None)


_TABLE_MARKS = {"Parquet": b"PAR1", "Arrow": b"ARROW1", "an Arrow stream": b"\xff\xff\xff\xff"}


def _encoding(head: bytes) -> str:
    """Return how a text is encoded, by its mark or, in UTF-16 without one, by the zeros around its first characters."""
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    if len(head) > 3 and head[0] and head[2] and not head[1] and not head[3]:
        return "utf-16-le"
    if len(head) > 3 and head[1] and head[3] and not head[0] and not head[2]:
        return "utf-16-be"
    return "utf-8-sig"


def _decoded(data: bytes, path: Path) -> str:
    encoding = _encoding(data[:4])
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if _name_of(error) == "UTF-8" and b"\0" in data[:512]:
            raise DataError(f"{path} is neither text nor of a format that is known here. {_READ}.") from error
        line = data[: error.start].decode(encoding, "ignore").count("\n") + 1
        byte = f"byte 0x{data[error.start]:02x} in line {line}"
        raise DataError(f"{path} is not {_name_of(error)}: {byte}. Save the file as UTF-8.") from error


def _name_of(error: UnicodeDecodeError) -> str:
    return "UTF-16" if "16" in error.encoding else "UTF-8"
