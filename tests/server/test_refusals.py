"""Tests that the application formats the worker's refusals, even if the head of the request was never parsed."""

from __future__ import annotations

import logging

import pytest

from app.server import refusals
from app.server.contract import Environ, Refusal, Response, ServedRequest
from app.server.parsing import HeadReader, partial_environ
from tests.server.reference import statuses_in
from tests.server.stage import Recorder, Stage, config, staged

LIMITS = {"body_bytes": 1000, "head_bytes": 4096, "head_s": 0.0, "body_grace_s": 0.0}


class Worded(Recorder):
    """Echo the origin and the path, as an application with CORS does; fail below /broken."""

    def refuse(self, environ: Environ, request: ServedRequest | None, refusal: Refusal) -> Response:
        if environ["PATH_INFO"] == "/broken":
            raise ValueError("as the test wants it")
        text = f"<{environ['REQUEST_METHOD']} {environ['PATH_INFO']} {refusal.status} {refusal.name}>"
        origin = environ.get("HTTP_ORIGIN", "none")
        return Response(refusal.status, [("X-Origin", origin), *refusal.headers.items()], text.encode())


def told_in_time(stage: Stage, content: bytes) -> bytes:
    """Return the answer to a client that sends only this, at the latest at its deadline."""
    with stage.connect() as client:
        stage.say(client, content)
        stage.loop._next_sweep_s = 0.0
        stage.turn()
        return client.recv(10_000)


ORIGIN = b"Origin: http://page\r\n"
REFUSED = [
    (b"GET /own HTTP/1.1\r\n" + ORIGIN + b"X: " + b"a" * 5000, "GET", 431, "malformed-request"),
    (b"GET /own?" + b"a" * 5000 + b" HTTP/1.1\r\n" + ORIGIN + b"\r\n", "GET", 414, "malformed-request"),
    (b"GET /own?a=b HTTP/2.0\r\n" + ORIGIN + b"\r\n", "GET", 400, "malformed-request"),
    (b"GET /own HTTP/1.1\r\n" + ORIGIN + b"Hos", "GET", 408, "head-timeout"),
    (b"POST /own HTTP/1.1\r\n" + ORIGIN + b"Content-Length: 5\r\n\r\nabc", "POST", 408, "body-timeout"),
    (b"POST /own HTTP/1.1\r\n" + ORIGIN + b"Content-Length: 1001\r\n\r\n", "POST", 413, "body-too-large"),
    (
        b"POST /own HTTP/1.1\r\n" + ORIGIN + b"Transfer-Encoding: chunked\r\n\r\nno length\r\n",
        "POST",
        400,
        "malformed-request",
    ),
]


@pytest.mark.parametrize(("content", "method", "status", "name"), REFUSED)
def test_the_application_formats_each_refusal_and_knows_its_origin(
    content: bytes, method: str, status: int, name: str
) -> None:
    with staged(Worded(), **LIMITS) as stage:
        told = told_in_time(stage, content)
    head, _, body = told.partition(b"\r\n\r\n")
    assert statuses_in(told) == [status]
    assert body == f"<{method} /own {status} {name}>".encode()
    assert b"\r\nX-Origin: http://page\r\n" in head
    assert b"\r\nConnection: close\r\n" in head


@pytest.mark.parametrize(("content", "method", "status", "name"), REFUSED)
def test_if_refuse_raises_the_refusal_is_plain_text(
    content: bytes, method: str, status: int, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with staged(Worded(), **LIMITS) as stage, caplog.at_level(logging.ERROR):
        told = told_in_time(stage, content.replace(b"/own", b"/broken"))
    assert statuses_in(told) == [status]
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in told
    assert b"as the test wants it" not in told
    assert "the application's refuse() failed" in caplog.text


@pytest.mark.parametrize(
    ("received", "method", "path", "fields"),
    [
        (b"", "", "", {}),
        (b"GE", "", "", {}),
        (b"GET /own", "GET", "", {}),
        (b"GET /a%20b HTTP/1.1", "GET", "/a b", {}),
        (b"GET http://a/b HTTP/1.1\r\nOrigin: c\r\n", "GET", "", {"HTTP_ORIGIN": "c"}),
        (b"GET / HTTP/1.1\r\nOrigin: http://wh", "GET", "/", {}),
        (b"GET / HTTP/1.1\nOrigin: a\nX-Request-ID:  b \n", "GET", "/", {"HTTP_ORIGIN": "a", "HTTP_X_REQUEST_ID": "b"}),
        (b"GET / HTTP/1.1\r\nA_B: c\r\n C: d\r\nE: f\x00\r\nG: h\r\n", "GET", "/", {"HTTP_G": "h"}),
        (b"GET / HTTP/1.1\r\nA: 1\r\nA: 2\r\n\r\nB: 3\r\n", "GET", "/", {"HTTP_A": "1"}),
    ],
)
def test_a_partial_environ_has_the_fields_that_arrived_whole(
    received: bytes, method: str, path: str, fields: dict[str, str]
) -> None:
    peer = HeadReader(config(), 4096).peer(("192.0.2.1", 1234), ("127.0.0.1", 80))
    environ = partial_environ(received, peer)
    assert (environ["REQUEST_METHOD"], environ["PATH_INFO"]) == (method, path)
    assert {key: value for key, value in environ.items() if key.startswith("HTTP_")} == fields
    assert environ["REMOTE_ADDR"] == "192.0.2.1"
    assert "HTTP_ORIGIN" not in peer.environ


def test_every_refusal_that_may_be_retried_has_retry_after() -> None:
    values = [refusals.QUEUE_FULL, refusals.QUEUE_WAIT, refusals.NO_ROOM, refusals.SHUTTING_DOWN]
    values.append(refusals.over_fair_share(2.5))
    assert [refusal.status for refusal in values] == [503, 503, 503, 503, 429]
    assert {refusal.headers["Retry-After"] for refusal in values} == {"1"}


def test_a_body_that_cannot_be_read_is_refused_under_the_id_of_its_request() -> None:
    head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX-Request-ID: mine\r\n\r\n"
    with staged(Recorder()) as stage:
        told = stage.exchange(head + b"no length\r\n")
    assert statuses_in(told) == [400]
    assert b"\r\nX-Request-ID: mine\r\n" in told


def test_a_plain_application_refuses_in_plain_text() -> None:
    def app(environ: Environ, start_response: object) -> list[bytes]:
        return []

    with staged(app) as stage:
        told = stage.exchange(b"GET / HTTP/2.0\r\n\r\n")
    assert statuses_in(told) == [400]
    assert b"\r\nContent-Type: text/plain; charset=utf-8\r\n" in told
    assert told.partition(b"\r\n\r\n")[2].startswith(b"the request is not valid HTTP/1.1: ")
