"""The fast path from JSON to a batch: msgspec decoders compiled from a signature, one for each form of document.

It accepts a subset of the documents that the marshmallow schema accepts, with the same values, in one pass over the
bytes and one over each column. All other documents go to the slow path, which finds and words the errors.
"""

from __future__ import annotations

import importlib.util
import re
import struct
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, repeat
from operator import eq
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.errors import TooManyInstances
from app.signature import INT64_MAX, Input, Signature
from app.signature.batch import Batch, Column, PredictRequest
from app.signature.json_values import MAX_VALUES, excess_in_json, has_long_wide_text, has_slow_numbers
from app.signature.kinds import integer_limits_of, limits_of, objects

# simdjson is optional, because it has no wheels for some machines.
simdjson: Any = importlib.import_module("simdjson") if importlib.util.find_spec("simdjson") else None

WORTH_BYTES = 16_384
"""Below this size, the msgspec decoder is as fast as simdjson."""
MOST_MEMBERS = 2
ENVELOPES = (["instances"], ["instances", "outputs"], ["outputs", "instances"])

Numbers = tuple[NDArray[np.float64], tuple[str, ...] | None]


class NumberRows:
    """A decoder of rows of finite numbers within the limits of their columns, without missing values."""

    def __init__(self, limits: Sequence[tuple[float, float]], outputs: Sequence[str], max_instances: int) -> None:
        self._least, self._most = np.array(limits).reshape(-1, 2).T
        self._outputs = frozenset(outputs)
        self._max_instances = max_instances

    def read(self, body: bytes) -> Numbers | None:
        """Return the rows of a document and the requested outputs; None if it needs another decoder.

        Raises:
            TooManyInstances: it has more rows than the limit.
        """
        if simdjson is None or len(body) < WORTH_BYTES:
            return None
        try:
            document = simdjson.Parser().parse(body)
            outputs: Any = None
            lists = 1
            if isinstance(document, simdjson.Object):
                if len(document) > MOST_MEMBERS or list(document.keys()) not in ENVELOPES:
                    return None
                if "outputs" in document and document["outputs"] is not None:
                    outputs = document["outputs"].as_list()
                    lists += 1
                document = document["instances"]
            rows, columns = len(document), len(self._least)
            if rows > self._max_instances:
                raise TooManyInstances(rows, self._max_instances)
            # as_buffer flattens nested lists too: there must be one list for each row, and none inside.
            if body.count(b"[") != rows + lists or {len(row) for row in document} != {columns}:
                return None
            matrix = np.frombuffer(document.as_buffer(of_type="d"), dtype=np.float64).reshape(rows, columns)
            has_known_outputs = self._outputs.issuperset(outputs or ())
        except TooManyInstances:
            raise
        except Exception:  # noqa: BLE001 (simdjson raises many kinds of errors; the slow path reports them)
            return None
        if not (has_known_outputs and rows):
            return None
        if not ((matrix.min(axis=0) >= self._least).all() and (matrix.max(axis=0) <= self._most).all()):
            return None
        return matrix, tuple(dict.fromkeys(outputs)) if outputs else None


LARGEST_NUMBER = 2.0**63 - 1024
"""Beyond this, an integer literal is refused but a float is accepted. The decoder cannot distinguish them."""

MANY_ROWS = 16
TYPES = frozenset((str, int, float, bool, type(None)))

LITERAL: Any = Literal  # mypy cannot follow types that are made at run time
TUPLE: Any = tuple
LIST: Any = list

FORM = re.compile(rb'\s*+(?:\[|\{\s*+"instances"\s*+:\s*+(\[))\s*+(?:(\{)|(\[)|[^\s\]])')
"""The beginning of a document of many instances: with or without envelope; records, rows, or bare values."""
IN_ROWS: Mapping[int | None, bool | None] = {2: False, 3: True, 1: None, None: None}
"""The form of the instances, by the last group that `FORM` matched."""


