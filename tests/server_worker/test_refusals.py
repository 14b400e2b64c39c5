"""What the server itself refuses is told in the application's words, where it has some for the path."""

from __future__ import annotations

import logging

import pytest

from tests.server_worker.reference import said_status
from tests.server_worker.stage import Recorder, Stage, staged

LIMITS = {"body_bytes": 1000, "head_bytes": 4096, "head_s": 0.0, "body_grace_s": 0.0}


class Worded(Recorder):
    """Has words of its own under /own, and fails over /broken."""

    def refusal(self, path: str, status: int, name: str, detail: str) -> tuple[bytes, str] | None:
        if path == "/broken":
            raise ValueError(path)
        return (f"<{status} {name}>".encode(), "text/own") if path == "/own" else None


def told_in_time(stage: Stage, content: bytes) -> bytes:
    """What is told to a client that sends this and no more, at the latest when its time is up."""
    with stage.connect() as client:
        stage.say(client, content)
        stage.loop._next_sweep_s = 0.0
        stage.turn()
        return client.recv(10_000)


REFUSED = [
    (b"GET /own HTTP/1.1\r\nX: " + b"a" * 5000, 431, "malformed-request"),
    (b"GET /own?a=b HTTP/2.0\r\n\r\n", 400, "malformed-request"),
    (b"GET /own HTTP/1.1\r\nHos", 408, "head-timeout"),
    (b"POST /own HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc", 408, "body-timeout"),
    (b"POST /own HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413, "body-too-large"),
    (b"POST /own HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n", 400, "malformed-request"),
]


@pytest.mark.parametrize(("content", "status", "name"), REFUSED)
def test_the_application_words_a_refusal_under_its_path(content: bytes, status: int, name: str) -> None:
    with staged(Worded(), **LIMITS) as stage:
        told = told_in_time(stage, content)
    head, _, body = told.partition(b"\r\n\r\n")
    assert said_status(told) == [status]
    assert body == f"<{status} {name}>".encode()
    assert b"\r\nContent-Type: text/own\r\n" in head
    assert b"\r\nX-Request-ID: " in head


@pytest.mark.parametrize(("content", "status", "name"), REFUSED)
@pytest.mark.parametrize("path", [b"/", b"/owner", b"/broken"])
def test_elsewhere_it_is_a_problem_document(
    content: bytes, status: int, name: str, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with staged(Worded(), **LIMITS) as stage, caplog.at_level(logging.CRITICAL):
        told = told_in_time(stage, content.replace(b"/own", path))
    assert said_status(told) == [status]
    assert b"\r\nContent-Type: application/problem+json\r\n" in told
    assert f'"type":"/problems/{name}"'.encode() in told


def test_a_path_that_was_not_sent_whole_is_not_known() -> None:
    with staged(Worded(), **LIMITS) as stage:
        told = told_in_time(stage, b"GET /own")
    assert said_status(told) == [408]
    assert b"\r\nContent-Type: application/problem+json\r\n" in told


def test_a_body_that_cannot_be_read_is_refused_under_the_id_of_its_request() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Request-ID: mine\r\n\r\n"
    with staged(Recorder()) as stage:
        told = stage.exchange(head + b"no length\r\n")
    assert said_status(told) == [400]
    assert b"\r\nX-Request-ID: mine\r\n" in told
