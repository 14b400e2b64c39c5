"""Name parts by their place in a file, so that a worker process that sees the file reads them itself.

The process of the command reads no row of Parquet and Arrow: footers tell where the parts are. In text it looks for the
ends of rows. A worker checks that its file is the one that was named. Rows of compressed text, and of Arrow's stream
format, can only be found by reading all rows before them, so these are not named.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from app.errors import ScoringRefused
from app.jobs.locations import Source, is_url, status_of
from app.jobs.parts import Part
from app.jobs.table_parts import Pieces, opened_table, readable, slices, table_part
from app.signature import Signature

END_BYTES = 2**16
"""Bytes at the beginning and at the end of a file that tell it from another one."""
MOST_PARTS = 32
"""Parts of a table that a worker scores before it hands them over."""
MOST_SHARES = 16
DECODING = 0.4
"""Decoding's share of the time of a part, for a quick model. Only the cut of large row groups depends on it."""


class InputUnseen(Exception):
    """A worker process does not see the file that a stretch names."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive parts of one file, by their place in it.

    Attributes:
        number: The position of the first part among all parts of the input.
        source: The file, by its absolute path or URL.
        crc: The CRC-32 of both ends of the file.
        ends: The share of the whole input that lies before the end of each part.
        first: The line of the first row, or the number of that row in a table, from 1.
        file: The name of the file, if there are several.
        names: The columns of CSV.
        begins: The position of the first byte of text.
        size_bytes: The length of the text.
        pieces: The row groups, or record batches, that hold the rows of a table.
        skipped: The rows of the pieces that lie before the first part.
        rows: The rows of each part of a table; the last one may have fewer.
    """

    number: int
    source: Source
    crc: int
    ends: tuple[float, ...]
    first: int
    file: str = ""
    names: tuple[str, ...] = ()
    begins: int = 0
    size_bytes: int = 0
    pieces: tuple[int, ...] = ()
    skipped: int = 0
    rows: int = 0

    def without(self, done: int) -> Stretch:
        """Return the stretch without its first parts."""
        left, rows = self.ends[done:], done * self.rows
        return replace(self, number=self.number + done, ends=left, first=self.first + rows, skipped=self.skipped + rows)

    def read(self, signature: Signature, keep: Sequence[str]) -> Iterator[Part]:
        """Yield the parts, from the file that this machine sees.

        Raises:
            InputUnseen: It sees none, or another one.
            ScoringRefused: The file cannot be read, or changed while it was read.
        """
        _require_same(self.source, self.crc)
        with self.source.open() as stream:
            parts = self._text(stream) if self.source.format.is_text else self._tables(stream, signature, keep)
            for at, part in enumerate(parts):
                yield replace(
                    part,
                    number=self.number + at,
                    partition=self.source.partition,
                    file=self.file,
                    end=self.ends[at],
                )
        self.source.require_unchanged()

    def _text(self, stream: BinaryIO) -> Iterator[Part]:
        stream.seek(self.begins)
        yield Part(0, self.source.format.name, stream.read(self.size_bytes), self.names, first=self.first)

    def _tables(self, stream: BinaryIO, signature: Signature, keep: Sequence[str]) -> Iterator[Part]:
        with readable(self.source):
            table = opened_table(self.source, stream, signature, keep)
            first = self.first
            batches = _without(table.batches(self.pieces), self.skipped)
            for rows in islice(slices(batches, self.rows), len(self.ends)):
                yield table_part(rows, first, 1.0)
                first += rows.num_rows


def stretch_of_text(source: Source, part: Part) -> Stretch:
    """Return the place of a part of text."""
    size_bytes = len(part.content)
    return Stretch(
        0, *_named(source), (part.end,), part.first, names=part.names, begins=part.begins, size_bytes=size_bytes
    )


