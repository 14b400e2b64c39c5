"""The prefix of the application: taken off the path, and the root of links."""

from __future__ import annotations

import pytest

from app.gateway.forwarded import Forwarding, root_of


@pytest.mark.parametrize(
    ("path", "rest"),
    [("/ml", "/"), ("/ml/", "/"), ("/ml/docs", "/docs"), ("/livez", "/livez"), ("/mlivez", "/mlivez")],
)
def test_the_prefix_is_taken_off_a_path_that_has_it(path: str, rest: str) -> None:
    environ = {"SCRIPT_NAME": "", "PATH_INFO": path}
    Forwarding(0, "/ml").apply(environ)
    assert environ == {"SCRIPT_NAME": "/ml", "PATH_INFO": rest}


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
def test_the_prefix_that_a_trusted_proxy_names_goes_before_the_setting_if_it_is_a_path(sent: str, prefix: str) -> None:
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
