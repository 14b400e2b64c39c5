"""What a body would cost, before it is decoded: while a decoder runs, every other thread waits for it."""

from __future__ import annotations

import re

import numpy as np

FEW_SLOW_NUMBERS = 100
MOST_CONTAINERS = 2_000_000
"""Lists and objects in a body; each takes about 60 bytes of memory and 0.5 µs, whatever is in it."""

STRING = re.compile(rb'"(?:[^"\\]|\\.)*+"', re.DOTALL)


def has_slow_numbers(body: bytes) -> bool:
    """Whether more than a few numbers have an exponent of three digits.

    Near the ends of its range a float takes msgspec a hundred times what others take.
    """
    if body.count(b"e") + body.count(b"E") <= FEW_SLOW_NUMBERS:
        return False
    content = np.frombuffer(body, dtype=np.uint8)
    at = np.flatnonzero((content | 0x20) == ord("e")) + 1
    at = at[at < len(content) - 3]
    at += (content[at] == ord("+")) | (content[at] == ord("-"))
    are_digits = [content[at + place] - np.uint8(ord("0")) < 10 for place in range(3)]
    return int(np.count_nonzero(are_digits[0] & are_digits[1] & are_digits[2])) > FEW_SLOW_NUMBERS


def has_too_many_containers(body: bytes) -> bool:
    """Whether it has more lists and objects than any body that is meant well."""
    if len(body) <= MOST_CONTAINERS or body.count(b"[") + body.count(b"{") <= MOST_CONTAINERS:
        return False
    bare = STRING.sub(b"", body)
    return bare.count(b"[") + bare.count(b"{") > MOST_CONTAINERS


def is_mostly_containers(body: bytes) -> bool:
    """Whether a body of MessagePack is little else than lists and maps, and has more of them than are read.

    Among the bytes of numbers and text some look like the beginning of one, so these are told by their share.
    """
    if len(body) <= MOST_CONTAINERS:
        return False
    content = np.frombuffer(body, dtype=np.uint8)
    found = int(np.count_nonzero((content & 0xE0) == 0x80)) + int(np.count_nonzero((content & 0xFC) == 0xDC))
    return found > max(MOST_CONTAINERS, len(body) // 4)
