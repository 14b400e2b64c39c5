"""Tests of MessagePack: the documents of JSON, and refusals of anything else."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from tests.wire.codecs.conftest import Sends

MESSAGEPACK = "application/msgpack"


def packed(document: object) -> bytes:
    return msgspec.msgpack.encode(document)


@pytest.mark.parametrize("media_type", [MESSAGEPACK, "application/x-msgpack", "application/vnd.msgpack"])
@pytest.mark.parametrize(
    "document",
    [
        {"feature1": 5.1, "feature2": 3.5},
        {"instances": [[5.1, 3.5]]},
        [{"feature1": 5.1, "feature2": 3.5}],
    ],
)
def test_documents(ask: Sends, document: object, media_type: str) -> None:
    answer = ask(media_type, packed(document))
    assert answer.status == 200
    assert answer.document["prediction"] == [0]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xc1",
        packed([[5.1, 3.5]])[:-1],
        packed([[5.1, 3.5]]) + b"\0",
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff" * 500,
        b"\xc6\xff\xff\xff\xffab",
        b"\xdb\xff\xff\xff\xffab",
        b"\x91" * 100_000,
        b"\x81\x01\x02",
        b"\x81\xc4\x01a\x02",
        b"\x81\x91\x01\x02",
        b"\x91\x81\xc0\x02",
        b"\xa2\xff\xff",
        b"\x91\xc7\x03\x05abc",
        b"\x91\xc7\xff\x05abc",
        b"\x91\xd6\x01abcd",
        b"\x91\xd7\xff\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x91\xc7\x0c\xff\x00\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff",
    ],
)
def test_invalid_messagepack(ask: Sends, content: bytes) -> None:
    answer = ask(MESSAGEPACK, content)
    assert answer.status == 400, answer.content
    assert answer.document["type"] == "/problems/invalid-body"


def test_bytes_and_timestamps_are_not_numbers(ask: Sends) -> None:
    for value in (b"\xc4\x03abc", b"\xd6\xff\x00\x00\x00\x01"):
        answer = ask(MESSAGEPACK, b"\x91\x92\xcb@\x14ffffff" + value)
        assert answer.status == 422, answer.content
        assert [error["pointer"] for error in answer.document["errors"]] == ["#/1"[:2] + "0/1"]


@pytest.mark.slow
def test_a_body_of_nothing_but_lists_is_not_read(ask: Sends) -> None:
    for each in (b"\x90", b"\x80", b"\xdc\0\0"):
        answer = ask(MESSAGEPACK, b"\xdd" + (5_000_000).to_bytes(4, "big") + each * 5_000_000)
        assert answer.status == 413
        assert "at most 2000000 are read" in answer.document["detail"]


@pytest.mark.slow
def test_numbers_are_not_taken_for_lists(ask: Sends) -> None:
    rows = np.random.default_rng(0).normal(size=(100_000, 2)).tolist()
    content = packed({"instances": rows, "outputs": ["prediction"]})
    assert len(content) > 1_900_000
    assert ask(MESSAGEPACK, content).status == 200
