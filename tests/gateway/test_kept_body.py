"""Tests of bodies that are read twice."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest

from app.gateway.wsgi import INPUT, KeptBody, keep_body, rewind

BODY = b"first line\nsecond line\nlast"
READS: dict[str, Callable[[Any], bytes]] = {
    "nothing": lambda stream: b"",
    "all": lambda stream: stream.read(),
    "all, said as None": lambda stream: stream.read(None),
    "a part": lambda stream: stream.read(4),
    "no byte": lambda stream: stream.read(0),
    "a line": lambda stream: stream.readline(),
    "a part of a line": lambda stream: stream.readline(5),
    "more than a line": lambda stream: stream.read(14),
    "lines": lambda stream: b"".join(stream.readlines()),
    "an iteration": b"".join,
}


class Live:
    """A body as it comes from a socket: each byte once, and an error if more is read than the request needs."""

    def __init__(self, body: bytes) -> None:
        self._body = io.BytesIO(body)
        self.asked: list[int] = []

    def read(self, size: int = -1) -> bytes:
        self.asked.append(size)
        return self._body.read(size)

    def readline(self, size: int = -1) -> bytes:
        self.asked.append(size)
        return self._body.readline(size)


@pytest.mark.parametrize("first", READS)
@pytest.mark.parametrize("second", READS)
def test_a_body_that_was_read_is_read_again_from_its_beginning(first: str, second: str) -> None:
    environ = {INPUT: Live(BODY)}
    keep_body(environ)
    assert BODY.startswith(READS[first](environ[INPUT]))
    rewind(environ)
    some = READS[second](environ[INPUT])
    assert some + environ[INPUT].read(len(BODY) - len(some)) == BODY


def test_never_more_is_read_than_was_asked_for() -> None:
    live = Live(BODY)
    kept = KeptBody(live)
    kept.read(4)
    kept.readline(3)
    kept.seek(0)
    kept.read(100)
    kept.readline(20)
    assert live.asked == [4, 3, 93, 20]


def test_a_body_is_kept_only_until_it_is_read_again() -> None:
    kept = KeptBody(Live(BODY))
    kept.seek(0)
    assert kept.read() == BODY
    with pytest.raises(OSError, match="once"):
        kept.seek(0)


def test_a_body_that_the_server_has_whole_stays_as_it_is() -> None:
    body = io.BytesIO(BODY)
    environ = {INPUT: body}
    keep_body(environ)
    assert environ[INPUT] is body
    body.read()
    rewind(environ)
    assert body.read() == BODY


def test_a_stream_that_a_middleware_has_put_into_its_place_is_left_alone() -> None:
    live = Live(BODY)
    environ = {INPUT: live}
    rewind(environ)
    assert environ[INPUT].read() == BODY
