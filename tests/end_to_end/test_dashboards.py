"""Tests of Grafana's dashboard and the alerts with a real Prometheus that scrapes a real server.

Each query of the dashboard, each recording rule and each alert has to give a series. For an alert `x > y`, and for each
part of `x > y and v > w`, the left side `x` has to give one, because the alert itself must not fire. In the unit tests
of promtool each alert fires.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml

from tests.end_to_end.process import EXAMPLE_MODELS, ROOT, Server, free_port, serving

pytestmark = [pytest.mark.any_worker, pytest.mark.needs_program("prometheus", "promtool")]

PROMETHEUS, GRAFANA = ROOT / "deploy" / "prometheus", ROOT / "deploy" / "grafana"
DASHBOARD = json.loads((GRAFANA / "retort.json").read_text("utf-8"))
RULES = [
    rule
    for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text("utf-8"))["groups"]
    for rule in group["rules"]
]
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES = {"$__rate_interval": "10s", "$instance": ".*", "$model": ".*"}
COMPARISON = re.compile(r"\s(?:==|!=|>=|<=|>|<)\s")
WITHIN_S = 60.0
REQUESTS_ALLOWED = 3
CLIENTS = itertools.count()
MODELS = ("diabetes", "penguins")
RECORDS = {
    model: json.loads((EXAMPLE_MODELS / model / "1" / "manifest.json").read_text("utf-8"))["examples"][0]["instance"]
    for model in MODELS
}


class Prometheus:
    """A Prometheus on this machine that scrapes one server each second."""

    def __init__(self, port: int) -> None:
        self.root = f"http://127.0.0.1:{port}"

    def series(self, query: str) -> list[Any]:
        """Return the current series of a query.

        Raises:
            AssertionError: the query is wrong.
        """
        asked = urllib.parse.urlencode({"query": query})
        try:
            with urllib.request.urlopen(f"{self.root}/api/v1/query?{asked}", timeout=10) as answer:
                found: list[Any] = json.load(answer)["data"]["result"]
                return found
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{query}: {error.read().decode()}") from None

    def without_series(self, queries: dict[str, str]) -> dict[str, str]:
        return {name: query for name, query in queries.items() if not self.series(query)}


def make_traffic(server: Server) -> None:
    """Send predictions and failing requests, each from another client, and exceed the limit of one client."""

    def status(method: str, path: str, body: str = "", **headers: str) -> int:
        number = next(CLIENTS)
        headers = {"X-Forwarded-For": f"198.18.{number // 256}.{number % 256}"} | headers
        return server.ask(method, path, body, headers).status

    for model in MODELS:
        assert status("POST", f"/models/{model}/predict", json.dumps(RECORDS[model])) == 200
    assert status("POST", "/predict", "{}") == 422
    assert status("GET", "/nowhere") == 404
    assert status("POST", "/models/broken/predict", "{}") == 503
    assert status("POST", "/v2/repository/models/penguins/unload", "{}", Origin="https://app.example") == 403
    greedy = {"X-Forwarded-For": "192.0.2.7"}
    assert {status("GET", "/models", **greedy) for _ in range(REQUESTS_ALLOWED + 1)} <= {200, 429}
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/x\r\n\r\n")
        assert b" 400 " in connection.recv(1000)


def until(done: Callable[[], bool], meanwhile: Callable[[], None]) -> None:
    deadline_s = time.monotonic() + WITHIN_S
    while not done() and time.monotonic() < deadline_s:
        meanwhile()
        time.sleep(0.3)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Start two workers that run artifacts, with a version that cannot be loaded and a Redis that does not answer."""
    folder = tmp_path_factory.mktemp("watched")
    models = folder / "models"
    for model in MODELS:
        shutil.copytree(EXAMPLE_MODELS / model, models / model)
    (models / "broken" / "1").mkdir(parents=True)
    (models / "broken" / "1" / "manifest.json").write_text("{")
    settings = {
        "RETORT_MODELS_DIR": models,
        "RETORT_DEFAULT_MODEL": "penguins",
        "RETORT_RUNTIME": "artifact",
        "RETORT_LIMIT_REQUESTS": f"{REQUESTS_ALLOWED}/hour",
        "RETORT_TRUSTED_PROXIES": 1,
        "REDIS_URL": f"redis://127.0.0.1:{free_port()}",
    }
    with serving(folder, WEB_CONCURRENCY=2, RETORT_WORKER="retort", **settings) as started:
        yield started


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Prometheus]:
    """Start a Prometheus with our configuration, except for the server's address and the intervals."""
    folder, port = tmp_path_factory.mktemp("prometheus"), free_port()
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text("utf-8"))
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    config["rule_files"] = [str(PROMETHEUS / name) for name in config["rule_files"]]
    [job] = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{server.port}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), "utf-8")
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    with (folder / "said").open("wb") as said:
        started = subprocess.Popen(
            [*command, f"--web.listen-address=127.0.0.1:{port}"], stdout=said, stderr=subprocess.STDOUT
        )
    try:
        found = Prometheus(port)

        def reads() -> bool:
            assert started.poll() is None, (folder / "said").read_text("utf-8")
            with contextlib.suppress(OSError):  # it answers 503 until its storage is read
                urllib.request.urlopen(f"{found.root}/-/ready", timeout=10).close()
                return bool(found.series("up == 1"))
            return False

        until(reads, lambda: make_traffic(server))
        yield found
    finally:
        started.terminate()
        started.wait(30)


