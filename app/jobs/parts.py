"""Parts of the input: rows that are scored together. Files of text are cut into parts here, tables in `table_parts`.

A file always has the same parts. A part of text is whole lines, about `TEXT_BYTES` of them and at most `MOST_LINES`.
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
"""The longest line, or row of CSV, that is read."""
NEWLINE = ord("\n")
QUOTED = re.compile(rb'(?:^|(?<=[,\n\r]))"(?:[^"]++|"")*+(?:"|\Z)')
"""A cell in quotes, or the beginning of one at the end."""


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
        begins: The position of its text in the decompressed file.
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
    """Refuse a file that lacks columns: no row of it could be scored.

    Raises:
        ColumnsMissing: It lacks some; the message names them and those that it has.
    """
    there = dict.fromkeys([*names, *source.partition])
    features, kept = ([name for name in wanted if name not in there] for wanted in (signature.names, keep))
    lacks = [
        f"{what} {some(missing)}"
        for what, missing in (("the model's features", features), ("the kept columns", kept))
        if missing
    ]
    if lacks:
        # In quotes if a name has spaces around it.
        has = some([name if name == name.strip() else repr(name) for name in there]) or "none"
        other = next((mark for mark in (";", "\t", "|") if len(names) == 1 and mark in next(iter(names))), "")
        has += f"; columns are separated by commas, and these are by {other!r}" if other else ""
        by = ", by its first row," if source.format.name == "csv" and len(features) == len(signature.names) else ""
        detail = f"{source.name} lacks {', and '.join(lacks)}; its columns{by} are: {has}"
        raise ColumnsMissing(detail, features, kept, has)


def require_once(source: Source, names: Sequence[str], wanted: Collection[str]) -> None:
    """Refuse a file that has a wanted column twice.

    Raises:
        ScoringRefused: It has.
    """
    twice = [name for name, times in Counter(names).items() if times > 1 and name in wanted]
    if twice:
        raise ScoringRefused(f"{source.name} has more than one column named {some(twice)}")


def text_parts(source: Source, raw: BinaryIO, signature: Signature, keep: Sequence[str]) -> Iterator[Part]:
    """Yield the parts of a file of text."""
    with decompress(raw, source.format.coding) as stream:
        is_csv = source.format.name == "csv"
        names: tuple[str, ...] = ()
        line, begun, position = 1, False, 0
        try:
            for block, lines in _blocks(source, stream, is_csv):
                if not position:
                    require_content(source.name, block, source.format)
                content = block.removeprefix(BOM) if line == 1 else block
                rows_begin = line
                if not begun and content.strip():
                    begun = True
                    if is_csv:
                        names, content, header_lines = _header(source, content, signature, keep)
                        rows_begin += header_lines
                if raw.tell() > source.size_bytes:  # it may grow as quickly as it is read
                    source.require_unchanged()
                end = min(1.0, raw.tell() / source.size_bytes) if source.size_bytes else 1.0
                position += len(block)
                if begun:
                    begins = position - len(content)
                    yield Part(0, source.format.name, content, names, first=rows_begin, end=end, begins=begins)
                line += lines
            if not begun:
                yield Part(0, source.format.name, b"", tuple(dict.fromkeys([*signature.names, *keep])))
        except read_errors() as error:
            raise ScoringRefused(f"{source.name} is not whole, or no {source.format.coding} ({error})") from None


def _blocks(source: Source, stream: BinaryIO, is_csv: bool) -> Iterator[tuple[bytes, int]]:
    """Yield blocks that end with a line, in CSV with the line of a whole row, and the number of their lines."""
    pending, lines = b"", 0
    while read := stream.read(TEXT_BYTES):
        pending += read
        end = _end_of_rows(pending) if is_csv else pending.rfind(b"\n") + 1
        if end:
            for piece in _pieces(pending[:end], is_csv):
                yield piece
                lines += piece[1]
            pending = pending[end:]
        elif len(pending) > MOST_RECORD_BYTES:
            what = "a row is longer than" if is_csv else "a line is longer than"
            quote = ", or a quote is opened and never closed" * is_csv
            raise ScoringRefused(f"{source.name}: {what} {MOST_RECORD_BYTES} bytes, the most that is read{quote}")
    if is_csv and (begins := _open_quote(pending)) is not None:
        line = 1 + lines + pending.count(b"\n", 0, begins)
        raise ScoringRefused(f"{source.name}: the quote on line {line} is never closed; rows after it would be lost")
    if pending:
        yield from _pieces(pending, is_csv)


def _pieces(block: bytes, is_csv: bool) -> Iterator[tuple[bytes, int]]:
    """Cut a block of very short rows, which take much more memory than their text, into pieces of `MOST_LINES`.

    Yield each piece with the number of its lines.
    """
    while (lines := _count(block)) > MOST_LINES:
        end = size = len(block)
        while block.count(b"\n", 0, size) > MOST_LINES:
            size //= 2
            end = (_end_of_rows(block[:size]) if is_csv else block.rfind(b"\n", 0, size) + 1) or end
        yield block[:end], _count(block[:end])
        block = block[end:]
    if block:
        yield block, lines


def _count(block: bytes) -> int:
    """Return how many lines end in a block. The method `count` of bytes takes several times as long."""
    return int(np.count_nonzero(np.frombuffer(block, np.uint8) == NEWLINE))


def _open_quote(content: bytes) -> int | None:
    """Return where a cell begins whose quote is not closed; None if there is none."""
    last = None
    for last in QUOTED.finditer(content) if b'"' in content else ():  # noqa: B007 - the last one is used
        pass
    if last is None or last.end() < len(content):
        return None
    inside = last.group()[1:].replace(b'""', b"")
    return None if inside.endswith(b'"') or last.group() == b'""' else last.start()


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

    The first row is a header if it names most of the model's features, or has another word for each number.
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
    """Return whether a row has words, each another one, where the model takes numbers: names that it does not know."""
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
