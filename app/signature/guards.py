"""What a body would cost, before it is decoded: while a decoder runs, every other thread waits for it."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from app.errors import TooManyValues

FEW_SLOW_NUMBERS = 100
LONG_BYTES, SAMPLES = 2**20, 64
MANY_DIGITS = b"9" * 400
DIGITS_ALIKE = bytes.maketrans(b"012345678", b"9" * 9)
MAX_VALUES = 2_000_000
"""Values that are read of one body, where nobody says otherwise: 20 for each of 100,000 instances."""
VALUES_OF_A_LIST = 4
"""A list or an object takes as much memory and time as so many numbers, whatever is in it."""
VALUES_OF_A_TIMESTAMP = 10
LONG_TEXT_BYTES = 2**23
WIDE = re.compile(rb"[\xf0-\xf4]")
"""The first byte of a character beyond U+FFFF in UTF-8."""
SCANNED_BYTES = 2**20
TOKENS_AT_ONCE = 100_000


def _skipping(size_bytes: int) -> bytes:
    return b".{%d}" % size_bytes


FIXED = {b"[\xcc\xd0]": 1, b"[\xcd\xd1]": 2, b"[\xca\xce\xd2]": 4, b"[\xcb\xcf\xd3]": 8}
FIXED |= {b"\xd4": 2, b"\xd5": 3, b"\xd6": 5, b"\xd7": 9, b"\xd8": 17}
"""The first bytes of MessagePack's numbers and extensions of a fixed size, and how many bytes follow."""
SHORT = [re.escape(bytes([0xA0 + size])) + _skipping(size) for size in range(32)]
SHORT += [b"[\xd9\xc4]" + re.escape(bytes([size])) + _skipping(size) for size in range(32)]
LISTS = b"[\x80-\x9f]|[\xdc\xde]..|[\xdd\xdf]...."
ONE_BYTE = b"[\x00-\x7f\xc0\xc2\xc3\xe0-\xff]"
SCALARS = b"|".join([*(first + _skipping(size) for first, size in FIXED.items()), *SHORT])
LONG = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
"""The first bytes of texts, of bytes and of extensions, and how many bytes say how long they are."""
SHORTEST_LONG_BYTES = 32
EXTENSIONS = (0xC7, 0xC8, 0xC9)
TIMESTAMPS = (b"\xd6\xff", b"\xd7\xff", b"\xc7\x0c\xff")


def has_slow_numbers(body: bytes) -> bool:
    """Whether more than a few numbers have an exponent of three digits, or are integers of hundreds of digits.

    Near the ends of its range a float takes msgspec a hundred times what others take; an integer takes it the square of
    its length.
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
    """Whether JSON may have a text of megabytes with a character beyond U+FFFF: in memory, each of its characters takes
    four bytes, and so do they in an error that quotes it."""
    if len(body) <= LONG_TEXT_BYTES or body.isascii() or WIDE.search(body) is None:
        return False
    at = 0
    while len(body) - at > LONG_TEXT_BYTES:
        at = body.rfind(b'"', at, at + LONG_TEXT_BYTES) + 1
        if not at:
            return True
    return False


def excess_in_json(body: bytes, most: int) -> TooManyValues | None:
    """What is wrong with JSON of more than so many values, or more lists and objects than cost as much; else None.

    A body that is too short to have them is not looked at.
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
    """How many values there are after others; they have commas between them, or stand on lines of their own."""
    return max(json.count(b","), json.count(b"\n"))


def _lists(json: bytes) -> int:
    return json.count(b"[") + json.count(b"{")


def _counted(content: bytes, *what: bytes) -> int:
    return sum(map(content.count, what))


def excess_in_msgpack(body: bytes, most: int) -> TooManyValues | None:
    """What is wrong with MessagePack of more than so many values, or more lists, maps or timestamps than cost as much.

    A body that is too short to have them is not looked at.
    """
    most_lists, most_times = most // VALUES_OF_A_LIST, most // VALUES_OF_A_TIMESTAMP
    if len(body) <= most_times:
        return None
    if (times := _counted(body, *TIMESTAMPS)) > most_times:
        return TooManyValues(times, most_times, "timestamps")
    may_be_lists = len(body) > most_lists and _may_begin_lists(body) > most_lists
    if not may_be_lists and len(body) <= most:
        return None
    if (values := _tokens(body, _TOKENS_AT_ONCE, _TOKEN, most)) > most:
        return TooManyValues(values, most, "values and names")
    if not may_be_lists or values <= most_lists:
        return None
    lists = _tokens(body, _LISTS_AT_ONCE, _LIST, most_lists)
    return TooManyValues(lists, most_lists, "lists and maps") if lists > most_lists else None


def _may_begin_lists(body: bytes) -> int:
    content = np.frombuffer(body, dtype=np.uint8)
    return int(np.count_nonzero((content & 0xE0) == 0x80)) + int(np.count_nonzero((content & 0xFC) == 0xDC))


ANY = b"(?:%s|%s|%s)" % (ONE_BYTE, LISTS, SCALARS)
UP_TO_A_LIST = b"(?:(?:%s|%s)*+(?:%s))" % (ONE_BYTE, SCALARS, LISTS)
_TOKEN, _LIST = re.compile(ANY, re.DOTALL), re.compile(UP_TO_A_LIST, re.DOTALL)
_TOKENS = re.compile(ANY + b"*+", re.DOTALL)
_TOKENS_AT_ONCE, _LISTS_AT_ONCE = (
    re.compile(each + b"{%d}+" % TOKENS_AT_ONCE, re.DOTALL) for each in (ANY, UP_TO_A_LIST)
)


def _tokens(body: bytes, many: re.Pattern[bytes], one: re.Pattern[bytes], most: int) -> int:
    """How many tokens MessagePack has, up to somewhat more than `most`; of what is no MessagePack, those before."""
    at = found = 0
    while at < len(body) and found <= most:
        if (match := many.match(body, at)) is not None:
            found += TOKENS_AT_ONCE
            at = match.end()
            continue
        if body[at] not in LONG:
            match = _TOKENS.match(body, at)
            ends = match.end() if match else at
            if ends == at:
                break
            while (match := one.match(body, at, ends)) is not None:
                found += 1
                at = match.end()
            at = ends
        while at < len(body) and found <= most and (wide := LONG.get(body[at])):
            length = int.from_bytes(body[at + 1 : at + 1 + wide], "big")
            if one is _TOKEN:  # in a longer form than it needs, it takes longer to be counted
                found += 1 if wide == 1 or length >= SHORTEST_LONG_BYTES else VALUES_OF_A_LIST
            at += 1 + wide + length + (body[at] in EXTENSIONS)
    return found


def _outside_strings(body: bytes) -> Iterator[bytes]:
    """The parts of JSON that are not in strings."""
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
