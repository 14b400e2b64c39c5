"""Tests that all code that a Flask developer registers runs, under load, in every protocol and way to run requests.

Each kind of registration has its own server. The worker runs the requests in different ways: inline, in a thread,
grouped for a shared run, as a stream; one after another, over two connections and over sixty-four.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import re
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import joblib
import pytest

from app.packing import build
from app.packing.spawn import PackRequest
from app.packing.write import pack
from tests.end_to_end.halves import Halves
from tests.end_to_end.process import EXAMPLE_MODELS, WORKER, Server, serving
from tests.end_to_end.registrations import FAILING, FAILURES, INTERCEPTORS, LATER, OBSERVING, REFUSING, WRAPPED

pytestmark = pytest.mark.early

CONNECTIONS = (1, 2, 64)
REQUESTS = {1: 6, 2: 12, 64: 64}
"""Number of requests of each way, by the number of connections that share them."""
ROW = [5.1, 3.5]
JSON, NDJSON = "application/json", "application/x-ndjson"
TENSOR = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": ROW}]}
WAYS: dict[str, tuple[str, str, bytes]] = {
    "inline": ("/predict", JSON, json.dumps({"instances": [ROW]}).encode()),
    "threaded": ("/models/iris-two/predict", JSON, json.dumps({"instances": [ROW] * 1000}).encode()),
    "a version": ("/models/iris-two/versions/1/predict", JSON, json.dumps([ROW]).encode()),
    "batched": ("/models/halves/predict", JSON, json.dumps({"instances": [ROW]}).encode()),
    "stream": ("/models/iris-two/predict", NDJSON, b"[5.1, 3.5]\n" * 700),
    "Open Inference": ("/v2/models/iris-two/infer", JSON, json.dumps(TENSOR).encode()),
    "TensorFlow Serving": ("/v1/models/iris-two:predict", JSON, json.dumps({"instances": [ROW]}).encode()),
    "invocations": ("/invocations", JSON, json.dumps({"instances": [ROW]}).encode()),
    "Vertex AI": ("/v1/endpoints/1/deployedModels/2:predict", JSON, json.dumps({"instances": [ROW]}).encode()),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with a graph, and with an artifact whose requests share runs."""
    folder = tmp_path_factory.mktemp("registrations")
    shutil.copytree(EXAMPLE_MODELS / "iris-two", folder / "models" / "iris-two")
    joblib.dump(Halves(), folder / "halves.joblib")
    with pytest.MonkeyPatch.context() as patch:
        # With a direct call, every server would import scikit-learn.
        patch.setattr(build, "direct_servable", lambda *_: None)
        pack(PackRequest(str(folder / "halves.joblib"), "halves", str(folder / "models"), graph_limit_bytes=0))
    return folder / "models"


@contextlib.contextmanager
def serving_with(kind: str, models: Path, folder: Path) -> Iterator[Server]:
    """Serve the application with one registration."""
    command = ["gunicorn", "--config", "python:app.gunicorn_conf", "tests.end_to_end.registered:app"]
    settings = {"RETORT_DEFAULT_MODEL": "iris-two", "RETORT_BATCHING": "on", "RETORT_ACCESS_LOG": "off"}
    settings |= {"RETORT_QUEUE_REQUESTS": "1000", "RETORT_QUEUE_MAX_WAIT_MS": "20000", "KIND": kind}
    with serving(folder, command, until="/seen", RETORT_MODELS_DIR=models, **settings) as server:
        yield server


@pytest.fixture(params=[*REFUSING, *WRAPPED, *INTERCEPTORS, *OBSERVING])
def registered(request: pytest.FixtureRequest, models: Path, tmp_path: Path) -> Iterator[tuple[str, Server]]:
    kind: str = request.param
    with serving_with(kind, models, tmp_path) as server:
        yield kind, server


