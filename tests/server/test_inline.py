"""Tests of inline requests: answered at the end of the turn that read them, one call for each batch key."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from app.server.contract import Environ, Response, ServedRequest
from tests.server.reference import statuses_in
from tests.server.serving import Serving
from tests.server.stage import Stage, staged

KEY_A = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%b"
KEY_B = KEY_A.replace(b"/a", b"/b")
NO_KEY = KEY_A.replace(b"/a", b"/none")


class Grouping(Serving):
    """Answer requests of one path together. `x` gets invalid headers, `i` an iterator."""

    def __init__(self) -> None:
        self.groups: list[list[bytes]] = []
        self.fails: Callable[[Sequence[Response]], Sequence[Response]] = lambda responses: responses

    def runs_inline(self, environ: Environ) -> bool:
        return True

    def batch_key(self, environ: Environ) -> str | None:
        path: str = environ["PATH_INFO"]
        return None if path == "/none" else path

    def respond(self, requests: Sequence[ServedRequest]) -> Sequence[Response]:
        bodies = [request.environ["wsgi.input"].read() for request in requests]
        self.groups.append(bodies)
        return self.fails([self.one(body) for body in bodies])

    def one(self, body: bytes) -> Response:
        headers = [("X-A", "a\r\nb" if body == b"x" else "a")]
        return Response(200, headers, iter([b"part"]) if body == b"i" else b"with:" + body)


@pytest.fixture
def app() -> Grouping:
    return Grouping()


@pytest.fixture
def stage(app: Grouping) -> Iterator[Stage]:
    with staged(app) as stage:
        yield stage


def answers_in_one_turn(stage: Stage, *requests: bytes) -> list[bytes]:
    """Return the answers to several clients whose requests arrive before the turn."""
    with contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(stage.connect()) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request)
        stage.turn()
        while stage.dispatcher.inline:
            stage.turn()
        return [client.recv(1 << 16) for client in clients]


def content(*answers: bytes) -> list[bytes]:
    return [answer.partition(b"\r\n\r\n")[2] for answer in answers]


def statuses(*answers: bytes) -> list[int]:
    return [status for answer in answers for status in statuses_in(answer)]


def test_requests_of_one_turn_are_answered_together_by_batch_key(app: Grouping, stage: Stage) -> None:
    answers = answers_in_one_turn(
        stage, KEY_A % b"1", KEY_B % b"2", KEY_A % b"3", NO_KEY % b"4", KEY_B % b"5", NO_KEY % b"6"
    )
    assert content(*answers) == [b"with:%d" % number for number in range(1, 7)]
    assert sorted(app.groups) == [[b"1", b"3"], [b"2", b"5"], [b"4"], [b"6"]]
    assert stage.dispatcher.stats.inline == stage.dispatcher.stats.answered == 6


def test_each_request_knows_its_deadline(app: Grouping, stage: Stage) -> None:
    requests: list[ServedRequest] = []

    def admit(environ: Environ) -> ServedRequest:
        requests.append(Serving.admit(app, environ))
        return requests[-1]

    app.admit = admit  # type: ignore[method-assign]
    answers_in_one_turn(stage, KEY_A.replace(b"Host", b"X-Request-Timeout: 2\r\nHost") % b"1", KEY_A % b"2")
    deadlines = [request.deadline_s for request in requests]
    assert deadlines[1] - deadlines[0] == pytest.approx(stage.dispatcher.limits.request_timeout_s - 2, abs=0.5)


@pytest.mark.parametrize("body", [b"x", b"i"], ids=["headers", "iterator"])
def test_a_response_that_is_not_valid_is_a_500_for_its_request_alone(
    stage: Stage, body: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    answers = answers_in_one_turn(stage, KEY_A % b"1", KEY_A % body, KEY_A % b"3")
    assert statuses(*answers) == [200, 500, 200]
    assert "error in POST '/a'" in caplog.text


def test_if_respond_raises_or_forgets_a_request_each_gets_500(
    app: Grouping, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def raises(responses: Sequence[Response]) -> Sequence[Response]:
        raise ValueError("as the test wants it")

    for app.fails, text in ((raises, "as the test wants it"), (lambda responses: responses[1:], "1 responses for 2")):
        caplog.clear()
        with caplog.at_level(logging.ERROR):
            answers = answers_in_one_turn(stage, KEY_A % b"1", KEY_A % b"2")
        assert statuses(*answers) == [500, 500]
        assert text in caplog.text


def test_pipelined_requests_are_answered_in_order(app: Grouping, stage: Stage) -> None:
    answers = answers_in_one_turn(stage, KEY_A % b"1" + KEY_A % b"2" + KEY_A % b"3", KEY_A % b"4" + KEY_A % b"5")
    bodies = [re.findall(rb"with:.", answer) for answer in answers]
    assert bodies == [[b"with:1", b"with:2", b"with:3"], [b"with:4", b"with:5"]]
    assert app.groups == [[b"1", b"4"], [b"2", b"5"], [b"3"]]


def test_a_client_that_left_in_the_same_turn_is_not_served(app: Grouping, stage: Stage) -> None:
    admit = app.admit

    def leaves_at_once(environ: Environ) -> ServedRequest:
        for group in stage.dispatcher.inline.values():
            group[0].connection.abort()
        return admit(environ)

    with stage.connect() as leaving, stage.connect() as client:
        app.admit = leaves_at_once  # type: ignore[method-assign]
        for each, body in ((leaving, b"1"), (client, b"2")):
            each.sendall(KEY_A % body)
        stage.turn()
        assert content(client.recv(1 << 16)) == [b"with:2"]
    assert app.groups == [[b"2"]]
    assert stage.dispatcher.stats.answered == stage.dispatcher.stats.left == 1


@pytest.mark.parametrize("how", ["raises", "batch key"])
def test_if_admit_fails_its_request_gets_500_and_the_connection_stays(
    app: Grouping, stage: Stage, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    admit = app.admit

    def fails_once(environ: Environ) -> ServedRequest:
        app.admit = admit  # type: ignore[method-assign]
        if how == "raises":
            raise TypeError("as the test wants it")
        request = admit(environ)
        request.batch_key = ["not hashable"]  # type: ignore[assignment]
        return request

    app.admit = fails_once  # type: ignore[method-assign]
    (received,) = answers_in_one_turn(stage, KEY_A % b"1" + KEY_A % b"2")
    assert statuses_in(received) == [500, 200]
    assert b"as the test wants it" not in received
    assert "TypeError: " in caplog.text


def test_a_request_that_goes_through_wsgi_never_runs_on_the_loop() -> None:
    threads: list[str] = []

    class Foreign(Serving):
        def admit(self, environ: Environ) -> ServedRequest:
            request = Serving.admit(self, environ)
            request.runs_inline = True
            return request

        def __call__(self, environ: Environ, start_response: Any, /) -> list[bytes]:
            threads.append(threading.current_thread().name)
            start_response("200 OK", [])
            return [b""]

    with staged(Foreign()) as stage:
        assert statuses_in(stage.exchange(KEY_A % b"1")) == [200]
    assert threads == ["retort-request-1"]


class GivenBack(Grouping):
    """Find in `respond` that its requests must go through WSGI."""

    def __init__(self, inline: bool) -> None:
        super().__init__()
        self.inline = inline
        self.threads: list[str] = []

    def runs_inline(self, environ: Environ) -> bool:
        return self.inline

    def respond(self, requests: Sequence[ServedRequest]) -> None:  # type: ignore[override]
        for request in requests:
            request.through_wsgi = True

    def __call__(self, environ: Environ, start_response: Any, /) -> list[bytes]:
        self.threads.append(threading.current_thread().name)
        start_response("200 OK", [("Content-Length", "1")])
        return [environ["wsgi.input"].read()]


@pytest.mark.parametrize("inline", [True, False])
def test_requests_that_the_application_gives_back_go_through_wsgi_in_a_thread(inline: bool) -> None:
    app = GivenBack(inline)
    with staged(app) as stage, contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(stage.connect()) for _ in range(3)]
        for number, client in enumerate(clients):
            client.sendall(KEY_A % b"%d" % number)
        stage.until(lambda: len(app.threads) == 3 and stage.dispatcher.stats.answered == 3)
        answers = [client.recv(1 << 16) for client in clients]
    assert [content(answer) for answer in answers] == [[b"0"], [b"1"], [b"2"]]
    assert threading.main_thread().name not in app.threads
