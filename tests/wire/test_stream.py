"""Tests of NDJSON streams: in order, errors in place, in bounded memory."""

from __future__ import annotations

import gc
import gzip
import io
import json
import tracemalloc
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import run_wsgi_app

from app.telemetry import NO_REQUEST, request_id
from app.wire.stream import MOST_BAD_LINES
from tests.wire.conftest import MakeApp
from tests.wire.exchange import environ_of, post

PATH = "/models/iris-two/predict"
NDJSON = "application/x-ndjson"


def lines(app: Flask, content: bytes, **headers: str) -> list[Any]:
    sent = {"Content-Type": NDJSON} | {name.replace("_", "-"): value for name, value in headers.items()}
    answer = post(app, PATH, content, sent)
    assert (answer.status, answer.headers["Content-Type"]) == (200, NDJSON)
    assert "Server-Timing" not in answer.headers
    assert answer.headers["X-Request-ID"]
    body = answer.content if "Content-Encoding" not in answer.headers else gzip.decompress(answer.content)
    return [json.loads(line) for line in body.splitlines()]


def test_each_line_has_its_answer_in_place(app: Flask) -> None:
    sent = b'{"feature1": 5.1, "feature2": 3.5}\n[6.2, 3.4]\n\n{"feature1": 5.1}\nnot json\n[NaN, 1]\n[5.1, 3.5]'
    answered = lines(app, sent)
    assert [line.get("prediction", "error") for line in answered] == [0, 2, "error", "error", "error", 0]
    assert [line["error"]["line"] for line in answered if "error" in line] == [4, 5, 6]
    assert answered[2]["error"]["errors"][0]["pointer"] == "#/feature2"
    assert answered[3]["error"]["detail"].startswith("the line is not valid JSON")
    whole = post(app, PATH, '{"feature1": 5.1, "feature2": 3.5}').document
    assert answered[0] == {"prediction": 0, "probabilities": whole["probabilities"][0]}


def test_answers_do_not_depend_on_the_division_into_blocks(app: Flask) -> None:
    sent = b"".join(b"[5.1, 3.5]\n" if number % 7 else b"[1]\n" for number in range(3000))
    answered = lines(app, sent)
    assert ["prediction" in line for line in answered] == [bool(number % 7) for number in range(3000)]


@pytest.mark.slow
@pytest.mark.parametrize("bad", [b"[5.1]\n", b"not json\n", b'["a", 1]\n'])
def test_a_stream_with_too_many_bad_lines_ends_with_an_error_line(app: Flask, bad: bytes) -> None:
    answered = lines(app, b"[5.1, 3.5]\n" + bad * (MOST_BAD_LINES - 1) + b"[5.1, 3.5]\n" * 2)
    assert len(answered) == MOST_BAD_LINES + 2
    assert "prediction" in answered[-1]
    answered = lines(app, b"[5.1, 3.5]\n" + bad * MOST_BAD_LINES + b"[5.1, 3.5]\n" * 2)
    assert len(answered) == MOST_BAD_LINES + 2
    assert answered[-1]["error"]["line"] == MOST_BAD_LINES + 1
    assert f"{MOST_BAD_LINES} lines were refused" in answered[-1]["error"]["detail"]


@pytest.mark.parametrize(
    "bad", [b"[5.1]\n", b"not json\n", b'["a", 1]\n', b'{"feature3": 1}\n', b"[5.1, [[]]]\n", b"3\n"]
)
def test_refused_lines_leave_nothing_for_the_garbage_collector(app: Flask, bad: bytes) -> None:
    """The collector would stop every thread of the worker meanwhile."""

    def cycles(count: int) -> int:
        lines(app, bad * count)
        return gc.collect()

    gc.freeze()  # each collection would visit all imported objects
    cycles(1)
    gc.disable()
    try:
        assert cycles(100) <= cycles(10) + 20
    finally:
        gc.enable()


def test_an_empty_stream_gets_an_empty_answer(app: Flask) -> None:
    assert lines(app, b"") == lines(app, b"\n \n") == []


