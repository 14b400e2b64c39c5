"""Read a part: a table of Arrow's columns, or instances as plain values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from app.errors import InvalidJson, ScoringRefused
from app.jobs.columns import EXACT
from app.jobs.parts import Part
from app.signature import Input, Layout, Signature
from app.signature.arrow_values import numbers_of, plain_values
from app.signature.cells import read_untyped, reader_of
from app.signature.json_values import read_json

OTHER_NAN = re.compile(rb"-nan|nan\(", re.IGNORECASE)
"""Texts that pyarrow reads as NaN and HTTP refuses."""
LIST_BYTES = 2**30
MOST_INTEGER = 2.0**63
MAX_CELL_CHARS = 2**26
Wrong = Sequence[tuple[int, str]]
"""The positions of rows that cannot be read, among all rows of a part, and the reason of each."""


@dataclass(slots=True)
class TableRows:
    """Rows as pyarrow arrays by name. `texts` are the columns whose cells have no types."""

    columns: Mapping[str, Any]
    kept: Mapping[str, Any]
    texts: frozenset[str]
    rows: int
    wrong: Wrong = ()
    as_texts: Callable[[], TableRows] | None = None

    def instance(self, row: int, signature: Signature) -> dict[str, Any]:
        """Return one row as a record."""
        return {spec.name: self._value(row, spec) for spec in signature.inputs}

    def _value(self, row: int, spec: Input) -> Any:
        [value] = plain_values(self.columns[spec.name].slice(row, 1), LIST_BYTES)
        return reader_of(spec)("" if value is None else value) if spec.name in self.texts else value


@dataclass(slots=True)
class InstanceRows:
    """Rows as records, or lists, of plain values; `kept` has a value for each of them."""

    instances: list[Any] = field(default_factory=list)
    kept: dict[str, list[Any]] = field(default_factory=dict)
    wrong: Wrong = ()


def read_table(part: Part, signature: Signature, keep: Sequence[str]) -> TableRows:
    """Read a part of CSV or Arrow with pyarrow.

    Raises:
        ScoringRefused: The part is not UTF-8, or is damaged.
    """
    if part.form == "arrow":
        return _read_arrow(part, signature, keep)
    import pyarrow as pa

    if not part.content.strip(b"\r\n"):
        nothing = {name: pa.nulls(0, pa.string()) for name in part.names}
        return _with_partition(part, nothing, signature, keep, frozenset(part.names), 0, ())
    if b"\0" in part.content:
        raise ScoringRefused(f"{_where(part)} is not CSV: it has a NUL byte")
    try:
        return _read_csv(part, signature, keep, typed=True)
    except pa.ArrowInvalid:
        return _read_csv_as_texts(part, signature, keep)


def _read_arrow(part: Part, signature: Signature, keep: Sequence[str]) -> TableRows:
    import pyarrow as pa

    table = pa.ipc.open_stream(part.content).read_all() if part.table is None else part.table
    columns = {name: _whole(table.column(name)) for name in table.column_names}
    return _with_partition(part, columns, signature, keep, frozenset(), table.num_rows, ())


def _whole(column: Any) -> Any:
    """Return a chunked array as one array; without a copy if it has one chunk."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _with_partition(
    part: Part,
    columns: dict[str, Any],
    signature: Signature,
    keep: Sequence[str],
    texts: frozenset[str],
    rows: int,
    wrong: Wrong,
) -> TableRows:
    """Return the rows, with the columns that the folders name: text, as in CSV."""
    for name in {*signature.names, *keep} & {*part.partition}:
        columns.setdefault(name, _constant(part.partition[name], rows))
    texts |= {name for name in part.partition if columns.get(name) is not None}
    features = {name: columns[name] for name in signature.names}
    return TableRows(features, {name: columns[name] for name in keep}, texts, rows, wrong)


def _constant(text: str, rows: int) -> Any:
    import pyarrow as pa

    return pa.repeat(pa.scalar(text), rows)


def _read_csv_as_texts(part: Part, signature: Signature, keep: Sequence[str]) -> TableRows:
    import pyarrow as pa

    try:
        return _read_csv(part, signature, keep, typed=False)
    except pa.ArrowInvalid as error:
        reason = "it is not UTF-8" if "UTF8" in str(error) else " ".join(str(error).split())[:200]
        raise ScoringRefused(f"{_where(part)} is not CSV: {reason}") from None


