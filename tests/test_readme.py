"""README holds: its commands are run, its answers compared, its tables checked against the application."""

from __future__ import annotations

import asyncio
import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import joblib
import pandas as pd
import pytest
import sqlalchemy
from flask import Flask
from playwright.sync_api import Browser
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from app.core.steps import Refused, found_in
from app.factory import create_app
from app.gateway.errors import STATUS
from app.runtime.proving import same
from app.settings import Settings, table
from tests.server.process import ROOT, Server, environment, serving
from tests.web.stage import serving as serving_here

README = (ROOT / "README.md").read_text("utf-8")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NOT_RUN = ("git ",)


@dataclass(frozen=True)
class Block:
    language: str
    text: str


BLOCKS = [Block(*found) for found in BLOCK.findall(README)]
CURLS = [
    (block.text, BLOCKS[position + 1])
    for position, block in enumerate(BLOCKS)
    if block.language == "sh" and block.text.startswith("curl ")
]


def blocks(language: str) -> list[str]:
    return [block.text for block in BLOCKS if block.language == language]


def section(title: str) -> str:
    found = re.search(rf"^## {re.escape(title)}\n(.*?)(?=^## |\Z)", README, re.MULTILINE | re.DOTALL)
    assert found, f"there is no section {title!r}"
    return found[1]


def rows(title: str) -> list[list[str]]:
    """The rows of the table in a section, without its heading."""
    lines = [line for line in section(title).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# -- what can be read off it


def test_it_is_for_everyone() -> None:
    """No path of one machine, nothing beyond the repository, no secret of ours."""
    assert not re.search(r"\.\./|/work|/home|/root|/tmp|shared/", README)


def test_every_file_that_it_links_is_there() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_settings_are_those_of_the_application() -> None:
    lines = table(Settings(), {})
    expected = [[f"`{s.env}`", f"`{s.default}`" if s.default else "", s.unit, s.prose] for s in lines]
    written = "\n".join(f"| {' | '.join(row)} |".replace("|  |", "| |") for row in expected)
    assert rows("Settings") == expected, f"the table in README must be:\n{written}"


def test_the_paths_are_those_of_the_application() -> None:
    served = set()
    for rule in create_app(Settings()).url_map.iter_rules():
        if rule.rule.startswith("/v2"):  # one line says what there is
            continue
        place = re.sub(r"<\w+:(\w+)>", r"<\1>", rule.rule)
        served |= {f"`{method} {place}`" for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}}
    told = [row for row in (*rows("HTTP"), *rows("Protocols of other servers")) if row[0] != "`/v2/…`"]
    assert {row[0] for row in told} == {path for path in served if "/static/" not in path}


def test_the_statuses_are_those_of_the_application() -> None:
    told = {int(row[0]) for row in rows("When the input is bad")}
    # 405 is Flask's, 429 the worker class's.
    assert told == {int(status) for status in STATUS.values()} | {405, 429}


def test_the_map_is_whole() -> None:
    rooms = {
        path.name + "/" * path.is_dir() for path in (ROOT / "app").iterdir() if not path.name.startswith(("_", "."))
    }
    assert {row[0].strip("`") for row in rows("Map of `app/`")} == rooms - {"py.typed"}


def test_the_estimators_are_those_of_the_sweep() -> None:
    from tests.sweep.cases import UNSERVABLE

    assert rows("Estimators") == [[f"`{name}`", why] for name, why in UNSERVABLE.items()]


def test_make_has_the_commands() -> None:
    listed = subprocess.run(["make", "help"], cwd=ROOT, env=environment(), capture_output=True, text=True, check=True)
    targets = set(re.findall(r"^make (\w+)\t", listed.stdout, re.MULTILINE)) | {"help"}
    assert set(re.findall(r"\bmake ([a-z]+)\b(?= |`|\n|$)", "\n".join(blocks("sh")))) <= targets
    assert set(re.findall(r"`make ([a-z]+)", README)) <= targets


def test_flask_has_the_commands() -> None:
    app = create_app(Settings())
    known = set(app.cli.commands["models"].commands)  # type: ignore[attr-defined]
    assert set(re.findall(r"flask models (\w+)", README)) <= known
    assert {"list", "show", "verify", "remove", "add"} <= known
    assert "settings" in app.cli.commands


def test_the_oldest_python_is_the_one_that_is_required() -> None:
    cfg = configparser.ConfigParser(interpolation=None)
    cfg.read(ROOT / "setup.cfg", encoding="utf-8")
    assert f"Python {cfg['options']['python_requires'].removeprefix('>=')} or newer" in README


