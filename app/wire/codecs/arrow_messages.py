"""Check the messages of an Arrow IPC stream before pyarrow reads their batches, because pyarrow trusts them.

pyarrow allocates the size that a compressed buffer declares, and any number of rows without buffers. It verifies each
message but does not expose these numbers, so this module reads them from the message's FlatBuffers table. Source:
https://github.com/apache/arrow/blob/main/format/Message.fbs, and https://flatbuffers.dev/internals.
"""

from __future__ import annotations

from typing import Any

from app.errors import BodyTooLarge, InvalidBody
from app.wire.codecs.codec import BodyLimits
from app.wire.codecs.columns import check_rows

FORM = "Arrow IPC"
FILE_MAGIC = b"ARROW1"
DICTIONARY_BATCH, RECORD_BATCH = "dictionary", "record batch"
MAX_MESSAGES = 100_000


def check_messages(body: bytes, limits: BodyLimits) -> None:
    """Refuse a stream that declares more rows, or more bytes after decompression, than the limits.

    Raises:
        InvalidBody, ArrowException, ValueError: its messages cannot be parsed.
        TooManyInstances, BodyTooLarge: it declares too much.
    """
    import pyarrow as pa

    if body.startswith(FILE_MAGIC):
        raise InvalidBody(FORM, "it is an Arrow file; a stream is wanted (pyarrow.ipc.new_stream)")
    rows = size_bytes = 0
    for number, message in enumerate(pa.ipc.MessageReader.open_stream(pa.BufferReader(body))):
        if number == MAX_MESSAGES:
            raise InvalidBody(FORM, f"it has more than {MAX_MESSAGES} messages")
        if message.type not in (DICTIONARY_BATCH, RECORD_BATCH):
            continue
        metadata = bytes(message.metadata)
        batch = _table(metadata, _number(metadata, 0, 4), 2)
        if message.type == DICTIONARY_BATCH:
            batch = _table(metadata, batch, 1)
        if rows_at := _field(metadata, batch, 0):
            rows += _number(metadata, rows_at, 8)
        size_bytes += _decompressed_bytes(metadata, batch, message.body)
        check_rows(rows, limits)
        if size_bytes > limits.body_bytes:
            raise BodyTooLarge(limits.body_bytes)


def _decompressed_bytes(metadata: bytes, batch: int, body: Any) -> int:
    """Return the declared bytes of a batch's buffers after decompression: the first eight bytes of each, or -1."""
    if not _field(metadata, batch, 3):
        return 0
    vector = _table(metadata, batch, 2)
    total = 0
    for at in range(vector + 4, vector + 4 + 16 * _number(metadata, vector, 4), 16):
        offset, length = _number(metadata, at, 8), _number(metadata, at + 8, 8)
        if not 0 <= offset <= offset + length <= body.size:
            raise ValueError("a buffer lies outside of its message")
        if length >= 8:
            total += max(length, _number(body[offset : offset + 8], 0, 8))
    return total


def _field(content: bytes, table: int, number: int) -> int:
    """Return the position of a table's field; 0 if it is absent."""
    vtable = table - _number(content, table, 4)
    if 4 + 2 * number >= _number(content, vtable, 2):
        return 0
    offset = _number(content, vtable + 4 + 2 * number, 2)
    return table + offset if offset else 0


def _table(content: bytes, table: int, number: int) -> int:
    """Return the position of the table or vector that a field points to."""
    at = _field(content, table, number)
    if not at:
        raise ValueError("a table is absent")
    return at + _number(content, at, 4)


def _number(content: Any, at: int, size_bytes: int) -> int:
    """Return a number. Numbers of two bytes are sizes and offsets in a vtable, and unsigned."""
    return int.from_bytes(content[at : at + size_bytes], "little", signed=size_bytes > 2)
