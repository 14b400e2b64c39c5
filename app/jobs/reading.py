"""Read the rows of a part, as pyarrow columns or as plain values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.errors import InvalidJson, ScoringRefused, one_line
from app.jobs.columns import EXACT
from app.jobs.parts import Part
from app.signature import Input, Layout, Signature
from app.signature.arrow_values import numbers_of, plain_values
from app.signature.cells import read_untyped, reader_of
from app.signature.json_values import read_json

OTHER_NAN = re.compile(rb"-nan|nan\(", re.IGNORECASE)
"""Spellings of NaN that pyarrow accepts and HTTP requests may not use."""
LIST_BYTES = 2**30
MOST_INTEGER = 2.0**63
MAX_CELL_CHARS = 2**26
UnreadableRows = Sequence[tuple[int, str]]
"""The position in the part and the reason, for each row that cannot be read."""


@dataclass(slots=True)
class TableRows:
    """Rows as pyarrow arrays by column name.

    Attributes:
        columns: The features.
        kept: The columns to keep.
        texts: The names of the columns with untyped text.
        rows: The number of rows that could be read.
        unreadable: The other rows.
        as_texts: Reads the same rows again with all columns as text; None if no column was parsed as numbers.
    """

    columns: Mapping[str, Any]
    kept: Mapping[str, Any]
    texts: frozenset[str]
    rows: int
    unreadable: UnreadableRows = ()
    as_texts: Callable[[], TableRows] | None = None

    def instance(self, row: int, signature: Signature) -> dict[str, Any]:
        """Return one row as a record."""
        return {spec.name: self._value(row, spec) for spec in signature.inputs}

    def _value(self, row: int, spec: Input) -> Any:
        [value] = plain_values(self.columns[spec.name].slice(row, 1), LIST_BYTES)
        return reader_of(spec)("" if value is None else value) if spec.name in self.texts else value


@dataclass(slots=True)
class InstanceRows:
    """Rows as records or lists of plain values. Each list in `kept` has one value per row."""

    instances: list[Any] = field(default_factory=list)
    kept: dict[str, list[Any]] = field(default_factory=dict)
    unreadable: UnreadableRows = ()


def read_table(part: Part, signature: Signature, keep: Sequence[str]) -> TableRows:
    """Read a part of CSV or Arrow with pyarrow.

    Raises:
        ScoringRefused: The part is not UTF-8 or is damaged.
    """
    if part.form == "arrow":
        return _read_arrow(part, signature, keep)
    import pyarrow as pa

    if not part.content.strip(b"\r\n"):
        no_rows = {name: pa.nulls(0, pa.string()) for name in part.names}
        return _add_partition(part, no_rows, signature, keep, frozenset(part.names), 0, ())
    if b"\0" in part.content:
        raise ScoringRefused(f"{_where(part)} is not CSV: it has a NUL byte")
    try:
        return _read_csv(part, signature, keep, typed=True)
    except pa.ArrowInvalid:
        return _read_csv_as_texts(part, signature, keep)


def _read_arrow(part: Part, signature: Signature, keep: Sequence[str]) -> TableRows:
    import pyarrow as pa

    table = pa.ipc.open_stream(part.content).read_all() if part.table is None else part.table
    columns = {name: _combine_chunks(table.column(name)) for name in table.column_names}
    return _add_partition(part, columns, signature, keep, frozenset(), table.num_rows, ())


def _combine_chunks(column: Any) -> Any:
    """Return a chunked array as one array, without a copy if it has one chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _add_partition(
    part: Part,
    columns: dict[str, Any],
    signature: Signature,
    keep: Sequence[str],
    texts: frozenset[str],
    rows: int,
    unreadable: UnreadableRows,
) -> TableRows:
    """Add the columns from folder names, which are untyped text, as in CSV."""
    for name in {*signature.names, *keep} & {*part.partition}:
        columns.setdefault(name, _repeat(part.partition[name], rows))
    texts |= {name for name in part.partition if columns.get(name) is not None}
    features = {name: columns[name] for name in signature.names}
    return TableRows(features, {name: columns[name] for name in keep}, texts, rows, unreadable)


def _repeat(text: str, rows: int) -> Any:
    import pyarrow as pa

    return pa.repeat(pa.scalar(text), rows)


def _read_csv_as_texts(part: Part, signature: Signature, keep: Sequence[str]) -> TableRows:
    import pyarrow as pa

    try:
        return _read_csv(part, signature, keep, typed=False)
    except pa.ArrowInvalid as error:
        reason = "it is not UTF-8" if "UTF8" in str(error) else one_line(error)
        raise ScoringRefused(f"{_where(part)} is not CSV: {reason}") from None


