"""Convert columns by name to instances, for all codecs of tables."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from app.errors import TooManyInstances
from app.signature import Layout, Signature
from app.signature.field_errors import refused
from app.signature.nested import Nesting
from app.signature.values import is_missing
from app.wire.codecs.codec import TABLE, BodyLimits, Reading, Rows

MAX_UNKNOWN_COLUMNS = 100


def check_rows(rows: int, limits: BodyLimits) -> None:
    """Refuse a table that is too long before its rows are decoded.

    Raises:
        TooManyInstances: it has more rows than the limit.
    """
    if rows > limits.max_instances:
        raise TooManyInstances(rows, limits.max_instances)


def check_names(names: Sequence[str], reading: Reading) -> None:
    """Refuse duplicate names, and tables with too many columns to name each unknown one.

    Raises:
        InvalidInstances: the names are refused. The pointer is the whole table.
    """
    if len(names) > len(reading.signature.inputs) + MAX_UNKNOWN_COLUMNS:
        raise refused(TABLE, f"has {len(names)} columns; the model has {len(reading.signature.inputs)} features")
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise refused(TABLE, "has more than one column named " + ", ".join(repr(name[:100]) for name in twice[:20]))


def records(columns: Mapping[str, Sequence[Any]], rows: int, signature: Signature) -> Rows:
    """Return the records of columns by name, each of `rows` values.

    A model that takes whole records gets them without missing values unless its input is nullable: a table has a cell
    for every name. A single column of objects with the input's name holds the records themselves.
    """
    whole = signature.inputs[0] if signature.layout is Layout.RECORDS else None
    if not columns:
        return Rows([{} for _ in range(rows)])
    if whole is not None and [*columns] == [whole.name] and set(map(type, columns[whole.name])) <= {dict, type(None)}:
        made = list(columns[whole.name])
    else:
        names = list(columns)
        made = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        made = first_if_refused(made, names, signature)
    return Rows(made if whole is None or whole.nullable else [_without_missing(record) for record in made])


def check_records(names: Sequence[str], signature: Signature, pointer: str = TABLE) -> None:
    """Refuse untyped text for a model that takes whole records, except the records as JSON.

    Raises:
        InvalidInstances: the types of the values are unknown, for example whether 01 is a number.
    """
    if signature.layout is Layout.RECORDS and tuple(names) != signature.names:
        detail = f"must have {signature.names[0]!r} alone, an object in JSON: this model takes records of any names"
        raise refused(pointer, f"{detail}, and text does not say which of their values are numbers")


def first_if_refused(made: list[Any], names: Sequence[str], signature: Signature) -> list[Any]:
    """Return the first record alone if a column is missing or unknown, so that the error is said once for all rows."""
    if signature.layout is Layout.RECORDS or frozenset(names) == frozenset(signature.names):
        return made
    return made if Nesting(signature.names) else made[:1]


def unwrap_records(instances: list[Any], signature: Signature) -> list[Any]:
    """Return the records within the input's column, for a model that takes whole records."""
    return [record[signature.names[0]] for record in instances] if signature.layout is Layout.RECORDS else instances


def _without_missing(value: Any) -> Any:
    """Return an object and its nested objects without missing values."""
    if type(value) is not dict:
        return value
    return {name: _without_missing(member) for name, member in value.items() if not is_missing(member)}
