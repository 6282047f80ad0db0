"""Token ids and labels kept on the disk, for more rows than fit into memory."""

# pyarrow and datasets have no type stubs
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false, reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..core.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset


WRITTEN_AT_ONCE = 1000


class StoredRow(NamedTuple):
    input_ids: tuple[int, ...]
    labels: tuple[int, ...]


class RowFile:
    """Rows of `input_ids` and `labels` in an Arrow file. Write all rows with `add`, then read them with `dataset` or
    `find`; neither way holds them in memory.

    `len()` is the number of rows, `tokens` and `trained` are totals, `longest` is the length of the longest row.
    """

    def __init__(self, path: str | Path):
        import pyarrow as pa

        self.path, self.tokens, self.trained, self.longest, self._count = str(path), 0, 0, 0, 0
        self._waiting: list[tuple[Sequence[int], Sequence[int]]] = []
        self._schema = pa.schema({name: pa.list_(pa.int32()) for name in StoredRow._fields})
        self._writer = pa.ipc.new_stream(self.path, self._schema)

    def __len__(self) -> int:
        return self._count

    def add(self, input_ids: Sequence[int], labels: Sequence[int], trained: int) -> None:
        """Add a row. `trained` is its number of trained tokens.

        Raises:
            DataError: when the disk is full.
        """
        self._count += 1
        self.tokens += len(input_ids)
        self.trained += trained
        self.longest = max(self.longest, len(input_ids))
        self._waiting.append((input_ids, labels))
        if len(self._waiting) == WRITTEN_AT_ONCE:
            self._write()

    def _write(self) -> None:
        import pyarrow as pa

        columns = [list(map(list, column)) for column in zip(*self._waiting, strict=True)]
        try:
            self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        except OSError as error:
            raise DataError(
                f"{self.path} cannot be written: {error.strerror or error}. Name a folder with more room in TMPDIR."
            ) from error
        self._waiting = []

    def dataset(self) -> Dataset:
        """Return all rows, memory-mapped. No row can be added afterwards."""
        from datasets import Dataset

        if self._waiting:
            self._write()
        self._writer.close()
        return Dataset.from_file(self.path)

    def find(self, wanted: set[tuple[int, ...]]) -> Iterator[StoredRow]:
        """Yield the rows with one of these `input_ids`. Reads the whole file."""
        import pyarrow as pa
        import pyarrow.compute as pc

        lengths = pa.array({len(ids) for ids in wanted}, pa.int32())
        with pa.OSFile(self.path) as file, pa.ipc.open_stream(file) as batches:
            for batch in batches:
                # pyarrow makes these functions when it is imported
                sizes = pc.list_value_length(batch["input_ids"])  # pyright: ignore[reportAttributeAccessIssue]
                likely = batch.filter(pc.is_in(sizes, lengths))  # pyright: ignore[reportAttributeAccessIssue]
                for row in likely.to_pylist():
                    if tuple(row["input_ids"]) in wanted:
                        yield StoredRow(tuple(row["input_ids"]), tuple(row["labels"]))