def _read_csv(part: Part, signature: Signature, keep: Sequence[str], *, typed: bool) -> TableRows:
    """Read a part of CSV with pyarrow. With `typed`, parse the columns of number inputs as float64.

    Raises:
        pyarrow.ArrowInvalid: A cell is not UTF-8; or, with `typed`, a cell is not a number that float64 holds exactly.
    """
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    words = pa.dictionary(pa.int32(), pa.string())
    used = [name for name in part.names if name in {*signature.names, *keep}]
    numbers = {
        spec.name
        for spec in signature.inputs
        if typed and spec.kind in ("number", "integer") and spec.shape is None and spec.name not in keep
    }
    unreadable: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        unreadable.append((row.number - 1, f"has {row.actual_columns} cells; the header has {row.expected_columns}"))
        return "skip"

    table = arrow_csv.read_csv(
        pa.BufferReader(part.content),
        read_options=arrow_csv.ReadOptions(
            column_names=part.names, use_threads=False, block_size=max(2**20, len(part.content) + 1)
        ),
        parse_options=arrow_csv.ParseOptions(newlines_in_values=b'"' in part.content, invalid_row_handler=skip),
        convert_options=arrow_csv.ConvertOptions(
            column_types={name: pa.float64() if name in numbers else words for name in used},
            include_columns=used,
            null_values=[""],
            strings_can_be_null=False,
        ),
    )
    columns = {name: _combine_chunks(table.column(name)) for name in used}
    has_nan = any(_has_nan(columns[name]) for name in numbers & {*used})
    if has_nan and OTHER_NAN.search(part.content):
        raise pa.ArrowInvalid("a spelling of NaN that HTTP requests may not use")
    if any(
        _has_inexact_numbers(columns[spec.name], spec) for spec in signature.inputs if spec.name in numbers & {*used}
    ):
        raise pa.ArrowInvalid("an integer that float64 does not hold exactly")
    texts = frozenset(used) - numbers
    table_rows = _add_partition(part, columns, signature, keep, texts, table.num_rows, unreadable)
    if numbers:
        table_rows.as_texts = lambda: _read_csv_as_texts(part, signature, keep)
    return table_rows


def _has_nan(array: Any) -> bool:
    """Return whether an array of floats has NaN. Missing values do not count."""
    values, missing = numbers_of(array)
    has_nan = np.isnan(values)
    return bool(has_nan.any() if missing is None else (has_nan & ~missing).any())


def _has_inexact_numbers(array: Any, spec: Input) -> bool:
    """Return whether numbers may have lost digits as float64, or exceed 64 bits."""
    values, _ = numbers_of(array)
    return bool((np.abs(values) >= (EXACT if spec.kind == "integer" else MOST_INTEGER)).any())


def _where(part: Part) -> str:
    return f"{part.file or 'the input'}, from line {part.first} on,"


# Plain values


def read_instances(part: Part, signature: Signature, keep: Sequence[str]) -> InstanceRows:
    """Read a part of NDJSON, or of CSV without pyarrow.

    Raises:
        ScoringRefused: A part of CSV is not UTF-8, or is not CSV.
    """
    return _read_lines(part, signature, keep) if part.form == "ndjson" else _read_cells(part, signature, keep)


def _read_lines(part: Part, signature: Signature, keep: Sequence[str]) -> InstanceRows:
    unreadable: list[tuple[int, str]] = []
    rows = InstanceRows(kept={name: [] for name in keep}, unreadable=unreadable)
    lines = (line for line in part.content.split(b"\n") if line.strip())
    for position, line in enumerate(lines):
        try:
            value = read_json(line)
        except InvalidJson as error:
            place = "" if error.column is None else f" (column {error.column})"
            unreadable.append((position, f"the line is not valid JSON: {error.reason}{place}"))
            continue
        is_record = type(value) is dict
        for name in keep:
            rows.kept[name].append(value.get(name, part.partition.get(name)) if is_record else None)
        if is_record:
            value = {**_read_partition(part, signature), **value}
            if signature.layout is Layout.RECORDS:
                value = {name: cell for name, cell in value.items() if name not in keep}
            else:  # other columns of the file are allowed
                value = {name: value[name] for name in signature.names if name in value}
        rows.instances.append(value)
    return rows


def _read_partition(part: Part, signature: Signature) -> dict[str, Any]:
    specs = {spec.name: spec for spec in signature.inputs}
    return {name: reader_of(specs[name])(text) for name, text in part.partition.items() if name in specs}


def _read_cells(part: Part, signature: Signature, keep: Sequence[str]) -> InstanceRows:
    specs = {spec.name: spec for spec in signature.inputs}
    readers = {name: reader_of(specs[name]) if name in specs else read_untyped for name in part.names}
    partition_values = _read_partition(part, signature)
    unreadable: list[tuple[int, str]] = []
    rows = InstanceRows(kept={name: [] for name in keep}, unreadable=unreadable)
    for position, (_, cells) in enumerate(rows_of_csv(part)):
        if len(cells) != len(part.names):
            unreadable.append((position, f"has {len(cells)} cells; the header has {len(part.names)}"))
            continue
        record = dict(zip(part.names, cells, strict=True))
        for name in keep:
            rows.kept[name].append(record.get(name, part.partition.get(name)))
        rows.instances.append(
            {**partition_values, **{name: readers[name](record[name]) for name in record if name in specs}}
        )
    return rows


def rows_of_csv(part: Part) -> list[tuple[int, list[str]]]:
    """Return the rows of a part of CSV, each with its line number. Blank rows are left out.

    Raises:
        ScoringRefused: The part is not UTF-8, or is not CSV.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
    try:
        reader = csv.reader(io.StringIO(part.content.decode("utf-8"), newline=""))
        rows, line = [], 1
        for row in reader:
            if row:
                rows.append((part.first + line - 1, row))
            line = reader.line_num + 1
    except (UnicodeDecodeError, csv.Error) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ScoringRefused(f"{_where(part)} is not CSV: {reason}") from None
    return rows


def places_of(part: Part, positions: Sequence[int]) -> list[int]:
    """Return the line of each row in its text file, or the row number in its table, from 1.

    Args:
        part: The part.
        positions: Positions among the rows of the part. Unreadable rows count; blank rows do not.
    """
    if not positions or part.form == "arrow":
        return [part.first + position for position in positions]
    if part.form == "csv":
        lines = [line for line, _ in rows_of_csv(part)]
    else:
        lines = [part.first + at for at, line in enumerate(part.content.split(b"\n")) if line.strip()]
    return [lines[position] for position in positions]
