"""Tests of CORS, and of changes that pages of other origins request."""

from __future__ import annotations

from typing import Any

import pytest

from app.gateway import Interceptor
from app.gateway.browsers import AllowedHosts, Cors, SameOrigin
from app.server.contract import Refusal
from tests.gateway.fakes import Client, environ, gateway

PAGE = "https://app.example"
PREFLIGHT = {"HTTP_ACCESS_CONTROL_REQUEST_METHOD": "POST"}


def hello(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Vary", "Accept")])
    return [b"hello"]


def ask(interceptor: Interceptor, path: str = "/predict", method: str = "POST", **more: str) -> Client:
    return Client(gateway(interceptor).serve(hello), environ(path, method, **more))


def cors(*origins: str, credentials: bool = False) -> Cors:
    return Cors(origins, credentials, 600)


@pytest.mark.parametrize("path", ["/predict", "/other"])
@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ([PAGE], PAGE, PAGE),
        (["https://a.example", PAGE], PAGE, PAGE),
        ([PAGE.upper()], PAGE, PAGE),
        ([PAGE], f"{PAGE}.evil.example", None),
        ([PAGE], "http://app.example", None),
        ([PAGE], "null", None),
        ([PAGE], "", None),
        (["null"], "null", "null"),
        (["*"], "null", "*"),
        (["*", PAGE], PAGE, "*"),
    ],
)
@pytest.mark.fault("X12")
def test_an_answer_names_the_page_that_may_read_it(
    path: str, origins: list[str], origin: str, allowed: str | None
) -> None:
    client = ask(cors(*origins), path, HTTP_ORIGIN=origin)
    assert client.headers.get("Access-Control-Allow-Origin") == allowed
    assert client.headers["Vary"] == "Origin"
    assert ("Retry-After" in client.headers.get("Access-Control-Expose-Headers", "")) is bool(allowed)


@pytest.mark.parametrize(("origins", "allowed"), [([PAGE], True), (["*"], False), (["*", PAGE], False)])
def test_credentials_are_never_allowed_to_everyone(origins: list[str], allowed: bool) -> None:
    client = ask(cors(*origins, credentials=True), HTTP_ORIGIN=PAGE)
    assert ("Access-Control-Allow-Credentials" in client.headers) is allowed


