"""`application/vnd.apache.parquet`: a Parquet file. pyarrow is optional, and imported when it is needed."""

from __future__ import annotations

import contextlib
from typing import Any

from app.core.answer import Answer
from app.errors import BodyTooLarge
from app.signature.parquet_pages import FORM, check_pages, chunks_of, footer_of
from app.wire.codecs.arrow import damage_refused, declared_limits, rows_of, table_of
from app.wire.codecs.codec import BodyLimits, Codec, Document, Reading, Rows
from app.wire.codecs.columns import check_names, check_rows, refused

ROWS_AT_ONCE = 8192
MAX_THRIFT_BYTES = 2**24
MAX_THRIFT_PARTS = 10**6


class Parquet(Codec):
    """A table as a file."""

    needs = "pyarrow"

    def decode(self, body: bytes, reading: Reading) -> Rows:
        """Return the records.

        Raises:
            InvalidBody: the file is truncated or contradicts itself.
            InvalidInstances: no kind of input accepts the type of a column.
        """
        with damage_refused(FORM), contextlib.closing(_opened(body, reading)) as file:
            return rows_of(file.schema_arrow.names, file.iter_batches(ROWS_AT_ONCE, use_threads=False), reading)

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return flat columns, as in CSV."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        sink = pa.BufferOutputStream()
        pq.write_table(table_of(answer), sink)
        return bytes(sink.getvalue())


def _opened(body: bytes, reading: Reading) -> Any:
    """Return the opened file, after checking the sizes that it declares. Each distinct text is decoded once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    limits = {"thrift_string_size_limit": MAX_THRIFT_BYTES, "thrift_container_size_limit": MAX_THRIFT_PARTS}
    declared = declared_limits(reading.limits)
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
    """Return the bytes of one value of a column in memory. A text counts as one pointer, since each is decoded once."""
    if column.physical_type == "BYTE_ARRAY" and column.max_repetition_level:
        raise refused("has lists of texts or of bytes, which no kind of input takes")
    width = column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 8
    if width * rows > limits.body_bytes:
        raise BodyTooLarge(limits.body_bytes)
    return max(width, 8)
