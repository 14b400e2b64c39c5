"""Looks through the messages of an Arrow IPC stream before pyarrow does, for what pyarrow would believe.

pyarrow allocates what a compressed buffer says that it becomes, and any number of rows that have no buffers. Source:
https://github.com/apache/arrow/blob/main/format/Message.fbs, and https://flatbuffers.dev/internals.
"""

from __future__ import annotations

import struct

from app.errors import BodyTooLarge, InvalidBody
from app.wire.codecs.codec import Limits
from app.wire.codecs.columns import check_rows

FORM = "Arrow IPC"
FILE_MAGIC = b"ARROW1"
CONTINUATION = b"\xff\xff\xff\xff"
DICTIONARY_BATCH, RECORD_BATCH = 2, 3
MAX_MESSAGES = 100_000


def check_messages(body: bytes, limits: Limits) -> None:
    """Refuses a stream that declares more rows, or more bytes after decompression, than are read.

    Raises:
        InvalidBody: its messages cannot be followed.
        TooManyInstances, BodyTooLarge: it declares too much.
    """
    if body.startswith(FILE_MAGIC):
        raise InvalidBody(FORM, "it is an Arrow file; a stream is wanted (pyarrow.ipc.new_stream)")
    rows = size_bytes = at = 0
    try:
        for _ in range(MAX_MESSAGES):
            at += 4 if body[at : at + 4] == CONTINUATION else 0
            if at >= len(body) or (length := _unsigned(body, at, 4)) == 0:
                return
            begins = at + 4
            more_rows, more_bytes, body_bytes = _message(body[begins : begins + length], body, begins + length)
            rows, size_bytes, at = rows + more_rows, size_bytes + more_bytes, begins + length + body_bytes
            check_rows(rows, limits)
            if size_bytes > limits.body_bytes:
                raise BodyTooLarge(limits.body_bytes)
    except (struct.error, IndexError, ValueError):
        raise InvalidBody(FORM, "it is cut short, or damaged") from None
    raise InvalidBody(FORM, f"it has more than {MAX_MESSAGES} messages")


def _message(metadata: bytes, body: bytes, body_at: int) -> tuple[int, int, int]:
    """Rows, bytes after decompression, and bytes of the body of one message."""
    message = struct.unpack_from("<I", metadata, 0)[0]
    kind_at, length_at = _field(metadata, message, 1), _field(metadata, message, 3)
    kind = metadata[kind_at] if kind_at else 0
    length = struct.unpack_from("<q", metadata, length_at)[0] if length_at else 0
    if length < 0 or body_at + length > len(body):
        raise ValueError
    if kind not in (DICTIONARY_BATCH, RECORD_BATCH):
        return 0, 0, length
    batch = _table(metadata, message, 2)
    if kind == DICTIONARY_BATCH:
        batch = _table(metadata, batch, 1)
    rows_at = _field(metadata, batch, 0)
    rows = struct.unpack_from("<q", metadata, rows_at)[0] if rows_at else 0
    return rows, _decompressed_bytes(metadata, batch, body, body_at), length


def _decompressed_bytes(metadata: bytes, batch: int, body: bytes, body_at: int) -> int:
    """What the buffers of a batch become; each says so in its first eight bytes, -1 where it is not compressed."""
    if not _field(metadata, batch, 3):
        return 0
    vector = _table(metadata, batch, 2)
    total = 0
    for number in range(_unsigned(metadata, vector, 4)):
        offset, length = struct.unpack_from("<qq", metadata, vector + 4 + 16 * number)
        if offset < 0 or length < 0:
            raise ValueError
        if length >= 8:
            total += max(length, struct.unpack_from("<q", body, body_at + offset)[0])
    return total


def _field(content: bytes, table: int, number: int) -> int:
    """Where a field of a table is; 0 where it is absent."""
    vtable = table - int(struct.unpack_from("<i", content, table)[0])
    if vtable < 0 or 4 + 2 * number >= _unsigned(content, vtable, 2):
        return 0
    offset = _unsigned(content, vtable + 4 + 2 * number, 2)
    return table + offset if offset else 0


def _table(content: bytes, table: int, number: int) -> int:
    """Where the table or vector that a field points to is."""
    at = _field(content, table, number)
    if not at:
        raise ValueError
    return at + _unsigned(content, at, 4)


def _unsigned(content: bytes, at: int, wide: int) -> int:
    return int(struct.unpack_from("<I" if wide == 4 else "<H", content, at)[0])