def queries_of_the_dashboard() -> dict[str, str]:
    found = {}
    for panel in PANELS:
        for target in panel["targets"]:
            query = target["expr"]
            for name, value in VARIABLES.items():
                query = query.replace(name, value)
            found[f"{panel['title']} ({target['refId']})"] = query
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            metric, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["definition"]).groups()  # type: ignore[union-attr]
            found[f"variable {variable['name']}"] = f'{metric}{{{label}!=""}}'
    return found


def left_sides(expression: str) -> list[str]:
    """Yield the left side of each comparison of an alert."""
    parts = re.split(r"\s+and\s+", expression)
    assert all(COMPARISON.search(part) for part in parts)
    return [COMPARISON.split(part, maxsplit=1)[0] for part in parts]


def test_each_query_gives_a_series(server: Server, prometheus: Prometheus) -> None:
    queries = queries_of_the_dashboard() | {f"rule {name}": name for name in RECORDED}
    for name, rule in ALERTS.items():
        queries |= {f"{name} {at}": left for at, left in enumerate(left_sides(rule["expr"]))}
    assert len(queries) > 60
    until(lambda: not prometheus.without_series(queries), lambda: make_traffic(server))
    assert prometheus.without_series(queries) == {}


def test_a_model_that_is_not_served_raises_an_alert(server: Server, prometheus: Prometheus) -> None:
    found: list[Any] = []

    def is_raised() -> bool:
        found[:] = prometheus.series('ALERTS{alertname="RetortModelNotServed"}')
        return bool(found)

    until(is_raised, lambda: None)
    [series] = found
    assert (series["metric"]["model"], series["metric"]["state"]) == ("broken", "FAILED")


def promtool(*arguments: str) -> None:
    ran = subprocess.run(["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_promtool_accepts_the_configuration_and_the_rules() -> None:
    promtool("check", "config", "--lint-fatal", "prometheus.yml")
    promtool("check", "rules", "--lint-fatal", "alerts.yml")


def test_each_alert_fires_in_its_unit_test_and_is_quiet_before() -> None:
    promtool("test", "rules", "alerts_test.yml")
    tested = {
        test["name"]: [bool(each["exp_samples"]) for each in test["promql_expr_test"]]
        for test in yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text("utf-8"))["tests"]
    }
    assert tested == {name: [False, True] for name in ALERTS}


def test_each_alert_has_a_summary_and_a_link_to_the_runbook() -> None:
    headings = {line for line in (ROOT / "docs" / "runbook.md").read_text("utf-8").splitlines() if line[:1] == "#"}
    for name, rule in ALERTS.items():
        assert rule["labels"]["severity"] in ("critical", "warning")
        assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{name.lower()}"
        assert f"### {name}" in headings


def test_the_panels_have_units_and_texts_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + dx, place["y"] + dy) for dx in range(place["w"]) for dy in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert all(panel["description"] for panel in PANELS)
    assert all(panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"] for panel in PANELS)
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)


def test_the_dashboard_finds_its_data_source() -> None:
    sources = {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]}
    assert sources == {"${datasource}"}
    for path in sorted((GRAFANA / "provisioning").rglob("*.yml")):
        assert yaml.safe_load(path.read_text("utf-8"))["apiVersion"] == 1
