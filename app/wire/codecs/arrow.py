"""`application/vnd.apache.arrow.stream`, Arrow's IPC streaming format, and `application/vnd.apache.parquet`.

Source: https://arrow.apache.org/docs/format/Columnar.html. pyarrow is optional and imported at first use.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any

from app.core.answer import Answer, columns_of
from app.errors import BodyTooLarge, InvalidBody
from app.signature.arrow_messages import FILE_MAGIC, FORM, DeclaredLimits, check_stream
from app.signature.arrow_values import plain_values, viewed_bytes
from app.signature.batch import json_values
from app.signature.field_errors import escaped, refused
from app.signature.parquet_pages import FORM as PARQUET
from app.signature.parquet_pages import check_pages, chunks_of, footer_of
from app.wire.codecs.codec import TABLE, BodyLimits, Codec, Document, Reading, Rows, check_names, check_rows, records

PANDAS_INDEX = "__index_level_"
ROWS_AT_ONCE = 8192
MAX_THRIFT_BYTES = 2**24
MAX_THRIFT_PARTS = 10**6


class ArrowStream(Codec):
    """Codec of a stream of Arrow record batches."""

    needs = "pyarrow"

    def decode(self, body: bytes, reading: Reading) -> Rows:
        """Return the records."""
        import pyarrow as pa

        with _refuse_damage(FORM):
            if body.startswith(FILE_MAGIC):
                raise InvalidBody(FORM, "it is an Arrow file; a stream is wanted (pyarrow.ipc.new_stream)")
            check_stream(body, _declared_limits(reading.limits))
            stream = pa.ipc.open_stream(pa.BufferReader(body), options=pa.ipc.IpcReadOptions(use_threads=False))
            check_names(list(_paths(stream.schema)), reading)
            return _rows_of(stream.schema.names, stream, reading)

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return flat columns, as in CSV."""
        import pyarrow as pa

        table, sink = _table_of(answer), pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        return bytes(sink.getvalue())


class Parquet(Codec):
    """Codec of a Parquet file."""

    needs = "pyarrow"

    def decode(self, body: bytes, reading: Reading) -> Rows:
        """Return the records."""
        with _refuse_damage(PARQUET), closing(_open(body, reading)) as file:
            return _rows_of(file.schema_arrow.names, file.iter_batches(ROWS_AT_ONCE, use_threads=False), reading)

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return flat columns, as in CSV."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(_table_of(answer), sink)
        return bytes(sink.getvalue())


def _open(body: bytes, reading: Reading) -> Any:
    """Check the sizes that a file declares, and return it opened. pyarrow decodes each distinct text once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    limits = {"thrift_string_size_limit": MAX_THRIFT_BYTES, "thrift_container_size_limit": MAX_THRIFT_PARTS}
    declared = _declared_limits(reading.limits)
    footer = footer_of(body, declared)
    metadata = pq.ParquetFile(pa.BufferReader(body), **limits).metadata
    check_rows(metadata.num_rows, reading.limits)
    columns = [metadata.schema.column(at) for at in range(metadata.num_columns)]
    check_names([column.path for column in columns], reading)
    widths = [_check_width(column, metadata.num_rows, reading.limits) for column in columns]
    texts = [c.path for c in columns if c.physical_type == "BYTE_ARRAY" and c.logical_type.type != "DECIMAL"]
    check_pages(body, chunks_of(footer, widths, declared), declared)
    return pq.ParquetFile(pa.BufferReader(body), metadata=metadata, read_dictionary=texts, pre_buffer=False, **limits)


def _check_width(column: Any, rows: int, limits: BodyLimits) -> int:
    """Check the width of a column, and return the bytes of one value in memory. A text counts as one pointer."""
    if column.physical_type == "BYTE_ARRAY" and column.max_repetition_level:
        raise refused(TABLE, "has lists of texts or of bytes, which no kind of input takes")
    width = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 8
    if width * rows > limits.body_bytes:
        raise BodyTooLarge(limits.body_bytes)
    return max(width, 8)


def _declared_limits(limits: BodyLimits) -> DeclaredLimits:
    """Return the limits of a body as limits for the sizes that a table declares."""
    return DeclaredLimits(limits.body_bytes, limits.body_bytes, limits.max_instances)


@contextmanager
def _refuse_damage(form: str) -> Iterator[None]:
    """Raise InvalidBody instead of pyarrow's errors for a damaged body."""
    import pyarrow as pa

    try:
        yield
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError, ArithmeticError, NotImplementedError):
        raise InvalidBody(form, "it is cut short, damaged, or says of itself what is not so") from None


def _paths(fields: Iterable[Any], prefix: str = "") -> Iterator[str]:
    """Yield the names of columns. Members of a struct have dotted names, as in Parquet."""
    from pyarrow import types

    for field in fields:
        if types.is_struct(field.type):
            yield from _paths(field.type, f"{prefix}{field.name}.")
        else:
            yield prefix + field.name


def _rows_of(names: Sequence[str], batches: Iterable[Any], reading: Reading) -> Rows:
    """Return the records in pyarrow's record batches, without the index of pandas."""
    rows = 0
    columns: dict[str, list[Any]] = {
        name: [] for name in names if name in reading.signature.names or not name.startswith(PANDAS_INDEX)
    }
    for batch in batches:
        batch.validate()
        if sum(map(viewed_bytes, batch.columns)) > reading.limits.body_bytes:  # before full validation reads every byte
            raise BodyTooLarge(reading.limits.body_bytes)
        batch.validate(full=True)
        rows += batch.num_rows
        check_rows(rows, reading.limits)
        for position, name in enumerate(names):
            if name in columns:
                columns[name] += _plain_values(batch.column(position), name, reading.limits)
    return records(columns, rows, reading.signature)


def _plain_values(array: Any, name: str, limits: BodyLimits) -> list[Any]:
    """Return the values as plain JSON values. Bytes stay bytes, for the kinds that accept bytes."""
    pointer = f"{TABLE}/0/{escaped(name)}"
    try:
        return plain_values(array, limits.body_bytes)
    except (OverflowError, UnicodeDecodeError):
        raise refused(pointer, "has dates beyond the year 9999, or text that is not UTF-8") from None
    except NotImplementedError as error:
        raise refused(pointer, f"is a column of the type {str(error)[:100]}, which no kind of input takes") from None


def _table_of(answer: Answer) -> Any:
    """Return the response's columns as a pyarrow table, with null for NaN and infinities."""
    import pyarrow as pa

    arrays = {}
    for name, column in columns_of(answer).items():
        values = json_values(column)
        arrow_type = pa.from_numpy_dtype(column.dtype) if column.dtype.kind in "biuf" else None
        try:
            arrays[name] = pa.array(values, type=arrow_type)
        except (pa.ArrowInvalid, pa.ArrowTypeError):  # labels of several types
            arrays[name] = pa.array([None if value is None else str(value) for value in values], type=pa.string())
    return pa.table(arrays)
