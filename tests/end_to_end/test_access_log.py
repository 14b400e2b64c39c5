"""Tests of the access log of a server: hostile requests stay one line of JSON each."""

from __future__ import annotations

import json
import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.end_to_end.process import Server
from tests.wire.test_metrics import PREDICTIONS

WITHIN_S = 10.0
HOSTILE_PATHS = (
    b"/nowhere/%1b%5b31m%0d%0a%00",
    b"/nowhere/%e2%80%a8%c2%85%ed%a0%80%ff",
    b"/nowhere/" + b"x" * 7000,
    b"/nowhere/" + b"%e2%80%a8" * 800,
    b'/nowhere/"}\\',
)
HOSTILE_HEADERS = (
    b"X-Request-ID: \x1b[2J\xe2\x80\xa8",
    b"X-Request-ID: " + b"x" * 8000,
    b"Origin: https://\xff\xfe.example",
    b"Authorization: Bearer secret-of-the-client",
    b"Content-Length: 99999999999999999999",
)


def send(server: Server, path: bytes, header: bytes) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(
            b"GET %s?token=secret-of-the-client HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n\r\n" % (path, header)
        )
        while connection.recv(65536):
            pass


def lines_until(server: Server, request_id: str) -> Iterator[dict[str, Any]]:
    """Return the lines of the log as documents, when one of them is about this request."""
    deadline_s = time.monotonic() + WITHIN_S
    while request_id not in server.output and time.monotonic() < deadline_s:
        time.sleep(0.02)
    for line in server.output.split("\n")[:-1]:
        assert len(line) < 4000
        assert line.isascii()
        yield json.loads(line)


@pytest.mark.parametrize("path", HOSTILE_PATHS, ids=range(len(HOSTILE_PATHS)))
@pytest.mark.fault("X10")
def test_hostile_requests_stay_one_line_each(server: Server, path: bytes) -> None:
    for header in HOSTILE_HEADERS:
        send(server, path, header)
    last = uuid.uuid4().hex
    server.ask("GET", "/livez", headers={"X-Request-ID": last})
    lines = list(lines_until(server, last))
    assert all({"time", "level", "message", "request_id"} <= line.keys() for line in lines)
    assert "secret-of-the-client" not in server.output


def test_the_line_of_a_prediction_has_its_facts(server: Server) -> None:
    sent, asked = json.dumps(PREDICTIONS["penguins"]), uuid.uuid4().hex
    answer = server.ask("POST", "/models/penguins/predict", sent, {"X-Request-ID": asked})
    [line] = [line for line in lines_until(server, asked) if line["request_id"] == asked]
    assert (line["model"], line["version"], line["rows"], line["status"]) == ("penguins", 1, 1, 200)
    assert (line["bytes_in"], line["bytes_out"]) == (len(sent), len(answer.content))
    assert list(line["stages_ms"]) == ["parse", "validate", "queue", "run", "encode"]
    assert sum(line["stages_ms"].values()) <= line["duration_ms"] + 0.01
