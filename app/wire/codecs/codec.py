"""The interface of a codec, between media types and protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.answer import Answer
from app.core.service import PredictRequest
from app.signature import Signature
from app.signature.batch import Batch

TABLE = "#/instances"
"""The pointer to the rows of a table, as if the body were JSON."""

Document = Callable[[Answer], Any]
"""Function that makes a protocol's document of an answer. Codecs that write tables do not call it."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """The limits of a body: bytes after decompression, rows, and values of all rows together."""

    body_bytes: int
    max_instances: int
    max_values: int


@dataclass(frozen=True, slots=True)
class Reading:
    """The context of decoding: formats without types (CSV, forms) take the types from the signature.

    `parameters` are those of the media type, with names in lower case.
    """

    signature: Signature
    limits: BodyLimits
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """Instances without a protocol's envelope.

    `batch` is set if the instances were validated as one matrix. `single` is true if one instance is the whole body.
    """

    instances: Sequence[Any] = ()
    batch: Batch | None = None
    single: bool = False

    @property
    def pointer(self) -> str:
        """The pointer to the instances, as if the body were JSON."""
        return "#" if self.single else TABLE

    def to_request(self, outputs: Sequence[str] | None = None) -> PredictRequest:
        """Return a request to predict these instances."""
        in_rows = self.batch is not None
        return PredictRequest(self.instances, self.pointer, self.single, outputs, batch=self.batch, in_rows=in_rows)


class Codec(ABC):
    """Reads and writes one media type. Stateless, safe to share between threads."""

    needs = ""
    """The library that the codec needs; empty if there is none."""
    writes = True
    """Whether responses can have this media type."""

    @abstractmethod
    def decode(self, body: bytes, reading: Reading) -> Any:
        """Return `Rows`, or the document in the body as plain values, which the protocol interprets.

        Raises:
            InvalidBody: the body is damaged, or not in the format. Says where, if the format has lines.
            InvalidInstances: no kind of input accepts the type of a column, or the names of the columns are wrong.
            TooManyInstances, TooManyValues, BodyTooLarge: the body is over a limit.
            DeadlineExceeded: the request's time ran out.
        """

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return the response's body. Called only if `writes` is true."""
        raise NotImplementedError
