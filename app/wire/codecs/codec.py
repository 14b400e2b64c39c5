"""The interface of codecs, and functions that make instances of the columns of a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.answer import Answer
from app.errors import TooManyInstances
from app.signature import Layout, Signature, is_missing
from app.signature.batch import Batch, PredictRequest
from app.signature.field_errors import refused
from app.signature.records import Nesting

MAX_UNKNOWN_COLUMNS = 100
TABLE = "#/instances"
"""The pointer to the rows of a table: that of the same rows in JSON."""

Document = Callable[[Answer], Any]
"""Function that returns a protocol's document for an answer. Codecs that write tables do not call it."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The limits of a body: its bytes after decompression, its rows, and the values in all rows."""

    body_bytes: int
    max_instances: int
    max_values: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The context of decoding. Formats without types (CSV, forms) take the types from the signature.

    `parameters` are the parameters of the media type, with names in lower case.
    """

    signature: Signature
    limits: BodyLimits
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """Instances without a protocol's envelope.

    `batch` is set instead of `instances` if they were validated as one matrix. `single`: the whole body is one
    instance.
    """

    instances: Sequence[Any] = ()
    batch: Batch | None = None
    single: bool = False

    @property
    def pointer(self) -> str:
        """The pointer to the instances: that of the same instances in JSON."""
        return "#" if self.single else TABLE

    def to_request(self, outputs: Sequence[str] | None = None) -> PredictRequest:
        """Return a request to predict these instances."""
        in_rows = self.batch is not None
        return PredictRequest(self.instances, self.pointer, self.single, outputs, batch=self.batch, in_rows=in_rows)


class Codec(ABC):
    """The reader and writer of one media type. Stateless, safe to share between threads."""

    needs = ""
    """The optional library that the codec needs; empty if it needs none."""
    writes = True
    """Whether responses can have this media type."""

    @abstractmethod
    def decode(self, body: bytes, reading: Reading) -> Any:
        """Return `Rows`, or the document in the body as plain values, which the protocol interprets.

        Raises:
            InvalidBody: the body is damaged or not in the format. The error has the line, if the format has lines.
            InvalidInstances: no kind of input accepts the type of a column, or the names of the columns are wrong.
            TooManyInstances, TooManyValues, BodyTooLarge: the body is over a limit.
            DeadlineExceeded: the request's time ran out.
        """

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return the response's body. Called only if `writes` is true."""
        raise NotImplementedError


def check_rows(rows: int, limits: BodyLimits) -> None:
    """Refuse a table with too many rows, before they are decoded.

    Raises:
        TooManyInstances: the table has more rows than the limit.
    """
    if rows > limits.max_instances:
        raise TooManyInstances(rows, limits.max_instances)


def check_names(names: Sequence[str], reading: Reading) -> None:
    """Refuse duplicate names, and more unknown columns than an error can list.

    Raises:
        InvalidInstances: the names are refused. The pointer is that of the whole table.
    """
    if len(names) > len(reading.signature.inputs) + MAX_UNKNOWN_COLUMNS:
        raise refused(TABLE, f"has {len(names)} columns; the model has {len(reading.signature.inputs)} features")
    duplicates = [name for name, times in Counter(names).items() if times > 1]
    if duplicates:
        raise refused(
            TABLE, "has more than one column named " + ", ".join(repr(name[:100]) for name in duplicates[:20])
        )


def records(columns: Mapping[str, Sequence[Any]], rows: int, signature: Signature) -> Rows:
    """Return the records of named columns, each of `rows` values.

    For a model that takes whole records, a single column with the input's name may contain the records. Unless that
    input is nullable, its records lose their missing values, because a table has a cell for every name.
    """
    whole = signature.inputs[0] if signature.layout is Layout.RECORDS else None
    if not columns:
        return Rows([{} for _ in range(rows)])
    if whole is not None and [*columns] == [whole.name] and set(map(type, columns[whole.name])) <= {dict, type(None)}:
        instances = list(columns[whole.name])
    else:
        names = list(columns)
        instances = [dict(zip(names, values, strict=True)) for values in zip(*columns.values(), strict=True)]
        instances = first_if_refused(instances, names, signature)
    return Rows(instances if whole is None or whole.nullable else [_without_missing(record) for record in instances])


def check_records(names: Sequence[str], signature: Signature, pointer: str = TABLE) -> None:
    """Refuse untyped text for a model that takes whole records, except one column of records as JSON.

    Raises:
        InvalidInstances: the text does not show the types of the values, for example whether 01 is a number.
    """
    if signature.layout is Layout.RECORDS and tuple(names) != signature.names:
        detail = f"must have {signature.names[0]!r} alone, an object in JSON: this model takes records of any names"
        raise refused(pointer, f"{detail}, and text does not say which of their values are numbers")


def first_if_refused(instances: list[Any], names: Sequence[str], signature: Signature) -> list[Any]:
    """Return the records, or only the first if a column is missing or unknown: one error then stands for all rows."""
    if signature.layout is Layout.RECORDS or frozenset(names) == frozenset(signature.names):
        return instances
    return instances if Nesting(signature.names) else instances[:1]


def untyped_records(instances: list[Any], names: Sequence[str], signature: Signature) -> list[Any]:
    """Return the instances in records of untyped text that passed `check_records`."""
    whole = signature.layout is Layout.RECORDS  # each record is JSON in the column of the input
    return (
        [record[signature.names[0]] for record in instances] if whole else first_if_refused(instances, names, signature)
    )


def _without_missing(value: Any) -> Any:
    """Return an object and its nested objects without missing values."""
    if type(value) is not dict:
        return value
    return {name: _without_missing(member) for name, member in value.items() if not is_missing(member)}
