"""Cut the files of the input into parts: always the same ones, in order, one at a time in memory.

A part of text is whole lines, about `TEXT_BYTES` of them. A part of a table has at most `MOST_ROWS` rows, and fewer if
they are wide, so that it takes about `TABLE_BYTES`.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from app.errors import ScoringRefused
from app.jobs.formats import damages, decompressed
from app.jobs.locations import Source
from app.signature import Layout, Signature
from app.signature.field_errors import some
from app.signature.json_values import BOM

TEXT_BYTES = 4 * 2**20
TABLE_BYTES = 8 * 2**20
MOST_ROWS = 65_536
MOST_RECORD_BYTES = 2**26
"""The longest line, or row of CSV, that is read."""
FIXED_WIDTH_BYTES, OTHER_WIDTH_BYTES = 8, 64
QUOTED = re.compile(rb'(?:^|(?<=[,\n\r]))"(?:[^"]++|"")*+(?:"|\Z)')
"""A cell in quotes, or the beginning of one at the end."""
ARROW_MAGIC = b"ARROW1"


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one file that are scored together.

    Attributes:
        number: Its position among all parts, from 0.
        form: "csv" (lines without a header), "ndjson" or "arrow" (an IPC stream).
        content: Its bytes.
        table: Its pyarrow table in place of bytes, within one process.
        names: The columns of CSV.
        partition: Columns that the folders of the file name.
        first: The line of its first row, or the number of that row in a table, from 1.
        file: The name of its file, if there are several.
        end: The share of the whole input that lies before its end.
    """

    number: int
    form: str
    content: bytes
    names: tuple[str, ...] = ()
    partition: Mapping[str, str] = field(default_factory=dict)
    first: int = 1
    file: str = ""
    end: float = 1.0
    table: Any = None


def parts_of(
    sources: Sequence[Source],
    signature: Signature,
    keep: Sequence[str],
    done: int = 0,
    *,
    travelling: bool = True,
) -> Iterator[Part]:
    """Yield the parts of the files, without the first `done` ones. Those that go to other processes are `travelling`.

    Raises:
        ScoringRefused: A file lacks a column, or cannot be read.
    """
    total_bytes = sum(source.size_bytes for source in sources) or 1
    before_bytes, number = 0, 0
    for source in sources:
        file = source.name if len(sources) > 1 else ""
        for part in _parts_of_file(source, signature, keep, max(0, done - number)):
            if number >= done:
                end = (before_bytes + part.end * source.size_bytes) / total_bytes
                content, table = part.content, part.table
                if travelling and table is not None:
                    content, table = _bytes_of(table), None
                yield Part(number, part.form, content, part.names, source.partition, part.first, file, end, table)
            number += 1
        before_bytes += source.size_bytes


def _parts_of_file(source: Source, signature: Signature, keep: Sequence[str], done: int) -> Iterator[Part]:
    """Yield the parts of one file, numbered 0. Those that are done may be empty."""
    with source.open() as stream:
        if source.format.is_text:
            yield from _text_parts(source, stream, signature, keep)
        else:
            yield from _table_parts(source, stream, signature, keep, done)


def require_columns(source: Source, names: Collection[str], signature: Signature, keep: Sequence[str]) -> None:
    """Refuse a file that lacks columns: no row of it could be scored.

    Raises:
        ScoringRefused: It lacks some; the message names them and those that it has.
    """
    there = {*names, *source.partition}
    for wanted, what in ((signature.names, "the model's features"), (keep, "columns to keep")):
        missing = [name for name in wanted if name not in there]
        if missing:
            raise ScoringRefused(f"{source.name} lacks {what} {some(missing)}; its columns are: {some(sorted(there))}")


# --- text


def _text_parts(source: Source, raw: BinaryIO, signature: Signature, keep: Sequence[str]) -> Iterator[Part]:
    with decompressed(raw, source.format.coding) as stream:
        is_csv = source.format.name == "csv"
        names: tuple[str, ...] = ()
        line, begun = 1, False
        try:
            for block in _blocks(source, stream, is_csv):
                content = block.removeprefix(BOM) if line == 1 else block
                lines = content.count(b"\n")
                if is_csv and not begun and content.strip():
                    names, content, header_lines = _header(source, content, signature, keep)
                    line, lines, begun = line + header_lines, lines - header_lines, True
                end = min(1.0, raw.tell() / source.size_bytes) if source.size_bytes else 1.0
                yield Part(0, source.format.name, content, names, first=line, end=end)
                line += lines
        except damages() as error:
            raise ScoringRefused(f"{source.name} is not whole, or no {source.format.coding} ({error})") from None


def _blocks(source: Source, stream: BinaryIO, is_csv: bool) -> Iterator[bytes]:
    """Yield blocks that end with a line; in CSV, with the line of a whole row."""
    pending = b""
    while read := stream.read(TEXT_BYTES):
        pending += read
        end = _end_of_rows(pending) if is_csv else pending.rfind(b"\n") + 1
        if end:
            yield pending[:end]
            pending = pending[end:]
        elif len(pending) > MOST_RECORD_BYTES:
            what = "a row is longer than" if is_csv else "a line is longer than"
            quote = ", or a quote is opened and never closed" * is_csv
            raise ScoringRefused(f"{source.name}: {what} {MOST_RECORD_BYTES} bytes, the most that is read{quote}")
    if pending:
        yield pending


