"""Encode the scored rows of a part in the output format."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.errors import ScoringRefused
from app.jobs.formats import Format, compress, has_pyarrow
from app.signature.arrow_values import numbers_of, plain_values
from app.signature.batch import Coded, json_text, json_values

LIST_BYTES = 2**30
NEWLINE = ord("\n")
SAMPLED_ROWS = 4096
Outputs = Mapping[str, NDArray[Any] | Coded]
Columns = Mapping[str, NDArray[Any]]
QUOTED = re.compile('[",\r\n]')
"""Characters that require quotes around a cell of CSV."""
encode_json = msgspec.json.Encoder().encode
encode_lines = msgspec.json.Encoder().encode_lines


def encode(kept: Mapping[str, Any], outputs: Outputs, form: Format, *, is_file: bool) -> bytes:
    """Encode rows in a format.

    Args:
        kept: Columns by name, as pyarrow arrays or as lists of plain values.
        outputs: Output columns with the same number of rows. All `Coded` columns have the same `places`.
        form: The format.
        is_file: Whether to return a complete file. Otherwise, return the next part of a file: text without a header, or
            for Parquet and Arrow an IPC stream, which `Assembly` adds to the file.

    Raises:
        ScoringRefused: The format does not support the type or a value of a kept column.
    """
    try:
        content = None if kept or not form.is_text else _encode_distinct_lines(outputs, form)
        if content is None:
            columns = {name: expand(column) for name, column in outputs.items()}
            if form.is_text:
                content = _encode_text(kept, columns, form)
            else:
                content = _encode_file(kept, columns, form, is_file=is_file)
        if is_file and form.name == "csv":
            content = csv_header([*kept, *outputs]) + content
    except NotImplementedError as error:
        raise ScoringRefused(f"a column to keep has a type that {form.name} does not hold: {error}") from None
    except (OverflowError, ValueError) as error:  # such as dates beyond the year 9999
        raise ScoringRefused(f"a column to keep has a value that {form.name} does not hold: {error}") from None
    return compress(content, form.coding) if content else b""


def expand(column: NDArray[Any] | Coded) -> NDArray[Any]:
    """Return a column with one value per row."""
    return column.column() if isinstance(column, Coded) else column


def _encode_text(kept: Mapping[str, Any], outputs: Columns, form: Format) -> bytes:
    if form.name == "ndjson":
        return _encode_lines(kept, outputs)
    return _encode_csv_with_arrow(kept, outputs) if has_pyarrow() else _encode_csv(kept, outputs)


def _encode_file(kept: Mapping[str, Any], outputs: Columns, form: Format, *, is_file: bool) -> bytes:
    table = _table(kept, outputs)
    if form.name == "parquet" and not is_file:
        _encode_table(table.slice(0, 0), form.name)  # refuse unsupported types now, not after all rows are scored
    return _encode_table(table, form.name if is_file else "arrows")


def _encode_distinct_lines(outputs: Outputs, form: Format) -> bytes | None:
    """Encode each distinct line once. Return None if not all columns are coded, or a cell contains a line break."""
    coded = {name: column for name, column in outputs.items() if isinstance(column, Coded)}
    if not coded or len(coded) < len(outputs) or not has_pyarrow():
        return None
    import pyarrow as pa

    values = {name: column.values for name, column in coded.items()}
    lines = _encode_text({}, values, form)
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == NEWLINE) + 1
    places = next(iter(coded.values())).places
    if len(ends) != len(next(iter(values.values()))):
        return None
    offsets = pa.py_buffer(np.concatenate([[0], ends]))
    distinct = pa.Array.from_buffers(pa.large_binary(), len(ends), [None, offsets, pa.py_buffer(lines)])
    repeated = distinct.take(pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places)]))
    size_bytes = int(np.frombuffer(repeated.buffers()[1], np.int64)[len(places)])
    return bytes(repeated.buffers()[2][:size_bytes])


def csv_header(names: Sequence[str]) -> bytes:
    """Return the first line of CSV."""
    return _line([*map(_cell, names)]).encode("utf-8", "replace")


def _encode_lines(kept: Mapping[str, Any], outputs: Columns) -> bytes:
    columns = {name: _values_of(column) for name, column in kept.items()}
    columns |= {name: json_values(column) for name, column in outputs.items()}
    return encode_lines([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def _values_of(column: Any) -> list[Any]:
    if isinstance(column, list):
        return column
    import pyarrow as pa

    is_time = pa.types.is_time(column.type) or pa.types.is_duration(column.type)
    return plain_values(column.cast(pa.string()) if is_time else column, LIST_BYTES)


def _encode_csv(kept: Mapping[str, Any], outputs: Columns) -> bytes:
    columns = [map(_cell, column) for column in (*map(_values_of, kept.values()), *map(json_values, outputs.values()))]
    return "".join(map(_line, zip(*columns, strict=True))).encode("utf-8", "replace")


def _cell(value: Any) -> str:
    """Return the CSV cell of a value: text unchanged, every other value as JSON."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json_text(value)
    return '"{}"'.format(text.replace('"', '""')) if QUOTED.search(text) else text


