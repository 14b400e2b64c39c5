"""Tests that an application answers under Gunicorn's own workers as under Retort's."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from gunicorn.http.errors import ChunkMissingTerminator, NoMoreData
from werkzeug.test import create_environ, run_wsgi_app

from app.server.contract import PlainApp, PlainRequest, Response
from app.server.other_workers import OtherWorkers


def asked(application: Any, method: str = "GET") -> tuple[bytes, str]:
    """Return the body and the status of a request to a plain WSGI application."""
    parts, status, _ = run_wsgi_app(OtherWorkers(PlainApp(application)), create_environ(method=method))
    return b"".join(parts), status


class Direct(PlainApp):
    """Answer by `respond`, with parts."""

    def __init__(self, body: Any) -> None:
        super().__init__(lambda environ, start_response: [])
        self.body = body

    def admit(self, environ: dict[str, Any]) -> PlainRequest:
        return PlainRequest(environ, "", through_wsgi=False)

    def respond(self, requests: Any) -> list[Response]:
        return [Response(200, [("X-A", "1")], self.body)]


def parts_until_an_error(error: Exception, *parts: bytes) -> Iterator[bytes]:
    yield from parts
    raise error


def started(make: Callable[[], Any], *headers: tuple[str, str]) -> Any:
    """Return an application that calls `start_response` before it makes its body."""

    def application(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", list(headers))
        return make()

    return application


def raising(error: Exception) -> Callable[[], Any]:
    def make() -> Any:
        raise error

    return make


@pytest.mark.parametrize(
    "application",
    [
        lambda environ, start_response: raising(ValueError("secret"))(),
        lambda environ, start_response: [b"no status"],
        lambda environ, start_response: start_response("200 OK", [("A", "1\n2")]) and [],
        started(raising(OSError("secret"))),
        started(lambda: parts_until_an_error(ValueError("secret"))),
        started(lambda: parts_until_an_error(ValueError("secret"), b"")),
        started(lambda: ["text"]),
        started(lambda: [b"short"], ("Content-Length", "6")),
    ],
)
def test_an_error_before_the_first_bytes_is_a_refusal(application: Any, caplog: pytest.LogCaptureFixture) -> None:
    body, status = asked(application)
    assert status.startswith("500")
    assert b"secret" not in body
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_an_error_after_the_first_bytes_cuts_the_response() -> None:
    parts = OtherWorkers(PlainApp(started(lambda: parts_until_an_error(ValueError("late"), b"a"))))
    sent = iter(parts(create_environ(), lambda status, headers: None))
    assert next(sent) == b"a"
    with pytest.raises(ValueError, match="late"):
        next(sent)


def test_a_malformed_body_is_the_clients_fault() -> None:
    _, status = asked(started(raising(ChunkMissingTerminator(b"x"))))
    assert status.startswith("400")


def test_a_client_that_is_gone_gets_no_answer() -> None:
    with pytest.raises(NoMoreData):
        asked(started(raising(NoMoreData())))


@pytest.mark.parametrize(("body", "expected"), [(b"whole", b"whole"), (iter([b"", b"in ", b"parts"]), b"in parts")])
def test_a_request_may_be_answered_without_wsgi(body: Any, expected: bytes) -> None:
    parts, status, headers = run_wsgi_app(OtherWorkers(Direct(body)), create_environ())
    assert (b"".join(parts), status, headers["X-A"]) == (expected, "200 OK", "1")


def test_a_body_is_closed_when_the_server_stops_reading_it() -> None:
    closed = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                yield b"part"

        def close(self) -> None:
            closed.append(1)

    sent: Any = OtherWorkers(PlainApp(started(Body)))(create_environ(), lambda status, headers: None)
    assert (next(sent), next(sent), closed) == (b"part", b"part", [])
    sent.close()
    assert closed == [1]


def test_parts_that_were_written_come_first() -> None:
    def application(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])(b"written, ")
        return [b"returned"]

    assert asked(application) == (b"written, returned", "200 OK")


def test_the_answer_to_head_has_no_body() -> None:
    assert asked(started(lambda: [b"body"]), "HEAD") == (b"", "200 OK")
