"""Tests of bodies in pieces: the same result as Gunicorn's reader for the whole, within the limits."""

from __future__ import annotations

import io
from typing import Any

import pytest
from gunicorn.http.body import ChunkedReader
from gunicorn.http.errors import ParseException
from gunicorn.http.message import Request
from gunicorn.http.unreader import IterUnreader
from hypothesis import example, given
from hypothesis import strategies as st

from app.server import refusals
from app.server.bodies import WHOLE_BODY, BodyRefused, ChunkedBody, LengthBody, Store, close_body
from app.server.limits import Limits
from tests.server.stage import config

HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
REFUSED = "refused"
INCOMPLETE = "incomplete"


def fresh_request() -> Any:
    return Request(config(http_parser="python"), IterUnreader([HEAD]), "", 1)


def gunicorns(content: bytes) -> object:
    request = fresh_request()
    unreader = IterUnreader([content])
    reader = ChunkedReader(request, unreader)
    body = b""
    try:
        while part := reader.read(1 << 16):
            body += part
    except (ParseException, OSError) as error:
        ended_early = type(error).__name__ == "NoMoreData" or error.args == (b"",)
        return INCOMPLETE if ended_early else REFUSED
    return body, unreader.take_buffered()


def ours(parts: list[bytes], limit_bytes: int = 1 << 20, chunks: int = 1000) -> object:
    limits = Limits(body_bytes=limit_bytes, body_chunks=chunks)
    body = ChunkedBody(fresh_request(), limits, Store(1 << 20, 1 << 20), None, limit_bytes)
    rest: bytes | None = None
    try:
        for number, part in enumerate(parts):
            rest = body.feed(part)
            if rest is not None:
                rest += b"".join(parts[number + 1 :])
                break
    except (ParseException, OSError):
        return REFUSED
    return INCOMPLETE if rest is None else (body.finish().read(), rest)


pieces = st.sampled_from(
    (
        b"5\r\nhello\r\n|5\r\nhel|5\nhello\r\n|5\r\nhello\n|5\r\nhelloX\r\n|5\r\r\nhello\r\n|"
        b" 5\r\nhello\r\n|+5\r\nhello\r\n|0x5\r\nhello\r\n|00005\r\nhello\r\n|5_0\r\n|-1\r\n|G\r\n|"
        b"a\r\n0123456789\r\n|5;a=b\r\nhello\r\n|5 ;a\r\nhello\r\n|5;\r\nhello\r\n|"
        b'5;a="q;"\r\nhello\r\n|5;a=\rb\r\nhello\r\n|\r\n|\0|0\r\n\r\n|0\r\nX: 1\r\n\r\n|'
        b"0\r\nX 1\r\n\r\n|0\r\nX: 1\n\r\n\r\n|0\r\nHost: b\r\n\r\n"
    ).split(b"|")
)


@pytest.mark.slow
@given(st.lists(pieces, max_size=6), st.data())
@example([b"0\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"], None)
def test_chunks_in_any_pieces_get_gunicorns_verdict(written: list[bytes], choice: Any) -> None:
    content = b"".join(written)
    cuts = [] if choice is None else sorted(choice.draw(st.lists(st.integers(0, len(content)), max_size=8)))
    parts = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    parts = [part for part in parts if part]
    expected, got = gunicorns(content), ours(parts)
    if expected == INCOMPLETE:
        # A cut body is never a whole one; whether it is already known to be wrong may differ.
        assert got in (INCOMPLETE, REFUSED)
    elif expected == REFUSED:
        assert got in (REFUSED, INCOMPLETE)
        if parts:
            assert ours([content]) == REFUSED or got == INCOMPLETE
    else:
        assert got == expected
    assert ours([bytes([byte]) for byte in content]) == got