def stretches_of_table(
    source: Source, of: Pieces, rows: int, workers: int, files: int, files_left: int
) -> Iterator[Stretch]:
    """Yield the parts of a table in stretches.

    Args:
        source: The file.
        of: Its pieces.
        rows: The rows of a part.
        workers: The number of workers.
        files: The number of files of the input.
        files_left: Those of them that do not lie before this one.
    """
    total, begun, runs = sum(of.sizes), 0, len(of.runs)
    for number, run in enumerate(of.runs):
        size = sum(of.sizes[at] for at in run)
        parts, largest = (-(-count // rows) for count in (size, max(of.sizes[at] for at in run)))
        if largest < parts:  # reading begins at any piece
            most = min(MOST_PARTS, largest)
        else:
            most = parts_of_a_stretch(parts, runs * files, runs * files_left - number, workers)
        for begins in range(0, size, most * rows):
            ends = [min(size, begins + (at + 1) * rows) for at in range(most) if begins + at * rows < size]
            pieces, skipped = _holding(run, of.sizes, begins, ends[-1])
            shares = tuple((begun + end) / total for end in ends)
            first = begun + begins + 1
            yield Stretch(0, *_named(source), shares, first, pieces=pieces, skipped=skipped, rows=rows)
        begun += size


def _holding(run: Sequence[int], sizes: Sequence[int], begins: int, ends: int) -> tuple[tuple[int, ...], int]:
    """Return the pieces of a run that hold some of its rows, and the rows of these pieces that lie before them."""
    pieces: list[int] = []
    at = skipped = 0
    for piece in run:
        if at < ends and at + sizes[piece] > begins:
            skipped = skipped if pieces else begins - at
            pieces.append(piece)
        at += sizes[piece]
    return tuple(pieces), skipped


def parts_of_a_stretch(parts: int, runs: int, left: int, workers: int) -> int:
    """Return how many parts a worker scores one after the other.

    A worker that begins in the middle of a row group decodes the rows before. So only the last row groups are cut, of
    which there are not enough for all workers.

    Args:
        parts: The parts of the row group.
        runs: The number of row groups of the input.
        left: Those of them that do not lie before this one.
        workers: The number of workers.
    """
    last = runs % workers
    if left > last:
        return min(MOST_PARTS, parts)

    def time_with(shares: int) -> float:
        return -(-last * shares // workers) / shares * (1 + DECODING * (shares - 1) / 2)

    return min(MOST_PARTS, -(-parts // min(range(1, min(parts, MOST_SHARES) + 1), key=time_with)))


def _named(source: Source) -> tuple[Source, int]:
    """Return a file by its absolute path, and the CRC-32 of its ends."""
    if is_url(source.name):
        return source, 0
    return replace(source, name=str(Path(source.name).absolute())), _crc_of(
        source.name, source.size_bytes, source.stamp
    )


@lru_cache(maxsize=256)
def _crc_of(name: str, size_bytes: int, stamp: str) -> int:
    with Path(name).open("rb") as stream:
        begin = stream.read(END_BYTES)
        stream.seek(max(0, size_bytes - END_BYTES))
        return zlib.crc32(stream.read(END_BYTES), zlib.crc32(begin))


@lru_cache(maxsize=256)
def _status_of_object(name: str, size_bytes: int, stamp: str) -> tuple[int, str]:
    return status_of(name)


def _require_same(source: Source, crc: int) -> None:
    """Check that this machine sees the file that the process of the command means.

    Raises:
        InputUnseen: It sees none, or another one.
    """
    named = source.key
    try:
        status = _status_of_object(*named) if is_url(source.name) else status_of(source.name)
        is_same = status == named[1:] and (is_url(source.name) or _crc_of(*named) == crc)
    except (OSError, ScoringRefused) as error:
        reason = error.detail if isinstance(error, ScoringRefused) else f"{source.name}: {error.strerror or error}"
        raise InputUnseen(f"the worker on {socket.gethostname()} does not see the input: {reason}") from None
    if not is_same:
        raise InputUnseen(f"the worker on {socket.gethostname()} sees another file as {source.name}")


def _without(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    """Yield batches without so many rows at their beginning."""
    for batch in batches:
        skipped = min(rows, batch.num_rows)
        rows -= skipped
        if skipped < batch.num_rows:
            yield batch.slice(skipped)
