"""Cut tables into parts: Parquet files, and files in Arrow's file and stream formats.

A part has at most `MOST_ROWS` rows. Parts of wide rows have fewer, so that a part takes about `TABLE_BYTES`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, BinaryIO

from app.errors import BodyTooLarge, InvalidBody, ScoringRefused, one_line
from app.jobs.locations import Source
from app.jobs.parts import Part, require_columns, require_once
from app.jobs.table_guards import ArrowGuard, check_arrow_stream, check_batches, open_parquet, refusal_of
from app.signature import Layout, Signature
from app.signature.arrow_messages import FILE_MAGIC

TABLE_BYTES = 8 * 2**20
MOST_ROWS = 65_536
OTHER_WIDTH_BYTES = 64
"""Assumed width of a value whose type has no fixed width."""


@dataclass(frozen=True, slots=True)
class Pieces:
    """The pieces of a table: its row groups or record batches.

    Attributes:
        sizes: The number of rows of each piece.
        runs: Groups of consecutive pieces. No part has rows of two runs.
    """

    sizes: Sequence[int]
    runs: Sequence[Sequence[int]]


@dataclass(frozen=True, slots=True)
class Table:
    """An opened file of Parquet or Arrow.

    Attributes:
        empty: Returns a table with the used columns and no rows.
        rows_at_once: The number of rows of a part.
        pieces: Returns the pieces. For Arrow, this reads the header of each batch.
        batches: Reads the pieces with these numbers.
    """

    empty: Callable[[], Any]
    rows_at_once: int
    pieces: Callable[[], Pieces]
    batches: Callable[[Sequence[int]], Iterator[Any]]


def open_table(source: Source, stream: BinaryIO, signature: Signature, keep: Sequence[str]) -> Table:
    """Open a Parquet file, or a file in Arrow's file format.

    Raises:
        ScoringRefused: The file lacks a column or exceeds a limit.
    """
    is_parquet = source.format.name == "parquet"
    schema, pieces, read = (_parquet_pieces if is_parquet else _arrow_pieces)(source, stream, signature, keep)
    columns = _columns_to_read(source, schema.names, signature, keep)
    rows_at_once = rows_of_a_part([schema.field(name).type for name in columns])

    def empty() -> Any:  # imports pandas
        return schema.empty_table().select(columns)

    def batches(numbers: Sequence[int]) -> Iterator[Any]:
        return check_batches(read(numbers, columns, rows_at_once), schema, source)

    return Table(empty, rows_at_once, lambda: pieces(rows_at_once), batches)


ReadPieces = Callable[[Sequence[int], Sequence[str], int], Iterator[Any]]


def _parquet_pieces(
    source: Source, stream: BinaryIO, signature: Signature, keep: Sequence[str]
) -> tuple[Any, Callable[[int], Pieces], ReadPieces]:
    file, schema = open_parquet(source, stream, {*signature.names, *keep})

    def pieces(rows_at_once: int) -> Pieces:
        sizes = [file.metadata.row_group(at).num_rows for at in range(file.metadata.num_row_groups)]
        return Pieces(sizes, [*_group_row_groups(sizes, rows_at_once)])

    def read(groups: Sequence[int], columns: Sequence[str], rows_at_once: int) -> Iterator[Any]:
        yield from file.iter_batches(rows_at_once, row_groups=groups, columns=columns, use_threads=False)

    return schema, pieces, read


def _arrow_pieces(source: Source, stream: BinaryIO, *_: object) -> tuple[Any, Callable[[int], Pieces], ReadPieces]:
    import pyarrow as pa

    guard = ArrowGuard(source, stream)
    file = pa.ipc.open_file(stream)

    def pieces(_: int) -> Pieces:
        sizes = guard.rows()
        return Pieces(sizes, [range(len(sizes))] if sizes else [])

    def read(numbers: Sequence[int], columns: Sequence[str], _: int) -> Iterator[Any]:
        for number in numbers:
            guard.check(number)
            yield file.get_batch(number).select(columns)

    return file.schema, pieces, read


def table_parts(
    source: Source, stream: BinaryIO, signature: Signature, keep: Sequence[str], done: int
) -> Iterator[Part]:
    """Yield the parts of a table. The first `done` parts may be empty."""
    with refuse_unreadable(source):
        if is_stream(source, stream):
            yield from _stream_parts(source, stream, signature, keep)
            return
        table = open_table(source, stream, signature, keep)
        pieces = table.pieces()
        first, total = 1, sum(pieces.sizes)
        for run in pieces.runs:
            rows = sum(pieces.sizes[at] for at in run)
            parts = -(-rows // table.rows_at_once)
            if done >= parts:  # skip them without decoding
                yield from (Part(0, "arrow", b"") for _ in range(parts))
                done, first = done - parts, first + rows
                continue
            done = 0
            for rows_of_part in slices(table.batches(run), table.rows_at_once):
                yield table_part(rows_of_part, first, (first + rows_of_part.num_rows - 1) / total)
                first += rows_of_part.num_rows
        if not total:
            yield table_part(table.empty(), 1, 1.0)


@contextmanager
def refuse_unreadable(source: Source) -> Iterator[None]:
    """Turn the errors of reading a table into ScoringRefused."""
    import pyarrow as pa

    try:
        yield
    except (InvalidBody, BodyTooLarge) as error:  # from checking a page
        raise refusal_of(source, error) from None
    except (pa.ArrowException, NotImplementedError, OSError) as error:  # OSError: the file ends too early
        raise ScoringRefused(f"{source.name} cannot be read: {one_line(error, 300)}") from None


def is_stream(source: Source, stream: BinaryIO) -> bool:
    """Return whether a file has Arrow's stream format, whatever its suffix. Leave the stream at its beginning.

    Raises:
        ScoringRefused: The file has no bytes.
    """
    if not source.size_bytes:
        raise ScoringRefused(
            f"{source.name}: the file is empty; a {source.format.suffix} file without rows still has column names"
        )
    if source.format.name == "parquet":
        return False
    begin = stream.read(len(FILE_MAGIC))
    stream.seek(0)
    return begin != FILE_MAGIC


def _group_row_groups(sizes: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Group consecutive row groups until a group has at least `rows` rows, and yield each group."""
    run: list[int] = []
    count = 0
    for at, size in enumerate(sizes):
        run.append(at)
        count += size
        if count >= rows:
            yield run
            run, count = [], 0
    if count:
        yield run


