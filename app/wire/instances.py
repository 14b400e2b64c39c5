"""Instances and predictions in the forms of other servers' protocols: bare values, base64 objects, columns.

Columns become rows for the validator. `transpose_pointers` moves the pointers of errors back to the columns.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from app.core.answer import Answer
from app.errors import FieldError, InvalidInstances
from app.runtime.servable import METHOD_OF_OUTPUT
from app.signature import Input, Signature
from app.signature.batch import Decode, PredictRequest
from app.signature.field_errors import escaped, hinted, refuse, refused, shown, some
from app.wire import codecs

OUTPUT_OF_METHOD = {method: output for output, method in METHOD_OF_OUTPUT.items()}
KINDS_WITH_BASE64 = ("array", "image")
"""Kinds of input that decode base64 objects themselves. For other kinds, base64 stands for text."""
STARTS_WITH_INSTANCES = re.compile(rb'\s*+\{\s*+"instances"\s*+:')
"""Start of a body for the fast decoder, which accepts only the keys `instances` and `outputs`."""


def json_object(raw: bytes, limits: codecs.BodyLimits) -> dict[str, Any]:
    """Return the JSON object in a body, whatever its Content-Type is.

    Raises:
        InvalidJson: the body is not JSON.
        InvalidInstances: the JSON is not an object.
    """
    document = codecs.JSON.document(raw, limits.max_values)
    if not isinstance(document, dict):
        raise refused("#", "must be an object", document)
    return document


def decode_instances(raw: bytes, decode: Decode, signature: Signature) -> PredictRequest | None:
    """Return the request for the first output, if `decode` accepts the body and it has only `instances`; else None."""
    if STARTS_WITH_INSTANCES.match(raw) and (decoded := decode(raw)) is not None and decoded.outputs is None:
        return replace(decoded, outputs=signature.defaults[:1])
    return None


def instance_list(values: object, signature: Signature, pointer: str) -> list[Any]:
    """Return the instances in the form that the validator reads.

    A model with one input also takes bare values. `{"b64": "..."}` stands for bytes.

    Raises:
        InvalidInstances: `values` is not a list, or the content of a base64 object is not base64.
    """
    if not isinstance(values, list):
        raise refused(pointer, hinted("must be a list of instances", values, signature), values)
    inputs = signature.inputs
    nested = len(inputs) == 1 and inputs[0].kind == "array"
    return [
        _instance(value, signature, f"{pointer}/{position}", nested)
        if nested or not isinstance(value, list) or any(map(_is_base64, value))
        else value
        for position, value in enumerate(values)
    ]


def _instance(value: Any, signature: Signature, pointer: str, nested: bool) -> Any:
    is_record = isinstance(value, dict) and not _is_base64(value)
    if len(signature.inputs) == 1 and not is_record and (nested or not isinstance(value, list)):
        cell = _decode_base64(value, signature.inputs[0], pointer)
        return [cell] if nested or isinstance(cell, dict) else cell
    if isinstance(value, dict) and any(map(_is_base64, value.values())):
        specs = {spec.name: spec for spec in signature.inputs}
        return {
            name: _decode_base64(cell, specs[name], f"{pointer}/{escaped(name)}") if name in specs else cell
            for name, cell in value.items()
        }
    if isinstance(value, list) and len(value) == len(signature.inputs):
        cells = zip(value, signature.inputs, strict=True)
        return [_decode_base64(cell, spec, f"{pointer}/{at}") for at, (cell, spec) in enumerate(cells)]
    return value


def _is_base64(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"b64"}


def _decode_base64(value: Any, spec: Input, pointer: str) -> Any:
    """Return a cell, with base64 decoded to text."""
    if not _is_base64(value) or spec.kind in KINDS_WITH_BASE64:
        return value
    try:
        return base64.b64decode(value["b64"], validate=True).decode("utf-8")
    except (TypeError, ValueError, binascii.Error):
        raise refused(f"{pointer}/b64", "must be the base64 of text in UTF-8", value["b64"]) from None


def rows_from_columns(columns: Mapping[str, Any], signature: Signature, pointer: str) -> list[list[Any]]:
    """Return the rows of named columns, in the order of the signature. A cell may be a list of one value.

    Raises:
        InvalidInstances: a column is missing, unknown, not a list, or differs in length from the others.
    """
    refuse(_column_errors(columns, signature.names, pointer))
    longest = max(map(len, columns.values()), default=0)
    place = {name: f"{pointer}/{escaped(name)}" for name in signature.names}
    refuse(
        FieldError(place[name], f"has {len(column)} values where another column has {longest}")
        for name, column in columns.items()
        if len(column) != longest
    )
    cells = [
        [_cell(value, spec, f"{place[spec.name]}/{row}") for row, value in enumerate(columns[spec.name])]
        for spec in signature.inputs
    ]
    return list(map(list, zip(*cells, strict=True)))


def _column_errors(columns: Mapping[str, Any], names: Sequence[str], pointer: str) -> Iterator[FieldError]:
    features = frozenset(names)
    for name in names:
        if name not in columns:
            yield FieldError(f"{pointer}/{escaped(name)}", "is missing: every feature is needed")
    unknown = f"is not a feature of this model; the features are: {some(names)}"
    for name in columns:
        if name not in features:
            yield FieldError(f"{pointer}/{escaped(name)}", unknown)
    for name, column in columns.items():
        if name in features and not isinstance(column, list):
            detail = "must be a list with a value for each instance"
            yield FieldError(f"{pointer}/{escaped(name)}", detail, shown(column))


def _cell(value: Any, spec: Input, pointer: str) -> Any:
    """Return a value of a column, also from a column of shape (rows, 1)."""
    if isinstance(value, list) and len(value) == 1 and spec.kind != "array":
        value = value[0]
    return _decode_base64(value, spec, pointer)


def rows_from_table(
    columns: Sequence[Any], table: Any, signature: Signature, pointer: str
) -> tuple[list[Any], list[int]]:
    """Return a table's rows in the order of the signature, and the position of each feature in the table.

    Columns named 0, 1, 2 and so on, as pandas names them by default, are in the order of the signature.

    Raises:
        InvalidInstances: a column is missing, unknown or duplicate, or a row has too few or too many values.
    """
    names = signature.names
    if all(name == at for at, name in enumerate(columns)):
        columns = [*names, *columns[len(names) :]][: len(columns)]
    refuse(_table_errors(columns, table, names, pointer))
    refuse(
        FieldError(f"{pointer}/data/{at}", f"must be a list of {len(columns)} values, one for each column", shown(row))
        for at, row in enumerate(table)
        if not isinstance(row, list) or len(row) != len(columns)
    )
    position = {name: at for at, name in enumerate(columns)}
    order = [position[name] for name in names]
    in_order = order == list(range(len(order)))
    return table if in_order else [[row[at] for at in order] for row in table], order


def _table_errors(columns: Sequence[Any], table: Any, names: Sequence[str], pointer: str) -> Iterator[FieldError]:
    features = frozenset(names)
    sent = {column for column in columns if isinstance(column, str) and column in features}
    for name in names:
        if name not in sent:
            yield FieldError(f"{pointer}/columns", f"lacks {name!r}: every feature is needed")
    unknown, names_before = f"is not a feature of this model; the features are: {some(names)}", set()
    for at, column in enumerate(columns):
        if not isinstance(column, str) or column not in features:
            yield FieldError(f"{pointer}/columns/{at}", unknown, shown(column))
        elif column in names_before:
            yield FieldError(f"{pointer}/columns/{at}", "is there twice", shown(column))
        else:
            names_before.add(column)
    if not isinstance(table, list):
        yield FieldError(f"{pointer}/data", "must be a list of rows", shown(table))


def outputs_by_name(names: Sequence[Any]) -> list[Any]:
    """Return output names, with the estimator's method names (`predict_proba`) replaced by theirs."""
    return [OUTPUT_OF_METHOD.get(name, name) if isinstance(name, str) else name for name in names]


