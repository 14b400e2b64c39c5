"""Read JSON values (RFC 8259), and bare NaN for a missing value, which pandas and MLflow write.

The last of duplicate keys wins. A byte order mark is skipped.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any

import msgspec

from app.errors import InvalidJson
from app.signature.json_cost import MAX_VALUES, excess_in_json, has_slow_numbers

MAX_INTEGER_DIGITS = 400
MAX_LENIENT_BYTES = 2**26
"""Limit in memory. A text takes four bytes for each character if one of them is beyond U+FFFF."""
BOM = b"\xef\xbb\xbf"


ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)
"""One escape of a JSON string, or two that form a surrogate pair. The group is half of a pair."""


def read_json(body: bytes, most_values: int = MAX_VALUES) -> Any:
    """Return the value in a body, a line or a cell.

    Raises:
        InvalidJson: with the line and column of the first error.
        TooManyValues: there are more values than the limit.
    """
    if (excess := excess_in_json(body, most_values)) is not None:
        raise excess
    if has_slow_numbers(body):
        return _decode_leniently(body)
    try:
        return msgspec.json.decode(body)
    except RecursionError:
        raise InvalidJson("it is nested too deeply", None, None) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Not strict JSON: perhaps NaN, a byte order mark, or a number out of range. The slow path decides.
        return _decode_leniently(body)


def _decode_leniently(body: bytes) -> Any:
    content = body.removeprefix(BOM)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(content[: error.start].decode("utf-8"))
        raise InvalidJson("it is not UTF-8", line, column) from None
    if sys.getsizeof(text) > MAX_LENIENT_BYTES:
        raise InvalidJson("it is not strict JSON, and is too long to be read otherwise")
    if not text or text.isspace():
        raise InvalidJson("it is empty")
    try:
        document = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise InvalidJson("it is nested too deeply", None, None) from None
    except json.JSONDecodeError as error:
        reason = error.msg[:1].lower() + error.msg[1:]
        raise InvalidJson(reason + _hint(error, text), error.lineno, error.colno) from None
    if "\\ud" in text or "\\uD" in text:
        _refuse_lone_surrogates(document, text)
    return document


def _hint(error: json.JSONDecodeError, text: str) -> str:
    """Return a hint, the end of the error message, for text that is nearly JSON."""
    at = text[error.pos : error.pos + 1]
    if at == "'":
        return "; JSON has double quotes (in Python, json.dumps writes them, and str does not)"
    if error.msg == "Extra data" and error.lineno > 1 and at in ("{", "["):
        return "; several documents, one on each line, are application/x-ndjson"
    return ""


def _refuse_lone_surrogates(document: Any, text: str) -> None:
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        at = next((escape.start() for escape in ESCAPE.finditer(text) if escape[1]), 0)
        detail = "a string holds half of a surrogate pair, which is not Unicode text"
        raise InvalidJson(detail, *_place(text[:at])) from None
    except RecursionError:
        raise InvalidJson("it is nested too deeply", None, None) from None


def _integer(digits: str) -> int:
    # Python refuses to convert thousands of digits. The schema refuses a number this large.
    return int(digits[:MAX_INTEGER_DIGITS])


def _place(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1
