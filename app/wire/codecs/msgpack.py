"""`application/msgpack`: the same documents as JSON (https://github.com/msgpack/msgpack/blob/master/spec.md)."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any, NoReturn

import msgspec
import numpy as np

from app.core.answer import Answer
from app.errors import InvalidBody, TooManyValues
from app.signature.json_values import VALUES_OF_A_LIST
from app.wire.codecs.codec import Codec, Document, Reading

FORM = "MessagePack"
KEY_NOT_STRING = "a key of a map is not a string"
REASONS = {"truncated": "it ends too early", "trailing": "there are bytes after its end"}
"""Our text for each error of msgspec, by a part of its message."""
UNREADABLE = "a byte in it begins no value, or a value cannot be read"
VALUES_OF_A_TIMESTAMP = 10
TOKENS_AT_ONCE = 100_000


def _skip(size_bytes: int) -> bytes:
    return b".{%d}" % size_bytes


FIXED = {b"[\xcc\xd0]": 1, b"[\xcd\xd1]": 2, b"[\xca\xce\xd2]": 4, b"[\xcb\xcf\xd3]": 8}
FIXED |= {b"\xd4": 2, b"\xd5": 3, b"\xd6": 5, b"\xd7": 9, b"\xd8": 17}
"""The first bytes of MessagePack's numbers and extensions of a fixed size, with the number of bytes that follow."""
SHORT = [re.escape(bytes([0xA0 + size])) + _skip(size) for size in range(32)]
SHORT += [b"[\xd9\xc4]" + re.escape(bytes([size])) + _skip(size) for size in range(32)]
LISTS = b"[\x80-\x9f]|[\xdc\xde]..|[\xdd\xdf]...."
ONE_BYTE = b"[\x00-\x7f\xc0\xc2\xc3\xe0-\xff]"
SCALARS = b"|".join([*(first + _skip(size) for first, size in FIXED.items()), *SHORT])
LONG = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""The first bytes of long texts, bytes and extensions, with the number of bytes of their length field."""
SHORTEST_LONG_BYTES = 32
EXTENSIONS = (0xC7, 0xC8, 0xC9)
TIMESTAMPS = (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")
LARGE_MAPS = b"\xde..|\xdf...."
FEW_LISTS = 4_000
"""Number of lists above which the keys of maps are checked. msgspec makes tuples of lists that are keys. Keys with the
same hash would take time that grows with the square of their number."""
TEXTS = frozenset(range(0xA0, 0xC0)) | {0xD9, 0xDA, 0xDB}
"""The first bytes of texts."""


class MessagePack(Codec):
    """Codec of MessagePack. Timestamps become ISO 8601 text. Other extension types are refused."""

    def decode(self, body: bytes, reading: Reading) -> Any:
        """Return the document, with bytes for binary values."""
        if (excess := excess_in_msgpack(body, reading.limits.max_values)) is not None:
            raise excess
        check_keys(body, reading.limits.max_values // VALUES_OF_A_LIST)
        try:
            return _plain_value(msgspec.msgpack.decode(body, ext_hook=_no_extension))
        except RecursionError:
            raise InvalidBody(FORM, "it is nested too deeply") from None
        except UnicodeDecodeError:
            raise InvalidBody(FORM, "a string is not UTF-8") from None
        except msgspec.ValidationError as error:
            raise InvalidBody(FORM, str(error)) from None
        except (msgspec.DecodeError, TypeError, ValueError, OverflowError) as error:
            reason = next((text for part, text in REASONS.items() if part in str(error)), UNREADABLE)
            raise InvalidBody(FORM, reason) from None

    def write(self, answer: Answer, document: Document) -> bytes:
        """Return the encoded document."""
        return msgspec.msgpack.encode(document(answer))


def _no_extension(code: int, content: memoryview) -> NoReturn:
    raise msgspec.ValidationError(f"extension types are not supported (type {code})")


def _plain_value(value: Any) -> Any:
    """Return the value with text instead of timestamps. Refuse keys that are not strings."""
    if type(value) is dict:
        for key, part in value.items():
            if type(key) is not str:
                raise msgspec.ValidationError(KEY_NOT_STRING)
            if type(part) in (dict, list, datetime):
                value[key] = _plain_value(part)
    elif type(value) is list:
        for at, part in enumerate(value):
            if type(part) in (dict, list, datetime):
                value[at] = _plain_value(part)
    elif type(value) is datetime:
        return value.isoformat()
    return value


# --- the cost of a body, estimated before it is decoded


def excess_in_msgpack(body: bytes, most: int) -> TooManyValues | None:
    """Return an error if MessagePack has too many values, lists, maps or timestamps; None otherwise.

    A body that is too short to have too many is not scanned.
    """
    most_lists, most_times = most // VALUES_OF_A_LIST, most // VALUES_OF_A_TIMESTAMP
    if len(body) <= most_times:
        return None
    if (times := sum(map(body.count, TIMESTAMPS))) > most_times:
        return TooManyValues(times, most_times, "timestamps")
    may_be_lists = len(body) > most_lists and _may_begin_lists(body) > most_lists
    if not may_be_lists and len(body) <= most:
        return None
    if (values := _tokens(body, _TOKEN, most)) > most:
        return TooManyValues(values, most, "values and names")
    if not may_be_lists or values <= most_lists:
        return None
    lists = _tokens(body, _LIST, most_lists)
    return TooManyValues(lists, most_lists, "lists and maps") if lists > most_lists else None


def _may_begin_lists(body: bytes) -> int:
    content = np.frombuffer(body, dtype=np.uint8)
    return int(np.count_nonzero((content & 0xE0) == 0x80)) + int(np.count_nonzero((content & 0xFC) == 0xDC))


ANY = b"(?:%s|%s|%s)" % (ONE_BYTE, LISTS, SCALARS)
ARRAYS, SMALL_MAPS = b"[\x90-\x9f]|\xdc..|\xdd....", b"[\x80-\x8f]"
# Python 3.11.2 finds nothing with a lookahead in a possessive group.
UP_TO_AN_ARRAY = b"(?:(?:%s|%s|%s|%s)*+(?:%s))" % (ONE_BYTE, SCALARS, SMALL_MAPS, LARGE_MAPS, ARRAYS)
UP_TO_A_LARGE_MAP = b"(?:(?:%s|%s|%s|%s)*+(?:%s))" % (ONE_BYTE, SCALARS, ARRAYS, SMALL_MAPS, LARGE_MAPS)
UP_TO_A_LIST = b"(?:(?:%s|%s)*+(?:%s))" % (ONE_BYTE, SCALARS, LISTS)
_TOKENS = re.compile(ANY + b"*+", re.DOTALL)
_TOKEN, _LIST, _ARRAY, _LARGE_MAP = (
    (re.compile(each + b"{%d}+" % TOKENS_AT_ONCE, re.DOTALL), re.compile(each, re.DOTALL))
    for each in (ANY, UP_TO_A_LIST, UP_TO_AN_ARRAY, UP_TO_A_LARGE_MAP)
)


def _tokens(body: bytes, kind: tuple[re.Pattern[bytes], re.Pattern[bytes]], most: int) -> int:
    """Count the tokens of MessagePack, up to slightly more than `most`. Invalid content ends the count."""
    at, count, (many, one) = 0, 0, kind
    while at < len(body) and count <= most:
        if (match := many.match(body, at)) is not None:
            count += TOKENS_AT_ONCE
            at = match.end()
            continue
        if body[at] not in LONG:
            match = _TOKENS.match(body, at)
            ends = match.end() if match else at
            if ends == at:
                break
            while (match := one.match(body, at, ends)) is not None:
                count += 1
                at = match.end()
            at = ends
        while at < len(body) and count <= most and (width := LONG.get(body[at])):
            length = int.from_bytes(body[at + 1 : at + 1 + width], "big")
            if kind is _TOKEN:  # short texts in a long form take longer to count
                count += 1 if width == 1 or length >= SHORTEST_LONG_BYTES else VALUES_OF_A_LIST
            at += 1 + width + length + (body[at] in EXTENSIONS)
    return count


# --- keys


def check_keys(body: bytes, most: int) -> None:
    """Refuse keys that are not strings, if the body has many lists and a map of more than 15 members.

    Raises:
        InvalidBody: a key is not a string.
        TooManyValues: such a body has more than `most` values, so that checking its keys would take long.
    """
    if b"\xde" not in body and b"\xdf" not in body:
        return
    if _may_begin_lists(body) <= FEW_LISTS or _tokens(body, _ARRAY, FEW_LISTS) <= FEW_LISTS:
        return
    if not _tokens(body, _LARGE_MAP, 0):
        return
    if (values := _tokens(body, _TOKEN, most)) > most:
        raise TooManyValues(values, most, "values and names beside lists and maps of more than 15 members")
    at, members_left, is_map = 0, 1, False
    outer: list[tuple[int, bool]] = []
    while at < len(body):
        first = body[at]
        if is_map and not members_left & 1 and first not in TEXTS:
            raise InvalidBody(FORM, KEY_NOT_STRING)
        members_left -= 1
        if (kind := HEADS.get(first)) is None:
            at = _end(body, at)
        else:
            if members_left:
                outer.append((members_left, is_map))
            is_map, size, width = kind
            at += 1 + width
            members_left = (size or int.from_bytes(body[at - width : at], "big")) << is_map
        while not members_left and outer:
            members_left, is_map = outer.pop()


HEADS = {first: (first < 0x90, first & 15, 0) for first in range(0x80, 0xA0)}
HEADS |= {0xDC: (False, 0, 2), 0xDD: (False, 0, 4), 0xDE: (True, 0, 2), 0xDF: (True, 0, 4)}
"""The first bytes of lists and maps: whether it is a map, its size, and the number of bytes of a size that follows."""


def _end(body: bytes, at: int) -> int:
    """Return the end of a value that is neither a list nor a map; the end of the body if the value is invalid."""
    if (match := _TOKEN[1].match(body, at)) is not None:
        return match.end()
    width = LONG.get(body[at])
    if width is None:
        return len(body)
    return at + 1 + width + int.from_bytes(body[at + 1 : at + 1 + width], "big") + (body[at] in EXTENSIONS)
