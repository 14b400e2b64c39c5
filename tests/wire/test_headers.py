"""Tests of the header fields of every response: request ids, timings, CORS if it is configured."""

from __future__ import annotations

import io
import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask

from app.wire.application import Application
from tests.wire.conftest import MakeApp
from tests.wire.exchange import Answer, environ_of, get, post, send

PATH = "/models/iris-two/predict"
BODY = '{"feature1": 5.1, "feature2": 3.5}'
MADE = re.compile(r"[0-9a-f]{32}")
PLACES = ["/", "/livez", "/readyz", "/models", "/models/penguins", "/openapi.json", "/docs", "/redoc", "/nowhere"]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("sent", ["a", "Abc-1.2_3", "x" * 128])
def test_a_request_id_is_echoed(app: Flask, place: str, sent: str) -> None:
    assert get(app, place, {"X-Request-ID": sent}).headers.getlist("X-Request-ID") == [sent]


@pytest.mark.parametrize("sent", ["", "x" * 129, "a b", "a\tb", "<script>", "a,b", "a/b", "é", 'a"b', "a\\nb", "${x}"])
@pytest.mark.fault("X11")
def test_a_request_id_that_does_not_fit_a_log_is_replaced(app: Flask, sent: str) -> None:
    raw = f"GET /livez HTTP/1.1\r\nHost: localhost\r\nX-Request-ID: {sent}\r\n\r\n".encode()
    assert MADE.fullmatch(send(app, raw).headers["X-Request-ID"])


def test_a_request_without_an_id_gets_a_new_one(app: Flask) -> None:
    made = [answer.headers["X-Request-ID"] for place in PLACES for answer in (get(app, place), get(app, place))]
    assert all(map(MADE.fullmatch, made))
    assert len(set(made)) == len(made)


def test_errors_have_the_request_id(app: Flask) -> None:
    for answer in (
        post(app, PATH, "{", {"X-Request-ID": "abc", "Content-Type": "application/json"}),
        post(app, "/nowhere", "{", {"X-Request-ID": "abc"}),
        post(app, PATH, BODY, {"X-Request-ID": "abc", "Accept": "text/html"}),
    ):
        assert answer.headers["X-Request-ID"] == answer.document["request_id"] == "abc"


@pytest.mark.slow
def test_concurrent_requests_keep_their_ids(app: Flask) -> None:
    def ask(number: int) -> Answer:
        return post(app, PATH, "{" * (number % 2) + BODY, {"X-Request-ID": f"id-{number}"})

    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, range(200)))
    assert [answer.headers["X-Request-ID"] for answer in answers] == [f"id-{number}" for number in range(200)]
    assert [answer.status for answer in answers] == [200, 400] * 100


def test_predictions_have_server_timing(app: Flask) -> None:
    timings = post(app, PATH, BODY).headers["Server-Timing"]
    found = re.findall(r"(\w+);dur=(\d+(?:\.\d+)?)(?:, |$)", timings)
    assert [phase for phase, _ in found] == ["parse", "validate", "queue", "run", "encode"]
    assert ", ".join(f"{phase};dur={duration}" for phase, duration in found) == timings
    assert float(dict(found)["run"]) > 0
    assert all(float(duration) < 10_000 for _, duration in found)


def test_a_refusal_of_an_unsupported_type_lists_the_supported_ones(app: Flask) -> None:
    assert post(app, PATH, BODY, {"Content-Type": "text/plain"}).headers["Accept"].startswith("application/json, ")


def test_no_origin_is_allowed_unless_a_setting_says_so(app: Flask) -> None:
    answer = post(app, PATH, BODY, {"Origin": "https://example.org"})
    assert answer.status == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


def preflight(app: Flask, origin: str) -> Answer:
    fields = "Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type"
    return send(app, f"OPTIONS {PATH} HTTP/1.1\r\nHost: localhost\r\nOrigin: {origin}\r\n{fields}\r\n\r\n".encode())


def test_the_origins_of_the_setting_may_call(iris_two: MakeApp) -> None:
    app = iris_two(cors_origins=("https://example.org", "http://localhost:3000"))
    answer = post(app, PATH, BODY, {"Origin": "http://localhost:3000"})
    assert answer.headers["Access-Control-Allow-Origin"] == "http://localhost:3000"
    assert set(answer.headers["Access-Control-Expose-Headers"].split(", ")) >= {
        "X-Request-ID",
        "Retry-After",
        "RateLimit",
    }
    response = preflight(app, "https://example.org")
    assert response.status == 204
    assert response.headers["Access-Control-Allow-Origin"] == "https://example.org"
    assert "POST" in response.headers["Access-Control-Allow-Methods"]
    assert response.headers["Access-Control-Allow-Headers"].lower() == "content-type"
    assert "Access-Control-Allow-Origin" not in preflight(app, "https://example.com").headers


def test_an_error_can_be_read_by_an_allowed_origin(iris_two: MakeApp) -> None:
    app = iris_two(cors_origins=("https://example.org",))
    answer = post(app, PATH, "{", {"Origin": "https://example.org"})
    assert answer.status == 400
    assert answer.headers["Access-Control-Allow-Origin"] == "https://example.org"


def test_head_is_get_without_the_body(app: Flask) -> None:
    answer = send(app, b"HEAD /models HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert (answer.status, answer.content) == (200, b"")
    assert int(answer.headers["Content-Length"]) == len(get(app, "/models").content)


@pytest.mark.fault("N11")
def test_head_and_options_run_no_model(app: Flask) -> None:
    for method in ("HEAD", "OPTIONS", "TRACE", "BREW"):
        answer = send(app, f"{method} {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert answer.status == (200 if method == "OPTIONS" else 405)
        assert set(answer.headers["Allow"].split(", ")) == {"OPTIONS", "POST"}
        assert "Server-Timing" not in answer.headers


ROWS = '{"instances": [[5.1, 3.5]]}'
TENSOR = '{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [5.1, 3.5]}]}'


@pytest.mark.parametrize(
    "path",
    [
        "/predict",
        "/models/iris-two/versions/1/predict",
        "/invocations",
        "/v1/models/iris-two:predict",
        "/v1/endpoints/1/deployedModels/2:predict",
        "/v2/models/iris-two/infer",
    ],
)
def test_every_protocol_reports_the_wait_for_a_thread(iris_alone: Application, path: str) -> None:
    app, body = iris_alone, (TENSOR if path.startswith("/v2") else ROWS).encode()
    before, contexts = waits(app), []
    for wait_s in (0.25, 0.5):
        environ = environ_of(io.BytesIO(body), PATH_INFO=path, CONTENT_LENGTH=str(len(body)))
        contexts.append(app.gateway.admit(environ))
        contexts[-1].queued_s = wait_s
    timings = [dict(response.headers)["Server-Timing"] for response in app.gateway.respond(contexts)]
    assert ["queue;dur=250.000" in timings[0], "queue;dur=500.000" in timings[1]] == [True, True]
    after, counted = waits(app), (2, 750_000_000) if path.startswith("/v2") else (0, 0)
    assert (after["count"] - before["count"], after["ns"] - before["ns"]) == counted


def waits(app: Application) -> dict[str, int]:
    (counted,) = get(app, "/v2/models/iris-two/stats").document["model_stats"]
    waited: dict[str, int] = counted["inference_stats"]["queue"]
    return waited
