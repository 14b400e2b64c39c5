"""`application/json`: decode and encode documents."""

from __future__ import annotations

from typing import Any

import msgspec

from app.core.answer import Answer
from app.errors import FieldError, InvalidInstances
from app.signature.field_errors import shown
from app.signature.hints import ENCODED_TWICE, encoded_twice
from app.signature.json_cost import MAX_VALUES
from app.signature.json_values import read_json
from app.wire.codecs.codec import Codec, Document, Reading


class Json(Codec):
    """JSON (RFC 8259), and bare NaN for a missing value."""

    def decode(self, body: bytes, reading: Reading) -> Any:
        """Return the document of a whole body."""
        return self.document(body, reading.limits.max_values)

    def document(self, body: bytes, most_values: int = MAX_VALUES) -> Any:
        """Return the document of a whole body, for callers without a `Reading`.

        Raises:
            InvalidInstances: the document is a string that contains JSON.
            InvalidJson, TooManyValues: as `read_json`.
        """
        document = read_json(body, most_values)
        if type(document) is str and encoded_twice(document):
            raise InvalidInstances([FieldError("#", ENCODED_TWICE, shown(document))], 1)
        return document

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return compact JSON. The document holds only finite numbers."""
        return msgspec.json.encode(document(answer))


JSON = Json()
