"""Requests that run inline: answered at the end of the turn that read them, those of one key together."""

from __future__ import annotations

import contextlib
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

from app.server.connection import Connection
from app.server.contract import Response
from app.server.parsing import Head
from tests.server_worker.stage import Recorder, Stage, staged

KEY_A = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%b"
KEY_B = KEY_A.replace(b"/a", b"/b")
NO_KEY = KEY_A.replace(b"/a", b"/none")


class Grouping(Recorder):
    """Answers requests of one path together."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[bytes]] = []
        self.fails = False

    def batch_key(self, environ: dict[str, Any]) -> str | None:
        path: str = environ["PATH_INFO"]
        return None if path == "/none" else path

    def respond(self, environs: list[dict[str, Any]]) -> list[Response] | None:
        if self.fails:
            raise ValueError("as the test wants it")
        bodies = [environ["wsgi.input"].read() for environ in environs]
        self.groups.append(bodies)
        if b"w" in bodies:
            for environ in environs:
                environ["wsgi.input"].seek(0)
            return None
        return [Response(200, [("Bad", "\n")] if body == b"x" else [], b"with:" + body) for body in bodies]


@pytest.fixture
def app() -> Grouping:
    return Grouping()


@pytest.fixture
def stage(app: Grouping) -> Iterator[Stage]:
    with staged(app) as stage:
        yield stage


def answers_in_one_turn(stage: Stage, *requests: bytes) -> list[bytes]:
    """What each of several clients is told, whose requests are there when the turn begins."""
    with contextlib.ExitStack() as open_ones:
        clients = [open_ones.enter_context(stage.connect()) for _ in requests]
        for client, request in zip(clients, requests, strict=True):
            client.sendall(request)
        stage.turn()
        while stage.dispatcher.inline:
            stage.turn()
        return [client.recv(1 << 16) for client in clients]


def content(*answers: bytes) -> list[bytes]:
    return [answer.partition(b"\r\n\r\n")[2] for answer in answers]


def test_what_one_turn_reads_is_answered_together_by_key(app: Grouping, stage: Stage) -> None:
    answers = answers_in_one_turn(
        stage, KEY_A % b"1", KEY_B % b"2", KEY_A % b"3", NO_KEY % b"4", KEY_B % b"5", NO_KEY % b"6"
    )
    assert content(*answers) == [b"with:%d" % number for number in range(1, 7)]
    assert sorted(app.groups) == [[b"1", b"3"], [b"2", b"5"], [b"4"], [b"6"]]
    assert stage.dispatcher.stats.inline == stage.dispatcher.stats.answered == 6


def test_a_response_that_is_none_is_a_500_for_its_own_request_alone(
    app: Grouping, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR):
        answers = answers_in_one_turn(stage, KEY_A % b"1", KEY_A % b"x", KEY_A % b"2")
    assert [answer.split()[1] for answer in answers] == [b"200", b"500", b"200"]
    assert "InvalidResponseHeader" in caplog.text


def test_where_the_application_fails_each_of_the_group_is_told_500(
    app: Grouping, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    app.fails = True
    with caplog.at_level(logging.ERROR):
        answers = answers_in_one_turn(stage, KEY_A % b"1", KEY_A % b"2")
    assert [answer.split()[1] for answer in answers] == [b"500", b"500"]
    assert "as the test wants it" in caplog.text
    assert b"wants" not in b"".join(answers)


def test_what_has_to_go_through_wsgi_after_all_goes_there_in_a_thread(app: Grouping, stage: Stage) -> None:
    with stage.connect() as first, stage.connect() as second:
        for client in (first, second):
            client.sendall(KEY_A % b"w")
        stage.until(lambda: stage.dispatcher.stats.answered == 2 or bool(time.sleep(0.001)))
        assert [content(client.recv(1000))[0][2:] for client in (first, second)] == [b"w", b"w"]
    assert (stage.dispatcher.stats.inline, stage.dispatcher.stats.threaded, len(app.seen)) == (0, 2, 2)


def test_pipelined_requests_are_answered_in_order(app: Grouping, stage: Stage) -> None:
    answers = answers_in_one_turn(stage, KEY_A % b"1" + KEY_A % b"2" + KEY_A % b"3", KEY_A % b"4" + KEY_A % b"5")
    bodies = [re.findall(rb"with:.", answer) for answer in answers]
    assert bodies == [[b"with:1", b"with:2", b"with:3"], [b"with:4", b"with:5"]]
    assert app.groups == [[b"1", b"4"], [b"2", b"5"], [b"3"]]


def test_one_whose_client_left_in_the_same_turn_is_not_run(app: Grouping, stage: Stage) -> None:
    on_request = stage.dispatcher.on_request

    def leaves_at_once(connection: Connection, head: Head, now_s: float) -> None:
        on_request(connection, head, now_s)
        if connection is first:
            connection.abort()

    with stage.connect() as leaving, stage.connect() as client:
        first = next(iter(stage.loop._connections.values()))
        stage.dispatcher.on_request = leaves_at_once  # type: ignore[method-assign]
        for each in (leaving, client):
            each.sendall(KEY_A % b"1")
        stage.turn()
        assert content(client.recv(1 << 16)) == [b"with:1"]
    assert stage.dispatcher.stats.answered == stage.dispatcher.stats.left == 1
    assert app.groups == [[b"1"]]
