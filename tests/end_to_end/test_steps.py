"""Tests of the examples with steps behind a server: a database, and two services at once."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from app.packing.spawn import PackRequest
from app.packing.write import pack
from tests.end_to_end.process import ROOT, Server, environment, free_port, serving

pytestmark = pytest.mark.server

AT_ONCE = 40
GIVES_UP_S = 20.0


class Stations(ThreadingHTTPServer):
    """Both services. They answer only when as many requests wait as a test expects at once."""

    request_queue_size = 256

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Station)
        self._changed = threading.Condition()
        self.expect(1)

    def expect(self, at_once: int) -> None:
        self._missing = at_once

    def come_together(self) -> bool:
        with self._changed:
            self._missing -= 1
            self._changed.notify_all()
            return self._changed.wait_for(lambda: self._missing <= 0, GIVES_UP_S)


class Station(BaseHTTPRequestHandler):
    """One request for each connection."""

    server: Stations

    def do_GET(self) -> None:
        body = json.dumps({"temperature": 20.0, "parked": 5.0}).encode()
        self.send_response(200 if self.server.come_together() else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None: ...


@pytest.fixture(scope="module")
def services() -> Iterator[Stations]:
    with Stations() as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield listening
        finally:
            listening.shutdown()
            thread.join()


def trained(example: str, model: str, target: str, step: str, folder: Path) -> Path:
    script = ROOT / "examples" / example / "train.py"
    subprocess.run([sys.executable, str(script), str(folder)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    models = folder / "models"
    artifact, sample = folder / f"{model}.joblib", folder / f"{model}.csv"
    pack(PackRequest(str(artifact), model, str(models), str(sample), target, before=(step,)))
    return models


def shown(model: str) -> tuple[str, Any]:
    """Return a model's request in examples/README.md, and the answer shown there."""
    text = (ROOT / "examples" / "README.md").read_text("utf-8")
    for body, answer in re.findall(r"curl \S+ -d '(.*?)'\n```\n\n```json\n(.*?)```", text, re.DOTALL):
        if json.loads(answer)["model"] == model:
            return body, json.loads(answer)
    raise AssertionError(f"it does not ask {model}")


@contextlib.contextmanager
def stub() -> Iterator[tuple[str, str]]:
    """Return the URLs of both services, which the example's own stub provides."""
    ports = [free_port(), free_port()]
    script = ROOT / "examples" / "two_services" / "stub.py"
    process = subprocess.Popen([sys.executable, str(script), *map(str, ports)], env=environment())
    try:
        for port in ports:
            until = time.monotonic() + 30
            while time.monotonic() < until:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                    break
                time.sleep(0.05)
        yield f"http://localhost:{ports[0]}", f"http://localhost:{ports[1]}"
    finally:
        process.kill()
        process.wait()


def found_in(example: str) -> dict[str, str]:
    return {"PYTHONPATH": str(ROOT / "examples" / example)}


@pytest.fixture(scope="module")
def customers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("customers")
    models = trained("customers", "loans", "default", "customer", folder)
    settings = {"RETORT_STEPS": "customer_steps", "DATABASE_URL": f"sqlite:///{folder}/customers.db"}
    with serving(folder, RETORT_MODELS_DIR=models, **settings, **found_in("customers")) as started:
        yield started


@pytest.fixture(scope="module")
def stations(services: Stations, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("stations")
    models = trained("two_services", "bikes", "bikes", "station", folder)
    url = f"http://127.0.0.1:{services.server_port}"
    settings = {"RETORT_STEPS": "station_steps", "WEATHER_URL": url, "PARKING_URL": url, "RETORT_THREADS": 2}
    with serving(folder, RETORT_MODELS_DIR=models, **settings, **found_in("two_services")) as started:
        yield started


def test_features_from_a_database(customers: Server) -> None:
    answer = customers.ask("POST", "/predict", '{"instances": [[7, 60000], [8, 1000]]}')
    assert answer.document["prediction"] == [True, False]
    unknown = customers.ask("POST", "/predict", '{"customer_id": 7000, "amount": 1000}')
    assert unknown.status == 422
    assert unknown.document["errors"] == [{"pointer": "#/customer_id", "detail": "is no customer"}]
    assert customers.ask("GET", "/readyz").status == 200
    body, answered = shown("loans")
    assert customers.ask("POST", "/predict", body).document["prediction"] == answered["prediction"]


def test_two_services_are_asked_at_once_for_each_instance(stations: Server, services: Stations) -> None:
    services.expect(4)
    answer = stations.ask("POST", "/predict", '{"instances": [["north", 12], ["south", 13]]}')
    assert answer.document["prediction"] == pytest.approx([67, 68])


@pytest.mark.own_worker("it has as many threads as are set, and requests that wait take them")
def test_requests_that_wait_take_no_threads_from_others(stations: Server, services: Stations) -> None:
    """Two threads and forty waiting requests: all are answered together, and none is refused."""
    services.expect(2 * AT_ONCE)
    with ThreadPoolExecutor(AT_ONCE) as clients:
        asked = [
            clients.submit(stations.ask, "POST", "/predict", '{"station": "a", "hour": 1}') for _ in range(AT_ONCE)
        ]
        described = stations.ask("GET", "/models")
        statuses = {each.result().status for each in asked}
    assert described.status == 200
    assert statuses == {200}


def test_the_example_answers_as_shown_and_ends_cleanly(tmp_path: Path) -> None:
    models = trained("two_services", "bikes", "bikes", "station", tmp_path)
    with stub() as (weather, parking):
        settings = {"RETORT_STEPS": "station_steps", "WEATHER_URL": weather, "PARKING_URL": parking}
        with serving(tmp_path, RETORT_MODELS_DIR=models, **settings, **found_in("two_services")) as started:
            body, answered = shown("bikes")
            answer = started.ask("POST", "/predict", body)
            assert answer.document["prediction"] == pytest.approx(answered["prediction"])
            assert started.stop() == 0
            assert "Traceback" not in started.output
            assert "Error" not in started.output


def test_a_module_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    refused = pytest.raises(AssertionError, match="RETORT_STEPS='no_such_steps' cannot be imported")
    with refused, serving(tmp_path, RETORT_STEPS="no_such_steps"):
        pass
