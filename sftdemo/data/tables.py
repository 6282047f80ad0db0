"""Read the rows of tables: Parquet, Arrow files and streams, folders that `datasets` saved."""

# pyarrow and datasets have no type stubs
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from pathlib import Path
from typing import Any

from ..core.errors import DataError
from .arrow_bounds import check_file, check_stream
from .records import NotHeld, Record, checked, first_twice, short
from .table_bounds import bytes_of, parquet_batches

ROWS_AT_ONCE = 256
MOST_REASON = 200  # characters of what pyarrow says


def _parquet(source: str | bytes) -> Iterator[Any]:
    import pyarrow.parquet as pq

    with _mapped(source) as stream, pq.ParquetFile(stream) as whole:
        _check_names(whole.schema_arrow.names)
        rows, dictionaries = parquet_batches(whole.metadata, ROWS_AT_ONCE)
        with pq.ParquetFile(stream, read_dictionary=dictionaries) as file:
            yield from file.iter_batches(batch_size=rows)


def _arrow_file(source: str | bytes) -> Iterator[Any]:
    import pyarrow as pa

    with _mapped(source) as file, pa.ipc.open_file(file) as batches:
        check_file(file)
        for index in range(batches.num_record_batches):
            yield from _slices(batches.get_batch(index))


def _arrow_stream(source: str | bytes) -> Iterator[Any]:
    import pyarrow as pa

    with _mapped(source) as file:
        check_stream(file)
        file.seek(0)
        with pa.ipc.open_stream(file) as batches:
            for batch in batches:
                yield from _slices(batch)


def _mapped(source: str | bytes) -> Any:
    import pyarrow as pa

    return pa.memory_map(source) if isinstance(source, str) else pa.BufferReader(source)


def _slices(batch: Any) -> Iterator[Any]:
    for begin in range(0, batch.num_rows, ROWS_AT_ONCE):
        yield batch.slice(begin, ROWS_AT_ONCE)


# How the batches of each kind are read, from a path or from the bytes of a file.
TABLES: dict[str, Callable[[str | bytes], Iterator[Any]]] = {
    "Parquet": _parquet,
    "Arrow": _arrow_file,
    "an Arrow stream": _arrow_stream,
}


def is_table_folder(path: Path) -> bool:
    """Whether `datasets` saved this folder: a data set, or one with splits."""
    return any((path / name).is_file() for name in ("state.json", "dataset_dict.json"))


def folder_batches(path: Path, notes: list[str]) -> Iterator[Any]:
    """Return the batches of a folder that `Dataset.save_to_disk` wrote. Of several splits, `train` is read.

    Raises:
        DataError: for another folder, and for splits none of which is `train`.
    """
    if not is_table_folder(path):
        raise DataError(
            f"{path} cannot be read: it is a folder. Name a file in it, or a folder that datasets has saved."
        )
    return _saved(_split(path, notes) if (path / "dataset_dict.json").is_file() else path)


def _saved(path: Path) -> Iterator[Any]:
    import datasets

    for file in sorted(path.glob("*.arrow")):
        with _mapped(str(file)) as stream:
            check_stream(stream)
    yield from dataset_batches(datasets.load_from_disk(str(path)))


def dataset_batches(data: Any) -> Iterator[Any]:
    """Return the batches of a `Dataset`, or of an `IterableDataset`, as they are stored: images stay bytes."""
    for table in data.with_format("arrow").iter(ROWS_AT_ONCE):
        yield from table.to_batches()


def _split(path: Path, notes: list[str]) -> Path:
    splits = sorted(folder.name for folder in path.iterdir() if (folder / "state.json").is_file())
    chosen = "train" if "train" in splits else splits[0] if len(splits) == 1 else None
    if chosen is None:
        raise DataError(f"{path} has the splits {', '.join(splits) or '(none)'}; name one: {path}/{(*splits, '…')[0]}.")
    if len(splits) > 1:
        others = ", ".join(f"{path.name}/{name}" for name in splits if name != chosen)
        notes.append(f"of the splits, {chosen} is read; the others are {others}.")
    return path / chosen


