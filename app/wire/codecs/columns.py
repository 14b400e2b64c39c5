"""Convert columns by name to instances, and an answer to columns, for all codecs of tables."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.core.answer import Answer
from app.errors import FieldError, InvalidInstances, TooManyInstances
from app.signature import Layout, Signature
from app.signature.batch import json_values
from app.signature.values import is_missing
from app.wire.codecs.codec import BodyLimits, Reading, Rows

MAX_UNKNOWN_COLUMNS = 100
MAX_COLUMNS_OF_AN_OUTPUT = 10_000


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
        raise refused(f"has {len(names)} columns; the model has {len(reading.signature.inputs)} features")
    twice = sorted(name for name, times in Counter(names).items() if times > 1)
    if twice:
        raise refused("has more than one column named " + ", ".join(repr(name[:100]) for name in twice[:20]))


def refused(detail: str, pointer: str = "#/instances") -> InvalidInstances:
    """Return the error for one pointer."""
    return InvalidInstances([FieldError(pointer, detail)], 1)


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
    return Rows(made if whole is None or whole.nullable else [_without_missing(record) for record in made])


def check_records(names: Sequence[str], signature: Signature, pointer: str = "#/instances") -> None:
    """Refuse untyped text for a model that takes whole records, except the records as JSON.

    Raises:
        InvalidInstances: the types of the values are unknown, for example whether 01 is a number.
    """
    if signature.layout is Layout.RECORDS and tuple(names) != signature.names:
        detail = f"must have {signature.names[0]!r} alone, an object in JSON: this model takes records of any names"
        raise refused(f"{detail}, and text does not say which of their values are numbers", pointer)


def unwrap_records(instances: list[Any], signature: Signature) -> list[Any]:
    """Return the records within the input's column, for a model that takes whole records."""
    return [record[signature.names[0]] for record in instances] if signature.layout is Layout.RECORDS else instances


def _without_missing(value: Any) -> Any:
    """Return an object and its nested objects without missing values."""
    if type(value) is not dict:
        return value
    return {name: _without_missing(member) for name, member in value.items() if not is_missing(member)}


def columns_of(answer: Answer) -> dict[str, NDArray[Any]]:
    """Return an answer as flat columns, each of shape (rows,).

    `prediction` keeps its name. Probabilities become `probability_<class>`, and other outputs of several values
    `<output>_<position>`. Irregular outputs (probabilities of several targets) become JSON in text.
    """
    columns: dict[str, NDArray[Any]] = {}
    classes = list(answer.classes or ())
    for name, output in answer.outputs.items():
        array = _to_matrix(output)
        if name == "probabilities" and not len(array) and not any(isinstance(label, list) for label in classes):
            array = np.empty((0, len(classes)))  # without rows the array does not have the number of classes
        if array.ndim == 1:
            nested = array.dtype == object and any(isinstance(value, list | tuple | np.ndarray) for value in array)
            columns[name] = _as_text(array) if nested else array
            continue
        flat = array.reshape(len(array), math.prod(array.shape[1:]))
        if flat.shape[1] > MAX_COLUMNS_OF_AN_OUTPUT:
            columns[name] = _as_text(array)
        elif name == "probabilities" and flat.shape[1] == len(classes):
            columns |= {f"probability_{label}": flat[:, at] for at, label in enumerate(classes)}
        else:
            columns |= {f"{name}_{at}": flat[:, at] for at in range(flat.shape[1])}
    return columns


def _to_matrix(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of lists of equal length, which a step has made, as numbers of shape (rows, values)."""
    if array.dtype != object or array.ndim > 1 or not all(type(value) is list for value in array):
        return array
    if len({len(value) for value in array}) != 1:
        return array
    made = np.array(array.tolist())
    return made if made.dtype.kind in "fiu" else array


def _as_text(array: NDArray[Any]) -> NDArray[Any]:
    texts = np.empty(len(array), dtype=object)
    texts[:] = [msgspec.json.encode(value).decode() for value in json_values(array)]
    return texts
