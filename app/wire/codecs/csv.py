"""`text/csv` (RFC 4180), with types from the signature, and the parameter `header=present` or `header=absent`.

Without the parameter, the first row is a header if it contains most of the feature names. Lines may end in LF. Blank
lines are skipped.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from app.core.answer import Answer, columns_of
from app.errors import FieldError, InvalidBody, TooManyInstances, TooManyValues
from app.signature.batch import json_text, json_values
from app.signature.cells import Read, read_untyped, reader_of
from app.signature.field_errors import refuse
from app.signature.json_values import BOM
from app.telemetry import check_deadline
from app.wire.codecs.codec import Codec, Document, Reading, Rows, check_names, check_records, untyped_records

MAX_CELL_CHARS = MAX_LINE_CHARS = 2**23
"""Python's default of 131,072 is less than a text may have. A character takes up to four bytes in memory."""
FORM = "CSV"
NOT_EMPTY = re.compile(rb"[^\r\n]+")
ROWS_AT_ONCE = 1000
HEADERS = ("present", "absent")
REASONS = {
    "end of data": "a quote is opened and never closed",
    "expected after": "after a closing quote there must be a comma or the end of the line; a quote in a quoted cell is"
    " doubled",
    "field limit": f"a cell has more than {MAX_CELL_CHARS} characters",
    "new-line": "a carriage return stands alone in a cell without quotes",
}
"""Our text for each error of Python's csv module, by a part of its message."""
OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