def test_a_view_with_fields_of_its_own_keeps_them() -> None:
    def own(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        start_response("200 OK", [("access-control-allow-origin", "https://partner.example")])
        return [b""]

    sent: list[tuple[str, str]] = []
    served = gateway(cors(PAGE, credentials=True)).serve(own)
    served(environ("/other", "GET", HTTP_ORIGIN=PAGE), lambda _, headers: sent.extend(headers))
    assert sent == [("access-control-allow-origin", "https://partner.example"), ("Vary", "Origin")]


@pytest.mark.parametrize("name", ["Location", "Content-Disposition", "Content-Range", "Retry-After", "RateLimit"])
def test_scripts_of_an_allowed_page_may_read_the_fields_about_limits_and_retries(name: str) -> None:
    assert name in ask(cors(PAGE), HTTP_ORIGIN=PAGE).headers["Access-Control-Expose-Headers"].split(", ")


def test_a_page_may_read_refusals_of_the_server() -> None:
    refused = gateway(cors(PAGE)).refuse({"HTTP_ORIGIN": PAGE}, None, Refusal(413, "body-too-large", "too long"))
    assert ("Access-Control-Allow-Origin", PAGE) in refused.headers
    assert ("Vary", "Origin") in refused.headers


@pytest.mark.parametrize("path", ["/predict", "/nowhere", "*"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_a_preflight_request_of_an_allowed_page_is_answered_on_every_path(path: str, method: str) -> None:
    asked = {"HTTP_ACCESS_CONTROL_REQUEST_METHOD": method, "HTTP_ACCESS_CONTROL_REQUEST_HEADERS": "X-Tenant"}
    client = ask(cors(PAGE), path, "OPTIONS", HTTP_ORIGIN=PAGE, **asked)
    assert client.statuses == ["204 No Content"]
    assert method in client.headers["Access-Control-Allow-Methods"]
    assert client.headers["Access-Control-Allow-Headers"] == "X-Tenant"
    assert client.headers["Access-Control-Max-Age"] == "600"


def test_a_preflight_request_of_another_page_is_allowed_nothing() -> None:
    client = ask(cors(PAGE), "/predict", "OPTIONS", HTTP_ORIGIN="https://evil.example", **PREFLIGHT)
    assert client.body() == b"hello"
    assert not any(name.startswith("Access-Control") for name in client.headers)


def test_an_answer_to_a_preflight_request_varies_with_its_request_headers() -> None:
    served = gateway(cors(PAGE)).serve(hello)
    headers: list[tuple[str, str]] = []
    served(environ("/predict", "OPTIONS", HTTP_ORIGIN=PAGE, **PREFLIGHT), lambda _, sent: headers.extend(sent))
    varies = ", ".join(value for name, value in headers if name == "Vary")
    assert varies == "Access-Control-Request-Method, Access-Control-Request-Headers, Origin"


def test_an_options_request_without_preflight_headers_passes() -> None:
    assert ask(cors(PAGE), "/predict", "OPTIONS", HTTP_ORIGIN=PAGE).body() == b"hello"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ({}, "200"),
        ({"HTTP_ORIGIN": "http://localhost"}, "200"),
        ({"HTTP_ORIGIN": "http://LOCALHOST"}, "200"),
        ({"HTTP_ORIGIN": PAGE}, "200"),
        ({"HTTP_ORIGIN": PAGE, "HTTP_SEC_FETCH_SITE": "cross-site"}, "200"),
        ({"HTTP_SEC_FETCH_SITE": "same-origin"}, "200"),
        ({"HTTP_SEC_FETCH_SITE": "none"}, "200"),
        # A proxy has changed the Host.
        ({"HTTP_SEC_FETCH_SITE": "same-origin", "HTTP_ORIGIN": "https://public.example"}, "200"),
        ({"HTTP_ORIGIN": "http://evil.example"}, "403"),
        ({"HTTP_ORIGIN": "http://localhost:3000"}, "403"),
        ({"HTTP_ORIGIN": "https://localhost"}, "403"),
        ({"HTTP_ORIGIN": "null"}, "403"),
        ({"HTTP_SEC_FETCH_SITE": "cross-site"}, "403"),
        ({"HTTP_SEC_FETCH_SITE": "same-site"}, "403"),
        ({"HTTP_SEC_FETCH_SITE": "anything"}, "403"),
        ({"HTTP_ORIGIN": "http://localhost", "HTTP_SEC_FETCH_SITE": "cross-site"}, "403"),
    ],
)
@pytest.mark.fault("X12")
def test_only_pages_of_this_server_and_allowed_ones_may_change_models(sent: dict[str, str], status: str) -> None:
    assert ask(SameOrigin([PAGE]), "/models/m/unload", **sent).statuses[0].startswith(status)


@pytest.mark.parametrize(
    ("path", "method"), [("/predict", "POST"), ("/other", "POST"), ("/models/m/unload", "GET"), ("/predict", "GET")]
)
def test_predictions_views_of_users_and_reading_are_open_to_every_page(path: str, method: str) -> None:
    client = ask(SameOrigin([]), path, method, HTTP_ORIGIN="http://evil.example", HTTP_SEC_FETCH_SITE="cross-site")
    assert client.statuses == ["200 OK"]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", "200"),
        ("LocalHost:8000", "200"),
        ("127.0.0.1:8000", "200"),
        ("[::1]:8000", "200"),
        ("dev.example:8000", "200"),
        ("app.localhost:8000", "200"),
        ("localhost.:8000", "200"),
        ("evillocalhost", "403"),
        ("", "200"),
        ("evil.example", "403"),
        ("127.0.0.1.evil.example", "403"),
        ("localhost.evil.example:8000", "403"),
        ("[::2]", "403"),
        ("localhost, evil.example", "403"),
    ],
)
def test_in_development_requests_for_other_hosts_are_refused(host: str, status: str) -> None:
    for path in ("/predict", "/other"):
        assert ask(AllowedHosts(["dev.example"]), path, HTTP_HOST=host).statuses[0].startswith(status)
