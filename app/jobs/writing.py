"""Encode the scored rows of a part."""

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
"""Characters of which a cell of CSV has none outside quotes."""
encode_json = msgspec.json.Encoder().encode
encode_lines = msgspec.json.Encoder().encode_lines


def encode(kept: Mapping[str, Any], outputs: Outputs, form: Format, *, is_file: bool) -> bytes:
    """Return the rows in a format.

    Args:
        kept: Columns by name, as pyarrow arrays or as lists of plain values.
        outputs: Further columns of as many rows. Those that are coded have the same places.
        form: The format.
        is_file: Whether the bytes are a file of their own. Else they are the next part of one: text without a header,
            or an IPC stream in place of Parquet and Arrow, which `Assembly` turns into one file.

    Raises:
        ScoringRefused: The format does not hold the type of a kept column.
    """
    try:
        content = None if kept or not form.is_text else _distinct_lines(outputs, form)
        if content is None:
            columns = {name: whole(column) for name, column in outputs.items()}
            content = _text(kept, columns, form) if form.is_text else _file(kept, columns, form, is_file=is_file)
        if is_file and form.name == "csv":
            content = csv_header([*kept, *outputs]) + content
    except NotImplementedError as error:
        raise ScoringRefused(f"a column to keep has a type that {form.name} does not hold: {error}") from None
    except (OverflowError, ValueError) as error:  # such as dates beyond the year 9999
        raise ScoringRefused(f"a column to keep has a value that {form.name} does not hold: {error}") from None
    return compress(content, form.coding) if content else b""


def whole(column: NDArray[Any] | Coded) -> NDArray[Any]:
    """Return a column with a value for each row."""
    return column.column() if isinstance(column, Coded) else column


def _text(kept: Mapping[str, Any], outputs: Columns, form: Format) -> bytes:
    if form.name == "ndjson":
        return _lines(kept, outputs)
    return _arrow_csv(kept, outputs) if has_pyarrow() else _plain_csv(kept, outputs)


def _file(kept: Mapping[str, Any], outputs: Columns, form: Format, *, is_file: bool) -> bytes:
    table = _table(kept, outputs)
    if form.name == "parquet" and not is_file:
        _binary(table.slice(0, 0), form.name)  # refuses types now, and not when all rows are scored
    return _binary(table, form.name if is_file else "arrows")


def _distinct_lines(outputs: Outputs, form: Format) -> bytes | None:
    """Return text of which each distinct line was made once; None if not all are coded, or a cell has two lines."""
    coded = {name: column for name, column in outputs.items() if isinstance(column, Coded)}
    if not coded or len(coded) < len(outputs) or not has_pyarrow():
        return None
    import pyarrow as pa

    values = {name: column.values for name, column in coded.items()}
    lines = _text({}, values, form)
    ends = np.flatnonzero(np.frombuffer(lines, np.uint8) == NEWLINE) + 1
    places = next(iter(coded.values())).places
    if len(ends) != len(next(iter(values.values()))):
        return None
    offsets = pa.py_buffer(np.concatenate([[0], ends]))
    known = pa.Array.from_buffers(pa.large_binary(), len(ends), [None, offsets, pa.py_buffer(lines)])
    taken = known.take(pa.Array.from_buffers(pa.int64(), len(places), [None, pa.py_buffer(places)]))
    size_bytes = int(np.frombuffer(taken.buffers()[1], np.int64)[len(places)])
    return bytes(taken.buffers()[2][:size_bytes])


def csv_header(names: Sequence[str]) -> bytes:
    """Return the first line of CSV."""
    return _line([*map(_cell, names)]).encode("utf-8", "replace")


def _lines(kept: Mapping[str, Any], outputs: Columns) -> bytes:
    columns = {name: _plain(column) for name, column in kept.items()}
    columns |= {name: json_values(column) for name, column in outputs.items()}
    return encode_lines([dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)])


def _plain(column: Any) -> list[Any]:
    if isinstance(column, list):
        return column
    import pyarrow as pa

    is_timed = pa.types.is_time(column.type) or pa.types.is_duration(column.type)
    return plain_values(column.cast(pa.string()) if is_timed else column, LIST_BYTES)


def _plain_csv(kept: Mapping[str, Any], outputs: Columns) -> bytes:
    columns = [map(_cell, column) for column in (*map(_plain, kept.values()), *map(json_values, outputs.values()))]
    return "".join(map(_line, zip(*columns, strict=True))).encode("utf-8", "replace")


def _cell(value: Any) -> str:
    """Return a value as a cell: text as it is, everything else as JSON."""
    if value is None:
        return ""
    text = value if isinstance(value, str) else json_text(value)
    return '"{}"'.format(text.replace('"', '""')) if QUOTED.search(text) else text


def _line(cells: Sequence[str]) -> str:
    return (",".join(cells) or '""') + "\n"  # readers skip an empty line


