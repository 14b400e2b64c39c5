"""Put the parts of a table together."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, BinaryIO

from app.jobs.writing import table_writer

ROWS_OF_A_GROUP = 2**20
BYTES_OF_A_GROUP = 2**26


class Assembly:
    """A file of Parquet or Arrow that is written from IPC streams, while they come, in bounded memory."""

    def __init__(self, target: Path, name: str) -> None:
        self._sink = target.open("wb")
        self._name = name
        self._pending: list[Any] = []
        self._schema: Any = None
        self._writer: Any = None

    def add(self, stream: bytes | BinaryIO) -> None:
        """Add the rows of the next stream. They are written when there are as many as a row group of Parquet has."""
        import pyarrow as pa

        table = pa.ipc.open_stream(stream).read_all()
        pending = self._pending
        if pending and not pending[0].num_rows:
            pending.clear()  # it had no row, and perhaps not the types of others
        elif pending and not table.num_rows:
            return
        if pending and table.schema != pending[0].schema:
            table = table.cast(pending[0].schema)
        pending.append(table)
        rows, size_bytes = sum(each.num_rows for each in pending), sum(each.nbytes for each in pending)
        if rows >= ROWS_OF_A_GROUP or size_bytes >= BYTES_OF_A_GROUP:
            self._write()

    def add_all(self, parts: Path) -> None:
        """Add the streams of a file, in which they stand one behind the other."""
        with parts.open("rb") as stream:
            while stream.read(1):
                stream.seek(-1, io.SEEK_CUR)
                self.add(stream)

    def _write(self) -> None:
        import pyarrow as pa

        table = pa.concat_tables(self._pending)
        self._pending.clear()
        if self._writer is None:
            self._schema, self._writer = table.schema, table_writer(self._sink, table.schema, self._name)
        self._writer.write_table(table.cast(self._schema))

    def finish(self) -> None:
        """Write the rest and the end of the file."""
        if self._pending:
            self._write()
        self.close()

    def close(self) -> None:
        """Close the file, which has no use unless it is finished."""
        self._pending.clear()
        with self._sink:
            if self._writer is not None:
                self._writer.close()