async def ask(server: Server, requests: Iterator[tuple[bytes, str]], answers: dict[str, int]) -> None:
    """Send all requests over one connection, and record the status of each."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    for content, request_id in requests:
        writer.write(content)
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        assert head.lower().count("x-marked: yes") == 1, head
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if line)
        if fields.get("transfer-encoding") == "chunked":
            while size := int(await reader.readline(), 16):
                await reader.readexactly(size + 2)
            await reader.readline()
        else:
            await reader.readexactly(int(fields["content-length"]))
        answers[request_id] = int(head.split()[1])
        if fields.get("connection") == "close":
            writer.close()
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.close()


async def ask_all(server: Server, connections: int, refuses: bool) -> tuple[dict[str, int], set[str]]:
    """Return the status of each request by its id, and the ids of those that pass."""
    numbers, passing, requests = itertools.count(), set[str](), []
    for name, (path, content_type, body) in WAYS.items():
        for _ in range(REQUESTS[connections]):
            request_id = f"{name.replace(' ', '-')}.{connections}.{next(numbers)}"
            passes = not refuses or next(numbers) % 4 == 3
            if passes:
                passing.add(request_id)
            fields = f"X-Pass: {'yes' if passes else 'no'}\r\nX-Forwarded-For: 10.1.1.{1 if passes else 2}\r\n"
            head = f"POST {path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: {request_id}\r\n{fields}"
            head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
            requests.append((head.encode() + body, request_id))
    answers: dict[str, int] = {}
    shared = iter(requests)
    async with asyncio.timeout(60):
        await asyncio.gather(*(ask(server, shared, answers) for _ in range(connections)))
    return answers, passing


def seen_by(server: Server) -> dict[str, int]:
    headers = {"X-Pass": "yes", "X-Request-ID": "seen", "X-Forwarded-For": "10.1.1.1"}
    seen: dict[str, int] = server.ask("GET", "/seen", headers=headers).document
    return seen


def test_every_request_is_seen_once_and_none_is_answered_that_was_refused(registered: tuple[str, Server]) -> None:
    kind, server = registered
    refuses = kind not in OBSERVING
    if kind.startswith("Flask-Limiter"):  # all that do not pass are one client, which has used its one request
        _ask_once(server)
    if kind in LATER:
        _ask_once(server)
        headers = {"X-Request-ID": "register"}
        assert server.ask("GET", "/register", headers=headers).content == b"registered"
    for connections in CONNECTIONS:
        answers, passing = asyncio.run(ask_all(server, connections, refuses))
        assert Counter(answers[one] for one in passing) == {200: len(passing)}
        assert {answers[one] for one in answers.keys() - passing} <= {401, 429}
        seen = seen_by(server)
        # Flask-Limiter may ask for the key of a request several times, or never.
        if kind != "an error handler" and not kind.startswith("Flask-Limiter"):
            assert {one: seen.get(one, 0) for one in answers} == dict.fromkeys(answers, 1)
        assert not [one for one in seen if one.endswith("event loop")]
    if kind == "an error handler":
        bad = server.ask("POST", "/predict", '{"feature1": "x", "feature2": 1}', {"X-Request-ID": "bad"})
        assert (bad.status, bad.content, seen_by(server)["bad"]) == (418, b"mine", 1)
    if WORKER == "retort" and kind != "an interceptor":
        assert "predictions go through Flask" in server.output or kind == "an interceptor that may block"


def _ask_once(server: Server) -> Any:
    path, content_type, body = WAYS["inline"]
    for path, content_type, body in WAYS.values():
        server.ask("POST", path, body, {"Content-Type": content_type, "X-Request-ID": "first"})


def test_with_nothing_registered_predictions_go_past_flask(models: Path, tmp_path: Path) -> None:
    settings = {"RETORT_MODELS_DIR": models, "RETORT_DEFAULT_MODEL": "iris-two"}
    with serving(tmp_path, **settings) as server:
        assert server.ask("POST", *WAYS["inline"][::2], {"Content-Type": JSON}).status == 200
        assert "go through Flask" not in server.output


@pytest.mark.parametrize("kind", FAILING)
def test_a_middleware_that_fails_is_a_500_without_details(kind: str, models: Path, tmp_path: Path) -> None:
    path, content_type, body = WAYS["inline"]
    with serving_with(kind, models, tmp_path) as server:
        for how in FAILURES:
            headers = {"Content-Type": content_type, "X-Request-ID": f"it-fails-{how[:2]}", "X-Fail": how}
            answer = server.ask("POST", path, body, headers)
            assert (answer.status, answer.headers["Content-Type"]) == (500, "application/problem+json")
            assert answer.document["request_id"] == answer.headers["X-Request-ID"] == headers["X-Request-ID"]
            assert answer.headers["X-Marked"] == "yes"
            assert b"secret" not in answer.content
        assert server.ask("POST", path, body, {"Content-Type": content_type}).status == 200
        counted = server.ask("GET", "/metrics").content.decode()
        # Two fail before the interceptors see a response. In the others they see the first response, which was never
        # sent.
        assert re.search(r'retort_responses_total{.*status="500"} 2.0', counted), counted
