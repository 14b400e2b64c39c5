"""API keys with the real worker: every request needs a valid key, however it is sent and run.

The matrix is every URL with every kind of wrong credentials, over one connection and over sixty-four; and each way to
run a prediction. Valid requests between them have to pass.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import pytest
from sqlalchemy import make_url

from app import create_app
from app.packing import build
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.settings import Settings
from app.storage.key_store import KeyStore
from app.storage.keys import ended, make_key
from app.wire.application import Application
from tests.end_to_end.halves import Halves
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, WORKER, Server, environment, free_port, serving, web_line

REQUESTS = {1: 3_000, 64: 100_000} if WORKER == "retort" else {1: 1_000, 64: 2_000}
"""Number of requests without a valid key, by the number of connections that share them."""
PIPELINED = 60
"""Number of requests that a connection sends at once."""
ROW = [5.1, 3.5]
JSON, NDJSON = "application/json", "application/x-ndjson"
ROWS = json.dumps({"instances": [ROW]}).encode()
TENSOR = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP64", "data": ROW}]}
WAYS: dict[str, tuple[str, str, bytes]] = {
    "inline": ("/predict", JSON, ROWS),
    "threaded": ("/models/iris-two/predict", JSON, json.dumps({"instances": [ROW] * 1000}).encode()),
    "batched": ("/models/halves/predict", JSON, ROWS),
    "stream": ("/models/iris-two/predict", NDJSON, b"[5.1, 3.5]\n" * 700),
    "coroutine": ("/models/noted/predict", JSON, ROWS),
    "Open Inference": ("/v2/models/iris-two/infer", JSON, json.dumps(TENSOR).encode()),
}
STEPS = """
from app import step

@step("note")
async def note(outputs):
    pass
