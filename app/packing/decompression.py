"""Open a compressed file as joblib writes it, and read it a part at a time."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import zlib
from collections.abc import Callable
from typing import IO, Any

PART_BYTES = 1 << 16


def decompressed(stream: IO[bytes]) -> IO[bytes]:
    """Return a stream of the content, compressed or not.

    Raises:
        ImportError: The file needs lz4, which is not installed.
    """
    head = stream.read(8)
    stream.seek(0)
    opener = next((opener for prefix, opener in OPENERS.items() if head.startswith(prefix)), None)
    opened: IO[bytes] = stream if opener is None else opener(stream)
    return opened


class _Inflated(io.RawIOBase):
    """The content of a file that zlib compressed."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._inflate = zlib.decompressobj()
        self._waiting = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._inflate.eof:
            self._waiting = self._waiting or self._stream.read(PART_BYTES)
            if not self._waiting:
                break
            content = self._inflate.decompress(self._waiting, len(buffer))
            self._waiting = self._inflate.unconsumed_tail
            if content:
                buffer[: len(content)] = content
                return len(content)
        return 0


OPENERS: dict[bytes, Callable[[Any], Any]] = {
    b"\x1f\x8b": lambda stream: gzip.GzipFile(fileobj=stream),
    b"BZh": bz2.BZ2File,
    b"\xfd7zXZ": lzma.LZMAFile,
    b"\x5d\x00": lzma.LZMAFile,
    b"\x78": lambda stream: io.BufferedReader(_Inflated(stream)),
    b"\x04\x22\x4d\x18": lambda stream: importlib.import_module("lz4.frame").open(stream),
}
"""For the first bytes of each kind of compressed file, the function that opens it."""
