"""Requests that share a run get their own answers: many clients ask each batched estimator at once."""

import contextlib
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import pytest

from app.errors import PackingRefused
from tests.end_to_end.process import Server, serving
from tests.sweep.packed import Packed

from .cases import RECIPES, case
from .compare import differences, notebook, rows

pytestmark = [pytest.mark.sweep, pytest.mark.server, pytest.mark.early, pytest.mark.filterwarnings("ignore")]

CLIENTS = 8


@pytest.fixture(scope="module")
def server(packed: Packed, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve all estimators with one worker, as artifacts whose requests share runs."""
    folder = tmp_path_factory.mktemp("batched")
    packed.begin(map(case, RECIPES))
    for name in RECIPES:
        with contextlib.suppress(PackingRefused):
            shutil.copytree(packed(case(name)), folder / "models", dirs_exist_ok=True)
    settings = {"RETORT_MODELS_DIR": folder / "models", "RETORT_RUNTIME": "artifact", "RETORT_BATCHING": "on"}
    settings |= {"RETORT_THREADS": CLIENTS, "RETORT_QUEUE_MAX_WAIT_MS": 20_000}  # the machine may be busy
    with serving(folder, **settings) as started:
        yield started


@pytest.mark.parametrize("name", RECIPES)
def test_concurrent_clients_get_the_answers_of_the_notebook(
    name: str, server: Server, report_batched: Callable[[str, bool], None]
) -> None:
    """Each client asks for its own rows, first one by one, then all together, at the same time as the others."""
    asked = case(name)
    if asked.unservable:
        return
    expected, values = notebook(asked.estimator, asked.frame), rows(asked.frame)
    started = threading.Barrier(CLIENTS)

    def client(number: int) -> list[str]:
        mine = range(number, len(values), CLIENTS)
        found = []
        with contextlib.closing(HTTPConnection("127.0.0.1", server.port, timeout=60)) as connection:
            started.wait(60)
            for positions in ([position] for position in mine):
                found += asks(connection, name, values, positions, expected)
            found += asks(connection, name, values, list(mine), expected)
        return found

    found = ["it did not end"]
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            found = [line for lines in pool.map(client, range(CLIENTS)) for line in lines]
    finally:
        report_batched(name, not found)
    assert not found


def asks(
    connection: HTTPConnection, name: str, values: list[Any], positions: list[int], expected: dict[str, Any]
) -> list[str]:
    """Return the differences between the answers for these rows and the notebook's."""
    body = json.dumps({"instances": [values[position] for position in positions]}, allow_nan=False)
    connection.request("POST", f"/models/{name}/predict", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    content = response.read()
    if response.status != 200:
        return [f"rows {positions}: {response.status} {content.decode()}"]
    wanted = {
        key: value if key == "classes" else [value[position] for position in positions]
        for key, value in expected.items()
    }
    return differences(wanted, json.loads(content), f"rows {positions}: ")