def test_every_block_is_of_a_kind_that_is_tried() -> None:
    assert {block.language for block in BLOCKS} == {"sh", "json", "python", "js", "nginx"}
    assert len(CURLS) == len(blocks("json"))
    assert all(answer.language == "json" for _, answer in CURLS)
    for line in "".join(block for block in blocks("sh") if not block.startswith("curl ")).splitlines():
        command = re.sub(r"^([A-Z_]+=\S+ )+", "", line)
        assert command.startswith(("make ", ".venv/bin/flask ", *NOT_RUN)), line


def test_the_steps_are_steps() -> None:
    module = ModuleType("my_steps")
    exec(blocks("python")[1], vars(module))
    found = found_in(module)
    assert set(found.steps) == {"enrich", "scale"}
    assert found.steps["scale"].function({"probabilities": [[0.25, 0.75]]}, []) == {
        "probabilities": [[0.25, 0.75]],
        "score": [750],
    }


def test_the_first_step_asks_once_and_refuses_whom_it_does_not_find() -> None:
    module = ModuleType("my_steps")
    exec(blocks("python")[1], vars(module))
    engine = sqlalchemy.create_engine("sqlite://")
    asked: list[str] = []
    sqlalchemy.event.listen(engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))
    with Session(engine) as session:
        session.execute(sqlalchemy.text("create table customers (id integer, income real, age real)"))
        session.execute(sqlalchemy.text("insert into customers values (1, 10.0, 30.0), (2, 20.0, 40.0)"))
        asked.clear()
        instances = [{"customer_id": 2}, {"customer_id": 1}, {"customer_id": 2}]
        module.enrich(instances, session)
        assert [each["age"] for each in instances] == [40.0, 30.0, 40.0]
        assert len(asked) == 1
        with pytest.raises(Refused) as refused:
            module.enrich([{"customer_id": 1}, {"customer_id": 3}], session)
    assert refused.value.wrong == ((1, "customer_id", "is no customer"),)
    engine.dispose()


def test_the_factory_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    prices = ModuleType("my_prices")
    vars(prices)["PriceList"] = type("PriceList", (), {})
    monkeypatch.setitem(sys.modules, "my_prices", prices)
    module = ModuleType("my_steps")
    exec(blocks("python")[2], vars(module))
    (found,) = found_in(module).factories
    assert (found.type, found.per) == (prices.PriceList, "process")


def test_the_async_step_writes_what_was_answered(tmp_path: Path) -> None:
    module = ModuleType("my_steps")
    exec(blocks("python")[3], vars(module))

    async def asks() -> list[str]:
        engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/answers.db")
        async with AsyncSession(engine) as session:
            await session.execute(sqlalchemy.text("create table answers (value text)"))
            await found_in(module).steps["log_answers"].function({"prediction": [1, "b"]}, session)
        async with AsyncSession(engine) as session:
            kept = list(await session.scalars(sqlalchemy.text("select value from answers")))
        await engine.dispose()
        return kept

    assert asyncio.run(asks()) == ["1", "b"]


def test_ones_own_view_and_interceptor_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_MODELS_DIR", str(ROOT / "models"))
    module = ModuleType("wsgi")
    exec(blocks("python")[4], vars(module))
    client, tenant = module.app.test_client(), {"X-Tenant": "a"}
    assert client.post("/quote", json={"feature1": 5.1, "feature2": 3.5}, headers=tenant).json == {"kind": 0}
    bad = client.post("/quote", json={"feature1": "x", "feature2": 3.5}, headers=tenant)
    assert (bad.status_code, bad.json["errors"][0]["pointer"]) == (422, "#/0/feature1")
    refused = client.post("/models/iris-two/predict", json={"feature1": 5.1, "feature2": 3.5})
    assert (refused.status_code, refused.json["type"]) == (403, "/problems/no-tenant")
    answered = client.post("/models/iris-two/predict", json=[{"feature1": 5.1, "feature2": 3.5}] * 2, headers=tenant)
    assert (answered.status_code, answered.headers["X-Rows"]) == (200, "2")


STEPS_AT_PRICES = """
from app.core.steps import factory, step
from my_prices import PriceList

@factory(per="process")
def prices() -> PriceList:
    raise AssertionError("the test has replaced it")

@step("price", needs={"metal": str}, provides=("price",))
def price(instances, prices: PriceList):
    for instance in instances:
        instance["price"] = prices[instance["metal"]]
"""