class Decoder:
    """A decoder from bytes to a batch, for one signature. Immutable, safe to share between threads."""

    def __init__(self, signature: Signature, max_instances: int, max_values: int) -> None:
        types = [_type_of(spec) for spec in signature.inputs]
        outputs = LITERAL[signature.outputs]
        fields = [(f"input_{position}", type_) for position, type_ in enumerate(types)]
        rename = {f"input_{position}": name for position, name in enumerate(signature.names)}
        record = msgspec.defstruct("Record", fields, rename=rename, forbid_unknown_fields=True, gc=False)
        row = TUPLE[tuple(types)]
        self._record = msgspec.json.Decoder(record)
        self._many: dict[tuple[bool, bool | None], Any] = {}
        forms: dict[bool | None, Any] = {False: record, True: row}
        if signature.takes_bare:
            forms[None] = types[0]
        for in_rows, one in forms.items():
            envelope = msgspec.defstruct(
                "Envelope",
                [("instances", LIST[one]), ("outputs", LIST[outputs] | None, None)],
                forbid_unknown_fields=True,
            )
            self._many[False, in_rows] = msgspec.json.Decoder(LIST[one])
            self._many[True, in_rows] = msgspec.json.Decoder(envelope)
        self._columns = [(spec.name, _column_of(spec)) for spec in signature.inputs]
        numbers = signature.is_plain
        self._names = signature.names if numbers else None
        self._pack = struct.Struct(f"{len(signature.inputs)}d").pack
        self._keys = frozenset(signature.names)
        self._max_instances = max_instances
        self._max_values = max_values
        limits = [_limits_of(spec) for spec in signature.inputs] if numbers else []
        self._numbers = NumberRows(limits, signature.outputs, max_instances) if numbers else None

    def decode(self, body: bytes) -> PredictRequest | None:
        """Return the batch of a JSON document; None if it needs the slow path.

        Raises:
            TooManyValues, TooManyInstances: the document has more values or instances than the server reads.
        """
        if (excess := excess_in_json(body, self._max_values)) is not None:
            raise excess
        if has_slow_numbers(body):
            self._require_few_instances(body)
            return None
        if has_long_wide_text(body):
            return None
        outputs, pointer = None, "#"
        in_rows: bool | None = False
        if self._numbers is not None and self._names is not None and (numbers := self._numbers.read(body)) is not None:
            matrix, outputs = numbers
            pointer = "#" if body.lstrip()[:1] == b"[" else "#/instances"
            batch = Batch.of_matrix(matrix, self._names)
            return PredictRequest((), pointer, outputs=outputs, batch=batch, in_rows=True)
        try:
            form = FORM.match(body)
            if form is None:
                rows: Sequence[tuple[Any, ...]] = [msgspec.structs.astuple(self._record.decode(body))]
            else:
                in_rows = IN_ROWS[form.lastindex]
                decoder = self._many.get((form[1] is not None, in_rows))
                if decoder is None:
                    return None
                document = decoder.decode(body)
                if form[1] is not None:
                    outputs = tuple(dict.fromkeys(document.outputs)) if document.outputs else None
                    document, pointer = document.instances, "#/instances"
                rows = _tuples(document, in_rows)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if len(rows) > self._max_instances:
            raise TooManyInstances(len(rows), self._max_instances)
        return PredictRequest((), pointer, form is None, outputs, batch=self._batch(rows), in_rows=in_rows)

    def _require_few_instances(self, body: bytes) -> None:
        """Raise TooManyInstances for too many numbers or rows of numbers, which the slow path takes long to read."""
        form = FORM.match(body)
        numbers = body[form.start(1) if form is not None and form[1] else 0 :].partition(b'"')[0]
        numbers = numbers[: numbers.rfind(b"]") + 1]
        rows = numbers.count(b"[") - 1
        count = rows if rows > 0 else numbers.count(b",") + 1
        if count > self._max_instances:
            raise TooManyInstances(count, self._max_instances)

    def batch_of(self, instances: Sequence[Any]) -> Batch | None:
        """Return the batch of records, or of rows; None if they need the slow path."""
        if not instances:
            return None
        in_rows = type(instances[0]) is list
        try:
            if not in_rows and not all(map(eq, map(dict.keys, instances), repeat(self._keys))):
                return None  # msgspec would copy each name, however long
            values = instances if in_rows else map(dict.values, instances)
            if not TYPES.issuperset(map(type, chain.from_iterable(values))):
                return None  # msgspec also takes subclasses and Decimal
            rows = _tuples(msgspec.convert(instances, self._many[False, in_rows].type), in_rows)
        except (TypeError, msgspec.ValidationError):
            return None
        return self._batch(rows)

    def _batch(self, rows: Sequence[tuple[Any, ...]]) -> Batch:
        if self._names is not None:
            return Batch.of_matrix(self._matrix(rows), self._names)
        columns = zip(self._columns, zip(*rows, strict=True), strict=True)
        return Batch({name: column(values) for (name, column), values in columns}, len(rows))

    def _matrix(self, rows: Sequence[tuple[float | None, ...]]) -> NDArray[np.float64]:
        """Return the rows as a matrix, with NaN for None."""
        if len(rows) > MANY_ROWS:
            try:  # takes a third of the time of np.array
                packed = bytearray().join([self._pack(*row) for row in rows])
                return np.frombuffer(packed, dtype=np.float64).reshape(len(rows), -1)
            except struct.error:
                pass  # a value is None
        return np.array(rows, dtype=np.float64)