def _line(cells: Sequence[str]) -> str:
    return (",".join(cells) or '""') + "\n"  # readers skip an empty line


def _encode_csv_with_arrow(kept: Mapping[str, Any], outputs: Columns) -> bytes:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    flat = {name: _flatten(column) for name, column in kept.items()}
    columns = [*map(_floats_to_texts, _arrays(flat, outputs).values())]
    names = [*map(str, range(len(columns)))]
    sink = pa.BufferOutputStream()
    try:
        if len(columns) > 1 or not columns[0].null_count:
            table = pa.Table.from_arrays(columns, names)
            arrow_csv.write_csv(table, sink, arrow_csv.WriteOptions(include_header=False, quoting_style="none"))
            return bytes(sink.getvalue())
    except pa.ArrowInvalid:  # a text contains a comma, a quote or a line break
        pass
    return _encode_quoted_csv(columns)


def _encode_quoted_csv(columns: Sequence[Any]) -> bytes:
    """Encode CSV with quotes only around the cells that need them. pyarrow would quote all texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    empty, quote, two_quotes, comma, end = (_array_of_one(text)[0] for text in (b"", b'"', b'""', b",", b"\n"))
    cells = []
    for column in columns:
        texts = column.cast(pa.large_string()).fill_null(empty)
        has_quotes = pc.match_substring_regex(texts, QUOTED.pattern)
        if pc.any(has_quotes).as_py():
            inner = pc.replace_substring(texts, '"', '""')
            quoted = pc.binary_join_element_wise(quote, inner, quote, empty)
            texts = pc.if_else(has_quotes, quoted, texts)
        cells.append(texts)
    if len(cells) == 1:
        cells = [pc.if_else(pc.equal(cells[0], empty), two_quotes, cells[0])]  # readers skip an empty line
    lines = pc.binary_join_element_wise(*cells[:-1], pc.binary_join_element_wise(cells[-1], end, empty), comma)
    _, ends, content = lines.buffers()
    return bytes(content[: np.frombuffer(ends, np.int64)[len(lines)]])


def _array_of_one(text: bytes) -> Any:
    """Return an array with one text. It is made of buffers, because `pyarrow.array` imports pandas."""
    import pyarrow as pa

    ends = pa.py_buffer(np.array([0, len(text)], np.int64))
    return pa.Array.from_buffers(pa.large_string(), 1, [None, ends, pa.py_buffer(text)])


def _floats_to_texts(column: Any) -> Any:
    """Convert a column of floats to texts; return other columns unchanged. Convert frequent values only once."""
    import pyarrow as pa

    if not pa.types.is_floating(column.type):
        return column
    column = column.cast(pa.float64())
    bits = column.view(pa.int64())  # as floats, -0.0 equals 0.0
    if 2 * len(bits[:SAMPLED_ROWS].unique()) > min(len(bits), SAMPLED_ROWS):
        return _float_texts(column)
    coded = bits.dictionary_encode()
    texts = _float_texts(coded.dictionary.view(pa.float64()))
    return pa.DictionaryArray.from_arrays(coded.indices, texts).dictionary_decode()


def _float_texts(column: Any) -> Any:
    """Return floats as texts in JSON's notation: 1.0, not 1, which would look like an integer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(column):
        return column.cast(pa.large_string())
    values, _ = numbers_of(column)
    texts = pc.split_pattern(_array_of_one(encode_json(values.tolist())[1:-1]), ",").flatten()
    if not np.isfinite(values).all():  # JSON has no NaN or infinity; kept columns may have them
        texts = pc.if_else(pc.is_finite(column), texts, column.cast(pa.large_string()))
    return pc.if_else(column.is_valid(), texts, pa.nulls(1, texts.type)[0]) if column.null_count else texts