"""
IN_A_ROW = 12
"""This many equal answers, each over a new connection, come from both workers."""
HELD_WITHIN_S = 30.0


class Keys:
    """The keys of these tests, in a database of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = KeyStore(make_url(f"sqlite:///{folder}/retort.db"))
        self.all = self.make(("predict", "admin", "metrics"))
        self.metrics = self.make(("metrics",))
        self.predict = self.make(("predict",))
        self.other_model = self.make(("predict", "admin", "metrics"), ["nobody"])
        self.revoked = self.make(("predict", "admin", "metrics"), revoked=True)
        self.expired = self.make(("predict", "admin", "metrics"), expired=True)

    def make(
        self,
        scopes: Sequence[str],
        models: Sequence[str] | None = None,
        *,
        revoked: bool = False,
        expired: bool = False,
    ) -> str:
        key, stored = make_key("test", scopes, models)
        stored = ended(stored) if revoked else stored
        self.store.add(replace(stored, expires_at=stored.created_at - 1) if expired else stored)
        return key

    def revoke(self, key: str) -> None:
        self.store.change(ended(self.store.key(key.split("_")[1])))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a repository with a graph, an artifact whose requests share runs, and a model with an async step."""
    folder = tmp_path_factory.mktemp("keys")
    (folder / "noting_steps.py").write_text(STEPS)
    shutil.copytree(EXAMPLE_MODELS / "iris-two", folder / "models" / "iris-two")
    joblib.dump(Halves(), folder / "halves.joblib")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build, "direct_servable", lambda *_: None)
        for name, after in (("halves", ()), ("noted", ("note",))):
            artifact = str(folder / "halves.joblib")
            pack(PackRequest(artifact, name, str(folder / "models"), graph_limit_bytes=0, after=after))
    return folder / "models"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Keys]:
    made = Keys(tmp_path_factory.mktemp("instance"))
    yield made
    made.store.close()


@pytest.fixture(scope="module")
def keyed(models: Path, keys: Keys, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    settings = {"RETORT_DEFAULT_MODEL": "iris-two", "RETORT_BATCHING": "on", "RETORT_ACCESS_LOG": "off"}
    settings |= {"RETORT_QUEUE_REQUESTS": "1000", "RETORT_QUEUE_MAX_WAIT_MS": "20000"}
    settings |= {"RETORT_STEPS": "noting_steps", "PYTHONPATH": str(models.parent)}
    folder = tmp_path_factory.mktemp("keyed")
    with serving(
        folder,
        until="/readyz",
        RETORT_MODELS_DIR=models,
        RETORT_INSTANCE_DIR=keys.folder,
        WEB_CONCURRENCY=2,
        **settings,
    ) as server:
        yield server


@dataclass(frozen=True)
class Cell:
    """One request of the matrix, and the statuses that are right for it."""

    name: str
    content: bytes
    right: frozenset[int]


def request(method: str, path: str, fields: bytes, content_type: str = JSON, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + fields + b"\r\n" + body


def bearer(key: str) -> bytes:
    return f"Authorization: Bearer {key}\r\n".encode()


def paths(app: Application) -> Iterator[tuple[str, str, str | None, bool]]:
    """Yield method, path, required scope and whether the path names a model, for every rule of the URL map."""
    values = {"model": "iris-two", "version": "1", "name": "queue-full", "verb": "predict", "filename": "copy.js"}
    for rule in app.url_map.iter_rules():
        path = re.sub(r"<(?:[^<>:]+:)?(\w+)>", lambda match: values.get(match[1], "site"), rule.rule)
        for method in sorted(rule.methods or ()):
            match = app.gateway._router.match({"REQUEST_METHOD": method, "PATH_INFO": path})
            yield method, path, match.access.needed_scope, match.access.asked_model is not None


def cells(keys: Keys) -> list[Cell]:
    """Return every URL and every way to predict, with every kind of credentials that must not pass."""
    wrong = keys.all[:-1] + ("A" if keys.all[-1] != "A" else "B")
    refused = {
        "none": b"",
        "wrong": bearer(wrong),
        "revoked": bearer(keys.revoked),
        "expired": f"X-API-Key: {keys.expired}\r\n".encode(),
        "two headers": bearer(keys.all) + f"X-API-Key: {keys.predict}\r\n".encode(),
        "two fields": bearer(keys.all) + bearer(keys.predict),
        "not ASCII": bearer(wrong)[:-2] + b"\xe9\xff\r\n",
        "another scheme": f"Authorization: Token {keys.all}\r\n".encode(),
    }
    given = f"?key={keys.all}&api_key={keys.all}&access_token={keys.all}"
    app = create_app(Settings())
    asked = [(*each, JSON, ROWS if each[0] == "POST" else b"") for each in paths(app)]
    asked += [("POST", path, "predict", True, content_type, body) for path, content_type, body in WAYS.values()]
    found = []
    for method, path, scope, is_of_model, content_type, body in asked:
        right = {401} if scope else {200, 204, 404}
        for name, fields in refused.items():
            sent = request(method, path, fields, content_type, body)
            found.append(Cell(f"{method} {path} {name}", sent, frozenset(right)))
        found.append(
            Cell(f"{method} {path} query", request(method, path + given, b"", content_type, body), frozenset(right))
        )
        if scope:
            lacking = bearer(keys.metrics if scope == "predict" else keys.predict)
            sent = request(method, path, lacking, content_type, body)
            found.append(Cell(f"{method} {path} wrong scope", sent, frozenset({403})))
        if is_of_model:
            sent = request(method, path, bearer(keys.other_model), content_type, body)
            found.append(Cell(f"{method} {path} wrong model", sent, frozenset({403})))
    return found


def valid(keys: Keys) -> list[Cell]:
    return [
        Cell(f"valid {name}", request("POST", path, bearer(keys.all), content_type, body), frozenset({200}))
        for name, (path, content_type, body) in WAYS.items()
    ]


async def ask(port: int, batches: Iterator[Sequence[Cell]], wrong: Counter[str], statuses: Counter[int]) -> None:
    """Send batches over one connection, several requests at once, and count the answers that are not right."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for batch in batches:
        writer.write(b"".join(cell.content for cell in batch))
        content, found = b"", list[int]()
        while len(found) < len(batch):
            more = await reader.read(2**18)
            assert more, f"the connection ended after {len(found)} of {len(batch)} answers: {content[-500:]!r}"
            content += more
            found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", content)]
        for cell, status in zip(batch, found, strict=True):
            statuses[status] += 1
            if status not in cell.right:
                wrong[f"{cell.name}: {status}"] += 1
    writer.close()


