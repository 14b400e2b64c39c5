"""Encode the scored rows of a part, and put the parts of a file together."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.jobs.formats import Format, compressed, has_pyarrow
from app.signature.arrow_values import plain_values
from app.signature.batch import json_text, json_values

ROWS_OF_A_GROUP = 2**20
BYTES_OF_A_GROUP = 2**26
LIST_BYTES = 2**30
Outputs = Mapping[str, NDArray[Any]]
encode_lines = msgspec.json.Encoder().encode_lines


def encode(kept: Mapping[str, Any], outputs: Outputs, form: Format, *, is_file: bool) -> bytes:
    """Return the rows in a format.

    Args:
        kept: Columns by name, as pyarrow arrays or as lists of plain values.
        outputs: Further columns of as many rows.
        form: The format.
        is_file: Whether the bytes are a file of their own. Else they are the next part of one: text without a header,
            or an IPC stream in place of Parquet and Arrow, which `assemble` turns into one file.
    """
    if form.name == "ndjson":
        content = _lines(kept, outputs)
    elif form.name == "csv":
        header = csv_header([*kept, *outputs]) if is_file else b""
        content = header + (_arrow_csv(kept, outputs) if has_pyarrow() else _plain_csv(kept, outputs))
    else:
        return _binary(_table(kept, outputs), form.name if is_file else "arrows")
    return compressed(content, form.coding) if content else b""


def csv_header(names: Sequence[str]) -> bytes:
    """Return the first line of CSV."""
    out = io.StringIO(newline="")
    csv.writer(out, lineterminator="\n").writerow(names)
    return out.getvalue().encode("utf-8", "replace")


def _lines(kept: Mapping[str, Any], outputs: Outputs) -> bytes:
    columns = {name: _plain(column) for name, column in kept.items()}
    columns |= {name: json_values(column) for name, column in outputs.items()}
    return encode_lines([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def _plain(column: Any) -> list[Any]:
    return column if isinstance(column, list) else plain_values(column, LIST_BYTES)


def _plain_csv(kept: Mapping[str, Any], outputs: Outputs) -> bytes:
    out = io.StringIO(newline="")
    columns = [*map(_plain, kept.values()), *map(json_values, outputs.values())]
    rows = zip(*(map(_cell, column) for column in columns), strict=True)
    csv.writer(out, lineterminator="\n").writerows(rows)
    return out.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    return json_text(value) if isinstance(value, bool | list | dict) else value


def _arrow_csv(kept: Mapping[str, Any], outputs: Outputs) -> bytes:
    import pyarrow as pa

    table = _table({name: _flat(column) for name, column in kept.items()}, outputs)
    try:
        return _written(table, "none")
    except pa.ArrowInvalid:  # a text has a comma, a quote or the end of a line in it
        return _written(table, "needed")


def _written(table: Any, quoting: str) -> bytes:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    sink = pa.BufferOutputStream()
    arrow_csv.write_csv(table, sink, arrow_csv.WriteOptions(include_header=False, quoting_style=quoting))
    return bytes(sink.getvalue())


def _flat(column: Any) -> Any:
    """Return a column that CSV can hold: lists and structs as JSON."""
    import pyarrow as pa

    if isinstance(column, list) or not (pa.types.is_nested(column.type) or pa.types.is_binary(column.type)):
        return column
    return pa.array([None if value is None else json_text(value) for value in plain_values(column, LIST_BYTES)])


def _table(kept: Mapping[str, Any], outputs: Outputs) -> Any:
    import pyarrow as pa

    columns = {name: _typed(column) for name, column in kept.items()}
    return pa.table(columns | {name: arrow_of(column) for name, column in outputs.items()})


def _typed(column: Any) -> Any:
    """Return a kept column as an array. Plain values become text, because other parts may have other types."""
    import pyarrow as pa

    if not isinstance(column, list):
        return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    texts = [value if value is None or isinstance(value, str) else json_text(value) for value in column]
    return pa.array(texts, type=pa.string())


def arrow_of(column: NDArray[Any]) -> Any:
    """Return a column of an answer as a pyarrow array. NaN and infinities are null, as in JSON."""
    import pyarrow as pa

    if column.dtype.kind == "f":
        finite = np.isfinite(column)
        return pa.array(np.ascontiguousarray(column), mask=None if finite.all() else ~finite)
    if column.dtype.kind in "biu":
        return pa.array(np.ascontiguousarray(column))
    values = json_values(column) if set(map(type, column.tolist())) != {str} else column
    try:
        return pa.array(values) if len(values) else pa.array([], type=pa.string())
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # labels of several types
        return pa.array([None if value is None else str(value) for value in values], type=pa.string())


def _binary(table: Any, name: str) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with _writer(sink, table.schema, name) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def _writer(sink: Any, schema: Any, name: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if name == "parquet":
        return pq.ParquetWriter(sink, schema)
    return pa.ipc.new_file(sink, schema) if name == "arrow" else pa.ipc.new_stream(sink, schema)


def assemble(parts: Path, target: Path, name: str) -> None:
    """Write a file of Parquet or Arrow from a file of IPC streams, one behind the other, in bounded memory."""
    import pyarrow as pa

    with parts.open("rb") as stream, target.open("wb") as sink:
        tables = _groups(_tables(stream))
        first = next(tables, None) or pa.table({})
        with _writer(sink, first.schema, name) as writer:
            writer.write_table(first)
            for table in tables:
                writer.write_table(table.cast(first.schema))


def _tables(stream: BinaryIO) -> Iterator[Any]:
    import pyarrow as pa

    while stream.read(1):
        stream.seek(-1, io.SEEK_CUR)
        yield pa.ipc.open_stream(stream).read_all()


def _groups(tables: Iterator[Any]) -> Iterator[Any]:
    """Yield tables of about as many rows as a row group of Parquet has."""
    import pyarrow as pa

    pending: list[Any] = []
    for table in tables:
        if pending and table.schema != pending[0].schema:
            table = table.cast(pending[0].schema)  # noqa: PLW2901
        pending.append(table)
        rows, size_bytes = sum(each.num_rows for each in pending), sum(each.nbytes for each in pending)
        if rows >= ROWS_OF_A_GROUP or size_bytes >= BYTES_OF_A_GROUP:
            yield pa.concat_tables(pending)
            pending = []
    if pending:
        yield pa.concat_tables(pending)
