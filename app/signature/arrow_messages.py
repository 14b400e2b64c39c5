"""Check the messages of Arrow's streams and files before pyarrow reads them, because pyarrow trusts them.

pyarrow allocates the size that a compressed buffer declares, any declared number of rows without buffers, and an object
for each field of a schema. A few bytes can declare millions of fields, because fields may share their children. pyarrow
does not expose these numbers, so this module reads them from the FlatBuffers tables. Source:
https://github.com/apache/arrow/blob/main/format/Message.fbs, Schema.fbs and File.fbs, and
https://flatbuffers.dev/internals.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from app.errors import BodyTooLarge, InvalidBody, TooManyInstances

FORM = "Arrow IPC"
FILE_MAGIC = b"ARROW1"
MAX_FIELDS = 20_000
"""Most fields of a schema, at all depths, with their metadata."""
MAX_MESSAGES = 20_000
MAX_ARRAYS = 60_000
"""Most arrays in all batches: one for each column, and for each column within another."""
SCHEMA, DICTIONARY_BATCH, RECORD_BATCH = 1, 2, 3
TIMESTAMP, UNION = 10, 14
CONTINUES = -1
BLOCK_BYTES = 24


@dataclass(frozen=True, slots=True)
class DeclaredLimits:
    """Limits of the sizes that the file of a table declares.

    Attributes:
        piece_bytes: Most bytes of one batch, or of one page, after decompression.
        total_bytes: Most bytes of all batches or pages.
        rows: Most rows.
        parts: Factor for the limits of messages, arrays, column chunks and pages of a request's body.
    """

    piece_bytes: int
    total_bytes: int
    rows: int
    parts: int = 1


def check_stream(content: Any, limits: DeclaredLimits) -> None:
    """Refuse a stream, its bytes or the map of a file, that declares more than the limits.

    Raises:
        InvalidBody, ValueError: Its messages cannot be parsed, or are too many.
        TooManyInstances, BodyTooLarge: It declares too much.
    """
    counts = _Counts(limits)
    for metadata, begins in _messages(content):
        counts.add(metadata, content, begins)


class FileCheck:
    """The check of a file, batch by batch, so that each process checks the batches that it reads."""

    def __init__(self, content: Any, limits: DeclaredLimits) -> None:
        """Check the footer and the dictionaries. Raises as `check_stream`."""
        size_bytes = _number(content, len(content) - len(FILE_MAGIC) - 4, 4)
        begins = len(content) - len(FILE_MAGIC) - 4 - size_bytes
        if size_bytes <= 0 or begins < 0:
            raise ValueError("the footer lies outside of the file")
        footer = bytes(content[begins : begins + size_bytes])
        table = _number(footer, 0, 4)
        _check_schema(footer, _table(footer, table, 1), limits.total_bytes)
        _check_pairs(footer, _vector(footer, table, 4), limits.total_bytes)
        self._content = content
        self._limits = limits
        self._counts = _Counts(limits)
        self._batches = _blocks(footer, table, 3)
        self._checked: set[int] = set()
        for block in _blocks(footer, table, 2):
            self._counts.add(*self._message(block))

    def rows(self) -> list[int]:
        """Return the rows of each batch. Only the head of each is read. Raises as `check_stream`."""
        if len(self._batches) > MAX_MESSAGES * self._limits.parts:
            raise InvalidBody(FORM, f"it has more than {MAX_MESSAGES * self._limits.parts} messages")
        rows = [_rows_of(self._message(block)[0]) for block in self._batches]
        if sum(rows) > self._limits.rows:
            raise TooManyInstances(sum(rows), self._limits.rows)
        return rows

    def check(self, number: int) -> None:
        """Check a batch before it is read. Raises as `check_stream`."""
        if number not in self._checked:
            self._counts.add(*self._message(self._batches[number]))
            self._checked.add(number)

    def _message(self, block: tuple[int, int]) -> tuple[bytes, Any, int]:
        """Return the metadata of a message, the content of the file, and where the body of the message begins."""
        content, (message, metadata_bytes) = self._content, block
        if not 0 <= message <= message + metadata_bytes <= len(content) or metadata_bytes < 8:
            raise ValueError("a message lies outside of the file")
        head = 8 if _number(content, message, 4) == CONTINUES else 4
        return bytes(content[message + head : message + metadata_bytes]), content, message + metadata_bytes


def _blocks(footer: bytes, table: int, place: int) -> list[tuple[int, int]]:
    """Return where each message of a list in the footer begins, and the bytes of its metadata."""
    at, blocks = _vector(footer, table, place)
    ends = at + BLOCK_BYTES * blocks
    return [(_number(footer, block, 8), _number(footer, block + 8, 4)) for block in range(at, ends, BLOCK_BYTES)]


def _rows_of(metadata: bytes) -> int:
    message = _number(metadata, 0, 4)
    if _scalar(metadata, message, 1, 1) != RECORD_BATCH:
        raise ValueError("the footer names another message as a batch")
    rows = _scalar(metadata, _table(metadata, message, 2), 0, 8)
    if rows < 0:
        raise ValueError("a batch has a negative number of rows")
    return rows


def check_schema_message(content: bytes, limit_bytes: int) -> None:
    """Refuse a serialized schema with too many fields, or texts that are too long. Raises as `check_stream`."""
    for metadata, _ in _messages(content):
        message = _number(metadata, 0, 4)
        if _scalar(metadata, message, 1, 1) == SCHEMA:
            _check_schema(metadata, _table(metadata, message, 2), limit_bytes)


def _messages(content: Any) -> Iterator[tuple[bytes, int]]:
    """Yield the metadata of each message, and where its body begins."""
    at = 0
    while at + 4 <= len(content):
        size_bytes, at = _number(content, at, 4), at + 4
        if size_bytes == CONTINUES:
            size_bytes, at = _number(content, at, 4), at + 4
        if size_bytes == 0:
            return
        if size_bytes < 0 or at + size_bytes > len(content):
            raise ValueError("a message ends too early")
        metadata = bytes(content[at : at + size_bytes])
        at += size_bytes
        yield metadata, at
        body_bytes = _scalar(metadata, _number(metadata, 0, 4), 3, 8)
        if body_bytes < 0:
            raise ValueError("a message has a negative length")
        at += body_bytes


class _Counts:
    """The sums of the sizes that the messages declare."""

    def __init__(self, limits: DeclaredLimits) -> None:
        self._limits = limits
        self._messages = self._arrays = self._rows = self._size_bytes = 0

    def add(self, metadata: bytes, content: Any, begins: int) -> None:
        """Add a message whose body begins at `begins` in the content."""
        limits = self._limits
        self._messages += 1
        if self._messages > MAX_MESSAGES * limits.parts:
            raise InvalidBody(FORM, f"it has more than {MAX_MESSAGES * limits.parts} messages")
        message = _number(metadata, 0, 4)
        if custom := _vector(metadata, message, 4):
            _check_pairs(metadata, custom, limits.piece_bytes)
        kind = _scalar(metadata, message, 1, 1)
        if kind == SCHEMA:
            _check_schema(metadata, _table(metadata, message, 2), limits.piece_bytes)
        if kind not in (DICTIONARY_BATCH, RECORD_BATCH):
            return
        batch = _table(metadata, message, 2)
        if kind == DICTIONARY_BATCH:
            batch = _table(metadata, batch, 1)
        self._arrays += _vector(metadata, batch, 1)[1]
        if self._arrays > MAX_ARRAYS * limits.parts:
            raise InvalidBody(FORM, f"it has more than {MAX_ARRAYS * limits.parts} columns in all its batches together")
        self._rows += _scalar(metadata, batch, 0, 8)
        if self._rows > limits.rows:
            raise TooManyInstances(self._rows, limits.rows)
        size_bytes = _decompressed_bytes(metadata, batch, content, begins)
        self._size_bytes += size_bytes
        if size_bytes > limits.piece_bytes or self._size_bytes > limits.total_bytes:
            raise BodyTooLarge(min(limits.piece_bytes, limits.total_bytes))


def _check_schema(metadata: bytes, schema: int, limit_bytes: int) -> None:
    _check_pairs(metadata, _vector(metadata, schema, 2), limit_bytes)
    fields = text_bytes = 0
    waiting: list[int] = [*_tables(metadata, _vector(metadata, schema, 1))]
    while waiting:
        field = waiting.pop()
        children, custom = _vector(metadata, field, 5), _vector(metadata, field, 6)
        fields += 1 + custom[1]
        text_bytes += _check_pairs(metadata, custom, limit_bytes) + _vector(metadata, field, 0)[1]
        kind = _scalar(metadata, field, 2, 1)
        if kind in (TIMESTAMP, UNION):  # the name of its zone, or numbers of its types
            text_bytes += _vector(metadata, _table(metadata, field, 3), 1)[1] * (4 if kind == UNION else 1)
        if fields + len(waiting) + children[1] > MAX_FIELDS:
            raise InvalidBody(FORM, f"its schema has more than {MAX_FIELDS} fields")
        if text_bytes > limit_bytes:
            raise BodyTooLarge(limit_bytes)
        waiting += _tables(metadata, children)


def _check_pairs(metadata: bytes, vector: tuple[int, int], limit_bytes: int) -> int:
    """Return the bytes of the keys and values in a vector; refuse too many. Pairs may share their texts."""
    if vector[1] > MAX_FIELDS:
        raise InvalidBody(FORM, f"its metadata has more than {MAX_FIELDS} entries")
    size_bytes = sum(
        _vector(metadata, pair, 0)[1] + _vector(metadata, pair, 1)[1] for pair in _tables(metadata, vector)
    )
    if size_bytes > limit_bytes:
        raise BodyTooLarge(limit_bytes)
    return size_bytes


def _decompressed_bytes(metadata: bytes, batch: int, content: Any, begins: int) -> int:
    """Return the declared bytes of a batch's buffers after decompression: the first eight bytes of each, or -1."""
    if not _field(metadata, batch, 3):
        return 0
    vector, buffers = _vector(metadata, batch, 2)
    total = 0
    for at in range(vector, vector + 16 * buffers, 16):
        offset, length = _number(metadata, at, 8), _number(metadata, at + 8, 8)
        if not 0 <= offset <= offset + length <= len(content) - begins:
            raise ValueError("a buffer lies outside of its message")
        if length >= 8:
            total += max(length, _number(content, begins + offset, 8))
    return total


