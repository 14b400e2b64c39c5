"""What a codec is: the seam between media types and protocols."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from app.core.answer import Answer
from app.core.service import PredictRequest
from app.settings import Settings
from app.signature import Signature
from app.signature.batch import Batch

Document = Callable[[Answer], Any]
"""An answer as a protocol's own document, for codecs that write documents; those that write tables do not ask."""


@dataclass(frozen=True, slots=True)
class BodyLimits:
    """How much of a request is read: bytes after decompression, rows, and values of all rows together."""

    body_bytes: int
    max_instances: int
    max_values: int

    @classmethod
    def of(cls, settings: Settings) -> BodyLimits:
        """Return the limits that the settings say."""
        return cls(settings.body_limit_bytes, settings.max_instances, settings.max_values)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a codec may know while it reads: types come from the signature where the bytes have none (CSV, forms).

    `parameters` are those of the media type, names in lower case.
    """

    signature: Signature
    limits: BodyLimits
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rows:
    """Instances that came as they are, without a protocol's envelope around them.

    `batch` is there where they were validated as one matrix; a `single` instance is the whole body.
    """

    instances: Sequence[Any] = ()
    batch: Batch | None = None
    single: bool = False

    @property
    def pointer(self) -> str:
        """Where the instances stand, as if they had come in JSON."""
        return "#" if self.single else "#/instances"

    def asked(self, outputs: Sequence[str] | None = None) -> PredictRequest:
        """What is asked for with them; a matrix is of rows."""
        in_rows = self.batch is not None
        return PredictRequest(self.instances, self.pointer, self.single, outputs, batch=self.batch, in_rows=in_rows)


class Codec(ABC):
    """Reads and writes one media type. Stateless, safe to share between threads."""

    needs = ""
    """The library without which it neither reads nor writes; empty: none."""
    writes = True
    """Whether answers can have this media type, too."""

    @abstractmethod
    def decode(self, body: bytes, reading: Reading) -> Any:
        """`Rows`, or the document in the body as plain values, whose form is the protocol's affair.

        Raises:
            InvalidBody, InvalidInstances, TooManyInstances, BodyTooLarge: what is wrong with the body.
        """

    def write(self, answer: Answer, document: Document) -> bytes:
        """The answer as a body; called only where `writes` is true."""
        raise NotImplementedError