@pytest.mark.slow
def test_a_line_that_is_too_long_is_an_error_in_place(app: Flask) -> None:
    answered = lines(app, b"[5.1, 3.5]\n" + b"[" * 3_000_000 + b"\n[5.1, 3.5]\n" + b"1" * 2_000_000)
    assert ["error" in line for line in answered] == [False, True, False, True]
    assert "longer than 1048576 bytes" in answered[1]["error"]["detail"]


@pytest.mark.slow
def test_compressed_both_ways(app: Flask) -> None:
    content = gzip.compress(b"[5.1, 3.5]\n" * 1000)
    assert len(lines(app, content, Content_Encoding="gzip", Accept_Encoding="gzip")) == 1000
    cut = lines(app, gzip.compress(b"[5.1, 3.5]\n" * 200_000)[:-20], Content_Encoding="gzip")
    assert cut[-1] == {"error": {"detail": "the body is not valid gzip: it ends too early"}}


def test_an_error_before_the_stream_begins_has_its_status(app: Flask, iris_two: MakeApp) -> None:
    headers = {"Content-Type": NDJSON}
    assert post(app, "/models/none/predict", "[1]", headers).status == 404
    assert post(app, PATH, "[1]", headers | {"Accept": "text/html"}).status == 406
    assert post(app, PATH, "[1]", headers | {"Content-Encoding": "br"}).status == 415
    assert post(app, PATH, "[1]", {"Content-Type": NDJSON + "; charset=latin-1"}).status == 415
    assert post(iris_two(body_limit_bytes=10), PATH, "[5.1, 3.5]\n", headers).status == 413


def test_another_accept_gets_a_single_answer(app: Flask) -> None:
    for media_type in (NDJSON, "application/jsonl"):
        answer = post(app, PATH, "[5.1, 3.5]\n[6.2, 3.4]", {"Content-Type": media_type, "Accept": "application/json"})
        assert answer.document["prediction"] == [0, 2]
    bad = post(app, PATH, "[5.1, 3.5]\nx", {"Content-Type": NDJSON, "Accept": "application/json"})
    assert bad.status == 400
    assert "line 2" in bad.document["detail"]


@pytest.mark.slow
@pytest.mark.parametrize("good", [True, False])
def test_memory_is_bounded_both_ways(app: Flask, good: bool) -> None:
    line = b"[5.1, 3.5]\n" if good else b"[5.1, 3.5, 1]\n"
    total = 120_000
    expected = total if good else MOST_BAD_LINES + 1

    class Body:
        left = total * len(line)

        def read(self, size: int = -1) -> bytes:
            size = min(size, self.left)
            self.left -= size
            start = (total * len(line) - self.left - size) % len(line)
            return (line * (size // len(line) + 2))[start : start + size]

    environ = environ_of(Body(), CONTENT_LENGTH=str(total * len(line)), CONTENT_TYPE=NDJSON)
    lines(app, line)
    tracemalloc.start()
    try:
        parts, status, _ = run_wsgi_app(app, environ)
        answered = sum(part.count(b"\n") for part in parts)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (status, answered) == ("200 OK", expected)
    assert peak < 6_000_000  # the answers alone are longer


def test_each_part_is_made_under_the_id_of_its_request_and_leaves_none_behind(app: Flask) -> None:
    content, seen = b"[5.1, 3.5]\n" * 20_000, set[str]()

    class Body:
        stream = io.BytesIO(content)

        def read(self, size: int = -1) -> bytes:
            seen.add(request_id())
            return self.stream.read(size)

    length = str(len(content))
    environ = environ_of(Body(), CONTENT_LENGTH=length, CONTENT_TYPE=NDJSON, HTTP_X_REQUEST_ID="abc")
    parts = app(environ, lambda status, headers: None)
    between = [request_id() for _ in parts]
    parts.close()  # type: ignore[attr-defined]
    assert len(between) > 10
    assert set(between) == {NO_REQUEST}
    assert seen == {"abc"}
