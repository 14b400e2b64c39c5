"""Tests of the fields of trusted proxies, the prefix of the application, and the root of links."""

from __future__ import annotations

from typing import Any

import pytest

from app.gateway.forwarded import Forwarding, root_of
from tests.gateway.fakes import environ

FORGED = {
    "HTTP_X_FORWARDED_FOR": "203.0.113.9",
    "HTTP_X_FORWARDED_PROTO": "https",
    "HTTP_X_FORWARDED_HOST": "evil.example",
    "HTTP_X_FORWARDED_PREFIX": "/evil",
    "HTTP_X_FORWARDED_PORT": "1",
    "HTTP_FORWARDED": "for=203.0.113.9;host=evil.example;proto=https",
    "HTTP_X_REAL_IP": "203.0.113.9",
}


def applied(trusted: int, prefix: str = "", path: str = "/predict", **more: Any) -> dict[str, Any]:
    request = environ(path, **more)
    Forwarding(trusted, prefix).apply(request)
    return request


def test_without_trusted_proxies_forwarded_fields_are_ignored() -> None:
    request = environ(**FORGED)
    before = dict(request)
    Forwarding(0, "").apply(request)
    assert request == before


@pytest.mark.parametrize(
    ("trusted", "sent", "address"),
    [
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "forged, 203.0.113.9", "203.0.113.9"),
        (2, "forged, 203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "203.0.113.9", "192.0.2.1"),
        (1, "", "192.0.2.1"),
        (1, "203.0.113.9:4711", "203.0.113.9"),
        (1, "[2001:db8::1]:4711", "2001:db8::1"),
        (1, "[2001:db8::1]", "2001:db8::1"),
        (1, "2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_address_is_the_one_that_the_outermost_trusted_proxy_saw(trusted: int, sent: str, address: str) -> None:
    assert applied(trusted, HTTP_X_FORWARDED_FOR=sent)["REMOTE_ADDR"] == address


@pytest.mark.parametrize(("trusted", "client"), [(0, "192.0.2.1"), (1, "203.0.113.9"), (2, "192.0.2.1")])
def test_the_client_is_known_by_its_head_which_stays_as_it_is(trusted: int, client: str) -> None:
    request = environ(**FORGED)
    before = dict(request)
    assert Forwarding(trusted, "").client(request) == client
    assert request == before


def test_scheme_host_and_prefix_are_those_of_the_proxy() -> None:
    request = applied(1, path="/ml/predict", **FORGED | {"HTTP_X_FORWARDED_PREFIX": "/ml/"})
    assert request["wsgi.url_scheme"] == "https"
    assert request["HTTP_HOST"] == "evil.example"
    assert (request["SCRIPT_NAME"], request["PATH_INFO"]) == ("/ml", "/predict")


def test_a_scheme_is_http_or_https() -> None:
    assert applied(1, HTTP_X_FORWARDED_PROTO="javascript")["wsgi.url_scheme"] == "http"


@pytest.mark.parametrize(
    ("path", "below"),
    [("/ml/predict", "/predict"), ("/predict", "/predict"), ("/ml", "/"), ("/ml/", "/"), ("/mlx", "/mlx")],
)
def test_a_prefix_that_the_proxy_leaves_is_stripped(path: str, below: str) -> None:
    request = applied(0, "/ml/", path)
    assert (request["SCRIPT_NAME"], request["PATH_INFO"]) == ("/ml", below)


def test_applying_forwarded_fields_twice_changes_nothing_more() -> None:
    request = applied(1, "/ml", "/ml/predict", HTTP_X_FORWARDED_FOR="203.0.113.9")
    once = dict(request)
    Forwarding(1, "/ml").apply(request)
    assert request == once


@pytest.mark.parametrize(
    ("sent", "prefix"),
    [
        ("/ml", "/ml"),
        ("/ml/", "/ml"),
        ("/forged, /a/b", "/a/b"),
        ("", "/own"),
        ("/", "/own"),
        ("//example.org", "/own"),
        ("javascript:alert(1)", "/own"),
    ],
)
def test_a_valid_prefix_of_a_trusted_proxy_overrides_the_setting(sent: str, prefix: str) -> None:
    environ = {"SCRIPT_NAME": "", "PATH_INFO": "/docs", "HTTP_X_FORWARDED_PREFIX": sent}
    Forwarding(1, "/own").apply(environ)
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (prefix, "/docs")


@pytest.mark.parametrize(
    ("script_name", "path", "root"),
    [
        ("/ml", "/docs", "/ml"),
        ("/ml", "/problems/queue-full", "/ml"),
        ("/caf\xc3\xa9", "/docs", "/caf%C3%A9"),  # as WSGI writes UTF-8
        ("", "/", "."),
        ("", "/docs", "."),
        ("", "/docs/", ".."),
        ("", "/a/b/c", "../.."),
    ],
)
def test_the_root_is_the_prefix_or_relative_to_the_request(script_name: str, path: str, root: str) -> None:
    assert root_of({"SCRIPT_NAME": script_name, "PATH_INFO": path}) == root
