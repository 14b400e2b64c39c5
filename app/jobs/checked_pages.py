"""A stream of a Parquet file that checks the header of each page before pyarrow sees the page.

pyarrow trusts these headers. They are checked in the bytes that it reads, so nothing is read twice. That matters for
objects in object storage, which are read by ranges.
"""

from __future__ import annotations

import io
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, BinaryIO

from app.signature.arrow_messages import DeclaredLimits
from app.signature.parquet_pages import Chunk, PageCheck

WINDOW_BYTES = 2**16


class Window:
    """The bytes of a file by position, of which one block is in memory."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._size_bytes = size_bytes
        self._begins = 0
        self._block = b""

    def __len__(self) -> int:
        return self._size_bytes

    def __getitem__(self, where: Any) -> Any:
        if isinstance(where, slice):
            begins, ends, _ = where.indices(self._size_bytes)
            return self._read(begins, max(begins, ends))
        if not 0 <= where < self._size_bytes:
            raise IndexError
        return self._read(where, where + 1)[0]

    def hold(self, begins: int, block: bytes) -> None:
        """Take a block that was read."""
        self._begins, self._block = begins, block

    def _read(self, begins: int, ends: int) -> bytes:
        if not self._begins <= begins <= ends <= self._begins + len(self._block):
            self._stream.seek(begins)
            self.hold(begins, self._stream.read(max(WINDOW_BYTES, ends - begins)))
        return self._block[begins - self._begins : ends - self._begins]


class ChunkPlaces:
    """Finds the chunks of columns that lie in a range of bytes. A hostile footer may let them overlap."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks
        self._order = sorted(range(len(chunks)), key=lambda number: chunks[number].begins)
        self._begins = [chunks[number].begins for number in self._order]
        self._reach = list(accumulate((chunks[number].ends for number in self._order), max))
        """The end of the chunk that reaches farthest, of those that begin no later."""

    def within(self, begins: int, ends: int) -> Iterator[int]:
        """Yield the numbers of the chunks that have bytes in a range."""
        at = bisect_left(self._begins, ends) - 1
        while at >= 0 and self._reach[at] > begins:
            if self.chunks[self._order[at]].ends > begins:
                yield self._order[at]
            at -= 1


class CheckedPages:
    """A file for pyarrow. Reading raises InvalidBody or BodyTooLarge at the first page that declares too much."""

    closed = False

    def __init__(self, stream: BinaryIO, places: ChunkPlaces, size_bytes: int, limits: DeclaredLimits) -> None:
        self._stream = stream
        self._window = Window(stream, size_bytes)
        self._places = places
        self._pages = PageCheck(places.chunks, size_bytes, limits)

    def read(self, size_bytes: int = -1) -> bytes:
        """Read bytes, after the headers in them, and those in the same columns before them, were checked."""
        begins = self._stream.tell()
        content = self._stream.read(size_bytes)
        ends = begins + len(content)
        for number in self._places.within(begins, ends):
            self._window.hold(begins, content)
            self._pages.check(number, self._window, ends)
        self._stream.seek(ends)
        return content

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position."""
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        """Return the position."""
        return self._stream.tell()

    def close(self) -> None:
        """Leave the stream open: its owner closes it."""
