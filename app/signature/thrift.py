"""Structs in Thrift's compact protocol, as in Parquet, read exactly as pyarrow reads them.

A malicious file may try to show this reader other numbers than pyarrow. So numbers are cut to their width as in
pyarrow, and this refuses what generated code accepts unchecked: lists of an unexpected type and duplicate fields.
Source: https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md, and
lib/cpp/src/thrift/protocol/TCompactProtocol.tcc.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, STRUCT = 3, 4, 5, 6, 7, 8, 9, 12
TRUE, FALSE = 1, 2
BITS = {I16: 16, I32: 32, I64: 64}
MAX_DEPTH = 8
FIELDS_OF_A_STRUCT = 4
"""A struct takes as much memory and time in pyarrow as this many fields."""

Fields = dict[tuple[int, int], Any]
"""Fields by number and type. Like other readers, callers ignore fields of an unexpected type."""

Lists = Mapping[int, Any]
"""The lists in a struct, by the number of the field: the type of the elements, or the `Lists` of each element if they
are structs. For a field that is a struct, the `Lists` in it."""


@dataclass(slots=True)
class Budget:
    """The number of fields and elements that may be read, in all structs that share it."""

    fields: int

    def take(self, fields: int) -> None:
        """Take some; raise OverflowError if there are fewer."""
        self.fields -= fields
        if self.fields < 0:
            raise OverflowError


def struct_at(content: Any, at: int, lists: Lists, budget: Budget, depth: int = 0) -> tuple[Fields, int]:
    """Return the fields of a struct, and its end. For a text, the positions of its begin and end are returned.

    Raises:
        IndexError, TypeError, RecursionError: it is truncated, invalid or too deep.
        OverflowError: it has more fields than the budget.
    """
    if depth > MAX_DEPTH:
        raise RecursionError
    budget.take(FIELDS_OF_A_STRUCT)
    fields: Fields = {}
    number = 0
    while (kind := content[at] & 15) != 0:
        step = content[at] >> 4
        at += 1
        if step:
            number = _signed(number + step, 16)
        else:
            number, at = _integer(content, at, 16)
        if (number, kind) in fields:
            raise TypeError
        budget.take(1)
        fields[number, kind], at = _value(content, at, kind, lists.get(number), budget, depth)
    return fields, at + 1


def _value(content: Any, at: int, kind: int, inner: Any, budget: Budget, depth: int) -> tuple[Any, int]:
    if kind in (TRUE, FALSE):  # the type is the value
        return kind == TRUE, at
    if kind == STRUCT:
        return struct_at(content, at, inner if isinstance(inner, Mapping) else {}, budget, depth + 1)
    if kind == LIST:
        return _list(content, at, inner, budget, depth)
    if kind in BITS:
        return _integer(content, at, BITS[kind])
    if kind == BINARY:
        length, at = _varint(content, at)
        return (at, at + _length(length)), at + _length(length)
    if kind not in (BYTE, DOUBLE):
        raise TypeError  # Parquet has no sets and maps
    return None, at + (1 if kind == BYTE else 8)


def _list(content: Any, at: int, inner: Any, budget: Budget, depth: int) -> tuple[list[Any], int]:
    size, kind = content[at] >> 4, content[at] & 15
    if kind != (STRUCT if isinstance(inner, Mapping) else inner):
        raise TypeError
    at += 1
    if size == 15:
        size, at = _varint(content, at)
    values = []
    budget.take(_length(size))
    for _ in range(size):
        value, at = _value(content, at, kind, inner, budget, depth)
        values.append(value)
    return values, at


def _length(number: int) -> int:
    if (length := _signed(number, 32)) < 0:
        raise TypeError
    return length


def _integer(content: Any, at: int, bits: int) -> tuple[int, int]:
    number, at = _varint(content, at)
    number &= 2 ** max(bits, 32) - 1
    return _signed((number >> 1) ^ -(number & 1), bits), at


def _signed(number: int, bits: int) -> int:
    number &= 2**bits - 1
    return number - 2**bits if number >> bits - 1 else number


def _varint(content: Any, at: int) -> tuple[int, int]:
    number = shift = 0
    while shift < 70:
        byte = content[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number & 2**64 - 1, at
        shift += 7
    raise IndexError
