"""Stretches: consecutive parts of a file, described by their place, so that worker processes read the rows themselves.

The main process reads no rows of Parquet and Arrow: footers contain the places of the parts. In text it searches for
the ends of rows. A worker checks that it sees the same file. Compressed text and Arrow's stream format have no
stretches: to find a row, all rows before it must be read.
"""

from __future__ import annotations

import socket
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate, islice, pairwise
from pathlib import Path
from typing import Any, BinaryIO

from app.errors import ScoringRefused
from app.jobs.locations import Source, is_url, status_of
from app.jobs.parts import Part
from app.jobs.table_parts import Pieces, open_table, refuse_unreadable, slices, table_part
from app.signature import Signature

END_BYTES = 2**16
"""The CRC-32 of this number of bytes at the beginning and at the end identifies a file."""
MOST_PARTS = 32
"""Most parts in a stretch of a table."""
MOST_STRETCHES = 16
"""Most stretches of a row group that is cut to keep all workers busy."""
DECODING = 0.4
"""The fraction of a part's time that decoding takes, for a fast model. Used to decide how to cut large row groups."""


class InputUnseen(Exception):
    """A worker process cannot read the file of a stretch, or sees a different file."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Consecutive parts of one file, by their place in it.

    Attributes:
        number: The position of the first part among all parts of the input.
        source: The file, by its absolute path or URL.
        crc: The CRC-32 of both ends of the file.
        ends: For each part, the fraction of the whole input up to its end.
        first: The line of the first row, or the number of that row in a table, from 1.
        file: The name of the file, if the input has several files.
        names: The columns of CSV.
        begins: The position of the text in the file, in bytes.
        size_bytes: The length of the text.
        pieces: The numbers of the row groups or record batches with the rows of a table.
        skipped: The rows of the pieces before the first part.
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

    def skip_parts(self, done: int) -> Stretch:
        """Return the stretch without its first `done` parts."""
        remaining, rows = self.ends[done:], done * self.rows
        return replace(
            self, number=self.number + done, ends=remaining, first=self.first + rows, skipped=self.skipped + rows
        )

    def read(self, signature: Signature, keep: Sequence[str]) -> Iterator[Part]:
        """Read the parts from the file on this machine.

        Raises:
            InputUnseen: The file does not exist here, or is a different one.
            ScoringRefused: The file cannot be read, or changed while it was read.
        """
        _require_same(self.source, self.crc)
        with self.source.open() as stream:
            parts = (
                self._read_text(stream) if self.source.format.is_text else self._read_tables(stream, signature, keep)
            )
            for at, part in enumerate(parts):
                yield replace(
                    part,
                    number=self.number + at,
                    partition=self.source.partition,
                    file=self.file,
                    end=self.ends[at],
                )
        self.source.require_unchanged()

    def _read_text(self, stream: BinaryIO) -> Iterator[Part]:
        stream.seek(self.begins)
        yield Part(0, self.source.format.name, stream.read(self.size_bytes), self.names, first=self.first)

    def _read_tables(self, stream: BinaryIO, signature: Signature, keep: Sequence[str]) -> Iterator[Part]:
        with refuse_unreadable(self.source):
            table = open_table(self.source, stream, signature, keep)
            first = self.first
            batches = _skip_rows(table.batches(self.pieces), self.skipped)
            for rows in islice(slices(batches, self.rows), len(self.ends)):
                yield table_part(rows, first, 1.0)
                first += rows.num_rows


def stretch_of_text(source: Source, part: Part) -> Stretch:
    """Return the stretch of one part of text."""
    size_bytes = len(part.content)
    return Stretch(
        0, *_identify(source), (part.end,), part.first, names=part.names, begins=part.begins, size_bytes=size_bytes
    )


def stretches_of_table(
    source: Source, pieces_of_file: Pieces, rows: int, workers: int, files: int, files_left: int
) -> Iterator[Stretch]:
    """Yield the stretches of a table.

    Args:
        source: The file.
        pieces_of_file: Its row groups or record batches.
        rows: The rows of a part.
        workers: The number of workers.
        files: The number of files of the input.
        files_left: The number of files from this one to the last.
    """
    total, rows_before, runs = sum(pieces_of_file.sizes), 0, len(pieces_of_file.runs)
    for number, run in enumerate(pieces_of_file.runs):
        size = sum(pieces_of_file.sizes[at] for at in run)
        parts, largest = (-(-count // rows) for count in (size, max(pieces_of_file.sizes[at] for at in run)))
        if largest < parts:  # reading can begin at any piece
            counts = _divide(parts, min(MOST_PARTS, largest))
        else:
            counts = parts_of_stretches(parts, runs * files, runs * files_left - number, workers)
        begins = 0
        for count in counts:
            ends = [min(size, begins + (at + 1) * rows) for at in range(count)]
            pieces, skipped = _select_pieces(run, pieces_of_file.sizes, begins, ends[-1])
            shares = tuple((rows_before + end) / total for end in ends)
            first = rows_before + begins + 1
            yield Stretch(0, *_identify(source), shares, first, pieces=pieces, skipped=skipped, rows=rows)
            begins = ends[-1]
        rows_before += size


def _select_pieces(run: Sequence[int], sizes: Sequence[int], begins: int, ends: int) -> tuple[tuple[int, ...], int]:
    """Return the pieces of a run that contain its rows from `begins` to `ends`, and the rows to skip in them."""
    pieces: list[int] = []
    at = skipped = 0
    for piece in run:
        if at < ends and at + sizes[piece] > begins:
            skipped = skipped if pieces else begins - at
            pieces.append(piece)
        at += sizes[piece]
    return tuple(pieces), skipped


def parts_of_stretches(parts: int, runs: int, runs_left: int, workers: int) -> list[int]:
    """Return the number of parts of each stretch of a row group.

    A worker that begins in the middle of a row group must decode the rows before. So a row group is cut only near the
    end of the input, where there are fewer row groups than workers. Then later stretches are shorter, so that all
    take the same time.

    Args:
        parts: The parts of the row group.
        runs: The number of row groups of the input.
        runs_left: The number of row groups from this one to the last.
        workers: The number of workers.
    """
    leftover, stretches = runs % workers, 1
    if runs_left <= leftover:

        def time_with(stretches: int) -> float:
            return round(-(-leftover * stretches // workers) / sum(_relative_lengths(stretches)), 2)

        stretches = min(range(1, min(parts, MOST_STRETCHES) + 1), key=time_with)
    lengths = _relative_lengths(stretches)
    ends = [round(parts * length / sum(lengths)) for length in accumulate(lengths, initial=0)]
    return [count for begins, end in pairwise(ends) for count in _divide(end - begins, MOST_PARTS)]


def _relative_lengths(stretches: int) -> list[float]:
    """Return the lengths of stretches of a row group that take the same time, relative to the first.

    A stretch of length s after others of total length b takes the time s + DECODING * b.
    """
    return [(1 - DECODING) ** at for at in range(stretches)]


def _divide(parts: int, most: int) -> list[int]:
    """Divide a number of parts into numbers of at most `most`."""
    return [min(most, parts - at) for at in range(0, parts, most)]


def _identify(source: Source) -> tuple[Source, int]:
    """Return the source with an absolute path, and the CRC-32 of both ends of the file; 0 for an object."""
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
    """Check that this machine sees the same file as the main process.

    Raises:
        InputUnseen: The file does not exist here, or is a different one.
    """
    key = source.key
    try:
        status = _status_of_object(*key) if is_url(source.name) else status_of(source.name)
        is_same = status == key[1:] and (is_url(source.name) or _crc_of(*key) == crc)
    except (OSError, ScoringRefused) as error:
        reason = error.detail if isinstance(error, ScoringRefused) else f"{source.name}: {error.strerror or error}"
        raise InputUnseen(f"the worker on {socket.gethostname()} does not see the input: {reason}") from None
    if not is_same:
        raise InputUnseen(f"the worker on {socket.gethostname()} sees another file as {source.name}")


def _skip_rows(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    """Yield batches without the first `rows` rows."""
    for batch in batches:
        skipped = min(rows, batch.num_rows)
        rows -= skipped
        if skipped < batch.num_rows:
            yield batch.slice(skipped)
