"""The parts of the input: read here, or named for worker processes that read them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from app.jobs.locations import Source
from app.jobs.parts import Part, text_parts
from app.jobs.stretches import Stretch, stretch_of_text, stretches_of_table
from app.jobs.table_parts import bytes_of, is_stream, opened_table, readable, table_part, table_parts
from app.signature import Signature


@dataclass(frozen=True, slots=True)
class InputParts:
    """The parts of the input that are not done yet."""

    sources: Sequence[Source]
    signature: Signature
    keep: Sequence[str]
    done: int = 0

    def read(self, *, travelling: bool = False) -> Iterator[Part]:
        """Read the parts here. Those that go to other processes are `travelling`."""
        return parts_of(self.sources, self.signature, self.keep, self.done, travelling=travelling)

    def named(self, workers: int) -> Iterator[Stretch | Part]:
        """Name the parts for so many workers. Those that cannot be named are read here."""
        number = 0
        for at, (source, place) in enumerate(zip(self.sources, places_in_input(self.sources), strict=True)):
            for found in self._in_file(at, workers, max(0, self.done - number)):
                count = len(found.ends) if isinstance(found, Stretch) else 1
                if number + count > self.done:
                    if isinstance(found, Part):
                        yield placed(found, number, source, place, travelling=True)
                    else:
                        ends = tuple(map(place.end_of, found.ends))
                        whole = replace(found, number=number, file=place.file, ends=ends)
                        yield whole.without(max(0, self.done - number))
                number += count
            source.require_unchanged()

    def _in_file(self, at: int, workers: int, done: int) -> Iterator[Stretch | Part]:
        """Yield the stretches of one file, or its parts, numbered 0."""
        source, files = self.sources[at], len(self.sources)
        with source.open() as stream:
            if source.format.is_text and not source.format.coding:
                for part in text_parts(source, stream, self.signature, self.keep):
                    yield stretch_of_text(source, part)
                return
            if not source.format.is_text and not is_stream(source, stream):
                with readable(source):
                    table = opened_table(source, stream, self.signature, self.keep)
                    pieces = table.pieces()
                if any(pieces.sizes):
                    yield from stretches_of_table(source, pieces, table.rows_at_once, workers, files, files - at)
                    return
                yield table_part(table.empty(), 1, 1.0)
                return
        yield from parts_of_file(source, self.signature, self.keep, done)


def parts_of(
    sources: Sequence[Source],
    signature: Signature,
    keep: Sequence[str],
    done: int = 0,
    *,
    travelling: bool = True,
) -> Iterator[Part]:
    """Yield the parts of the files, without the first `done` ones. Those that go to other processes are `travelling`.

    A file without rows has one part, which tells its columns.

    Raises:
        ScoringRefused: A file lacks a column, or cannot be read.
    """
    number = 0
    for source, place in zip(sources, places_in_input(sources), strict=True):
        for part in parts_of_file(source, signature, keep, max(0, done - number)):
            if number >= done:
                yield placed(part, number, source, place, travelling=travelling)
            number += 1


def require_columns_of(source: Source, signature: Signature, keep: Sequence[str]) -> None:
    """Check what the head of a file tells, without reading its rows. NDJSON, and Arrow's stream format, tell nothing.

    Raises:
        ScoringRefused: The file lacks a column, or cannot be read.
    """
    with source.open() as stream:
        if source.format.is_text:
            with closing(text_parts(source, stream, signature, keep)) as parts:  # type: ignore[type-var]
                next(parts, None)
        elif not is_stream(source, stream):
            with readable(source):
                opened_table(source, stream, signature, keep)


@dataclass(frozen=True, slots=True)
class PlaceInInput:
    """The place of a file in the input: its name if there are several, and its share of all bytes."""

    file: str
    begins: float
    share: float

    def end_of(self, end: float) -> float:
        """Return a share of the file as a share of the input."""
        return self.begins + end * self.share


def places_in_input(sources: Sequence[Source]) -> Iterator[PlaceInInput]:
    """Yield the place of each file."""
    total_bytes = sum(source.size_bytes for source in sources) or 1
    before_bytes = 0
    for source in sources:
        file = source.name if len(sources) > 1 else ""
        yield PlaceInInput(file, before_bytes / total_bytes, source.size_bytes / total_bytes)
        before_bytes += source.size_bytes


def placed(part: Part, number: int, source: Source, place: PlaceInInput, *, travelling: bool) -> Part:
    """Return a part of a file as a part of the input."""
    content, table = part.content, part.table
    if travelling and table is not None:
        content, table = bytes_of(table), None
    end = place.end_of(part.end)
    return Part(number, part.form, content, part.names, source.partition, part.first, place.file, end, table)


def parts_of_file(source: Source, signature: Signature, keep: Sequence[str], done: int) -> Iterator[Part]:
    """Yield the parts of one file, numbered 0. Those that are done may be empty."""
    with source.open() as stream:
        if source.format.is_text:
            yield from text_parts(source, stream, signature, keep)
        else:
            yield from table_parts(source, stream, signature, keep, done)
    source.require_unchanged()
