"""Tests of the head of an answer, and of its log."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from gunicorn.http.errors import InvalidResponseHeader, InvalidResponseHeaderName

from app.server.answers import CommonHeaders, WsgiAnswer, complete_body, head
from tests.server.reference import statuses_in
from tests.server.stage import Recorder, config, staged

GET = b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "error"),
    [
        ([("X", "a\r\nSet-Cookie: b")], InvalidResponseHeader),
        ([("X", "a\x00")], InvalidResponseHeader),
        ([("X", "\u20ac")], InvalidResponseHeader),
        ([("X Y", "a")], InvalidResponseHeaderName),
        ([("X\r\nY", "a")], InvalidResponseHeaderName),
        ([("X", 1)], TypeError),
        ([("Content-Length", "many")], ValueError),
    ],
)
@pytest.mark.fault("X11")
def test_a_header_that_would_break_the_head_is_refused(headers: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        WsgiAnswer(is_head=False).start_response("200 OK", headers)


@pytest.mark.parametrize("status", ["200 OK\r\nX: y", "20 OK", "OK", ""])
def test_an_invalid_status_is_refused(status: str) -> None:
    with pytest.raises(ValueError, match="status"):
        WsgiAnswer(is_head=False).start_response(status, [])


def test_header_fields_of_the_server_are_not_accepted_from_the_application() -> None:
    answer = WsgiAnswer(is_head=False)
    given = [("Connection", "close"), ("Date", "x"), ("Server", "y"), ("Transfer-Encoding", "chunked"), ("X-A", "1")]
    answer.start_response("200 OK", given)
    assert answer.headers == [("X-A", "1")]
    assert len(given) == 5


def test_an_answer_without_a_length_gets_one_where_it_is_known() -> None:
    answer = WsgiAnswer(is_head=False)
    answer.start_response("200 OK", [("X-A", "1")])
    assert complete_body(answer, [b"ab", b"c"]) == b"abc"
    common = CommonHeaders()
    common.refresh(0.0)
    lines = head(answer, "HTTP/1.1", common.close).split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert lines[3:] == [b"Connection: close", b"X-A: 1", b"Content-Length: 3", b"", b""]


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified", "200 OK"])
def test_no_body_is_sent_with_a_status_that_allows_none(status: str) -> None:
    answer = WsgiAnswer(is_head=status == "200 OK")
    answer.start_response(status, [("Content-Length", "3")])
    assert complete_body(answer, [b"abc"]) == b""
    assert (answer.length_bytes is None) is (status == "204 No Content")


def test_more_than_was_declared_is_cut_and_less_is_an_error() -> None:
    answer = WsgiAnswer(is_head=False)
    answer.start_response("200 OK", [("Content-Length", "2")])
    assert complete_body(answer, [b"abc"]) == b"ab"
    short = WsgiAnswer(is_head=False)
    short.start_response("200 OK", [("Content-Length", "5")])
    with pytest.raises(AssertionError, match="declared 5 bytes and gave 3"):
        complete_body(short, [b"abc"])


def test_start_response_may_be_called_again_only_with_an_error() -> None:
    answer = WsgiAnswer(is_head=False)
    answer.start_response("200 OK", [])
    with pytest.raises(AssertionError):
        answer.start_response("200 OK", [])
    try:
        raise KeyError("gone")
    except KeyError as error:
        answer.start_response("500 No", [], (KeyError, error, error.__traceback__))  # type: ignore[arg-type]
    assert answer.status == "500 No"


def test_an_application_that_fails_is_a_500_without_details() -> None:
    class Failing(Recorder):
        def __call__(self, environ: Any, start_response: Any) -> Any:
            raise ZeroDivisionError("secret")

    for inline in (True, False):
        with staged(Failing(inline)) as stage:
            received = stage.exchange(GET)
        assert statuses_in(received) == [500]
        assert b"secret" not in received
        assert b"/problems/internal-error" in received


def test_hooks_and_access_log_see_each_request() -> None:
    received: list[tuple[str, Any]] = []

    def before(worker: Any, request: Any) -> None:
        received.append(("before", request.path))

    def after(worker: Any, request: Any, environ: Any, response: Any) -> None:
        received.append(("after", response.status))

    for inline in (True, False):
        cfg = config(pre_request=before, post_request=after)
        with staged(Recorder(inline), cfg) as stage:
            stage.worker.log.access_log_enabled = True
            stage.worker.log.access = lambda *args: received.append(  # type: ignore[method-assign]
                ("access", stage.worker.log.__class__.atoms(stage.worker.log, *args))
            )
            stage.dispatcher._hooks._has_access = True
            stage.exchange(GET)
    assert [name for name, _ in received] == ["before", "access", "after"] * 2
    atoms = received[1][1]
    assert {key: atoms[key] for key in ("r", "s", "B", "q", "a", "{user-agent}i")} == {
        "r": "GET /a?b=c HTTP/1.1", "s": "200", "B": 2, "q": "b=c", "a": "me", "{user-agent}i": "me",
    }  # fmt: skip
    assert received[0][1] == "/a"
    assert received[2][1] == "200 OK"


@pytest.mark.parametrize(("how", "status"), [("late", "504"), ("fails", "500")])
def test_a_request_that_is_refused_after_it_ran_is_logged_once(how: str, status: str) -> None:
    received: list[str] = []

    def after(worker: Any, request: Any, environ: Any, response: Any) -> None:
        received.append(response.status)

    def broken(*args: Any) -> None:
        raise ValueError("a logger that fails is a line in the log")

    gate = threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        assert gate.acquire(timeout=60)
        if how == "fails":
            raise SystemExit(3)
        start_response("200 OK", [])
        return [b"too late"]

    with staged(app, config(post_request=after)) as stage, stage.connect() as client:
        stage.worker.log.access_log_enabled = True
        stage.worker.log.access = broken  # type: ignore[method-assign]
        stage.dispatcher._hooks._has_access = True
        stage.say(client, GET)
        if how == "late":
            stage.dispatcher.threads.expire(time.monotonic() + stage.dispatcher.limits.request_timeout_s)
        gate.release()
        stage.until(lambda: not stage.dispatcher.stats.running())
        stage.turn()
        assert client.recv(1000).split()[1].decode() == status
    assert [each.split()[0] for each in received] == [status]


def test_a_client_in_a_hurry_does_not_have_its_worker_replaced() -> None:
    gate = threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        assert gate.acquire(timeout=60)
        start_response("200 OK", [])
        return [b"late"]

    with staged(app) as stage, stage.connect() as client:
        stage.say(client, b"GET / HTTP/1.1\r\nHost: a\r\nX-Request-Timeout: 1ms\r\n\r\n")
        began_s, limits = time.monotonic(), stage.dispatcher.limits
        stage.dispatcher.threads.expire(began_s + 1.0)
        assert client.recv(1000).startswith(b"HTTP/1.1 504")
        stage.dispatcher.threads.expire(began_s + limits.stuck_grace_s + 1.0)
        assert not stage.dispatcher.threads.has_stuck_thread
        stage.dispatcher.threads.expire(began_s + limits.request_timeout_s + limits.stuck_grace_s + 1.0)
        assert stage.dispatcher.threads.has_stuck_thread
        gate.release()
        stage.until(lambda: not stage.dispatcher.stats.running())


def test_a_thread_that_makes_progress_past_its_deadline_is_late_and_not_stuck() -> None:
    gate = threading.Semaphore(0)

    def app(environ: Any, start_response: Any) -> list[bytes]:
        assert gate.acquire(timeout=60)
        start_response("200 OK", [])
        return [b"late"]

    with staged(app) as stage, stage.connect() as client:
        stage.say(client, GET)
        threads, limits = stage.dispatcher.threads, stage.dispatcher.limits
        (pending,) = threads._running
        now_s = time.monotonic() + limits.request_timeout_s
        threads.expire(now_s)
        assert client.recv(1000).startswith(b"HTTP/1.1 504")
        for _ in range(5):
            now_s += 0.9 * limits.stuck_grace_s
            threads.expire(now_s)
            assert not threads.has_stuck_thread
            pending.request.progressed_s = now_s
        assert now_s < threads.next_check_s() <= now_s + limits.stuck_grace_s
        threads.expire(now_s + limits.stuck_grace_s)
        assert threads.has_stuck_thread
        gate.release()
        stage.until(lambda: not stage.dispatcher.stats.running())


@pytest.mark.parametrize(("version", "answered"), [("1.0", "1.0"), ("1.1", "1.1"), ("1.2", "1.1"), ("1.9", "1.1")])
def test_a_later_minor_version_is_answered_as_the_latest_known_one(version: str, answered: str) -> None:
    answer = WsgiAnswer(is_head=False)
    answer.start_response("200 OK", [("Content-Length", "0")])
    common = CommonHeaders()
    common.refresh(0.0)
    lines = head(answer, f"HTTP/{version}", common.close).split(b"\r\n")
    assert lines[0] == f"HTTP/{answered} 200 OK".encode()
