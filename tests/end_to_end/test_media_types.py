"""Tests of Content-Type and Accept, over one kept connection."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.process import Server

pytestmark = pytest.mark.server

PATH = "/models/iris-two/predict"
RECORD = b'{"feature1": 5.1, "feature2": 3.5}'
JSON, PROBLEM = "application/json", "application/problem+json"
MOST_GROWTH_BYTES = 64 * 2**20
MiB = 2**20


@dataclass
class Asked:
    status: int
    response: HTTPResponse
    document: Any


class Talk:
    """A kept connection that sends only the given headers."""

    def __init__(self, server: Server) -> None:
        self.connection = HTTPConnection("127.0.0.1", server.port, timeout=20)

    def __call__(self, body: bytes, **headers: str) -> Asked:
        self.connection.putrequest("POST", PATH, skip_accept_encoding=True)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.connection.putheader(name.replace("_", "-"), value)
        self.connection.endheaders(body)
        response = self.connection.getresponse()
        content = response.read()
        assert not response.will_close
        assert response.headers["X-Request-ID"]
        return Asked(response.status, response, json.loads(content))


@pytest.fixture
def talk(server: Server) -> Iterator[Talk]:
    made = Talk(server)
    with contextlib.closing(made.connection):
        yield made


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        (None, 200),
        ("", 200),
        (JSON, 200),
        ("Application/JSON ; Charset=UTF-8", 200),
        ('application/json; charset="utf-8"', 200),
        ("application/json; profile=x", 200),
        ("application/x-www-form-urlencoded", 200),  # what curl sends without an option
        ("application/json; charset=utf-16", 415),
        ("application/json; charset=latin-1", 415),
        ("application/foo+json", 415),
        ("application/problem+json", 415),
        ("text/json", 415),
        ("text/plain", 415),
        ("text/plain; charset=utf-8", 415),
        ("application/octet-stream", 415),
        ("application/xml", 415),
        ("json", 415),
        ("/", 415),
        ("application/json, application/json", 415),
        ("x/" + "y" * 4000, 415),
        ("application/j\xe9son", 415),
    ],
)
@pytest.mark.fault("N12")
def test_n12_content_types(talk: Talk, content_type: str | None, status: int) -> None:
    told = talk(RECORD) if content_type is None else talk(RECORD, Content_Type=content_type)
    assert told.status == status, told.document
    if status == 200:
        assert told.response.headers["Content-Type"] == JSON
        assert told.document["prediction"] == [0]
    else:
        assert told.response.headers["Content-Type"] == PROBLEM
        assert told.response.headers["Accept"].split(", ")[0] == JSON
        assert told.document["type"] == "/problems/unsupported-media-type"
        assert len(told.document["detail"]) < 500
    assert talk(RECORD).status == 200


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("", 200),
        ("*/*", 200),
        (JSON, 200),
        ("application/*", 200),
        ("APPLICATION/JSON", 200),
        ("application/json; charset=utf-8", 200),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 200),
        ("application/xml, application/json;q=0.1", 200),
        ("application/xml", 406),
        ("image/*", 406),
        ("application/json;q=0", 406),
        ("application/xml;q=1, application/json;q=0", 406),
        ("application/foo+json", 406),
    ],
)
@pytest.mark.fault("N12")
def test_n12_what_is_accepted(talk: Talk, accept: str | None, status: int) -> None:
    told = talk(RECORD) if accept is None else talk(RECORD, Accept=accept)
    assert told.status == status, told.document
    assert told.response.headers["Content-Type"] == (JSON if status == 200 else PROBLEM)
    if status == 406:
        assert JSON in told.document["detail"]


@pytest.mark.fault("N12")
def test_n12_a_refusal_is_a_problem_whatever_is_accepted(talk: Talk) -> None:
    told = talk(RECORD, Content_Type="application/xml", Accept="application/xml")
    assert told.status in (406, 415)
    assert told.response.headers["Content-Type"] == PROBLEM
    assert talk(b"{", Accept="text/html, */*").response.headers["Content-Type"] == PROBLEM


def part(fields: bytes, content: bytes = b"1") -> bytes:
    return b"--x\r\nContent-Disposition: form-data; " + fields + b"\r\n\r\n" + content + b"\r\n"


END = b"--x--\r\n"
MULTIPARTS = {
    "ordinary": part(b'name="feature1"', b"5.1") + part(b'name="feature2"', b"3.5") + END,
    "100,000 parts": part(b'name="a"') * 100_000 + END,
    "endless boundary": b"--x" + b"-" * 5 * MiB,
    "no final boundary": part(b'name="feature1"', b"5.1"),
    "long headers of a part": part(b'name="a"\r\nX: ' + b"y" * 10 * MiB) + END,
    "a path for a name": part(b'name="a"; filename="../../x"') + END,
    "one field twice": part(b'name="feature1"', b"5.1") * 2 + END,
    "nested": part(b'name="a"\r\nContent-Type: multipart/mixed; boundary=y', b"--y\r\n\r\n1\r\n--y--\r\n") + END,
    "empty": b"",
    "a record": RECORD,
}


STATUSES = {"ordinary": {200}, "a path for a name": {400, 415, 422}}


@pytest.mark.parametrize("name", MULTIPARTS)
@pytest.mark.parametrize("content_type", ["multipart/form-data; boundary=x", "multipart/mixed; boundary=" + "x" * 3000])
@pytest.mark.fault("N08")
def test_n08_multipart_is_answered_whatever_is_in_it(mixed: Server, name: str, content_type: str) -> None:
    """A form is a record. No field of it is dropped silently, and none takes much memory."""
    talk = Talk(mixed)
    with contextlib.closing(talk.connection):
        assert talk(MULTIPARTS["ordinary"], Content_Type="multipart/form-data; boundary=x").status == 200  # imports
        grown_bytes = []
        for _ in range(3):  # the first use of memory by a thread counts too, so the smallest growth is the request's
            before_bytes = rss_bytes(mixed)
            told = talk(MULTIPARTS[name], Content_Type=content_type)
            grown_bytes.append(rss_bytes(mixed) - before_bytes)
        assert min(grown_bytes) < MOST_GROWTH_BYTES
        if "mixed" in content_type:
            assert (told.status, told.response.headers["Accept"].split(", ")[0]) == (415, JSON), told.document
            assert told.document["type"] == "/problems/unsupported-media-type"
        else:
            assert told.status in STATUSES.get(name, {400, 413, 422}), told.document
        assert talk(RECORD).status == 200


def rss_bytes(server: Server) -> int:
    """Return the resident memory of all workers together."""
    statms = [Path(f"/proc/{pid}/statm").read_text("ascii") for pid in server.workers]
    return sum(int(statm.split()[1]) for statm in statms) * 4096
