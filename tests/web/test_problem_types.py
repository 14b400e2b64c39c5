"""Every type of problem has a page with its meaning, causes and remedy."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from app.gateway.problem_types import PROBLEMS
from app.settings import Settings, variable
from app.web.pages import problem_type
from tests.gateway.fakes import codes
from tests.web.stage import EmptyCatalogue, make_app

APP = Path(__file__).resolve().parents[2] / "app"
HTML = {"Accept": "text/html"}
NAME = re.compile(r"[a-z]+([-_][a-z]+)*")
TELLERS = ("CredentialsRefused", "Problem", "Refusal", "RequestRefused")
"""Functions whose argument is the name of a problem."""


@pytest.fixture
def client() -> FlaskClient:
    return make_app(EmptyCatalogue()).test_client()


def names_in(path: Path) -> set[str]:
    """Return the names of problems in a module: arguments of `TELLERS`, or values assigned to `name`."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            values = node.args if called in TELLERS else []
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "name" and "server" in path.parts:
            values = [node.value.body, node.value.orelse] if isinstance(node.value, ast.IfExp) else []
        texts = [each.value for each in values if isinstance(each, ast.Constant) and isinstance(each.value, str)]
        found |= {text.replace("_", "-") for text in texts if NAME.fullmatch(text)}
    return found


@pytest.mark.slow
def test_every_type_that_the_service_answers_with_has_an_entry() -> None:
    told = (codes() & PROBLEMS.keys()) | {"not-found", "method-not-allowed", "bad-request"}
    for path in [*(APP / "server").rglob("*.py"), *(APP / "wire").rglob("*.py"), *(APP / "gateway").rglob("*.py")]:
        told |= names_in(path)
    assert {"queue-full", "queue-wait", "deadline", "body-timeout", "head-timeout", "unready"} <= told
    assert told == PROBLEMS.keys()


@pytest.mark.slow
@pytest.mark.parametrize("name", PROBLEMS)
def test_each_is_a_page_to_a_browser_and_json_to_a_program(client: FlaskClient, name: str) -> None:
    page, document = client.get(f"/problems/{name}", headers=HTML), client.get(f"/problems/{name}")
    assert (page.status_code, page.mimetype, page.headers["Vary"]) == (200, "text/html", "Accept-Encoding, Accept")
    assert f"Status {PROBLEMS[name].status}" in page.text
    assert "What to do" in page.text
    assert document.json == PROBLEMS[name].document()
    assert document.json["type"] == f"/problems/{name}"
    assert document.json["causes"]


def test_a_type_is_described_in_words(client: FlaskClient) -> None:
    document = client.get("/problems/invalid-json").get_json()
    assert list(document) == ["type", "title", "status", "meaning", "causes", "remedy"]
    assert (document["title"], document["status"]) == ("Invalid JSON", 400)
    assert client.get("/problems/queue-full").get_json()["title"] == "Queue full"


def test_all_types_are_listed(client: FlaskClient) -> None:
    page = client.get("/problems", headers=HTML).text
    assert re.findall(r'href="./problems/([a-z-]+)"', page) == list(PROBLEMS)
    assert [each["type"] for each in client.get("/problems").get_json()["problems"]] == [
        f"/problems/{name}" for name in PROBLEMS
    ]


def test_a_status_of_http_that_a_view_answers_with_has_a_page_too(client: FlaskClient) -> None:
    answer = client.get("/problems/unauthorized")
    assert (answer.status_code, answer.get_json()["status"]) == (200, 401)
    assert problem_type("ok") is None


@pytest.mark.parametrize("name", ["unknown", "Invalid-Instances", "invalid_instances", "<b>"])
def test_an_unknown_name_is_not_found(client: FlaskClient, name: str) -> None:
    assert client.get(f"/problems/{name}", headers=HTML).status_code == 404


def test_the_settings_that_are_named_exist() -> None:
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", str(PROBLEMS)))
    settings = {variable(field.name) for field in dataclasses.fields(Settings)}
    assert {"RETORT_MAX_INSTANCES", "WEB_CONCURRENCY"} <= named
    assert named <= settings


def statuses_in(path: Path) -> set[tuple[str, int]]:
    """Return the problems and statuses of calls in a module such as `Refusal(503, "no-room", …)`."""
    found: set[tuple[str, int]] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        called = node.func if isinstance(node, ast.Call) else None
        if not isinstance(called, ast.Name | ast.Attribute) or not isinstance(node, ast.Call) or len(node.args) < 2:
            continue
        if (called.attr if isinstance(called, ast.Attribute) else called.id) in TELLERS:
            status, name = (each.value if isinstance(each, ast.Constant) else None for each in node.args[:2])
            if isinstance(status, int) and isinstance(name, str) and NAME.fullmatch(name):
                found.add((name.replace("_", "-"), status))
    return found


@pytest.mark.slow
def test_a_page_shows_the_status_that_the_service_answers_with() -> None:
    told = {(code, PROBLEMS[code].status) for code in codes() & PROBLEMS.keys()}
    first = len(told)
    for folder in ("server", "wire", "gateway"):
        for path in (APP / folder).rglob("*.py"):
            told |= statuses_in(path)
    wrong = {(name, status, PROBLEMS[name].status) for name, status in told if PROBLEMS[name].status != status}
    assert wrong == set()
    assert len(told) > first + 10