def table_records(batches: Iterator[Any], path: str, kind: str) -> Iterator[tuple[Record, int]]:
    """Yield the records of a table, each with the bytes of all values up to its batch.

    Null is left out, in objects too: a table gives every row the keys of all the others. Bytes that are text are
    read as such, dates and the like as their text, values of Arrow's JSON as what their text says, what Python cannot
    hold as `NotHeld`.

    Raises:
        DataError: when the table is damaged, or has a column twice.
    """
    row = size = 0
    try:
        for batch in batches:
            batch.validate(full=True)  # of a damaged file, a batch may point outside its memory
            _check_names(batch.schema.names)
            size += bytes_of(batch, f"{path}, in row {row} or behind,")
            plain = {field.name for field in batch.schema if _is_plain(field.type)}
            in_json = _json_paths(batch.schema)
            for record in _rows(batch):
                kept = {
                    name: value if name in plain else _column(value)
                    for name, value in record.items()
                    if value is not None
                }
                yield (row, None, checked(reduce(_decoded, in_json, kept))), size
                row += 1
    # pyarrow's own errors are kinds of these
    except (ValueError, OSError, KeyError, NotImplementedError) as error:
        reason = _reason(error)
        raise DataError(f"{path} cannot be read as {kind}, in row {row} or behind: {reason}.") from error


_NOT_HELD = (ValueError, OverflowError, KeyError, NotImplementedError)  # what pyarrow raises of a value


def _rows(batch: Any) -> list[dict[str, Any]]:
    try:
        return batch.to_pylist(maps_as_pydicts="strict")
    except _NOT_HELD:
        columns = [[_held(value) for value in column] for column in batch.columns]
        return [dict(zip(batch.schema.names, values, strict=True)) for values in zip(*columns, strict=True)]


def _held(value: Any) -> Any:
    try:
        return value.as_py(maps_as_pydicts="strict")
    except _NOT_HELD as error:
        return NotHeld(_reason(error))


def _reason(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")[:MOST_REASON]


def _check_names(names: list[str]) -> None:
    twice = first_twice(names)
    if twice is not None:
        raise DataError(f"the table has the column {short(twice)} twice; rename or remove one of them.")


def _is_plain(kind: Any) -> bool:
    """Whether values of a column are as JSON has them, with no null in a list to be kept and none in an object."""
    import pyarrow.types as types

    while types.is_list(kind) or types.is_large_list(kind):
        kind = kind.value_type
    tests = (types.is_string, types.is_large_string, types.is_boolean, types.is_integer, types.is_floating)
    return any(test(kind) for test in tests)


def _json_paths(schema: Any) -> list[list[Any]]:
    """Return where in a row text stands that is JSON: `datasets` writes objects of unlike keys in this way."""
    if not any(_has_json(field.type) for field in schema):
        return []
    from datasets import Features
    from datasets.utils.json import get_json_field_paths_from_feature

    return get_json_field_paths_from_feature(Features.from_arrow_schema(schema))


def _has_json(kind: Any) -> bool:
    import pyarrow as pa

    return kind == pa.json_() or any(_has_json(kind.field(index).type) for index in range(kind.num_fields))


def _decoded(value: Any, path: list[Any]) -> Any:
    """Return a value with the JSON behind a path read; 0 in a path is each item of a list."""
    from datasets.utils.json import json_decode_field

    if value is None or not path:
        return json_decode_field(value, "")
    name, *rest = path
    if name == 0:
        return [_decoded(each, rest) for each in value]
    return value | {name: _decoded(value[name], rest)} if name in value else value


def _column(value: Any) -> Any:
    try:
        return _to_json(value)
    except UnicodeDecodeError as error:  # a shape refuses a column of bytes; one that is not used stays unread
        return error.object


def _to_json(value: Any) -> Any:
    if value is None or isinstance(value, str | int | float | NotHeld):
        return value
    if isinstance(value, dict):
        return {str(name): _to_json(each) for name, each in value.items() if each is not None}
    if isinstance(value, list | tuple):
        return [_to_json(each) for each in value]
    return value.decode() if isinstance(value, bytes) else str(value)
