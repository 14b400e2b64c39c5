"""`application/json`: a document in, a document out."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

from app.core.answer import Answer
from app.errors import InvalidBody, InvalidJson
from app.signature.guards import MOST_CONTAINERS, has_slow_numbers, has_too_many_containers
from app.wire.codecs.codec import Document, Reading

MAX_INTEGER_DIGITS = 4000
BOM = b"\xef\xbb\xbf"


ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)
"""One escape of a JSON string, or two that are a pair of surrogates; the group is half of a pair."""


class Json:
    """JSON (RFC 8259), and bare NaN for a missing value, which pandas and MLflow write.

    A duplicate key: the last one wins. A byte order mark is skipped.
    """

    needs = ""
    writes = True

    def decode(self, body: bytes, reading: Reading | None = None) -> Any:
        """The document.

        Raises:
            InvalidJson: with the line and column of the first thing amiss.
            InvalidBody: it would take too long.
        """
        if has_too_many_containers(body):
            raise InvalidBody("JSON", f"it has more than {MOST_CONTAINERS} lists and objects, the most that are read")
        if has_slow_numbers(body):
            return _decode_leniently(body)
        try:
            return msgspec.json.decode(body)
        except RecursionError:
            raise InvalidJson("it is nested too deeply", None, None) from None
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Not strict JSON: perhaps NaN, a byte order mark, a number out of range. The slow path tells, or explains.
            return _decode_leniently(body)

    def write(self, answer: Answer, document: Document) -> bytes:
        """Compact JSON; the document holds finite numbers only."""
        return msgspec.json.encode(document(answer))


def _decode_leniently(body: bytes) -> Any:
    content = body.removeprefix(BOM)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(content[: error.start].decode("utf-8"))
        raise InvalidJson("it is not UTF-8", line, column) from None
    if not text.strip():
        raise InvalidJson("it is empty")
    try:
        document = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise InvalidJson("it is nested too deeply", None, None) from None
    except json.JSONDecodeError as error:
        raise InvalidJson(error.msg[:1].lower() + error.msg[1:], error.lineno, error.colno) from None
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(document, text)
    return document


def _refuse_lone_surrogates(document: Any, text: str) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        at = next((escape.start() for escape in ESCAPE.finditer(text) if escape[1]), 0)
        said = "a string holds half of a surrogate pair, which is not Unicode text"
        raise InvalidJson(said, *_place(text[:at])) from None
    except RecursionError:
        raise InvalidJson("it is nested too deeply", None, None) from None


def _integer(digits: str) -> int:
    # Python refuses to convert thousands of digits; any number this large is refused where it stands.
    return int(digits[:MAX_INTEGER_DIGITS])


def _place(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1


JSON = Json()
