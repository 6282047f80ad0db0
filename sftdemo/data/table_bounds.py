"""Bound what a table takes when it is read: a dictionary, a run or a view lets a few bytes stand for many."""

# pyarrow has no type stubs
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false, reportAttributeAccessIssue=false

from __future__ import annotations

from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from ..core.errors import DataError

SECONDS = 20.0  # that a table may take to be read
AT_ONCE = 2**28  # bytes that a batch may come to beyond those that it has
_WIDE = 2**22  # bytes of a column, below which a batch of it comes to no more than `AT_ONCE` four times


def parquet_batches(metadata: Any, most: int) -> tuple[int, list[str]]:
    """Return how many rows of a Parquet file are read at once, at most so many (`most`), and which columns are read as
    dictionaries: values that stand in the file once, and in each of a batch's rows anew, would not fit into memory."""
    widest, nested = 1, set[str]()
    for group in range(metadata.num_row_groups):
        for index in range(metadata.num_columns):
            column = metadata.row_group(group).column(index)
            size, name = column.total_uncompressed_size, column.path_in_schema
            if column.physical_type != "BYTE_ARRAY" or not column.has_dictionary_page or size < _WIDE:
                continue
            if "." in name:  # of a list, a single row may hold all of them
                nested.add(name)
            else:
                widest = max(widest, size)
    return max(1, min(most, 4 * AT_ONCE // widest)), sorted(nested)


def check_apart(data: bytes, kind: str, rows: int, path: Path) -> None:
    """Read a table in a process of its own first, which may not take more time and memory than is good for others.

    Raises:
        DataError: if it does, or if the table cannot be read.
    """
    from ..core.apart import APART, ApartError

    with NamedTemporaryFile() as file:
        file.write(data)
        file.flush()
        try:
            APART.ask("read", SECONDS, path=file.name, table=kind, rows=rows)
        except ApartError as error:
            reason = str(error).strip().split("\n")[0].rstrip(".")
            raise DataError(f"{path} cannot be read as {kind}: {reason}. Save the rows as JSON Lines.") from error


def bytes_of(batch: Any, where: str) -> int:
    """Return how many bytes the values of a batch have once each is written out.

    Raises:
        DataError: if they are far more than what is in the file.
    """
    bytes_there, written_out = batch.nbytes, sum(map(_written_out, batch.columns))
    if written_out > bytes_there + AT_ONCE:
        raise DataError(
            f"{where} holds {bytes_there:,} bytes that stand for {written_out:,} in a few rows. Write each value out, "
            "and split the file."
        )
    return max(bytes_there, written_out)


def _written_out(array: Any) -> int:
    """Return at least how many bytes the values of an array have, each written out."""
    import numpy as np
    import pyarrow.compute as pc
    import pyarrow.types as types

    kind = array.type
    if types.is_dictionary(kind):
        return _taken(array.dictionary, array.indices)
    if types.is_run_end_encoded(kind):
        runs = np.searchsorted(array.run_ends.to_numpy(), array.offset + np.arange(len(array)), side="right")
        return _taken(array.values, runs)
    if types.is_string_view(kind) or types.is_binary_view(kind):
        lengths = np.frombuffer(array.buffers()[1], "<i4")[::4]
        return int(lengths[array.offset : array.offset + len(array)].sum(dtype=np.int64))
    if types.is_list_view(kind) or types.is_large_list_view(kind):
        each = _written_out(array.values) // max(1, len(array.values))
        return max(1, each) * 8 * (pc.sum(pc.list_value_length(array)).as_py() or 0)
    if types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind):
        return _written_out(array.flatten())
    if types.is_map(kind):
        return _written_out(array.keys) + _written_out(array.items)
    if types.is_struct(kind):
        return sum(map(_written_out, array.flatten()))
    return array.nbytes


def _taken(values: Any, places: Any) -> int:
    """Return how many bytes the values at these places have."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as types

    if any(test(values.type) for test in (types.is_string, types.is_large_string, types.is_binary)):
        return pc.sum(pc.take(pc.binary_length(values), pa.array(places))).as_py() or 0
    return len(places) * _written_out(values)
