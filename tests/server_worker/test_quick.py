"""Quick requests: answered at the end of the turn that read them, those of one lane together."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from app.server.connection import Connection
from app.server.parsing import Head
from tests.server_worker.stage import Recorder, Stage, staged

LANE_A = b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%b"
LANE_B = LANE_A.replace(b"/a", b"/b")
NO_LANE = LANE_A.replace(b"/a", b"/none")


class Grouping(Recorder):
    """Answers requests of one path together, but leaves a body of `x` to be answered alone."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[list[bytes]] = []
        self.fails = False

    def lane(self, environ: dict[str, Any]) -> str | None:
        path: str = environ["PATH_INFO"]
        return None if path == "/none" else path

    def together(self, environs: list[dict[str, Any]]) -> list[tuple[bytes, list[tuple[str, str]]] | None]:
        if self.fails:
            raise ValueError("as the test wants it")
        bodies = [environ["wsgi.input"].read() for environ in environs]
        self.groups.append(bodies)
        for environ in environs:
            environ["wsgi.input"].seek(0)
        return [
            None if body == b"x" else (b"with:" + body, [("Content-Type", "text/plain"), ("Content-Length", "6")])
            for body in bodies
        ]


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
        while stage.desk.quick.read:
            stage.turn()
        return [client.recv(1 << 16) for client in clients]


def content(*answers: bytes) -> list[bytes]:
    return [answer.partition(b"\r\n\r\n")[2] for answer in answers]


def test_what_one_turn_reads_is_answered_together_by_lane(app: Grouping, stage: Stage) -> None:
    answers = answers_in_one_turn(
        stage, LANE_A % b"1", LANE_B % b"2", LANE_A % b"3", NO_LANE % b"4", LANE_B % b"5", NO_LANE % b"6"
    )
    assert content(*answers) == [b"with:1", b"with:2", b"with:3", b"1:4", b"with:5", b"2:6"]
    assert sorted(app.groups) == [[b"1", b"3"], [b"2", b"5"]]
    assert stage.desk.stats.inline == stage.desk.stats.answered == 6


def test_one_alone_is_answered_alone(app: Grouping, stage: Stage) -> None:
    answers = answers_in_one_turn(stage, LANE_A % b"1")
    assert content(*answers) == [b"1:1"]
    assert app.groups == []


def test_what_together_leaves_is_answered_alone(app: Grouping, stage: Stage) -> None:
    answers = answers_in_one_turn(stage, LANE_A % b"1", LANE_A % b"x")
    assert content(*answers) == [b"with:1", b"1:x"]


def test_where_together_fails_each_is_answered_alone(
    app: Grouping, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    app.fails = True
    with caplog.at_level(logging.ERROR):
        answers = answers_in_one_turn(stage, LANE_A % b"1", LANE_A % b"2")
    assert content(*answers) == [b"1:1", b"2:2"]
    assert "together() failed" in caplog.text


def test_pipelined_requests_are_answered_in_order(app: Grouping, stage: Stage) -> None:
    answers = answers_in_one_turn(stage, LANE_A % b"1" + LANE_A % b"2" + LANE_A % b"3", LANE_A % b"4" + LANE_A % b"5")
    bodies = [re.findall(rb"with:.|1:.$", answer) for answer in answers]
    assert bodies == [[b"with:1", b"with:2", b"1:3"], [b"with:4", b"with:5"]]
    assert app.groups == [[b"1", b"4"], [b"2", b"5"]]


def test_one_whose_client_left_in_the_same_turn_is_nobodys_trouble(app: Grouping, stage: Stage) -> None:
    takes = stage.desk.quick.takes

    def leaves_at_once(connection: Connection, head: Head) -> bool:
        taken = takes(connection, head)
        if connection is first:
            connection.abort()
        return taken

    with stage.connect() as leaving, stage.connect() as client:
        first = next(iter(stage.loop._connections.values()))
        stage.desk.quick.takes = leaves_at_once  # type: ignore[method-assign]
        for each in (leaving, client):
            each.sendall(LANE_A % b"1")
        stage.turn()
        assert content(client.recv(1 << 16)) == [b"with:1"]
    assert stage.desk.stats.answered == stage.desk.stats.left == 1
