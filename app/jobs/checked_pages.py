"""A stream of a Parquet file that checks the header of each page before pyarrow sees the page.

pyarrow trusts these headers. The check uses the bytes that pyarrow reads, so nothing is read twice. That matters for
object storage, where each read is a request.
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
    """Random access to the bytes of a file. One block is kept in memory."""

    def __init__(self, stream: BinaryIO, size_bytes: int) -> None:
        self._stream = stream
        self._size_bytes = size_bytes
        self._begins = 0
        self._block = b""

    def __len__(self) -> int:
        return self._size_bytes

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            begins, ends, _ = index.indices(self._size_bytes)
            return self._read(begins, max(begins, ends))
        if not 0 <= index < self._size_bytes:
            raise IndexError
        return self._read(index, index + 1)[0]

    def cache(self, begins: int, block: bytes) -> None:
        """Keep a block that begins at the position `begins`."""
        self._begins, self._block = begins, block

    def _read(self, begins: int, ends: int) -> bytes:
        if not self._begins <= begins <= ends <= self._begins + len(self._block):
            self._stream.seek(begins)
            self.cache(begins, self._stream.read(max(WINDOW_BYTES, ends - begins)))
        return self._block[begins - self._begins : ends - self._begins]


class ChunkPlaces:
    """Index of column chunks by byte range. In a malicious footer, chunks may overlap."""

    def __init__(self, chunks: Sequence[Chunk]) -> None:
        self.chunks = chunks
        self._order = sorted(range(len(chunks)), key=lambda number: chunks[number].begins)
        self._begins = [chunks[number].begins for number in self._order]
        self._reach = list(accumulate((chunks[number].ends for number in self._order), max))
        """For each chunk in order of position: the largest end of this chunk and of all before it."""

    def in_range(self, begins: int, ends: int) -> Iterator[int]:
        """Yield the number of each chunk that overlaps a byte range."""
        at = bisect_left(self._begins, ends) - 1
        while at >= 0 and self._reach[at] > begins:
            if self.chunks[self._order[at]].ends > begins:
                yield self._order[at]
            at -= 1


class CheckedPages:
    """File object for pyarrow that checks each page before it returns the bytes of the page.

    `read` raises InvalidBody or BodyTooLarge at the first page whose header exceeds the limits.
    """

    closed = False

    def __init__(self, stream: BinaryIO, places: ChunkPlaces, size_bytes: int, limits: DeclaredLimits) -> None:
        self._stream = stream
        self._window = Window(stream, size_bytes)
        self._places = places
        self._pages = PageCheck(places.chunks, size_bytes, limits)

    def read(self, size_bytes: int = -1) -> bytes:
        """Read bytes, and check the page headers in them and all earlier headers of the same column chunks."""
        begins = self._stream.tell()
        content = self._stream.read(size_bytes)
        ends = begins + len(content)
        for number in self._places.in_range(begins, ends):
            self._window.cache(begins, content)
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
