"""Tests of the estimated cost of a MessagePack body."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from app.errors import InvalidBody, TooManyValues
from app.wire.codecs.msgpack import check_keys, excess_in_msgpack
from tests.signature.test_decoder_guards import assert_refused
from tests.wire.codecs.hostile_structures import of_colliding_keys


@pytest.mark.slow
def test_values_and_lists_of_messagepack_are_counted_as_they_are() -> None:
    noise = random.Random(13)
    for _ in range(200):
        document = [anything(noise, 0) for _ in range(noise.randint(1, 30))]
        body = msgspec.msgpack.encode(document)
        values, lists = counts(document)
        assert excess_in_msgpack(body, max(values, 4 * lists)) is None
        assert excess_in_msgpack(body, values - 1) is not None
        assert excess_in_msgpack(body, 4 * lists - 1) is not None


def test_timestamps_of_messagepack_count_as_ten_values() -> None:
    body = msgspec.msgpack.encode([datetime(2026, 1, 1, tzinfo=UTC)] * 10)
    assert excess_in_msgpack(body, 100) is None
    assert_refused(excess_in_msgpack(body, 99), "10 timestamps; at most 9")


def test_invalid_messagepack_is_left_to_the_decoder() -> None:
    for body in (b"\xc1" * 1000, b"\xdb\xff\xff\xff\xff" + b"\0" * 1000):
        assert excess_in_msgpack(body, 400) is None


@pytest.mark.parametrize("keys", [5_000, pytest.param(70_000, marks=pytest.mark.slow)])
def test_keys_that_all_have_one_hash_are_not_put_into_a_dict(keys: int) -> None:
    with pytest.raises(InvalidBody, match="a key of a map is not a string"):
        check_keys(of_colliding_keys(keys), 500_000)


@pytest.mark.slow
def test_a_map_with_a_list_as_its_key_is_found_wherever_it_stands() -> None:
    noise = random.Random(14)
    lists = msgspec.msgpack.encode([[]] * 5000)
    for _ in range(100):
        values = [msgspec.msgpack.encode(anything(noise, 0)) for _ in range(noise.randint(1, 30))]
        wide = b"\xde\0\x10" + b"".join(b"\xa1%c\0" % (97 + at) for at in range(15))
        for key, is_bad in ((b"\xa1z", False), (b"\x91\x01", True)):
            body = b"\xdc" + (len(values) + 2).to_bytes(2, "big") + lists + b"".join(values) + wide + key + b"\0"
            if is_bad:
                with pytest.raises(InvalidBody, match="a key of a map"):
                    check_keys(body, 500_000)
            else:
                check_keys(body, 500_000)


def test_lists_beside_large_maps_have_a_limit_of_values() -> None:
    body = msgspec.msgpack.encode([[[]] * 5000, {str(n): n for n in range(16)}])
    check_keys(body, 6000)
    with pytest.raises(TooManyValues, match="beside lists and maps of more than 15 members"):
        check_keys(body, 5000)
    check_keys(msgspec.msgpack.encode([[[]] * 5000, {str(n): n for n in range(15)}]), 5000)


def anything(noise: random.Random, depth: int) -> Any:
    """Return a random value of any type and size that has its own form in MessagePack."""
    kinds: list[Callable[[], Any]] = [
        lambda: None,
        lambda: noise.choice([True, False]),
        lambda: noise.choice([1, -1, -1000, 70_000, 2**40, -(2**40), 200]),
        noise.random,
        lambda: "a" * noise.choice([0, 1, 31, 32, 40, 255, 256, 70_000]),
        lambda: bytes(noise.choice([0, 1, 31, 32, 256, 70_000])),
        lambda: msgspec.msgpack.Ext(5, bytes(noise.choice([1, 2, 4, 8, 16, 300]))),
    ]
    if depth < 3:
        kinds.append(lambda: [anything(noise, depth + 1) for _ in range(noise.choice([0, 1, 16]))])
        kinds.append(lambda: {str(key): anything(noise, depth + 1) for key in range(noise.choice([0, 1, 16]))})
    return noise.choice(kinds)()


def counts(value: Any) -> tuple[int, int]:
    """Return the number of values, including names of members, and the number of lists and objects."""
    if not isinstance(value, list | dict):
        return 1, 0
    parts = [*value, *value.values()] if isinstance(value, dict) else value
    inner = [counts(part) for part in parts]
    return 1 + sum(values for values, _ in inner), 1 + sum(lists for _, lists in inner)