def _tuples(instances: Sequence[Any], in_rows: bool | None) -> Sequence[tuple[Any, ...]]:
    """Return the values of each instance in the order of a row. `in_rows` is the result of `in_row`."""
    if in_rows is None:
        return [(value,) for value in instances]
    return instances if in_rows else [msgspec.structs.astuple(record) for record in instances]


def decoder_of(signature: Signature, max_instances: int, max_values: int = MAX_VALUES) -> Decoder | None:
    """Return the decoder of a signature; None if an input has no exact msgspec type, or no name that msgspec takes."""
    exact = all(map(_is_exact, signature.inputs)) and "instances" not in signature.names
    return Decoder(signature, max_instances, max_values) if exact else None


def _is_exact(spec: Input) -> bool:
    if not spec.name.isprintable() or set('\\"') & set(spec.name):  # JSON must not need to escape it
        return False
    if spec.kind == "category":  # numeric ones have too many types: 1, 1.0, int8, bool
        return set(map(type, spec.categories or ())) == {str}
    return spec.kind in ("number", "integer", "boolean", "text", "unused")


def _type_of(spec: Input) -> Any:
    """Return the msgspec type that accepts the same values as the rule of the kind."""
    type_: Any = {"boolean": bool, "unused": str | int | float | bool | None}.get(spec.kind, str)
    if spec.kind == "category" and spec.closed:
        type_ = LITERAL[spec.categories]
    elif spec.kind == "number":
        least, most = _limits_of(spec)
        type_ = Annotated[float, msgspec.Meta(ge=least, le=most)]
    elif spec.kind == "integer":
        first, last = integer_limits_of(spec)
        type_ = Annotated[int, msgspec.Meta(ge=first, le=min(last, INT64_MAX))]
    return type_ | None if spec.nullable else type_


def _limits_of(spec: Input) -> tuple[float, float]:
    """Return the limits of a number input, within `LARGEST_NUMBER`."""
    least, most = limits_of(spec)
    return max(least, -LARGEST_NUMBER), min(most, LARGEST_NUMBER)


def _column_of(spec: Input) -> Callable[[Sequence[Any]], Column]:
    """Return a function from accepted values to the column that `Kind.column` would make."""
    if spec.kind == "number":
        return lambda values: np.array(values, dtype=spec.dtype)
    if spec.kind == "unused":
        return lambda values: np.full(len(values), np.nan)
    if spec.kind == "integer" and spec.missing == "na":
        return lambda values: objects(values, spec) if None in values else np.array(values, dtype=spec.dtype)
    if spec.kind == "integer":
        return lambda values: np.array(values, dtype=np.float64 if None in values else spec.dtype)
    if spec.kind == "boolean":
        return lambda values: objects(values, spec) if None in values else np.array(values, dtype=np.bool_)
    return lambda values: objects(values, spec)
