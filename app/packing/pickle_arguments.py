"""Decompress a pickle, and read the arguments of its opcodes; skip arguments that are long."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import time
import zlib
from collections.abc import Callable
from typing import IO, Any

READ_BYTES = 1 << 16


def decompressed(stream: IO[bytes]) -> IO[bytes]:
    """Return a stream of the decompressed content; return a stream that is not compressed as it is.

    Raises:
        ImportError: The file needs lz4, which is not installed.
    """
    head = stream.read(8)
    stream.seek(0)
    opener = next((opener for prefix, opener in OPENERS.items() if head.startswith(prefix)), None)
    opened: IO[bytes] = stream if opener is None else opener(stream)
    return opened


class _ZlibFile(io.RawIOBase):
    """A readable stream of the decompressed content of a zlib stream."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decompressor = zlib.decompressobj()
        self._compressed = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._decompressor.eof:
            self._compressed = self._compressed or self._stream.read(READ_BYTES)
            if not self._compressed:
                break
            content = self._decompressor.decompress(self._compressed, len(buffer))
            self._compressed = self._decompressor.unconsumed_tail
            if content:
                buffer[: len(content)] = content
                return len(content)
        return 0


OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x5d\x00": lzma.LZMAFile,
    b"\x78": lambda stream: io.BufferedReader(_ZlibFile(stream)),
    b"\x04\x22\x4d\x18": lambda stream: importlib.import_module("lz4.frame").open(stream),
}
"""The function that opens each kind of compressed file, by the first bytes of the file."""


MAX_TEXT_BYTES = 256
MAX_INTEGER_BYTES = 16
CHUNK_BYTES = 1 << 20


class Stopped(Exception):
    """The file is incomplete, is not a pickle, or exceeds a limit."""


class Opaque:
    """A value that does not matter."""


OPAQUE = Opaque()


class ArgumentReader:
    """A reader of the arguments of opcodes in a stream, with a deadline (`time.monotonic`)."""

    def __init__(self, stream: IO[bytes], deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def _bytes(self, count: int) -> bytes:
        content = self._stream.read(count)
        if len(content) != count:
            raise Stopped
        return content

    def skip(self, count: int) -> None:
        """Skip this number of bytes."""
        while count > 0:
            content = self._stream.read(min(count, CHUNK_BYTES))
            if not content:
                raise Stopped
            count -= len(content)

    def number(self, size_bytes: int) -> int:
        """Read an unsigned little-endian number of this size."""
        return int.from_bytes(self._bytes(size_bytes), "little")

    def _long_number(self, length_bytes: int) -> int | Opaque:
        length = self.number(length_bytes)
        return self.number(length) if length <= MAX_INTEGER_BYTES else self._skip_to_opaque(length)

    def _text(self, length_bytes: int) -> str | Opaque:
        length = self.number(length_bytes)
        return (
            self._bytes(length).decode("utf-8", "replace") if length <= MAX_TEXT_BYTES else self._skip_to_opaque(length)
        )

    def _binary(self, length_bytes: int) -> Opaque:
        return self._skip_to_opaque(self.number(length_bytes))

    def _skip_to_opaque(self, count: int) -> Opaque:
        self.skip(count)
        return OPAQUE

    def _line(self, _: int) -> str | Opaque:
        line = self._stream.readline(MAX_TEXT_BYTES)
        if line.endswith(b"\n"):
            return line[:-1].decode("utf-8", "replace")
        while line and not line.endswith(b"\n"):
            line = self._stream.readline(CHUNK_BYTES)
            if time.monotonic() > self._deadline:
                raise Stopped
        if not line:
            raise Stopped
        return OPAQUE

    def _two_lines(self, _: int) -> tuple[str | Opaque, str | Opaque]:
        return self._line(0), self._line(0)


ARGUMENTS: dict[str, tuple[Callable[[ArgumentReader, int], Any], int]] = {
    **{name: (ArgumentReader.number, size) for name, size in (("uint1", 1), ("uint2", 2), ("int4", 4), ("uint4", 4))},
    **dict.fromkeys(("uint8", "float8"), (ArgumentReader.number, 8)),
    **{name: (ArgumentReader._long_number, size) for name, size in (("long1", 1), ("long4", 4))},
    **dict.fromkeys(("string1", "unicodestring1"), (ArgumentReader._text, 1)),
    **dict.fromkeys(("string4", "unicodestring4"), (ArgumentReader._text, 4)),
    "unicodestring8": (ArgumentReader._text, 8),
    **{f"bytes{size}": (ArgumentReader._binary, size) for size in (1, 4, 8)},
    "bytearray8": (ArgumentReader._binary, 8),
    **dict.fromkeys(
        ("stringnl", "stringnl_noescape", "unicodestringnl", "decimalnl_short", "decimalnl_long", "floatnl"),
        (ArgumentReader._line, 0),
    ),
    "stringnl_noescape_pair": (ArgumentReader._two_lines, 0),
}
"""The method that reads each kind of argument in `pickletools`, with the size in bytes of the number or length."""