def _read_csv(part: Part, signature: Signature, keep: Sequence[str], *, typed: bool) -> TableRows:
    """Read the lines. With `typed`, columns of numbers are read as numbers; pyarrow refuses the part if one is not.

    Raises:
        pyarrow.ArrowInvalid: A cell is no number, or no text in UTF-8.
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
    wrong: list[tuple[int, str]] = []

    def skip(row: Any) -> str:
        wrong.append((row.number - 1, f"has {row.actual_columns} cells; the header has {row.expected_columns}"))
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
    columns = {name: _whole(table.column(name)) for name in used}
    has_nan = any(_has_nan(columns[name]) for name in numbers & {*used})
    if has_nan and OTHER_NAN.search(part.content):
        raise pa.ArrowInvalid("a text that is no NaN elsewhere")
    if any(_has_large(columns[spec.name], spec) for spec in signature.inputs if spec.name in numbers & {*used}):
        raise pa.ArrowInvalid("an integer that a float does not hold")
    texts = frozenset(used) - numbers
    found = _with_partition(part, columns, signature, keep, texts, table.num_rows, wrong)
    if numbers:
        found.as_texts = lambda: _read_csv_as_texts(part, signature, keep)
    return found


def _has_nan(array: Any) -> bool:
    """Return whether an array of floats has NaN, beside missing values."""
    values, missing = numbers_of(array)
    has_nan = np.isnan(values)
    return bool(has_nan.any() if missing is None else (has_nan & ~missing).any())


def _has_large(array: Any, spec: Input) -> bool:
    """Return whether an array of floats has some that may have been other integers, or integers of more than 64 bits.

    These are refused.
    """
    values, _ = numbers_of(array)
    return bool((np.abs(values) >= (EXACT if spec.kind == "integer" else MOST_INTEGER)).any())


def _where(part: Part) -> str:
    return f"{part.file or 'the input'}, from line {part.first} on,"


# --- plain values


def read_instances(part: Part, signature: Signature, keep: Sequence[str]) -> InstanceRows:
    """Read a part of NDJSON, or of CSV without pyarrow.

    Raises:
        ScoringRefused: A part of CSV is not UTF-8.
    """
    return _read_lines(part, signature, keep) if part.form == "ndjson" else _read_cells(part, signature, keep)


def _read_lines(part: Part, signature: Signature, keep: Sequence[str]) -> InstanceRows:
    wrong: list[tuple[int, str]] = []
    found = InstanceRows(kept={name: [] for name in keep}, wrong=wrong)
    lines = (line for line in part.content.split(b"\n") if line.strip())
    for position, line in enumerate(lines):
        try:
            value = read_json(line)
        except InvalidJson as error:
            place = "" if error.column is None else f" (column {error.column})"
            wrong.append((position, f"the line is not valid JSON: {error.reason}{place}"))
            continue
        is_record = type(value) is dict
        for name in keep:
            found.kept[name].append(value.get(name, part.partition.get(name)) if is_record else None)
        if is_record:
            value = {**_read_partition(part, signature), **value}
            if signature.layout is Layout.RECORDS:
                value = {name: each for name, each in value.items() if name not in keep}
            else:  # others are columns of the file, and no mistake
                value = {name: value[name] for name in signature.names if name in value}
        found.instances.append(value)
    return found


def _read_partition(part: Part, signature: Signature) -> dict[str, Any]:
    specs = {spec.name: spec for spec in signature.inputs}
    return {name: reader_of(specs[name])(text) for name, text in part.partition.items() if name in specs}


def _read_cells(part: Part, signature: Signature, keep: Sequence[str]) -> InstanceRows:
    specs = {spec.name: spec for spec in signature.inputs}
    readers = {name: reader_of(specs[name]) if name in specs else read_untyped for name in part.names}
    constant = _read_partition(part, signature)
    wrong: list[tuple[int, str]] = []
    found = InstanceRows(kept={name: [] for name in keep}, wrong=wrong)
    for position, (_, cells) in enumerate(rows_of_csv(part)):
        if len(cells) != len(part.names):
            wrong.append((position, f"has {len(cells)} cells; the header has {len(part.names)}"))
            continue
        record = dict(zip(part.names, cells, strict=True))
        for name in keep:
            found.kept[name].append(record.get(name, part.partition.get(name)))
        found.instances.append({**constant, **{name: readers[name](record[name]) for name in record if name in specs}})
    return found


def rows_of_csv(part: Part) -> list[tuple[int, list[str]]]:
    """Return the rows of a part of CSV that are not blank, each with the line on which it begins.

    Raises:
        ScoringRefused: The part is not UTF-8, or no CSV.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
    try:
        lines = csv.reader(io.StringIO(part.content.decode("utf-8"), newline=""))
        rows, begins = [], 1
        for row in lines:
            if row:
                rows.append((part.first + begins - 1, row))
            begins = lines.line_num + 1
    except (UnicodeDecodeError, csv.Error) as error:
        reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise ScoringRefused(f"{_where(part)} is not CSV: {reason}") from None
    return rows


def places_of(part: Part, positions: Sequence[int]) -> list[int]:
    """Return the line of each row of text in its file, or the number of each row of a table, from 1.

    Args:
        part: The part.
        positions: Positions among all rows of the part that are not blank, those that cannot be read too.
    """
    if not positions or part.form == "arrow":
        return [part.first + position for position in positions]
    if part.form == "csv":
        lines = [line for line, _ in rows_of_csv(part)]
    else:
        lines = [part.first + at for at, line in enumerate(part.content.split(b"\n")) if line.strip()]
    return [lines[position] for position in positions]
