"""What the worker tells its application."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from app.server.worker import _observe
from tests.server_worker.seams import SeamedApp
from tests.server_worker.served import worker_server

APPLICATION = """
import json, pathlib
told = pathlib.Path(__file__).with_name("told")


def app(environ, start_response):
    start_response("200 OK", [])
    return [b""]


app.observe = lambda snapshot: told.open("a").write(json.dumps(snapshot) + "\\n")
"""


@pytest.mark.server
@pytest.mark.own_worker("it tells nobody what it does")
def test_an_application_is_told_every_second_and_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "observing.py").write_text(APPLICATION)
    with worker_server(tmp_path, application="observing:app", chdir=str(tmp_path)) as server:
        server.ask("GET", "/")
        server.process.terminate()
        assert server.process.wait(10) == 0
    told = [json.loads(line) for line in (tmp_path / "told").read_text().splitlines()]
    assert told[0]["accepted"] == 0
    assert told[-1]["accepted"] >= 2
    assert told[-1]["connections"].keys() == told[0]["connections"].keys()


def test_one_that_fails_at_it_is_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    class Failing:
        def observe(self, snapshot: dict[str, object]) -> None:
            raise OSError("no room")

    with caplog.at_level(logging.ERROR):
        _observe(SeamedApp(Failing()))
    assert [record.getMessage() for record in caplog.records] == [
        "the application failed to publish the numbers of its worker"
    ]
