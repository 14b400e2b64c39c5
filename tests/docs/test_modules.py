"""The modules that the pages show: steps, factories, a wsgi.py, a test; and the files that declare inputs."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import ModuleType

import joblib
import pandas as pd
import pytest
import sqlalchemy
from opentelemetry.sdk.trace import TracerProvider
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import Session

from app import Refused, Settings
from app.core.steps import found_in
from app.packing import declared
from app.settings.env_files import read_env_files
from app.storage.keys import make_key
from tests.docs.pages import titled
from tests.end_to_end.process import EXAMPLE_MODELS


def loaded(page: str, title: str) -> ModuleType:
    """Import a module with the code that a page shows."""
    module = ModuleType(Path(title).stem)
    exec(compile(titled(page, title), title, "exec"), vars(module))
    return module


@pytest.fixture
def prices(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Make the user's module from which pages import a class."""
    module = ModuleType("my_prices")
    vars(module)["PriceList"] = type("PriceList", (), {})
    monkeypatch.setitem(sys.modules, "my_prices", module)
    return module


def test_the_first_step_adds_an_age() -> None:
    module = loaded("docs/public-names.md", "my_first_step.py")
    assert set(found_in(module).steps) == {"age"}
    instances = [{"born": 2000}, {"born": 2026}]
    module.age(instances)
    assert [each["age"] for each in instances] == [26, 0]
    with pytest.raises(Refused) as refused:
        module.age([{"born": 2000}, {"born": 2027}])
    assert refused.value.wrong == ((1, "born", "is in the future"),)


def test_the_own_test_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "my_first_step", loaded("docs/public-names.md", "my_first_step.py"))
    loaded("docs/your-repository.md", "tests/own/test_first_step.py").test_a_person_born_in_2000_is_26()


def test_the_module_of_steps_has_two_steps() -> None:
    found = found_in(loaded("docs/steps.md", "my_steps.py"))
    assert set(found.steps) == {"enrich", "scale"}
    assert found.steps["scale"].function({"probabilities": [[0.25, 0.75]]}, []) == {
        "probabilities": [[0.25, 0.75]],
        "score": [750],
    }


def test_the_first_step_asks_once_and_refuses_unknown_customers() -> None:
    module = loaded("docs/steps.md", "my_steps.py")
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


def test_the_async_step_writes_what_was_answered(tmp_path: Path) -> None:
    module = loaded("docs/steps.md", "my_async_steps.py")

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


def test_the_module_of_factories_has_one(prices: ModuleType) -> None:
    (found,) = found_in(loaded("docs/steps.md", "my_factories.py")).factories
    assert (found.type, found.per) == (prices.PriceList, "process")


def test_the_view_and_the_interceptor_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_MODELS_DIR", str(EXAMPLE_MODELS))
    client, tenant = loaded("docs/extending.md", "wsgi.py").app.test_client(), {"X-Tenant": "a"}
    assert client.post("/quote", json={"feature1": 5.1, "feature2": 3.5}, headers=tenant).json == {"kind": 0}
    bad = client.post("/quote", json={"feature1": "x", "feature2": 3.5}, headers=tenant)
    assert (bad.status_code, bad.json["errors"][0]["pointer"]) == (422, "#/0/feature1")
    for path in ("/predict", "/models/iris-two/predict", "/v2/models/iris-two/infer", "/v1/models/iris-two:predict"):
        refused = client.post(path, json={"feature1": 5.1, "feature2": 3.5})
        assert (refused.status_code, refused.json.get("type", "/problems/no-tenant")) == (403, "/problems/no-tenant")
    for path in ("/", "/models", "/models/iris-two", "/docs", "/livez", "/readyz", "/metrics"):
        assert client.get(path, headers={"Accept": "text/html, */*"}).status_code == 200
    assert client.post("/quote", json={"feature1": 5.1, "feature2": 3.5}).status_code == 200
    answered = client.post("/models/iris-two/predict", json=[{"feature1": 5.1, "feature2": 3.5}] * 2, headers=tenant)
    assert (answered.status_code, answered.headers["X-Rows"]) == (200, "2")


def test_the_views_need_what_their_decorators_say(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = [make_key(scope, [scope]) for scope in ("predict", "admin")]
    monkeypatch.setenv("RETORT_API_KEYS", ",".join(stored.entry() for _, stored in keys))
    client = loaded("docs/security.md", "wsgi.py").app.test_client()
    assert client.get("/status").json == {"status": "fine"}
    statuses = [client.post("/retrain", headers={"X-API-Key": key}).status_code for key, _ in keys]
    assert statuses == [403, 200]


def test_the_file_of_settings_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(titled("docs/configuration.md", ".env"), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLASK_SKIP_DOTENV")
    settings = Settings.from_environ(read_env_files())
    assert (settings.port, settings.database_url[:10]) == (9000, "postgresql")


STEP_WITH_PRICES = """
from app import factory, step
from my_prices import PriceList

@factory(per="process")
def prices() -> PriceList:
    raise AssertionError("the test has replaced it")

@step("price", needs={"metal": str}, provides=("price",))
def price(instances, prices: PriceList):
    for instance in instances:
        instance["price"] = prices[instance["metal"]]
"""


@pytest.mark.slow
def test_the_test_of_a_user_replaces_a_factory(
    tmp_path: Path, prices: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sklearn.linear_model import LinearRegression

    from app.packing.spawn import PackRequest
    from app.packing.write import pack

    monkeypatch.chdir(tmp_path)
    joblib.dump(LinearRegression().fit(pd.DataFrame({"price": [1.0, 2.0]}), [1.0, 2.0]), tmp_path / "loans.joblib")
    pack(PackRequest(str(tmp_path / "loans.joblib"), "loans", str(tmp_path / "models"), before=("price",)))
    steps = ModuleType("my_steps")
    exec(STEP_WITH_PRICES, vars(steps))
    monkeypatch.setitem(sys.modules, "my_steps", steps)
    loaded("docs/steps.md", "test_loans.py").test_a_loan_is_scored_at_known_prices()


def declared_by(page: str, title: str, folder: Path) -> declared.DeclaredInput:
    """Return the only input that a file declares."""
    path = folder / "inputs.json"
    path.write_text(titled(page, title), "utf-8")
    [wanted] = declared.read(path)
    return wanted


def test_the_file_that_declares_a_timestamp_can_be_read(tmp_path: Path) -> None:
    wanted = declared_by("docs/packing.md", "build/inputs.json", tmp_path)
    assert (wanted.name, wanted.kind) == ("when", "timestamp")


def test_the_file_that_declares_an_array_can_be_read(tmp_path: Path) -> None:
    wanted = declared_by("docs/inputs.md", "build/pixels.json", tmp_path)
    assert (wanted.name, wanted.kind, wanted.shape) == ("pixels", "array", (8, 8))


def test_the_file_that_declares_an_image_can_be_read(tmp_path: Path) -> None:
    wanted = declared_by("docs/inputs.md", "build/image.json", tmp_path)
    assert wanted.picture is not None
    assert (wanted.name, wanted.picture.mode, wanted.divisor) == ("image", "L", 15.9375)


def test_the_variables_of_traces_switch_them_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".env").write_text(titled("docs/operations.md", ".env"), "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FLASK_SKIP_DOTENV")
    variables = read_env_files()
    assert Settings.from_environ(variables).traces
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert TracerProvider(shutdown_on_exit=False).sampler.get_description().startswith("ParentBased{root:TraceIdRatio")
