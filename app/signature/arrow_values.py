"""Convert Arrow's arrays to plain values. pyarrow is optional, and imported when it is needed."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.errors import BodyTooLarge

VIEW_BYTES = 16
PLAIN_KINDS = (
    "null", "boolean", "integer", "floating", "string", "large_string", "binary", "large_binary", "fixed_size_binary",
)  # fmt: skip
LEAST_BYTES_OF_A_VALUE = 8
"""Smallest size in Python of a value in a list. Lists may not have more values than fit into the limit."""


def numbers_of(array: Any) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return the values of an array of integers or floats, and which of them are missing; None if none are.

    Nothing is copied. The method `to_numpy` of the array would import pandas.
    """
    if not len(array):
        return np.empty(0, dtype=array.type.to_pandas_dtype()), None
    rows = slice(array.offset, array.offset + len(array))
    validity, content = array.buffers()
    values = np.frombuffer(content, dtype=array.type.to_pandas_dtype())[rows]
    if not array.null_count:
        return values, None
    is_valid = np.unpackbits(np.frombuffer(validity, dtype=np.uint8), count=rows.stop, bitorder="little")[rows]
    return values, is_valid == 0


def plain_values(array: Any, limit_bytes: int) -> list[Any]:
    """Return the values of a pyarrow array as JSON has them. Bytes stay bytes, for the kinds that accept bytes.

    Raises:
        BodyTooLarge: lists have more values than fit into `limit_bytes`.
        NotImplementedError: no kind of input takes the type.
        OverflowError, UnicodeDecodeError: dates are beyond the year 9999, or text is not UTF-8.
    """
    import pyarrow as pa

    types, of = pa.types, array.type
    if isinstance(of, pa.BaseExtensionType):
        return plain_values(array.storage, limit_bytes)
    if types.is_dictionary(of):  # convert each distinct value once
        distinct = [*plain_values(array.dictionary, limit_bytes), None]
        return [distinct[-1 if at is None else at] for at in array.indices.to_pylist()]
    if types.is_string_view(of) or types.is_binary_view(of):
        return list(array.to_pylist())
    if types.is_struct(of):  # by member, so that each member has the limit of a column
        names = [of.field(position).name for position in range(of.num_fields)]
        parts = [plain_values(part, limit_bytes) for part in array.flatten()]
        members = zip(*parts, strict=True) if names else [()] * len(array)
        rows = zip(array.is_valid().to_pylist(), members, strict=True)
        return [dict(zip(names, values, strict=True)) if is_valid else None for is_valid, values in rows]
    if types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
        if _leaves(array) > limit_bytes // LEAST_BYTES_OF_A_VALUE:
            raise BodyTooLarge(limit_bytes)
        return list(array.to_pylist())
    return _scalars(array, types)


def _scalars(array: Any, types: Any) -> list[Any]:
    import pyarrow as pa

    of = array.type
    if types.is_float16(of):
        return list(array.cast(pa.float32()).to_pylist())
    if types.is_decimal(of):
        number = int if of.scale == 0 else float
        return [None if value is None else number(value) for value in array.to_pylist()]
    if types.is_timestamp(of):  # UTC needs no time zone table; text keeps nanoseconds
        texts = array.cast(pa.timestamp(of.unit)).cast(pa.string()).to_pylist()
        return [text and text.replace(" ", "T") + "Z" * bool(of.tz) for text in texts]
    if types.is_date(of):
        return [value and value.isoformat() for value in array.to_pylist()]
    if not any(getattr(types, f"is_{kind}")(of) for kind in PLAIN_KINDS):
        raise NotImplementedError(str(of))
    return list(array.to_pylist())


def _leaves(array: Any) -> int:
    """Return the number of values in the lists of an array; refuse values other than numbers, booleans and text."""
    import pyarrow as pa

    types, of = pa.types, array.type
    if types.is_struct(of):
        return sum(_leaves(array.field(position)) for position in range(of.num_fields)) + len(array)
    if types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
        if types.is_null(of.value_type):  # any number of nulls takes no bytes
            raise NotImplementedError(str(of))
        return _leaves(array.flatten()) + len(array)
    if types.is_boolean(of) or types.is_integer(of) or types.is_floating(of) or types.is_string(of):
        return len(array)
    raise NotImplementedError(str(of))


def viewed_bytes(array: Any) -> int:
    """Return the bytes of an array's string views, many of which may share the same bytes."""
    import pyarrow as pa

    types, of = pa.types, array.type
    if isinstance(of, pa.BaseExtensionType):
        return viewed_bytes(array.storage)
    if types.is_dictionary(of):
        return viewed_bytes(array.dictionary)
    if types.is_struct(of):
        return sum(viewed_bytes(array.field(position)) for position in range(of.num_fields))
    if types.is_list(of) or types.is_large_list(of) or types.is_fixed_size_list(of):
        return viewed_bytes(array.values)
    views = array.buffers()[1] if types.is_string_view(of) or types.is_binary_view(of) else None
    if views is None:
        return 0
    # Each begins with its length: https://arrow.apache.org/docs/format/Columnar.html#variable-size-binary-view-layout
    lengths = np.frombuffer(views, np.uint32)[:: VIEW_BYTES // 4]
    return int(lengths[array.offset : array.offset + len(array)].sum(dtype=np.int64))
