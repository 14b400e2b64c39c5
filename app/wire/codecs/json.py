"""`application/json`, and `application/x-ndjson`, which has one JSON value on each line.

Sources: RFC 8259; https://github.com/ndjson/ndjson-spec, jsonlines.org.
"""

from __future__ import annotations

from typing import Any

import msgspec

from app.core.answer import Answer
from app.errors import InvalidJson, TooManyInstances
from app.signature.field_errors import ENCODED_TWICE, encoded_twice, refused
from app.signature.json_values import MAX_VALUES, excess_in_json, read_json
from app.telemetry import check_deadline
from app.wire.codecs.codec import Codec, Document, Reading, Rows

LINES_AT_ONCE = 1000
MAX_LINE_BYTES = 2**23


class Json(Codec):
    """Codec of JSON (RFC 8259), in which a bare NaN is a missing value."""

    def decode(self, body: bytes, reading: Reading) -> Any:
        """Return the document."""
        return self.document(body, reading.limits.max_values)

    def document(self, body: bytes, most_values: int = MAX_VALUES) -> Any:
        """Return the document, for callers without a `Reading`.

        Raises:
            InvalidInstances: the document is a string that contains JSON.
            InvalidJson, TooManyValues: `read_json` refuses the body.
        """
        document = read_json(body, most_values)
        if type(document) is str and encoded_twice(document):
            raise refused("#", ENCODED_TWICE, document)
        return document

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return compact JSON. The document has only finite numbers."""
        return msgspec.json.encode(document(answer))


JSON = Json()


class NdJson(Codec):
    """Codec of NDJSON: an instance on each line. Blank lines are skipped.

    This codec reads the whole body, for responses of another type. `app.wire.stream` answers line by line.
    """

    def decode(self, body: bytes, reading: Reading) -> Rows:
        """Return the instances. An InvalidJson has the line and column of the first error."""
        if (excess := excess_in_json(body, reading.limits.max_values)) is not None:
            raise excess
        instances: list[Any] = []
        for number, line in enumerate(body.split(b"\n"), start=1):
            if not line.strip():
                continue
            if len(instances) >= reading.limits.max_instances:
                rows = sum(1 for text in body.split(b"\n") if text.strip())
                raise TooManyInstances(rows, reading.limits.max_instances)
            if number % LINES_AT_ONCE == 0:
                check_deadline()
            if len(line) > MAX_LINE_BYTES:
                raise InvalidJson(f"a line is longer than {MAX_LINE_BYTES} bytes, the most that one may have", number)
            try:
                instances.append(read_json(line))
            except InvalidJson as error:
                raise InvalidJson(error.reason, number, error.column) from None
        return Rows(instances)

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return a line for each instance: an object of its outputs."""
        values = answer.values()
        rows = zip(*values.values(), strict=True)
        return msgspec.json.Encoder().encode_lines([dict(zip(values, row, strict=True)) for row in rows])