def requested_outputs(parameters: Any, signature: Signature, pointer: str) -> list[Any]:
    """Return the outputs in `parameters`, else the first default output. Other parameters are ignored.

    Raises:
        InvalidInstances: `parameters` is not an object, or its `outputs` is not a list.
    """
    if not isinstance(parameters, dict | None):
        raise refused(pointer, "must be an object", parameters)
    outputs = (parameters or {}).get("outputs")
    if not isinstance(outputs, list | None):
        raise refused(f"{pointer}/outputs", "must be a list of output names", outputs)
    return outputs_by_name(outputs) if outputs else [*signature.defaults[:1]]


def predictions(answer: Answer) -> list[Any]:
    """Return one prediction for each instance: the value of a single output, else an object of the outputs."""
    values = answer.values()
    if len(values) == 1:
        return next(iter(values.values()))
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def move_pointers(error: InvalidInstances, pointer: str, place: Callable[[str, int], str]) -> InvalidInstances:
    """Return the errors with `<pointer>/<row>/<position>` replaced by `place(row, position)`."""
    cell = re.compile(rf"{re.escape(pointer)}/(\d+)/(\d+)(.*)", re.DOTALL)
    matches = [(field_error, cell.fullmatch(field_error.pointer)) for field_error in error.errors]
    errors = [
        replace(field_error, pointer=place(match[1], int(match[2])) + match[3]) if match else field_error
        for field_error, match in matches
    ]
    return InvalidInstances(errors, error.total)


def transpose_pointers(error: InvalidInstances, names: Sequence[str], pointer: str) -> InvalidInstances:
    """Return the errors with pointers into the columns of the request instead of its rows."""
    return move_pointers(error, pointer, lambda row, at: f"{pointer}/{escaped(names[at])}/{row}")