@pytest.mark.slow
@pytest.mark.parametrize("parts_of", [lambda c: [c], lambda c: [c[at : at + 1] for at in range(len(c))]])
@pytest.mark.fault("N06")
def test_chunks_have_limits(parts_of: Any) -> None:
    with pytest.raises(BodyRefused, match="longer than 14 bytes"):
        ours(parts_of(b"5\r\nhello\r\n" * 3 + b"0\r\n\r\n"), limit_bytes=14)
    assert ours(parts_of(b"5\r\nhello\r\n" * 3 + b"0\r\n\r\n"), limit_bytes=15) == (b"hello" * 3, b"")
    with pytest.raises(BodyRefused, match="more than 3 chunks"):
        ours(parts_of(b"1\r\nh\r\n" * 4), chunks=3)
    with pytest.raises(BodyRefused, match="longer than"):
        ours(parts_of(b"f" * 40 + b"\r\n"))
    assert ours(parts_of(b"5;" + b"a" * 9000)) == REFUSED
    assert ours(parts_of(b"1;a=b\r\nh\r\n" * 2000 + b"0\r\n\r\n"), chunks=10_000) == (b"h" * 2000, b"")
    assert ours(parts_of((b"1;" + b"a" * 800 + b"\r\nh\r\n") * 20 + b"0\r\n\r\n")) == (b"h" * 20, b"")
    assert ours(parts_of((b"1;" + b"a" * 800 + b"\r\nh\r\n") * 30 + b"0\r\n\r\n")) == REFUSED
    assert ours(parts_of(b"0\r\nX: " + b"a" * 70_000)) == REFUSED


def test_a_body_of_known_length_ends_where_it_should() -> None:
    body = LengthBody(7, Store(100, 1000))
    assert body.feed(b"abc") is None
    assert body.feed(b"defghi") == b"hi"
    assert body.finish().read() == b"abcdefg"


def test_a_long_body_goes_to_a_file_and_memory_is_given_back() -> None:
    store = Store(spool_bytes=10, in_memory_bytes=1000)
    body = LengthBody(24, store)
    body.feed(b"a" * 8)
    assert store.held_bytes == 8
    body.feed(b"b" * 8)
    assert store.held_bytes == 0
    body.feed(b"c" * 8)
    whole = body.finish()
    assert not isinstance(whole, io.BytesIO)
    with whole:
        assert whole.read() == b"a" * 8 + b"b" * 8 + b"c" * 8


def test_all_bodies_together_have_a_limit_in_memory() -> None:
    store = Store(spool_bytes=100, in_memory_bytes=20)
    held, spooled = LengthBody(100, store), LengthBody(100, store)
    held.feed(b"a" * 15)
    spooled.feed(b"b" * 6)
    assert store.held_bytes == 15
    spooled.discard()
    spooled.discard()
    assert held.finish().read() == b"a" * 15
    assert store.held_bytes == 0


def test_the_files_of_one_client_leave_room_for_those_of_others() -> None:
    store = Store(spool_bytes=0, in_memory_bytes=0, in_files_bytes=100)
    mine = [LengthBody(100, store, "a") for _ in range(3)]
    for body in mine[:2]:
        body.feed(b"x" * 25)
    with pytest.raises(BodyRefused) as caught:
        mine[2].feed(b"x")
    assert caught.value.refusal is refusals.CLIENT_HAS_NO_ROOM
    theirs = [LengthBody(100, store, client) for client in "bc"]
    theirs[0].feed(b"x" * 40)
    with pytest.raises(BodyRefused) as caught:
        theirs[1].feed(b"x" * 20)
    assert caught.value.refusal is refusals.NO_ROOM
    mine[0].discard()
    mine[2].feed(b"x" * 25)
    assert store.by_client == {"a": 50, "b": 40}
    for body in (*mine, *theirs):
        body.discard()
    assert (store.by_client, store.spooled_bytes) == ({}, 0)


def test_a_client_may_have_one_body_as_long_as_any_may_be() -> None:
    store = Store(spool_bytes=0, in_memory_bytes=0, in_files_bytes=100, one_body_bytes=90)
    body = LengthBody(90, store, "a")
    assert body.feed(b"x" * 90) == b""
    body.discard()


def test_a_body_in_a_file_takes_its_room_until_it_is_gone() -> None:
    store = Store(spool_bytes=0, in_memory_bytes=0, in_files_bytes=100)
    body = LengthBody(50, store, "a")
    body.feed(b"x" * 50)
    whole = body.finish()
    body.discard()
    other = LengthBody(50, store, "a")
    with pytest.raises(BodyRefused):
        other.feed(b"x")
    whole.close()
    del whole
    other.discard()
    other.feed(b"x" * 50)
    assert store.by_client == {"a": 50}
    other.discard()
    assert (store.by_client, store.spooled_bytes) == ({}, 0)


def test_the_body_is_closed_and_not_what_a_middleware_has_put_into_its_place() -> None:
    body, other = io.BytesIO(), io.BytesIO()
    close_body({"wsgi.input": other, WHOLE_BODY: body})
    assert (body.closed, other.closed) == (True, False)
