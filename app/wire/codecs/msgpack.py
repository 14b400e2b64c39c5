"""`application/msgpack`: the document of JSON in MessagePack (https://github.com/msgpack/msgpack/blob/master/spec.md)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NoReturn

import msgspec

from app.core.answer import Answer
from app.errors import InvalidBody
from app.signature.guards import excess_in_msgpack
from app.wire.codecs.codec import Codec, Document, Reading

FORM = "MessagePack"


class MessagePack(Codec):
    """A document in, a document out. A timestamp is its ISO 8601 text, other extension types are refused."""

    def decode(self, body: bytes, reading: Reading) -> Any:
        """The document; binary values are bytes, which kinds that take bytes know.

        Raises:
            InvalidBody: it is cut short, has bytes left over, or says what JSON cannot.
            TooManyValues: it has more of them than are read.
        """
        if (excess := excess_in_msgpack(body, reading.limits.max_values)) is not None:
            raise excess
        try:
            return _plain(msgspec.msgpack.decode(body, ext_hook=_no_extension))
        except RecursionError:
            raise InvalidBody(FORM, "it is nested too deeply") from None
        except UnicodeDecodeError:
            raise InvalidBody(FORM, "a string is not UTF-8") from None
        except msgspec.ValidationError as error:
            raise InvalidBody(FORM, str(error)) from None
        except (msgspec.DecodeError, TypeError, ValueError, OverflowError) as error:
            raise InvalidBody(FORM, _reason(str(error))) from None

    def write(self, answer: Answer, document: Document) -> bytes:
        """The document."""
        return msgspec.msgpack.encode(document(answer))


def _reason(message: str) -> str:
    if "truncated" in message:
        return "it ends too early"
    if "trailing" in message:
        return "there are bytes after its end"
    return "a byte in it begins no value, or a value cannot be read"


def _no_extension(code: int, content: memoryview) -> NoReturn:
    raise msgspec.ValidationError(f"extension types are not supported (type {code})")


def _plain(value: Any) -> Any:
    """The value with texts for timestamps; refuses keys that are no strings."""
    if type(value) is dict:
        for key, part in value.items():
            if type(key) is not str:
                raise msgspec.ValidationError("a key of a map is not a string")
            if type(part) in (dict, list, datetime):
                value[key] = _plain(part)
    elif type(value) is list:
        for at, part in enumerate(value):
            if type(part) in (dict, list, datetime):
                value[at] = _plain(part)
    elif type(value) is datetime:
        return value.isoformat()
    return value
