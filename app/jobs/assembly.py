"""Combine the scored parts of a table into one Parquet or Arrow file."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from app.errors import ScoringRefused
from app.jobs.writing import table_writer

ROWS_OF_A_GROUP = 2**17
BYTES_OF_A_GROUP = 2**26
"""Rows and bytes of a row group of the output. Writing a long one would make the worker processes wait."""


class Assembly:
    """Writer of one Parquet or Arrow file from many IPC streams, in bounded memory.

    The type of a column holds the values of all streams. If a stream needs a wider type than the rows already written,
    `finish` writes the whole file again.

    Args:
        parts: The file with the concatenated streams.
        target: The file to write.
        name: The format: "parquet", "arrow" or "arrows".
    """

    def __init__(self, parts: Path, target: Path, name: str) -> None:
        self._parts = parts
        self._sink = target.open("wb")
        self._name = name
        self._pending: list[Any] = []
        self._has_rows = False
        self._schema: Any = None
        """The column types that hold all rows so far."""
        self._writer: Any = None
        self._must_rewrite = False
        """Whether the types of the rows already written do not hold all rows, so that the file is written again."""

    def add(self, stream: bytes | BinaryIO) -> None:
        """Add the rows of the next stream. They are written once they fill a Parquet row group.

        Raises:
            ScoringRefused: No type holds the values of a column.
        """
        import pyarrow as pa

        table = pa.ipc.open_stream(stream).read_all()
        if not self._has_rows:
            self._pending, self._schema = [], table.schema  # a table without rows may have other types
        elif not table.num_rows:
            return
        self._has_rows = bool(self._has_rows or table.num_rows)
        if (common := _common_schema(self._schema, table.schema)) != self._schema:
            self._schema = common
            self._must_rewrite = self._writer is not None
        if self._must_rewrite:
            return
        pending = self._pending
        pending.append(table)
        rows, size_bytes = sum(part.num_rows for part in pending), sum(part.nbytes for part in pending)
        if rows >= ROWS_OF_A_GROUP or size_bytes >= BYTES_OF_A_GROUP:
            self._write()

    def add_all(self) -> None:
        """Add all streams of the file `parts`."""
        with self._parts.open("rb") as stream:
            while stream.read(1):
                stream.seek(-1, io.SEEK_CUR)
                self.add(stream)

    def _write(self) -> None:
        import pyarrow as pa

        try:
            table = pa.concat_tables([part.cast(self._schema) for part in self._pending])
            self._pending.clear()
            if self._writer is None:
                self._writer = table_writer(self._sink, self._schema, self._name)
            self._writer.write_table(table)
        except (pa.ArrowException, NotImplementedError) as error:
            raise ScoringRefused(f"one file of {self._name} does not hold all kept values: {error}") from None

    def finish(self) -> None:
        """Write the remaining rows and the footer of the file.

        Raises:
            ScoringRefused: No type holds the values of a column.
        """
        if self._must_rewrite:
            self._close_writer()
            self._sink.seek(0)
            self._sink.truncate()
            self._must_rewrite = False
            self.add_all()
        if self._pending:
            self._write()
        self._close_writer()
        self._sink.close()

    def _close_writer(self) -> None:
        """Drop the pending rows, and write the footer of the file."""
        self._pending.clear()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def close(self) -> None:
        """Close the file. It is incomplete unless `finish` was called. Closing it again does nothing."""
        for close in (self._close_writer, self._sink.close):
            with suppress(OSError, ValueError):  # on a full disk, writing the footer fails too
                close()


def _common_schema(first: Any, second: Any) -> Any:
    """Return a schema whose types hold the values of both schemas, which have the same columns.

    A column whose two types have no common type becomes text.
    """
    import pyarrow as pa

    if first == second:
        return first
    fields = []
    for name, *pair in zip(first.names, first, second, strict=True):
        try:
            merged = pa.unify_schemas([pa.schema([field]) for field in pair], promote_options="permissive")
            fields.append(merged.field(0))
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            fields.append(pa.field(name, pa.string()))
    return pa.schema(fields)
