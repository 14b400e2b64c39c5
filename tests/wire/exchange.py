"""One HTTP exchange without a socket: request bytes, Gunicorn's own parser, the application, the response."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flask import Flask
from gunicorn.config import Config
from gunicorn.http import wsgi
from gunicorn.http.parser import RequestParser
from werkzeug.datastructures import Headers
from werkzeug.test import run_wsgi_app

JSON = "application/json"
PROBLEM = "application/problem+json"
SERVER = ("127.0.0.1", 8000)
CLIENT = ("127.0.0.1", 40000)
CONFIGURED = Config()
FROM_INSIDE = re.compile(r"Traceback|site-packages|\.py\b|/work|/home|/tmp|sklearn|werkzeug|[a-z]Error\b")


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: Headers
    content: bytes

    @property
    def document(self) -> Any:
        """The body, which must be JSON by RFC 8259: no NaN, no infinity."""
        return json.loads(self.content.decode("utf-8"), parse_constant=_not_json)


def _not_json(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")


def send(app: Flask, raw: bytes) -> Answer:
    """Return the response to these bytes. If they declare no length of the body, a Content-Length is added."""
    head, body = raw.split(b"\r\n\r\n", 1)
    if not re.search(rb"\r\n(content-length|transfer-encoding):", head, re.IGNORECASE):
        head += b"\r\nContent-Length: %d" % len(body)
    request = next(RequestParser(CONFIGURED, iter([head + b"\r\n\r\n" + body]), CLIENT))
    _, environ = wsgi.create(request, None, CLIENT, SERVER, CONFIGURED)
    return call(app, environ)


def call(app: Flask, environ: dict[str, Any]) -> Answer:
    """Return the response to a WSGI environ."""
    environ["wsgi.errors"] = io.StringIO()
    content, status, headers = run_wsgi_app(app, environ, buffered=True)
    return Answer(int(status.split()[0]), headers, b"".join(content))


def post(app: Flask, path: str, body: bytes | str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the response to a POST of this body, as JSON unless `headers` name another type."""
    lines = {"Content-Type": JSON} if headers is None else headers
    head = [f"POST {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in lines.items())]
    content = body.encode() if isinstance(body, str) else body
    return send(app, "\r\n".join(head).encode() + b"\r\n\r\n" + content)


def get(app: Flask, path: str, headers: Mapping[str, str] | None = None) -> Answer:
    """Return the response to a GET."""
    head = [f"GET {path} HTTP/1.1", "Host: localhost", *(f"{name}: {value}" for name, value in (headers or {}).items())]
    return send(app, "\r\n".join(head).encode() + b"\r\n\r\n")


def told_of_inside(answer: Answer, sent: bytes | str = b"") -> set[str]:
    """Return the words of a response that reveal internals of the server, except words that the client sent."""
    text = sent if isinstance(sent, str) else sent.decode("utf-8", "replace")
    return {word for word in FROM_INSIDE.findall(answer.content.decode("utf-8")) if word not in text}


def check(answer: Answer, sent: bytes | str = b"") -> None:
    """Check the common properties of JSON responses: an id, valid JSON, and no internals that were not sent."""
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", answer.headers["X-Request-ID"])
    document = answer.document
    if answer.status < 400:
        assert answer.headers["Content-Type"] == JSON
        return
    assert answer.headers["Content-Type"] == PROBLEM
    assert document["status"] == answer.status
    assert document["type"].startswith("/problems/")
    assert document["title"]
    assert document["detail"]
    assert document["request_id"] == answer.headers["X-Request-ID"]
    assert told_of_inside(answer, sent) == set()
    if answer.status == 422:
        errors = document["errors"]
        assert 1 <= len(errors) <= 100
        assert len(errors) + document["errors_more"] == document["errors_total"]
        assert document["errors_more"] >= 0
        assert all(each["pointer"].startswith("#") and each["detail"] for each in errors)


def environ_of(stream: Any, **more: str) -> dict[str, Any]:
    """Return the environ of a request for predictions whose body is a stream."""
    return {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": "/models/iris-two/predict",
        "SCRIPT_NAME": "",
        "QUERY_STRING": "",
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "8000",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "CONTENT_TYPE": "application/json",
        "wsgi.url_scheme": "http",
        "wsgi.input": stream,
        **more,
    }