def test_a_factory_can_be_replaced_in_a_test_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sklearn.linear_model import LinearRegression

    from app.packing.spawn import PackRequest
    from app.packing.write import pack

    monkeypatch.chdir(tmp_path)
    joblib.dump(LinearRegression().fit(pd.DataFrame({"price": [1.0, 2.0]}), [1.0, 2.0]), tmp_path / "loans.joblib")
    pack(PackRequest(str(tmp_path / "loans.joblib"), "loans", str(tmp_path / "models"), before=("price",)))
    prices, steps = ModuleType("my_prices"), ModuleType("my_steps")
    vars(prices)["PriceList"] = type("PriceList", (), {})
    monkeypatch.setitem(sys.modules, "my_prices", prices)
    exec(STEPS_AT_PRICES, vars(steps))
    monkeypatch.setitem(sys.modules, "my_steps", steps)
    module = ModuleType("test_loans")
    exec(blocks("python")[5], vars(module))
    module.test_a_loan_is_scored_at_known_prices()


# -- what is run


@pytest.fixture(scope="module")
def own_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the committed models and README's own, saved and packed as README says."""
    folder = tmp_path_factory.mktemp("readme")
    models = folder / "models"
    shutil.copytree(ROOT / "models", models)
    script = blocks("python")[0]
    subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, capture_output=True)
    add, *_ = [line for block in blocks("sh") for line in block.splitlines() if " models add " in line]
    words = [str(folder / word) if (folder / word).is_file() else word for word in shlex.split(add)]
    assert words[0] == ".venv/bin/flask"
    packed = subprocess.run(
        words, cwd=ROOT, env=environment(RETORT_MODELS_DIR=models), check=False, capture_output=True, text=True
    )
    assert packed.returncode == 0, packed.stderr
    assert packed.stdout.startswith("wine version 1 packed")
    return models


@pytest.fixture(scope="module")
def frontend() -> Iterator[str]:
    """The address of a page that is not the service's."""
    page = Flask("frontend")
    page.add_url_rule("/", "page", lambda: "<!doctype html><title>A frontend</title>")
    with serving_here(page) as address:
        yield address


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, own_model: Path, frontend: str) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("readme-server")
    origins = f"https://app.example.org,{frontend}"
    with serving(folder, RETORT_MODELS_DIR=own_model, RETORT_CORS_ORIGINS=origins) as started:
        yield started


@pytest.mark.server
@pytest.mark.needs_program("curl")
@pytest.mark.parametrize(("command", "shown"), CURLS, ids=[command.split()[1] for command, _ in CURLS])
def test_curl_gives_what_is_shown(server: Server, command: str, shown: Block) -> None:
    assert "localhost:8000" in command
    line = command.replace("localhost:8000", f"127.0.0.1:{server.port}").replace("curl ", "curl -sS --max-time 20 ", 1)
    said = subprocess.run(["sh", "-c", line], env=environment(), capture_output=True, text=True, check=True)
    got, expected = json.loads(said.stdout), json.loads(shown.text)
    assert list(got) == list(expected)
    assert same(json_lists(expected), json_lists(got)), got


def json_lists(document: Any) -> Any:
    """Objects as lists of pairs, which `same` compares to the tolerance of the service."""
    if isinstance(document, dict):
        return [[key, json_lists(value)] for key, value in document.items()]
    return [json_lists(value) for value in document] if isinstance(document, list) else document


@pytest.mark.server
def test_its_own_model_is_ready(server: Server) -> None:
    assert server.ask("GET", "/readyz").status == 200
    assert "/models/wine/predict" in server.ask("GET", "/openapi.json").document["paths"]


@pytest.mark.browser
@pytest.mark.server
@pytest.mark.needs_program("chromium")
def test_fetch_from_a_page_of_another_origin(server: Server, frontend: str, chromium: Browser) -> None:
    (script,) = blocks("js")
    script = script.replace("http://localhost:8000", server.root)
    page = chromium.new_page()
    page.goto(frontend)
    noting = "const logged = []; console.log = (value) => logged.push(value);"
    logged = page.evaluate(f"async () => {{ {noting}\n{script} return logged; }}")
    page.close()
    assert logged == [0]


def test_the_fields_of_the_first_example_are_those_of_the_default_model() -> None:
    record = json.loads(shlex.split(CURLS[0][0])[3])
    manifest = json.loads((ROOT / "models" / "penguins" / "1" / "manifest.json").read_text("utf-8"))
    assert list(record) == [each["name"] for each in manifest["signature"]["inputs"]]
