"""The access log has one line for each request, even for hostile ones."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from app.gateway import RequestContext, Response
from app.gateway import access_log as module
from app.gateway.access_log import MOST_WORD_CHARS, AccessLog, AccessRecord
from app.gateway.browsers import MOST_WARNINGS, Cors
from app.gateway.credentials import Principal
from app.gateway.errors import RequestRefused
from app.gateway.interceptors import Interceptor
from app.server.contract import Refusal
from app.telemetry import Timings
from app.telemetry.log_lines import GREEN, RED, JsonLines, ReadableLines
from tests.gateway.fakes import Client, FakeRoute, FakeRouter, environ, gateway, streaming

LOG = "retort.access"
PAGE = "https://app.example"
SURROGATE = chr(0xD800)
"""Half of a surrogate pair."""


class Keys(Interceptor):
    """Let requests with a key pass."""

    may_block = False

    def before(self, context: RequestContext) -> None:
        if context.environ.get("HTTP_AUTHORIZATION") != "Bearer secret":
            raise RequestRefused(401, "key-missing", "no key")
        context.principal = Principal("k-12", "the shop", frozenset({"predict"}))


def predicting(context: RequestContext) -> Response:
    context.model, context.version, context.rows, context.timings = "penguins", 3, 2, Timings(0.0015)
    return Response(200, [], b"four")


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b"hel", b"lo"]


@pytest.fixture(autouse=True)
def informed(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)


def ask(*interceptors: Interceptor, answer: Callable[[RequestContext], Response] = predicting, **asked: Any) -> Client:
    client = Client(gateway(*interceptors, router=FakeRouter(FakeRoute(answer))).serve(hello), environ(**asked))
    client.body()
    return client


def documents(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """Return the lines of the access log, which are JSON in ASCII."""
    lines = [JsonLines().format(record) for record in caplog.records if record.name == LOG]
    assert all(line.isascii() and line.isprintable() for line in lines)
    return [json.loads(line) for line in lines]


def test_a_line_has_the_facts_of_the_request_and_neither_inputs_nor_secrets(caplog: pytest.LogCaptureFixture) -> None:
    sent = {"HTTP_X_REQUEST_ID": "abc", "HTTP_AUTHORIZATION": "Bearer secret", "CONTENT_LENGTH": "83"}
    ask(AccessLog(), Keys(), QUERY_STRING="token=secret", **sent)
    [line] = documents(caplog)
    assert line.pop("time").endswith("+00:00")
    assert line.pop("duration_ms") >= 0.0
    assert line == {
        "level": "INFO",
        "logger": "retort.access",
        "message": "POST /predict 200",
        "request_id": "abc",
        "client": "192.0.2.1",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "bytes_in": 83,
        "bytes_out": 4,
        "key": "k-12",
        "model": "penguins",
        "version": 3,
        "rows": 2,
        "stages_ms": {"parse": 0.0, "validate": 0.0, "queue": 1.5, "run": 0.0, "encode": 0.0},
    }


def test_the_line_of_an_error_has_its_problem_type(caplog: pytest.LogCaptureFixture) -> None:
    ask(AccessLog(), Keys())
    [line] = documents(caplog)
    assert (line["status"], line["outcome"]) == (401, "key-missing")
    assert not {"key", "model", "rows", "stages_ms"} & line.keys()


def test_a_stream_is_logged_at_its_end_once(caplog: pytest.LogCaptureFixture) -> None:
    served = gateway(AccessLog(), router=FakeRouter(FakeRoute(streaming))).serve(hello)
    client = Client(served, environ())
    assert caplog.records == []
    assert client.body() == b"rowrowrow"
    [line] = documents(caplog)
    assert (line["rows"], line["bytes_out"]) == (3, 9)


def test_refusals_of_the_server_and_requests_through_wsgi_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    served = gateway(AccessLog()).serve(hello)
    served.refuse({}, None, Refusal(431, "header-too-large", "too large"))
    Client(served, environ("/other", "GET")).body()
    assert [(line["status"], line.get("outcome")) for line in documents(caplog)] == [
        (431, "header-too-large"),
        (200, None),
    ]
    assert documents(caplog)[1]["bytes_out"] == 5


@pytest.mark.parametrize("length", ["", "-1", "x", "²", "1" * 16, "1.5"])
def test_a_wrong_length_is_left_out(caplog: pytest.LogCaptureFixture, length: str) -> None:
    ask(AccessLog(), CONTENT_LENGTH=length)
    assert "bytes_in" not in documents(caplog)[0]


def test_an_answer_to_head_has_no_body(caplog: pytest.LogCaptureFixture) -> None:
    ask(AccessLog(), path="/other", method="HEAD")
    assert documents(caplog)[0]["bytes_out"] == 0


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("/a\r\nb\x1b[31m\x00", "/a\r\nb\x1b[31m\x00"),
        ("/käse\u2028".encode().decode("latin-1"), "/käse\u2028"),
        ("/\xff", "/\ufffd"),
        ("/\u2028already decoded", "/\u2028already decoded"),
        (f"/{SURROGATE}", "/?"),
        ("/" + "x" * 8192, "/" + "x" * 255 + "…"),
        ("/" + "ä".encode().decode("latin-1") * 4096, "/" + "ä" * 255 + "…"),
    ],
)
def test_a_hostile_path_stays_one_line(caplog: pytest.LogCaptureFixture, path: str, shown: str) -> None:
    ask(AccessLog(), path=path)
    [record], [line] = caplog.records, documents(caplog)
    assert line["path"] == shown
    assert ReadableLines().format(record).isprintable()


def test_hostile_headers_stay_one_line(caplog: pytest.LogCaptureFixture) -> None:
    hostile = f"a\n\x1b[2J\u2028\u202e{SURROGATE}" + "b" * 8192
    ask(AccessLog(), method=hostile, REMOTE_ADDR=hostile, HTTP_X_REQUEST_ID=hostile, HTTP_ORIGIN=hostile)
    [record], [line] = caplog.records, documents(caplog)
    shown = hostile[:64].replace(SURROGATE, "?")
    assert (line["client"], line["method"]) == (shown, shown)
    assert len(line["request_id"]) == 32
    readable = ReadableLines(colours=True).format(record)
    assert readable.replace("\x1b", "").isprintable()
    assert readable.count("\x1b") == 2  # our colours, around the status


def test_no_line_is_made_while_the_log_is_off(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, LOG)
    ask(AccessLog())
    assert caplog.records == []


def test_a_sample_keeps_errors_and_slow_requests(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AccessLog(0.0)
    ask(log)
    assert caplog.records == []
    ask(log, Keys())
    monkeypatch.setattr(module, "SLOW_S", -1.0)
    ask(log)
    assert [line["status"] for line in documents(caplog)] == [401, 200]


def test_a_sample_has_its_share_of_the_other_requests(caplog: pytest.LogCaptureFixture) -> None:
    log = AccessLog(0.25)
    for _ in range(400):
        ask(log)
    assert 50 < len(caplog.records) < 150


def test_a_line_for_a_terminal_is_aligned(caplog: pytest.LogCaptureFixture) -> None:
    log, keys = AccessLog(), Keys()
    ask(log, keys, HTTP_AUTHORIZATION="Bearer secret")
    ask(log, keys, method="GET", path="/models", HTTP_AUTHORIZATION="Bearer secret")
    ask(log, keys)
    lines = [record.getMessage() for record in caplog.records]
    assert len({line.index(" ms") for line in lines}) == 1
    assert lines[0].startswith("200 POST   /predict  ")
    assert lines[0].endswith(" ms  penguins/3  2 rows  key k-12")
    assert lines[2].endswith(" ms  key-missing")


def test_only_the_status_of_a_line_has_a_colour(caplog: pytest.LogCaptureFixture) -> None:
    ask(AccessLog())
    ask(AccessLog(), Keys())
    good, bad = (ReadableLines(colours=True).format(record) for record in caplog.records)
    assert f" \x1b[{GREEN}m200\x1b[0m POST" in good
    assert f" \x1b[{RED[0]}" in bad
    assert (good.count("\x1b"), bad.count("\x1b")) == (2, 2)


@pytest.mark.parametrize(
    ("sent", "blocked"),
    [
        ({}, None),
        ({"HTTP_ORIGIN": ""}, None),
        ({"HTTP_ORIGIN": PAGE}, None),
        ({"HTTP_ORIGIN": "http://localhost"}, None),
        ({"HTTP_ORIGIN": "https://public.example", "HTTP_SEC_FETCH_SITE": "same-origin"}, None),
        ({"HTTP_ORIGIN": "https://Evil.example"}, "https://evil.example"),
        ({"HTTP_ORIGIN": "http://localhost", "HTTP_SEC_FETCH_SITE": "cross-site"}, "http://localhost"),
        ({"HTTP_ORIGIN": "null"}, "null"),
        ({"HTTP_ORIGIN": "x" * 8192}, "x" * 200),
    ],
)
def test_a_blocked_origin_is_logged(
    caplog: pytest.LogCaptureFixture, sent: dict[str, str], blocked: str | None
) -> None:
    ask(AccessLog(), Cors([PAGE], False, 600), **sent)
    assert documents(caplog)[0].get("blocked_origin") == blocked
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == (blocked is not None)
    assert all("RETORT_CORS_ORIGINS" in text and str(blocked) in text for text in warned)


def test_a_blocked_origin_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    blocked = Cors([], False, 600)
    served = gateway(AccessLog(), blocked).serve(hello)
    served.refuse({"HTTP_ORIGIN": PAGE}, None, Refusal(413, "body-too-large", "too long"))
    for number in [0, 1, 0, *range(2 * MOST_WARNINGS)]:
        Client(served, environ(HTTP_ORIGIN=f"https://{number}.example")).body()
    warned = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warned) == MOST_WARNINGS
    assert documents(caplog)[0]["blocked_origin"] == PAGE


def test_no_origin_is_blocked_if_every_origin_is_allowed(caplog: pytest.LogCaptureFixture) -> None:
    ask(AccessLog(), Cors(["*"], False, 600), HTTP_ORIGIN=PAGE)
    assert "blocked_origin" not in documents(caplog)[0]


ANY_TEXT = st.text(st.characters(exclude_categories=()))
"""Draw any code points, also halves of surrogate pairs."""


@given(ANY_TEXT, ANY_TEXT, ANY_TEXT, ANY_TEXT)
@example("/", "GET", "\x7f", "0")
@pytest.mark.fault("X10")
def test_any_request_gives_one_line_of_json(path: str, method: str, client: str, length: str) -> None:
    context = RequestContext(environ(path, method, REMOTE_ADDR=client, CONTENT_LENGTH=length))
    event = module.event_of(context)
    line, end = JsonLines().lines([event], 0.0).split("\n")
    assert end == ""
    assert line.isascii()
    assert line.isprintable()
    assert len(json.loads(line)["method"]) <= MOST_WORD_CHARS
    assert ReadableLines().format(AccessRecord(event, 0.0)).isprintable()