def _arrow_csv(kept: Mapping[str, Any], outputs: Columns) -> bytes:
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    columns = [*map(_with_texts, _arrays({name: _flat(column) for name, column in kept.items()}, outputs).values())]
    names = [*map(str, range(len(columns)))]
    sink = pa.BufferOutputStream()
    try:
        if len(columns) > 1 or not columns[0].null_count:
            table = pa.Table.from_arrays(columns, names)
            arrow_csv.write_csv(table, sink, arrow_csv.WriteOptions(include_header=False, quoting_style="none"))
            return bytes(sink.getvalue())
    except pa.ArrowInvalid:  # a text has a comma, a quote or the end of a line in it
        pass
    return _quoted_csv(columns)


def _quoted_csv(columns: Sequence[Any]) -> bytes:
    """Return columns with quotes around the cells that need them. pyarrow would put them around all texts."""
    import pyarrow as pa
    import pyarrow.compute as pc

    nothing, quote, two_quotes, comma, end = (_as_array(text)[0] for text in (b"", b'"', b'""', b",", b"\n"))
    cells = []
    for column in columns:
        texts = column.cast(pa.large_string()).fill_null(nothing)
        has_quotes = pc.match_substring_regex(texts, QUOTED.pattern)
        if pc.any(has_quotes).as_py():
            inner = pc.replace_substring(texts, '"', '""')
            quoted = pc.binary_join_element_wise(quote, inner, quote, nothing)
            texts = pc.if_else(has_quotes, quoted, texts)
        cells.append(texts)
    if len(cells) == 1:
        cells = [pc.if_else(pc.equal(cells[0], nothing), two_quotes, cells[0])]  # readers skip an empty line
    lines = pc.binary_join_element_wise(*cells[:-1], pc.binary_join_element_wise(cells[-1], end, nothing), comma)
    _, ends, content = lines.buffers()
    return bytes(content[: np.frombuffer(ends, np.int64)[len(lines)]])


def _as_array(text: bytes) -> Any:
    """Return an array of one text. `pyarrow.scalar` and `pyarrow.array` import pandas."""
    import pyarrow as pa

    ends = pa.py_buffer(np.array([0, len(text)], np.int64))
    return pa.Array.from_buffers(pa.large_string(), 1, [None, ends, pa.py_buffer(text)])


def _with_texts(column: Any) -> Any:
    """Return a column of floats as texts. Each is written once if the same ones come again and again."""
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
    """Return floats as JSON writes them: 1.0, and not 1, which readers take for an integer."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if not len(column):
        return column.cast(pa.large_string())
    values, _ = numbers_of(column)
    texts = pc.split_pattern(_as_array(encode_json(values.tolist())[1:-1]), ",").flatten()
    if not np.isfinite(values).all():  # JSON has no NaN and no infinities; they come from kept columns
        texts = pc.if_else(pc.is_finite(column), texts, column.cast(pa.large_string()))
    return pc.if_else(column.is_valid(), texts, pa.nulls(1, texts.type)[0]) if column.null_count else texts


def _flat(column: Any) -> Any:
    """Return a column that CSV can hold: lists, structs and bytes as JSON."""
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
        **{name: _typed(column) for name, column in kept.items()},
        **{name: arrow_of(column) for name, column in outputs.items()},
    }


def _typed(column: Any) -> Any:
    """Return a kept column as an array. Plain values become text, because other parts may have other types."""
    import pyarrow as pa

    if not isinstance(column, list):
        return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    texts = [value if value is None or isinstance(value, str) else json_text(value) for value in column]
    return pa.array(texts, type=pa.string())


def arrow_of(column: NDArray[Any]) -> Any:
    """Return a column of an answer as a pyarrow array. NaN and infinities are null, as in JSON.

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
    if (texts := _texts(values)) is not None:
        return texts
    values = json_values(column)
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # labels of several types
        return _typed(values)


def _texts(values: list[Any]) -> Any:
    """Return an array of texts; None if some of the values are none."""
    import pyarrow as pa

    try:
        place = {value: at for at, value in enumerate(dict.fromkeys(values))}
    except TypeError:  # lists have no hash
        return None
    if not {*map(type, place)} <= {str}:
        return None
    encoded = [value.encode("utf-8", "replace") for value in place]
    offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int32)
    known = pa.Array.from_buffers(
        pa.string(), len(encoded), [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded))]
    )
    places = np.fromiter(map(place.__getitem__, values), np.int32, len(values))
    indices = pa.Array.from_buffers(pa.int32(), len(places), [None, pa.py_buffer(places)])
    return pa.DictionaryArray.from_arrays(indices, known).dictionary_decode()


def _binary(table: Any, name: str) -> bytes:
    import pyarrow as pa

    sink = pa.BufferOutputStream()
    with table_writer(sink, table.schema, name) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def table_writer(sink: Any, schema: Any, name: str) -> Any:
    """Return the writer of a file of Parquet or Arrow, or of an IPC stream."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if name == "parquet":
        return pq.ParquetWriter(sink, schema)
    return pa.ipc.new_file(sink, schema) if name == "arrow" else pa.ipc.new_stream(sink, schema)
