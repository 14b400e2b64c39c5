"""Tests of the worker's calls of its application."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
from pathlib import Path

import pytest

from app.server.request_hooks import call_logged
from app.server.worker import lacks_descriptors
from tests.server.served import worker_server

APPLICATION = """
import json, pathlib
from tests.server.serving import Serving

TOLD = pathlib.Path(__file__).with_name("told")


class Observing(Serving):
    def started(self, snapshot):
        self.snapshot = snapshot

    def observe(self):
        with TOLD.open("a") as told:
            told.write(json.dumps(self.snapshot()) + "\\n")

    def draining(self):
        with TOLD.open("a") as told:
            told.write('"draining"\\n')

    def __call__(self, environ, start_response):
        start_response("200 OK", [])
        return [b""]


app = Observing()
"""


@pytest.mark.server
@pytest.mark.own_worker("it tells nobody what it does")
def test_observe_is_called_every_second_and_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "observing.py").write_text(APPLICATION)
    with worker_server(tmp_path, application="observing:app", chdir=str(tmp_path)) as server:
        server.ask("GET", "/")
        server.process.terminate()
        assert server.process.wait(60) == 0
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert told[0]["accepted"] == 0
    assert told[-1]["accepted"] >= 2
    assert told[-1]["connections"].keys() == told[0]["connections"].keys()
    assert told.count("draining") == 1


def test_a_failing_observe_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    def observe() -> None:
        raise OSError("as the test wants it")

    with caplog.at_level(logging.ERROR):
        call_logged("the application's observe()", observe)
    assert [record.getMessage() for record in caplog.records] == ["the application's observe() failed"]


@pytest.mark.parametrize(("connections", "free", "lacks"), [(10, 20, False), (10, 3, True), (60, 3, False)])
def test_a_worker_lacks_descriptors_if_others_than_connections_take_them(
    connections: int, free: int, lacks: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[int] = []
    closed: list[int] = []

    def dup(descriptor: int) -> int:
        if len(opened) == free:
            raise OSError(errno.EMFILE, "too many")
        opened.append(1000 + len(opened))
        return opened[-1]

    monkeypatch.setattr(resource, "getrlimit", lambda kind: (100, 100))
    monkeypatch.setattr(os, "dup", dup)
    monkeypatch.setattr(os, "close", closed.append)
    assert lacks_descriptors(0, connections) is lacks
    assert closed == opened