@pytest.mark.parametrize("connections", REQUESTS)
@pytest.mark.fault("X07")
def test_no_request_passes_without_a_valid_key(keyed: Server, keys: Keys, connections: int) -> None:
    refused, passing = cells(keys), valid(keys)
    endless = itertools.cycle(refused)
    wrong, statuses = Counter[str](), Counter[int]()
    batches = (
        [*itertools.islice(endless, PIPELINED - 1), passing[number % len(passing)]]
        for number in range(max(len(refused), REQUESTS[connections]) // (PIPELINED - 1) + 1)
    )

    async def ask_all() -> None:
        async with asyncio.timeout(120):
            await asyncio.gather(*(ask(keyed.port, batches, wrong, statuses) for _ in range(connections)))

    asyncio.run(ask_all())
    assert wrong == {}
    assert statuses[401] + statuses[403] > 0.7 * REQUESTS[connections]


@pytest.mark.own_worker("Gunicorn's own worker has one way")
def test_valid_requests_ran_in_every_way(keyed: Server, keys: Keys) -> None:
    for path, content_type, body in WAYS.values():
        sent = {"X-API-Key": keys.all, "Content-Type": content_type}
        assert keyed.ask("POST", path, body, sent).status == 200
    deadline_s, runs = time.monotonic() + HELD_WITHIN_S, dict[str, str]()
    while not all(int(runs.get(way, 0)) for way in ("inline", "threaded", "awaited")):
        assert time.monotonic() < deadline_s, runs
        counted = keyed.ask("GET", "/metrics", headers={"X-API-Key": keys.metrics}).content.decode()
        runs = dict(re.findall(r'retort_requests_total\{way="(\w+)"\} (\d+)', counted))
        time.sleep(0.05)


@pytest.mark.own_worker("Gunicorn's own worker takes headers of this length")
@pytest.mark.fault("X07")
def test_a_key_of_10_kb_is_refused_on_every_path(keyed: Server) -> None:
    app = create_app(Settings())
    for method, path, _, _ in paths(app):
        assert keyed.ask(method, path, headers={"Authorization": "Bearer " + "a" * 10_000}).status == 431, path


def until(server: Server, key: str, status: int) -> None:
    """Wait until every worker answers with this status."""
    deadline_s, in_a_row = time.monotonic() + HELD_WITHIN_S, 0
    while in_a_row < IN_A_ROW:
        assert time.monotonic() < deadline_s, f"{status} does not hold in every worker: {server.output[-2000:]}"
        answer = server.ask("POST", "/predict", ROWS, {"X-API-Key": key, "Content-Type": JSON})
        in_a_row = in_a_row + 1 if answer.status == status else 0
        if not in_a_row:
            time.sleep(0.05)


@pytest.mark.any_worker
@pytest.mark.fault("S05")
def test_keys_hold_in_all_workers_and_the_last_known_ones_without_a_database(keys: Keys, tmp_path: Path) -> None:
    settings = {"RETORT_DEFAULT_MODEL": "iris-two", "RETORT_MODELS_DIR": EXAMPLE_MODELS, "RETORT_KEYS_GRACE_S": 5}
    database = keys.folder / "retort.db"
    with serving(tmp_path, until="/readyz", RETORT_INSTANCE_DIR=keys.folder, WEB_CONCURRENCY=2, **settings) as server:
        opened = [str(each.readlink()) for each in Path(f"/proc/{server.process.pid}/fd").iterdir()]
        assert not any("retort.db" in each for each in opened)  # the master has closed it before the fork
        key = keys.make(("predict",))
        until(server, key, 200)
        keys.revoke(key)
        until(server, key, 401)
        database.rename(keys.folder / "elsewhere.db")
        until(server, keys.all, 200)
        until(server, keys.all, 503)
        refused = server.ask("POST", "/predict", ROWS, {"X-API-Key": keys.all})
        assert refused.document["type"] == "/problems/keys-unavailable"
        assert refused.headers["Retry-After"] == "5"
        assert server.ask("GET", "/livez").status == 200
        (keys.folder / "elsewhere.db").rename(database)
        until(server, keys.all, 200)
        said = server.output
    assert said.count("the API keys cannot be read, and the last known ones hold") == 2  # once in each worker
    assert [each for each in (key, keys.all) if each[-43:] in said] == []


@pytest.mark.any_worker
@pytest.mark.parametrize(
    "settings", [{"HOST": "0.0.0.0"}, {"GUNICORN_CMD_ARGS": "--bind 0.0.0.0:0"}, {"HOST": "::"}], ids=str
)
@pytest.mark.fault("X05")
def test_a_server_that_others_reach_does_not_start_without_a_key(settings: dict[str, str], tmp_path: Path) -> None:
    variables = environment(RETORT_MODELS_DIR=tmp_path, PORT=free_port(), **settings)
    ended_at_once = subprocess.run(
        ["sh", "-c", f"exec {web_line()}"], cwd=ROOT, env=variables, capture_output=True, text=True, check=False
    )
    assert ended_at_once.returncode != 0
    [line] = [line for line in ended_at_once.stderr.splitlines() if line.startswith("retort: ")]
    assert "there is no API key: make one with `flask keys create --name NAME --scope predict`" in line
    assert "RETORT_PUBLIC=1" in line
