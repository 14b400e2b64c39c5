"""Put the parts of a table together."""

from __future__ import annotations

import io
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from app.errors import ScoringRefused
from app.jobs.writing import table_writer

ROWS_OF_A_GROUP = 2**20
BYTES_OF_A_GROUP = 2**26


class Assembly:
    """A file of Parquet or Arrow that is written from IPC streams, while they come, in bounded memory.

    A column has the type that holds the values of all streams. If a stream needs another type than was written before,
    the file is written anew at the end.

    Args:
        parts: The file in which the streams stand one behind the other.
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
        """The types that hold all rows so far."""
        self._writer: Any = None
        self._is_outgrown = False
        """Whether the writer has begun with types that do not hold all rows."""

    def add(self, stream: bytes | BinaryIO) -> None:
        """Add the rows of the next stream. They are written when there are as many as a row group of Parquet has.

        Raises:
            ScoringRefused: No type holds the values of a column.
        """
        import pyarrow as pa

        table = pa.ipc.open_stream(stream).read_all()
        if not self._has_rows:
            self._pending, self._schema = [], table.schema  # one without rows has perhaps not the types of others
        elif not table.num_rows:
            return
        self._has_rows = bool(self._has_rows or table.num_rows)
        if (common := _common(self._schema, table.schema)) != self._schema:
            self._schema = common
            self._is_outgrown = self._writer is not None
        if self._is_outgrown:
            return
        pending = self._pending
        pending.append(table)
        rows, size_bytes = sum(each.num_rows for each in pending), sum(each.nbytes for each in pending)
        if rows >= ROWS_OF_A_GROUP or size_bytes >= BYTES_OF_A_GROUP:
            self._write()

    def add_all(self) -> None:
        """Add all streams of the file of parts."""
        with self._parts.open("rb") as stream:
            while stream.read(1):
                stream.seek(-1, io.SEEK_CUR)
                self.add(stream)

    def _write(self) -> None:
        import pyarrow as pa

        try:
            table = pa.concat_tables([each.cast(self._schema) for each in self._pending])
            self._pending.clear()
            if self._writer is None:
                self._writer = table_writer(self._sink, self._schema, self._name)
            self._writer.write_table(table)
        except (pa.ArrowException, NotImplementedError) as error:
            raise ScoringRefused(f"one file of {self._name} does not hold all kept values: {error}") from None

    def finish(self) -> None:
        """Write the rest and the end of the file.

        Raises:
            ScoringRefused: No type holds the values of a column.
        """
        if self._is_outgrown:
            self._end()
            self._sink.seek(0)
            self._sink.truncate()
            self._is_outgrown = False
            self.add_all()
        if self._pending:
            self._write()
        self._end()
        self._sink.close()

    def _end(self) -> None:
        """Write the end of the file."""
        self._pending.clear()
        if self._writer is not None:
            writer, self._writer = self._writer, None
            writer.close()

    def close(self) -> None:
        """Close the file, which has no use unless it is finished. Closing it again does nothing."""
        for close in (self._end, self._sink.close):
            with suppress(OSError, ValueError):  # a full disk may take no end either
                close()


def _common(first: Any, second: Any) -> Any:
    """Return the types that hold the values of both schemas, which have the same columns. Text holds the most."""
    import pyarrow as pa

    if first == second:
        return first
    fields = []
    for name, *both in zip(first.names, first, second, strict=True):
        try:
            found = pa.unify_schemas([pa.schema([field]) for field in both], promote_options="permissive")
            fields.append(found.field(0))
        except (pa.ArrowTypeError, pa.ArrowInvalid):
            fields.append(pa.field(name, pa.string()))
    return pa.schema(fields)