class Csv(Codec):
    """Codec of CSV. The instances are records if there is a header, else rows."""

    def decode(self, body: bytes, reading: Reading) -> Rows:
        """Return the instances."""
        header = reading.parameters.get("header", "").lower()
        if header and header not in HEADERS:
            raise InvalidBody(FORM, f"the media type's header parameter must be {' or '.join(HEADERS)}")
        _check_lines(body, reading.limits.max_values)
        if (nul := body.find(b"\0")) >= 0:
            raise InvalidBody(FORM, f"it has a NUL byte (line {_line(body, nul)})")
        lines = _cells(body, reading.limits.max_values)
        first = next(lines, None)
        readers = {spec.name: reader_of(spec) for spec in reading.signature.inputs}
        if first is None:
            return Rows()
        _check_separator(first, len(readers))
        if header == "present" or (not header and 2 * len(readers.keys() & set(first)) > len(readers)):
            check_names(first, reading)
            check_records(first, reading.signature)
            _check_rows(body, reading.limits.max_instances, headers=1)
            instances = _records(first, lines, readers, reading.limits.max_instances)
            return Rows(untyped_records(instances, first, reading.signature))
        _check_rows(body, reading.limits.max_instances)
        return Rows(_rows(first, lines, list(readers.values()), reading.limits.max_instances))

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return a header, then a row for each instance. A missing value is an empty cell."""
        columns = columns_of(answer)
        out = io.StringIO(newline="")
        writer = csv.writer(out)
        writer.writerow(columns)
        writer.writerows(zip(*(map(_cell, json_values(column)) for column in columns.values()), strict=True))
        return out.getvalue().encode("utf-8", "replace")


def _cell(value: Any) -> Any:
    return json_text(value) if isinstance(value, bool | list | dict) else value


def _lines(body: bytes) -> Iterator[str]:
    """Yield the lines of a body with their line ends, and refuse a line that is too long."""
    stream = io.BytesIO(body)
    stream.seek(len(BOM) if body.startswith(BOM) else 0)
    text = io.TextIOWrapper(stream, "utf-8", newline="")
    try:
        if len(body) <= MAX_LINE_CHARS:
            yield from text
            return
        while line := text.readline(MAX_LINE_CHARS + 1):
            if len(line) > MAX_LINE_CHARS:
                raise InvalidBody(FORM, f"a line is longer than {MAX_LINE_CHARS} characters")
            yield line
    except UnicodeDecodeError:
        raise InvalidBody(FORM, f"it is not UTF-8{_bad_line(body)}") from None


def _bad_line(body: bytes) -> str:
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        return f" (line {_line(body, error.start)})"
    return ""


def _line(content: bytes, at: int) -> int:
    return content.count(b"\n", 0, at) + 1


def _check_lines(body: bytes, most: int) -> None:
    """Refuse too many commas and lines outside the first and last quotes, because quoted ones may be text."""
    if len(body) <= most:
        return
    if (quotes := body.count(b'"')) > 2 * most:
        raise TooManyValues(quotes // 2, most, "quoted cells, and quotes in them")
    ends = body.find(b'"') if quotes else len(body)
    values = sum(
        body.count(b",", begins, end) + max(body.count(b"\n", begins, end), body.count(b"\r", begins, end))
        for begins, end in ((0, ends), (body.rfind(b'"', ends), len(body)))
        if begins >= 0
    )
    if values > most:
        raise TooManyValues(values, most)


def _check_rows(body: bytes, most: int, headers: int = 0) -> None:
    """Refuse too many rows before they are read, unless quotes may contain line ends."""
    if body.count(b"\n") > most and b'"' not in body:
        rows = sum(1 for _ in NOT_EMPTY.finditer(body)) - headers
        if rows > most:
            raise TooManyInstances(rows, most)


def _cells(body: bytes, most: int) -> Iterator[list[str]]:
    """Yield the rows that are not empty, and refuse too many cells and lines."""
    csv.field_size_limit(MAX_CELL_CHARS)
    values = rows = pending = 0

    def counted_lines() -> Iterator[str]:  # csv.reader has no limit for a row
        nonlocal pending
        for line in _lines(body):
            pending += line.count(",") + 1
            if pending > most:
                raise TooManyValues(pending, most)
            yield line

    lines = csv.reader(counted_lines(), strict=True)
    while True:
        first_line = lines.line_num + 1
        try:
            row = next(lines, None)
        except csv.Error as error:
            reasons = (text for part, text in REASONS.items() if part in str(error))
            reason = next(reasons, "it cannot be read as rows of cells")
            raise InvalidBody(FORM, f"{reason} (the row that begins on line {first_line})") from None
        if row is None:
            return
        rows, pending = rows + 1, 0
        values += len(row) or 1
        if values > most:
            raise TooManyValues(values, most)
        if rows % ROWS_AT_ONCE == 0:
            check_deadline()
        if row:
            yield row


def _check_separator(first: list[str], features: int) -> None:
    if len(first) > 1 or features < 2:
        return
    for separator, name in OTHER_SEPARATORS.items():
        if first[0].count(separator) >= features - 1:
            raise InvalidBody(FORM, f"its cells are separated by {name}; they must be by commas")


def _records(names: Sequence[str], lines: Iterator[list[str]], readers: dict[str, Read], most: int) -> list[Any]:
    columns = [(name, readers.get(name, read_untyped)) for name in names]
    instances: list[Any] = []

    def ragged_rows() -> Iterator[FieldError]:  # appends instances too: `lines` can be read only once
        for position, cells in enumerate(lines):
            if position >= most:
                raise TooManyInstances(most + 1 + sum(1 for _ in lines), most)
            if len(cells) == len(columns):
                instances.append({name: read(cell) for (name, read), cell in zip(columns, cells, strict=True)})
            else:
                detail = f"has {len(cells)} cells; the header has {len(columns)}"
                yield FieldError(f"#/instances/{position}", detail)

    refuse(ragged_rows())
    return instances


def _rows(first: list[str], lines: Iterator[list[str]], readers: list[Read], most: int) -> list[Any]:
    instances: list[Any] = []
    for cells in chain([first], lines):
        if len(instances) >= most:
            raise TooManyInstances(most + 1 + sum(1 for _ in lines), most)
        is_complete = len(cells) == len(readers)
        instances.append([read(cell) for read, cell in zip(readers, cells, strict=True)] if is_complete else cells)
    return instances
