"""Bound what an Arrow file takes when it is decompressed, which pyarrow does with a whole batch at once.

A compressed buffer begins with the bytes that it has without compression, and pyarrow refuses one that comes to another
number: https://arrow.apache.org/docs/format/Columnar.html#compression. Where the buffers lie is told by flatbuffers,
which pyarrow has checked but does not show: https://github.com/apache/arrow/tree/main/format. Such a table begins with
the distance back to its list of fields, which has the place of each.
"""

# pyarrow has no type stubs
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from struct import calcsize, iter_unpack, unpack_from
from typing import Any

from ..core.errors import DataError
from .table_bounds import AT_ONCE

MOST = 4 * AT_ONCE  # bytes that a batch may come to beyond those that it has in the file
_FOOTER_END = 10  # bytes behind the footer: its length, and the mark of the format
# The numbers of fields, and of kinds of messages, in the flatbuffers Message.fbs and File.fbs.
_HEADER_KIND, _HEADER = 1, 2
_DICTIONARY, _RECORDS = 2, 3
_DATA, _BUFFERS, _COMPRESSION = 1, 2, 3
_BLOCKS = (2, 3)  # of dictionaries, of records


def check_file(file: Any) -> None:
    """Check each batch of an Arrow file that `pyarrow.ipc.open_file` has opened.

    Raises:
        DataError: if one comes to far more bytes than it has in the file.
        ValueError: if the file is damaged.
    """
    import pyarrow as pa

    with _whole():
        for place in _blocks(file):
            file.seek(place)
            _check(pa.ipc.read_message(file))


def check_stream(file: Any) -> None:
    """Check each batch of an Arrow stream, as `check_file` does."""
    import pyarrow as pa

    with _whole():
        for message in pa.ipc.MessageReader.open_stream(file):
            _check(message)


@contextmanager
def _whole() -> Generator[None]:
    """Say in one way that something points outside the file, or is missing at its end."""
    try:
        yield
    except (struct.error, EOFError) as error:
        raise ValueError("it is damaged, or not whole") from error


def _check(message: Any) -> None:
    there, written_out = len(message.body or b""), _written_out(message)
    if written_out > there + MOST:
        raise DataError(
            f"a batch of the table has {there:,} bytes that come to {written_out:,} when they are decompressed; write "
            "it without compression, or in batches of fewer rows."
        )


def _written_out(message: Any) -> int:
    """Return how many bytes the buffers of a message have once they are decompressed, by what they say."""
    head, body = memoryview(message.metadata), memoryview(message.body or b"")
    (root,) = unpack_from("<I", head)
    kind, batch = _field(head, root, _HEADER_KIND), _table(head, root, _HEADER)
    if not kind or head[kind] not in (_DICTIONARY, _RECORDS):
        return 0
    if head[kind] == _DICTIONARY:
        batch = _table(head, batch, _DATA)
    if not _field(head, batch, _COMPRESSION):
        return 0
    return sum(
        max(0, unpack_from("<q", body, place)[0])  # -1 where a buffer is left as it is
        for place, length in _structs(head, batch, _BUFFERS, "<qq")
        if length and 0 <= place <= len(body) - 8
    )


def _blocks(file: Any) -> Iterator[int]:
    """Yield the place of each message that the footer of a file names."""
    file.seek(file.size() - _FOOTER_END)
    (length,) = unpack_from("<i", file.read(4))
    file.seek(file.size() - _FOOTER_END - length)
    footer = memoryview(file.read(length))
    (root,) = unpack_from("<I", footer)
    for field in _BLOCKS:
        for place, _, _ in _structs(footer, root, field, "<qi4xq"):
            yield place


def _field(buffer: memoryview, table: int, number: int) -> int:
    """Return where a field of a table lies; 0 if it has none."""
    fields = table - unpack_from("<i", buffer, table)[0]
    (size,) = unpack_from("<H", buffer, fields)
    at = 4 + 2 * number
    place = unpack_from("<H", buffer, fields + at)[0] if at < size else 0
    return table + place if place else 0


def _table(buffer: memoryview, table: int, number: int) -> int:
    """Return where the table lies that a field points to."""
    place = _field(buffer, table, number)
    return place + unpack_from("<I", buffer, place)[0]


def _structs(buffer: memoryview, table: int, number: int, form: str) -> Iterator[tuple[int, ...]]:
    """Yield the structs in the list that a field points to."""
    if not _field(buffer, table, number):
        return
    place = _table(buffer, table, number)
    (count,) = unpack_from("<I", buffer, place)
    yield from iter_unpack(form, buffer[place + 4 : place + 4 + count * calcsize(form)])
