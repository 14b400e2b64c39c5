"""Tests of the server behind nginx: both must see the same requests."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from http.client import HTTPConnection
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from tests.end_to_end.process import Server
from tests.server.endings import one_of_two_terminated
from tests.server.mixtures import mutated, numbered, requests
from tests.server.proxied import Nginx, nginx_before
from tests.server.reference import gunicorn_verdict, load_corpus, statuses_in
from tests.server.served import worker_server
from tests.server.stage import config

pytestmark = pytest.mark.server

DRAWS = int(os.environ.get("DRAWS", "60"))
CANARY = b"POST /canary HTTP/1.1\r\nHost: a\r\nContent-Length: 14\r\nConnection: close\r\n\r\ncanary-@@@@@@!"
SETTLES_WITHIN_S = 20.0
CLASSIC = (
    b"Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
    b"Transfer-Encoding: chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\nG",
    b"Transfer-Encoding: xchunked\r\nContent-Length: 1\r\n\r\nG",
    b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n0;\nx\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
    b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nhello",
    b"Content-Length : 5\r\n\r\nhello",
    b"Content-Length: 5\r\n, 5\r\n\r\nhello",
    b"Transfer-Encoding\x0b: chunked\r\n\r\n0\r\n\r\n",
    b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    b"Content-Length: 5\n\r\n\r\nhello",
    b"Content-Length: +5\r\n\r\nhello",
    b"Content-Length: 0x5\r\n\r\nhello",
    b"Content_Length: 60\r\nContent-Length: 0\r\n\r\n",
)
"""Fields and bodies whose end two servers may interpret differently."""


@pytest.mark.needs_program("nginx")
@pytest.mark.fault("P03")
def test_p03_one_of_two_servers_is_terminated_and_no_client_notices(tmp_path: Path) -> None:
    patient = {"queue_max_wait_s": 5.0}  # a busy machine refuses no request
    with (
        worker_server(tmp_path, limits=patient) as first,
        worker_server(tmp_path, limits=patient) as second,
        nginx_before(tmp_path, first.port, second.port) as nginx,
    ):
        outcomes = asyncio.run(one_of_two_terminated(nginx.port, second, at_s=0.7, for_s=2.0))
    assert set(outcomes.count) == {"200"}, outcomes.count


class Attack:
    """Send bytes followed by a canary, then a request of another client over the same connection to the server."""

    def __init__(self, server: Server, nginx: Nginx | None) -> None:
        self.server, self.nginx = server, nginx
        self.port = server.port if nginx is None else nginx.port
        self.number = 0
        self.reached = self.count()
        self.sent_on = 0 if nginx is None else nginx.sent_on

    def count(self) -> int:
        """Return how many requests have reached the application, without this one."""
        return int(self.server.ask("GET", "/count").content)

    def __call__(self, content: bytes) -> None:
        self.number += 1
        told = self.say(numbered(content + CANARY, self.number))
        assert told.count(b"canary-%06d!" % self.number) <= 1
        self.ask_as_another()
        reached = self.count()
        mine = reached - self.reached - 2  # the request of the other client, and this one
        self.reached = reached
        assert statuses_in(told).count(200) <= mine, (content, told)
        if self.nginx is None:
            # Alone, the server must run exactly what Gunicorn's parser sees.
            assert mine == len(gunicorn_verdict(config(), numbered(content + CANARY, self.number)).requests)
            return
        until_s = time.monotonic() + SETTLES_WITHIN_S
        while (sent_on := self.nginx.sent_on) - self.sent_on < mine + 1:
            assert time.monotonic() < until_s, (content, told, "the server saw a request that nginx did not send")
            time.sleep(0.01)
        self.sent_on = sent_on

    def say(self, content: bytes) -> bytes:
        told = b""
        with socket.create_connection(("127.0.0.1", self.port), 10) as one, contextlib.suppress(ConnectionError):
            one.sendall(content)
            one.shutdown(socket.SHUT_WR)
            while received := one.recv(1 << 16):
                told += received
        return told

    def ask_as_another(self) -> None:
        token = b"another-%d" % self.number
        with contextlib.closing(HTTPConnection("127.0.0.1", self.port, timeout=10)) as other:
            other.request("POST", "/echo", token)
            answer = other.getresponse()
            assert (answer.status, answer.read()) == (200, token)


def everything(attack: Attack, corpus: list[bytes]) -> None:
    for fields in CLASSIC:
        attack(b"POST /echo HTTP/1.1\r\nHost: a\r\n" + fields)
    for content in corpus:
        attack(content)

    @settings(max_examples=DRAWS, suppress_health_check=[HealthCheck.too_slow])
    @given(requests() | mutated())
    def anything(content: bytes) -> None:
        attack(content)

    run: Callable[[], None] = anything
    run()


@pytest.mark.own_worker("it runs a request before it has read the body, whatever that turns out to be")
@pytest.mark.fault("N07")
def test_n07_nothing_is_smuggled_alone(tmp_path: Path, gunicorn_source: Path) -> None:
    with worker_server(tmp_path) as server:
        everything(Attack(server, None), [content for _, _, content in load_corpus(gunicorn_source)])


@pytest.mark.needs_program("nginx")
@pytest.mark.parametrize("buffering", ["on", "off"])
@pytest.mark.fault("N07")
def test_n07_nothing_is_smuggled_past_nginx(tmp_path: Path, gunicorn_source: Path, buffering: str) -> None:
    options = f"proxy_request_buffering {buffering}; proxy_ignore_client_abort on;"
    with (
        worker_server(tmp_path) as server,
        nginx_before(tmp_path, server.port, keepalive=1, options=options) as nginx,
    ):
        everything(Attack(server, nginx), [content for _, _, content in load_corpus(gunicorn_source)])
