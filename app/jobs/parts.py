"""Parts of the input: rows that are scored together. This module cuts CSV and NDJSON; `table_parts` cuts tables.

A file is always cut into the same parts. A part of text has whole lines: about `TEXT_BYTES` bytes, and at most
`MOST_LINES` lines.
"""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np

from app.errors import ColumnsMissing, ScoringRefused
from app.jobs.formats import decompress, read_errors, require_content
from app.jobs.locations import Source
from app.signature import Signature
from app.signature.field_errors import some
from app.signature.json_values import BOM

TEXT_BYTES = 4 * 2**20
MOST_LINES = 131_072
MOST_RECORD_BYTES = 2**26
"""The longest accepted line of NDJSON, or row of CSV."""
NEWLINE = ord("\n")
QUOTED = re.compile(rb'(?:^|(?<=[,\n\r]))"(?:[^"]++|"")*+(?:"|\Z)')
"""A quoted cell, or a quoted cell at the end whose closing quote is missing."""


@dataclass(frozen=True, slots=True)
class Part:
    """Rows of one file that are scored together.

    Attributes:
        number: Its position among all parts, from 0.
        form: "csv" (lines without a header), "ndjson" or "arrow" (an IPC stream).
        content: Its bytes; empty if `table` is set.
        table: A pyarrow table in place of the bytes, within one process.
        names: The columns of CSV.
        partition: Columns from the names of the folders, as in `year=2026/`.
        first: The line of its first row, or the number of that row in a table, from 1.
        file: The name of its file, if the input has several files.
        end: The fraction of the whole input up to the end of this part.
        begins: The position of its text in the decompressed file, in bytes.
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
    begins: int = 0


def require_columns(source: Source, names: Collection[str], signature: Signature, keep: Sequence[str]) -> None:
    """Check that a file has the model's features and the columns to keep.

    Raises:
        ColumnsMissing: Columns are missing. The message lists them and the columns of the file.
    """
    columns = dict.fromkeys([*names, *source.partition])
    features, kept = ([name for name in required if name not in columns] for required in (signature.names, keep))
    shortages = [
        f"{subject} {some(missing)}"
        for subject, missing in (("the model's features", features), ("the kept columns", kept))
        if missing
    ]
    if shortages:
        # Show a name with spaces around it in quotes.
        column_list = some([name if name == name.strip() else repr(name) for name in columns]) or "none"
        separator = next((mark for mark in (";", "\t", "|") if len(names) == 1 and mark in next(iter(names))), "")
        column_list += f"; columns are separated by commas, and these are by {separator!r}" if separator else ""
        note = ", by its first row," if source.format.name == "csv" and len(features) == len(signature.names) else ""
        detail = f"{source.name} lacks {', and '.join(shortages)}; its columns{note} are: {column_list}"
        raise ColumnsMissing(detail, features, kept, column_list)


def require_once(source: Source, names: Sequence[str], used: Collection[str]) -> None:
    """Check that no used column occurs twice in a file.

    Raises:
        ScoringRefused: A used column occurs twice.
    """
    twice = [name for name, times in Counter(names).items() if times > 1 and name in used]
    if twice:
        raise ScoringRefused(f"{source.name} has more than one column named {some(twice)}")


def text_parts(source: Source, raw: BinaryIO, signature: Signature, keep: Sequence[str]) -> Iterator[Part]:
    """Yield the parts of a CSV or NDJSON file."""
    with decompress(raw, source.format.coding) as stream:
        is_csv = source.format.name == "csv"
        names: tuple[str, ...] = ()
        line_number, has_begun, end_position = 1, False, 0
        try:
            for block, line_count in _blocks(source, stream, is_csv):
                if not end_position:
                    require_content(source.name, block, source.format)
                content = block.removeprefix(BOM) if line_number == 1 else block
                rows_begin = line_number
                if not has_begun and content.strip():
                    has_begun = True
                    if is_csv:
                        names, content, header_lines = _header(source, content, signature, keep)
                        rows_begin += header_lines
                if raw.tell() > source.size_bytes:  # the file may be growing while it is read
                    source.require_unchanged()
                end = min(1.0, raw.tell() / source.size_bytes) if source.size_bytes else 1.0
                end_position += len(block)
                if has_begun:
                    begins = end_position - len(content)
                    yield Part(0, source.format.name, content, names, first=rows_begin, end=end, begins=begins)
                line_number += line_count
            if not has_begun:
                yield Part(0, source.format.name, b"", tuple(dict.fromkeys([*signature.names, *keep])))
        except read_errors() as error:
            raise ScoringRefused(f"{source.name} is not whole, or no {source.format.coding} ({error})") from None


def _blocks(source: Source, stream: BinaryIO, is_csv: bool) -> Iterator[tuple[bytes, int]]:
    """Yield blocks of whole lines, in CSV of whole rows, and the number of lines of each."""
    pending, lines_before = b"", 0
    while chunk := stream.read(TEXT_BYTES):
        pending += chunk
        end = _end_of_rows(pending) if is_csv else pending.rfind(b"\n") + 1
        if end:
            for piece in _pieces(pending[:end], is_csv):
                yield piece
                lines_before += piece[1]
            pending = pending[end:]
        elif len(pending) > MOST_RECORD_BYTES:
            problem = "a row is longer than" if is_csv else "a line is longer than"
            hint = ", or a quote is opened and never closed" * is_csv
            raise ScoringRefused(f"{source.name}: {problem} {MOST_RECORD_BYTES} bytes, the most that is read{hint}")
    if is_csv and (begins := _open_quote(pending)) is not None:
        line = 1 + lines_before + pending.count(b"\n", 0, begins)
        raise ScoringRefused(f"{source.name}: the quote on line {line} is never closed; rows after it would be lost")
    if pending:
        yield from _pieces(pending, is_csv)


def _pieces(block: bytes, is_csv: bool) -> Iterator[tuple[bytes, int]]:
    """Cut a block into pieces of at most `MOST_LINES` lines. Yield each piece with its number of lines.

    Many short rows take much more memory than their text.
    """
    while (lines := _count_lines(block)) > MOST_LINES:
        end = size = len(block)
        while block.count(b"\n", 0, size) > MOST_LINES:
            size //= 2
            end = (_end_of_rows(block[:size]) if is_csv else block.rfind(b"\n", 0, size) + 1) or end
        yield block[:end], _count_lines(block[:end])
        block = block[end:]
    if block:
        yield block, lines


def _count_lines(block: bytes) -> int:
    """Return the number of line ends in a block. `bytes.count` takes several times as long."""
    return int(np.count_nonzero(np.frombuffer(block, np.uint8) == NEWLINE))


def _open_quote(content: bytes) -> int | None:
    """Return the position of a quote that is never closed; None if all are closed."""
    last = None
    for last in QUOTED.finditer(content) if b'"' in content else ():  # noqa: B007 - the last one is used
        pass
    if last is None or last.end() < len(content):
        return None
    inside = last.group()[1:].replace(b'""', b"")
    return None if inside.endswith(b'"') or last.group() == b'""' else last.start()


def _end_of_rows(content: bytes) -> int:
    """Return the end of the last complete row. A quote counts only at the beginning of a cell, as in RFC 4180."""
    end = len(content)
    quoted = [cell.span() for cell in QUOTED.finditer(content)] if b'"' in content else []
    if quoted and quoted[-1][1] == end:  # the cell is not closed, or ends with the first half of a doubled quote
        end = quoted.pop()[0]
    for begins, ends in reversed(quoted):
        if (at := content.rfind(b"\n", ends, end)) >= 0:
            return at + 1
        end = begins
    return content.rfind(b"\n", 0, end) + 1


def _header(
    source: Source, content: bytes, signature: Signature, keep: Sequence[str]
) -> tuple[tuple[str, ...], bytes, int]:
    """Return the column names, the rows, and the number of header lines. Without a header, names are the features.

    The first row is a header if it names most of the features, if it has more or fewer cells than there are features,
    or if it has different words where the model takes numbers.
    """
    end = _end_of_first_row(content)
    try:
        text = content[:end].decode("utf-8")
    except UnicodeDecodeError:
        raise ScoringRefused(f"{source.name}: its first row is not UTF-8") from None
    try:
        first = next((row for row in csv.reader(io.StringIO(text, newline="")) if row), [])
    except csv.Error as error:
        raise ScoringRefused(f"{source.name}: its first row cannot be read: {error}") from None
    features = signature.names
    if b"\n" not in content and b"\r" in content.strip():
        raise ScoringRefused(f"{source.name}: its lines end with CR alone; lines end with LF, or with CR and LF")
    names_most = 2 * len({*features} & {*first}) > len(features)
    if names_most or len(first) != len(features) or _has_words_for_numbers(first, signature):
        require_once(source, first, {*features, *keep})
        require_columns(source, first, signature, keep)
        return tuple(first), content[end:], content.count(b"\n", 0, end)
    require_columns(source, features, signature, keep)
    return features, content, 0


def _has_words_for_numbers(row: Sequence[str], signature: Signature) -> bool:
    """Return whether all cells differ and are words where the model takes numbers, like unknown column names."""
    words = [cell for cell, spec in zip(row, signature.inputs, strict=True) if spec.kind in ("number", "integer")]
    return bool(words) and len({*row}) == len(row) and not any(_is_number(word) for word in words)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return not cell.strip()
    return True


def _end_of_first_row(content: bytes) -> int:
    at = len(content) - len(content.lstrip(b"\r\n"))
    if (end := content.find(b"\n", at)) >= 0 and b'"' not in content[:end]:
        return end + 1
    for cell in QUOTED.finditer(content):
        end = content.find(b"\n", at, cell.start())
        if end >= 0:
            return end + 1
        at = max(at, cell.end())
    return content.find(b"\n", at) + 1 or len(content)
