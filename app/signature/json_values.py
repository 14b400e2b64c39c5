"""Read JSON values (RFC 8259), and bare NaN for a missing value, which pandas and MLflow write.

The cost of a body is estimated before it is decoded, because a decoder blocks all other threads.

The last of duplicate keys wins. A byte order mark is skipped.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.errors import InvalidJson, TooManyValues

LONG_BYTES, SAMPLES = 2**20, 64
MANY_DIGITS = b"9" * 400
DIGITS_ALIKE = bytes.maketrans(b"012345678", b"9" * 9)
LONG_TEXT_BYTES = 2**23
WIDE = re.compile(rb"[\xf0-\xf4]")
"""The first byte of a character beyond U+FFFF in UTF-8."""
FEW_SLOW_NUMBERS = 100
MAX_VALUES = 2_000_000
"""The default limit of values in one body: 20 for each of 100,000 instances."""
VALUES_OF_A_LIST = 4
"""A list or an object takes as much memory and time as this many numbers."""
SCANNED_BYTES = 2**20
MAX_INTEGER_DIGITS = 400
MAX_LENIENT_BYTES = 2**26
"""Limit in memory. A text takes four bytes for each character if one of them is beyond U+FFFF."""
BOM = b"\xef\xbb\xbf"
ESCAPE = re.compile(r"\\(?:u[dD][89abAB]..\\u[dD][c-fC-F]..|(u[dD][89a-fA-F]..)|.)", re.DOTALL)
"""One escape of a JSON string, or two that form a surrogate pair. The group is half of a pair."""


def has_slow_numbers(body: bytes) -> bool:
    """Return whether more than a few numbers have an exponent of three digits, or hundreds of digits.

    For numbers near the ends of a float's range, msgspec takes a hundred times as long as for others. For an integer,
    its time grows with the square of the number of digits.
    """
    if len(body) >= LONG_BYTES:
        samples = (body[at : at + len(MANY_DIGITS)] for at in range(0, len(body), len(body) // SAMPLES))
        if any(map(bytes.isdigit, samples)) and body.translate(DIGITS_ALIKE).count(MANY_DIGITS) > FEW_SLOW_NUMBERS:
            return True
    if body.count(b"e") + body.count(b"E") <= FEW_SLOW_NUMBERS:
        return False
    content = np.frombuffer(body, dtype=np.uint8)
    at = np.flatnonzero((content | 0x20) == ord("e")) + 1
    at = at[at < len(content) - 3]
    at += (content[at] == ord("+")) | (content[at] == ord("-"))
    are_digits = [content[at + place] - np.uint8(ord("0")) < 10 for place in range(3)]
    return int(np.count_nonzero(are_digits[0] & are_digits[1] & are_digits[2])) > FEW_SLOW_NUMBERS


def has_long_wide_text(body: bytes) -> bool:
    """Return whether JSON may have a text of megabytes with a character beyond U+FFFF.

    In memory each character of such a text takes four bytes, also in an error that quotes it.
    """
    if len(body) <= LONG_TEXT_BYTES or body.isascii() or WIDE.search(body) is None:
        return False
    at = 0
    while len(body) - at > LONG_TEXT_BYTES:
        at = body.rfind(b'"', at, at + LONG_TEXT_BYTES) + 1
        if not at:
            return True
    return False


def excess_in_json(body: bytes, most: int) -> TooManyValues | None:
    """Return the error for JSON with too many values, or too many lists and objects; None if it has few.

    A body that is too short to have too many is not scanned.
    """
    most_lists = most // VALUES_OF_A_LIST
    if len(body) <= most_lists:
        return None
    values, lists = _values(body), _lists(body)
    if (values >= most or lists > most_lists) and b'"' in body:
        if (escapes := body.count(b"\\")) > most:
            return TooManyValues(escapes, most, "escapes in texts")
        values = lists = 0
        for part in _outside_strings(body):
            values += _values(part)
            lists += _lists(part)
    if lists > most_lists:
        return TooManyValues(lists, most_lists, "lists and objects")
    return TooManyValues(values + 1, most) if values >= most else None


def _values(json: bytes) -> int:
    """Return an estimate of the number of values, from the commas or lines between them."""
    return max(json.count(b","), json.count(b"\n"))


def _lists(json: bytes) -> int:
    return json.count(b"[") + json.count(b"{")


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """Yield the parts of JSON that are outside of strings."""
    content = body.replace(b"\\\\", b"").replace(b'\\"', b"") if b"\\" in body else body
    is_within = False
    for at in range(0, len(content), SCANNED_BYTES):
        part = content[at : at + SCANNED_BYTES]
        if b'"' in part:
            codes: NDArray[np.uint8] = np.frombuffer(part, dtype=np.uint8)
            quotes = np.cumsum(codes == ord('"'), dtype=np.uint8) + np.uint8(is_within)
            is_within = bool(quotes[-1] & 1)
            yield (codes * (1 - (quotes & 1))).tobytes()
        elif not is_within:
            yield part


def read_json(body: bytes, most_values: int = MAX_VALUES) -> Any:
    """Return the value in a body, a line or a cell.

    Raises:
        InvalidJson: the error has the line and column of the first mistake.
        TooManyValues: there are more values than the limit.
    """
    if (excess := excess_in_json(body, most_values)) is not None:
        raise excess
    try:
        try:
            return _decode_leniently(body) if has_slow_numbers(body) else msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Not strict JSON: perhaps NaN, a byte order mark, or a number out of range. The slow path decides.
            return _decode_leniently(body)
    except RecursionError:
        raise InvalidJson("it is nested too deeply", None, None) from None


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
        # Python refuses to convert thousands of digits. The schema refuses a number this large.
        document = json.loads(text, parse_int=lambda digits: int(digits[:MAX_INTEGER_DIGITS]))
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


def _place(text: str) -> tuple[int, int]:
    return text.count("\n") + 1, len(text) - (text.rfind("\n") + 1) + 1
