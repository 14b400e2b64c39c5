"""The refusals of the server itself are worded by its application."""

from __future__ import annotations

import logging

import pytest

from app.server.contract import Environ, Refusal, Response, ServedRequest
from tests.server_worker.reference import said_status
from tests.server_worker.seams import SeamedApp
from tests.server_worker.stage import Recorder, Stage, staged

LIMITS = {"body_bytes": 1000, "head_bytes": 4096, "head_s": 0.0, "body_grace_s": 0.0}


class Worded(SeamedApp):
    """Has words of its own under /own, and fails over /broken."""

    def __init__(self) -> None:
        super().__init__(Recorder())

    def refuse(self, environ: Environ, request: ServedRequest | None, refusal: Refusal) -> Response:
        if environ["PATH_INFO"] == "/broken":
            raise ValueError("broken")
        if environ["PATH_INFO"] == "/own":
            origin = environ.get("HTTP_ORIGIN", "none")
            return Response(refusal.status, [("For", origin)], f"<{refusal.status} {refusal.name}>".encode())
        return super().refuse(environ, request, refusal)


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
    assert b"\r\nFor: none\r\n" in head


@pytest.mark.parametrize(("content", "status", "name"), REFUSED)
@pytest.mark.parametrize("path", [b"/", b"/owner"])
def test_elsewhere_it_is_worded_otherwise(
    content: bytes, status: int, name: str, path: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with staged(Worded(), **LIMITS) as stage, caplog.at_level(logging.CRITICAL):
        told = told_in_time(stage, content.replace(b"/own", path))
    assert said_status(told) == [status]
    assert b"\r\nContent-Type: application/problem+json\r\n" in told
    assert f'"type":"/problems/{name}"'.encode() in told


@pytest.mark.parametrize(
    "content",
    [
        b"GET /own HTTP/1.1\r\nOrigin: https://a.example\r\nX: " + b"a" * 5000,
        b"GET /own?" + b"a" * 5000 + b" HTTP/1.1\r\nOrigin: https://a.example\r\n\r\n",
        b"GET /own HTTP/1.1\r\nOrigin: https://a.example\r\nHos",
        b"GET /own HTTP/2.0\r\nOrigin: https://a.example\r\n\r\n",
        b"POST /own HTTP/1.1\r\nOrigin: https://a.example\r\nContent-Length: 1001\r\n\r\n",
    ],
    ids=["431", "414", "408", "400", "413"],
)
def test_it_knows_the_origin_as_far_as_that_arrived(content: bytes) -> None:
    with staged(Worded(), **LIMITS) as stage:
        assert b"\r\nFor: https://a.example\r\n" in told_in_time(stage, content)


def test_one_that_cannot_be_worded_is_its_status_alone(caplog: pytest.LogCaptureFixture) -> None:
    with staged(Worded(), **LIMITS) as stage, caplog.at_level(logging.ERROR):
        told = told_in_time(stage, b"POST /broken HTTP/1.1\r\nContent-Length: 1001\r\n\r\n")
    assert said_status(told) == [413]
    assert told.endswith(b"\r\n\r\n")
    assert "could not be worded" in caplog.text


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