def _stream_parts(source: Source, stream: BinaryIO, signature: Signature, keep: Sequence[str]) -> Iterator[Part]:
    import pyarrow as pa

    check_arrow_stream(source, stream)
    reader = pa.ipc.open_stream(stream)
    columns = _columns_to_read(source, reader.schema.names, signature, keep)
    rows_at_once = rows_of_a_part([reader.schema.field(name).type for name in columns])
    selected = (batch.select(columns) for batch in reader)
    first = 1
    for table in slices(check_batches(selected, reader.schema, source), rows_at_once):
        yield table_part(table, first, min(1.0, stream.tell() / source.size_bytes))
        first += table.num_rows
    if first == 1:
        yield table_part(reader.schema.empty_table().select(columns), 1, 1.0)


def _columns_to_read(source: Source, names: Sequence[str], signature: Signature, keep: Sequence[str]) -> list[str]:
    """Return the names of the columns to read: the features and the columns to keep."""
    if signature.layout is Layout.RECORDS:
        raise ScoringRefused(f"{source.name}: this model takes records of any names, which only NDJSON holds")
    require_columns(source, names, signature, keep)
    used = {*signature.names, *keep}
    require_once(source, names, used)
    return [name for name in names if name in used]


def rows_of_a_part(types: Sequence[Any]) -> int:
    """Return the number of rows of a part whose columns have these Arrow types."""
    width = 0
    for arrow_type in types:
        try:
            width += max(1, arrow_type.bit_width // 8)
        except ValueError:  # it has no fixed width
            width += OTHER_WIDTH_BYTES
    return max(1, min(MOST_ROWS, TABLE_BYTES // max(1, width)))


def slices(batches: Iterator[Any], rows: int) -> Iterator[Any]:
    """Regroup batches into tables of `rows` rows. The last table may have fewer."""
    import pyarrow as pa

    pending: list[Any] = []
    count = 0
    for batch in batches:
        if batch.num_rows:
            pending.append(batch)
            count += batch.num_rows
        while count >= rows:
            table = pa.Table.from_batches(pending)
            yield table.slice(0, rows)
            pending = table.slice(rows).to_batches()
            count -= rows
    if count:
        yield pa.Table.from_batches(pending)


def table_part(table: Any, first: int, end: float) -> Part:
    """Validate a table, and return it as a part."""
    table.validate(full=True)
    return Part(0, "arrow", b"", first=first, end=end, table=table)


def bytes_of(table: Any) -> bytes:
    """Serialize a table in Arrow's stream format."""
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())