def _flatten(column: Any) -> Any:
    """Convert a column for CSV: lists, structs and bytes become JSON."""
    import pyarrow as pa

    if isinstance(column, list):
        return column
    if isinstance(column, pa.ExtensionArray):
        column = column.storage
    if pa.types.is_string_view(column.type):
        return column.cast(pa.string())
    if not (pa.types.is_nested(column.type) or "binary" in str(column.type)):
        return column
    return pa.array([None if value is None else json_text(value) for value in plain_values(column, LIST_BYTES)])


def _table(kept: Mapping[str, Any], outputs: Columns) -> Any:
    import pyarrow as pa

    columns = _arrays(kept, outputs)
    return pa.Table.from_arrays([*columns.values()], [*columns])


def _arrays(kept: Mapping[str, Any], outputs: Columns) -> dict[str, Any]:
    return {
        **{name: _kept_array(column) for name, column in kept.items()},
        **{name: arrow_of(column) for name, column in outputs.items()},
    }


def _kept_array(column: Any) -> Any:
    """Return a kept column as an array. Plain values become text, because their types may differ between parts."""
    import pyarrow as pa

    if not isinstance(column, list):
        return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    texts = [value if value is None or isinstance(value, str) else json_text(value) for value in column]
    return pa.array(texts, type=pa.string())


def arrow_of(column: NDArray[Any]) -> Any:
    """Return an output column as a pyarrow array. NaN and infinities become null, as in JSON.

    Arrays are made of buffers, because `pyarrow.array` imports pandas.
    """
    import pyarrow as pa

    if column.dtype.kind in "fiu":
        finite = np.isfinite(column)
        validity = None if finite.all() else pa.py_buffer(np.packbits(finite, bitorder="little"))
        content = pa.py_buffer(np.ascontiguousarray(column))
        return pa.Array.from_buffers(pa.from_numpy_dtype(column.dtype), len(column), [validity, content])
    if column.dtype.kind == "b":
        return pa.Array.from_buffers(
            pa.bool_(), len(column), [None, pa.py_buffer(np.packbits(column, bitorder="little"))]
        )
    values = column.tolist()
    if (texts := _text_array(values)) is not None:
        return texts
    values = json_values(column)
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # labels of several types
        return _kept_array(values)


def _text_array(values: list[Any]) -> Any:
    """Return an array of texts; None if a value is not a text."""
    import pyarrow as pa

    try:
        place = {value: at for at, value in enumerate(dict.fromkeys(values))}
    except TypeError:  # lists are not hashable
        return None
    if not {*map(type, place)} <= {str}:
        return None
    encoded = [value.encode("utf-8", "replace") for value in place]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    distinct = pa.Array.from_buffers(
        pa.string(), len(encoded), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )
    places = np.fromiter(map(place.__getitem__, values), np.int32, len(values))
    indices = pa.Array.from_buffers(pa.int32(), len(places), [None, pa.py_buffer(places)])
    return pa.DictionaryArray.from_arrays(indices, distinct).dictionary_decode()


def _encode_table(table: Any, name: str) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with table_writer(sink, table.schema, name) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def table_writer(sink: Any, schema: Any, name: str) -> Any:
    """Return the writer for a format: "parquet", "arrow" or "arrows" (an IPC stream)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if name == "parquet":
        return pq.ParquetWriter(sink, schema)
    return pa.ipc.new_file(sink, schema) if name == "arrow" else pa.ipc.new_stream(sink, schema)