def _field(content: bytes, table: int, number: int) -> int:
    """Return the position of a table's field; 0 if it is absent."""
    vtable = table - _number(content, table, 4)
    if 4 + 2 * number >= _number(content, vtable, 2):
        return 0
    offset = _number(content, vtable + 4 + 2 * number, 2)
    return table + offset if offset else 0


def _scalar(content: bytes, table: int, number: int, size_bytes: int) -> int:
    """Return the number in a table's field; 0, its default, if it is absent."""
    at = _field(content, table, number)
    return _number(content, at, size_bytes) if at else 0


def _table(content: bytes, table: int, number: int) -> int:
    """Return the position of the table that a field points to."""
    at = _field(content, table, number)
    if not at:
        raise ValueError("a table is absent")
    return at + _offset(content, at)


def _vector(content: bytes, table: int, number: int) -> tuple[int, int]:
    """Return the position of the first element of a vector or text, and their number; 0, 0 if it is absent."""
    at = _field(content, table, number)
    if not at:
        return 0, 0
    at += _offset(content, at)
    length = _offset(content, at)
    if at + 4 + length > len(content):
        raise ValueError("a vector lies outside of its message")
    return at + 4, length


def _tables(content: bytes, vector: tuple[int, int]) -> Sequence[int]:
    """Return the positions of the tables that a vector points to."""
    return [at + _offset(content, at) for at in range(vector[0], vector[0] + 4 * vector[1], 4)]


def _offset(content: bytes, at: int) -> int:
    """Return a number of four bytes without a sign."""
    if not 0 <= at <= len(content) - 4:
        raise ValueError("an offset lies outside of its message")
    return int.from_bytes(content[at : at + 4], "little")


def _number(content: Any, at: int, size_bytes: int) -> int:
    """Return a number. Up to two bytes it is unsigned: a kind, or a size or offset in a vtable."""
    if not 0 <= at <= len(content) - size_bytes:
        raise ValueError("a number lies outside of its message")
    return int.from_bytes(content[at : at + size_bytes], "little", signed=size_bytes > 2)
