"""The parts of the input, read in this process, or as stretches that worker processes read."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from app.jobs.locations import Source
from app.jobs.parts import Part, text_parts
from app.jobs.stretches import Stretch, stretch_of_text, stretches_of_table
from app.jobs.table_parts import bytes_of, is_stream, open_table, refuse_unreadable, table_part, table_parts
from app.signature import Signature


@dataclass(frozen=True, slots=True)
class InputParts:
    """The parts of the input, without the first `done` ones."""

    sources: Sequence[Source]
    signature: Signature
    keep: Sequence[str]
    done: int = 0

    def read(self, *, as_bytes: bool = False) -> Iterator[Part]:
        """Read the parts in this process. With `as_bytes`, serialize tables for other processes."""
        return parts_of(self.sources, self.signature, self.keep, self.done, as_bytes=as_bytes)

    def stretches(self, workers: int) -> Iterator[Stretch | Part]:
        """Yield stretches for the workers to read. Parts that only this process can find are yielded as parts."""
        number = 0
        for at, (source, place) in enumerate(zip(self.sources, places_in_input(self.sources), strict=True)):
            for stretch in self._stretches_of_file(at, workers, max(0, self.done - number)):
                count = len(stretch.ends) if isinstance(stretch, Stretch) else 1
                if number + count > self.done:
                    if isinstance(stretch, Part):
                        yield place_part(stretch, number, source, place, as_bytes=True)
                    else:
                        ends = tuple(map(place.end_of, stretch.ends))
                        stretch_of_input = replace(stretch, number=number, file=place.file, ends=ends)
                        yield stretch_of_input.skip_parts(max(0, self.done - number))
                number += count
            source.require_unchanged()

    def _stretches_of_file(self, at: int, workers: int, done: int) -> Iterator[Stretch | Part]:
        """Yield the stretches of one file, or its parts, all with the number 0."""
        source, files = self.sources[at], len(self.sources)
        with source.open() as stream:
            if source.format.is_text and not source.format.coding:
                for part in text_parts(source, stream, self.signature, self.keep):
                    yield stretch_of_text(source, part)
                return
            if not source.format.is_text and not is_stream(source, stream):
                with refuse_unreadable(source):
                    table = open_table(source, stream, self.signature, self.keep)
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
    as_bytes: bool = True,
) -> Iterator[Part]:
    """Yield the parts of the files, without the first `done` ones.

    A file without rows has one empty part with its columns. With `as_bytes`, tables are serialized.

    Raises:
        ScoringRefused: A file lacks a column or cannot be read.
    """
    number = 0
    for source, place in zip(sources, places_in_input(sources), strict=True):
        for part in parts_of_file(source, signature, keep, max(0, done - number)):
            if number >= done:
                yield place_part(part, number, source, place, as_bytes=as_bytes)
            number += 1


def require_columns_of(source: Source, signature: Signature, keep: Sequence[str]) -> None:
    """Check the columns of a file by its header or footer, without reading its rows.

    NDJSON and Arrow's stream format are not checked.

    Raises:
        ScoringRefused: The file lacks a column or cannot be read.
    """
    with source.open() as stream:
        if source.format.is_text:
            with closing(text_parts(source, stream, signature, keep)) as parts:  # type: ignore[type-var]
                next(parts, None)
        elif not is_stream(source, stream):
            with refuse_unreadable(source):
                open_table(source, stream, signature, keep)


@dataclass(frozen=True, slots=True)
class PlaceInInput:
    """The place of a file in the input: its name if the input has several files, and its share of all bytes."""

    file: str
    begins: float
    share: float

    def end_of(self, end: float) -> float:
        """Convert a fraction of the file to a fraction of the input."""
        return self.begins + end * self.share


def places_in_input(sources: Sequence[Source]) -> Iterator[PlaceInInput]:
    """Yield the place of each file in the input."""
    total_bytes = sum(source.size_bytes for source in sources) or 1
    before_bytes = 0
    for source in sources:
        file = source.name if len(sources) > 1 else ""
        yield PlaceInInput(file, before_bytes / total_bytes, source.size_bytes / total_bytes)
        before_bytes += source.size_bytes


def place_part(part: Part, number: int, source: Source, place: PlaceInInput, *, as_bytes: bool) -> Part:
    """Turn a part of a file into a part of the input: set its number and its place."""
    content, table = part.content, part.table
    if as_bytes and table is not None:
        content, table = bytes_of(table), None
    end = place.end_of(part.end)
    return Part(number, part.form, content, part.names, source.partition, part.first, place.file, end, table)


def parts_of_file(source: Source, signature: Signature, keep: Sequence[str], done: int) -> Iterator[Part]:
    """Yield the parts of one file, all with the number 0. The first `done` parts may be empty."""
    with source.open() as stream:
        if source.format.is_text:
            yield from text_parts(source, stream, signature, keep)
        else:
            yield from table_parts(source, stream, signature, keep, done)
    source.require_unchanged()