def _end_of_rows(content: bytes) -> int:
    """Return the end of the last whole row. A quote opens a cell only at its beginning, as in RFC 4180."""
    end = len(content)
    quoted = [cell.span() for cell in QUOTED.finditer(content)] if b'"' in content else []
    if quoted and quoted[-1][1] == end:  # it is not closed, or its last quote is the first half of a doubled one
        end = quoted.pop()[0]
    for begins, ends in reversed(quoted):
        if (at := content.rfind(b"\n", ends, end)) >= 0:
            return at + 1
        end = begins
    return content.rfind(b"\n", 0, end) + 1


def _header(
    source: Source, content: bytes, signature: Signature, keep: Sequence[str]
) -> tuple[tuple[str, ...], bytes, int]:
    """Return the names of the columns, the rows, and the lines of the header. Without one, the model's names stand.

    The first row is a header if it names most of the model's features.
    """
    end = _end_of_first_row(content)
    try:
        text = content[:end].decode("utf-8")
    except UnicodeDecodeError:
        raise ScoringRefused(f"{source.name}: its first row is not UTF-8") from None
    first = next((row for row in csv.reader(io.StringIO(text, newline="")) if row), [])
    features = signature.names
    if 2 * len({*features} & {*first}) > len(features) or len(first) != len(features):
        twice = sorted({name for name in first if first.count(name) > 1})
        if twice:
            raise ScoringRefused(f"{source.name} has more than one column named {some(twice)}")
        require_columns(source, first, signature, keep)
        return tuple(first), content[end:], content.count(b"\n", 0, end)
    require_columns(source, features, signature, keep)
    return features, content, 0


def _end_of_first_row(content: bytes) -> int:
    at = len(content) - len(content.lstrip(b"\r\n"))
    while True:
        end = content.find(b"\n", at) + 1 or len(content)
        if end == len(content) or _end_of_rows(content[:end]) == end:
            return end
        at = end


# --- tables


def _table_parts(
    source: Source, stream: BinaryIO, signature: Signature, keep: Sequence[str], done: int
) -> Iterator[Part]:
    import pyarrow as pa

    try:
        if source.format.name == "parquet":
            yield from _parquet_parts(source, stream, signature, keep, done)
        else:
            yield from _arrow_parts(source, stream, signature, keep)
    except (pa.ArrowException, NotImplementedError) as error:
        raise ScoringRefused(f"{source.name} cannot be read: {' '.join(str(error).split())[:300]}") from None


def _parquet_parts(
    source: Source, stream: BinaryIO, signature: Signature, keep: Sequence[str], done: int
) -> Iterator[Part]:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=2**20)
    schema = file.schema_arrow
    columns = _used(source, schema.names, signature, keep)
    metadata = file.metadata
    rows_at_once = rows_of_a_part([schema.field(name).type for name in columns])
    first, total = 1, metadata.num_rows or 1
    for groups in _runs([metadata.row_group(at).num_rows for at in range(metadata.num_row_groups)], rows_at_once):
        rows = sum(metadata.row_group(at).num_rows for at in groups)
        parts = -(-rows // rows_at_once)
        if done >= parts:  # nothing of them is decoded
            yield from (Part(0, "arrow", b"") for _ in range(parts))
            done, first = done - parts, first + rows
            continue
        done = 0
        read = file.iter_batches(rows_at_once, row_groups=groups, columns=columns, use_threads=False)
        for table in _slices(read, rows_at_once, schema.names):
            yield _part_of(table, first, (first + table.num_rows - 1) / total)
            first += table.num_rows


def _runs(sizes: Sequence[int], rows: int) -> Iterator[list[int]]:
    """Yield the row groups that are read together: small ones until there are enough rows."""
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


def _arrow_parts(source: Source, stream: BinaryIO, signature: Signature, keep: Sequence[str]) -> Iterator[Part]:
    import pyarrow as pa

    is_file = stream.read(len(ARROW_MAGIC)) == ARROW_MAGIC
    stream.seek(0)
    reader = pa.ipc.open_file(stream) if is_file else pa.ipc.open_stream(stream)
    columns = _used(source, reader.schema.names, signature, keep)
    rows_at_once = rows_of_a_part([reader.schema.field(name).type for name in columns])
    batches = (reader.get_batch(at) for at in range(reader.num_record_batches)) if is_file else iter(reader)
    selected = (batch.select(columns) for batch in batches)
    first = 1
    for table in _slices(selected, rows_at_once, columns):
        yield _part_of(table, first, min(1.0, stream.tell() / source.size_bytes))
        first += table.num_rows


def _used(source: Source, names: Sequence[str], signature: Signature, keep: Sequence[str]) -> list[str]:
    """Return the columns that are read: the features and those that are kept."""
    if signature.layout is Layout.RECORDS:
        raise ScoringRefused(f"{source.name}: this model takes records of any names, which only NDJSON holds")
    require_columns(source, names, signature, keep)
    wanted = {*signature.names, *keep}
    twice = sorted({name for name in names if name in wanted and names.count(name) > 1})
    if twice:
        raise ScoringRefused(f"{source.name} has more than one column named {some(twice)}")
    return [name for name in names if name in wanted]


def rows_of_a_part(types: Sequence[Any]) -> int:
    """Return the most rows of a part whose columns have these types of Arrow."""
    width = 0
    for of in types:
        try:
            width += max(1, of.bit_width // 8)
        except ValueError:  # it has no fixed width
            width += OTHER_WIDTH_BYTES
    return max(1, min(MOST_ROWS, TABLE_BYTES // max(1, width)))


def _slices(batches: Iterator[Any], rows: int, names: Sequence[str]) -> Iterator[Any]:
    """Yield tables of so many rows, and one of the rest."""
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


def _part_of(table: Any, first: int, end: float) -> Part:
    table.validate(full=True)
    return Part(0, "arrow", b"", first=first, end=end, table=table)


def _bytes_of(table: Any) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    return bytes(sink.getvalue())
