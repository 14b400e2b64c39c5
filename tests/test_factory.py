"""The application as a whole: the effects of making one."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import run_wsgi_app

from app import create_app
from app.errors import InvalidSettings
from app.factory import serving_app
from app.settings import Settings
from tests.wire.registrations import Proxy
from tests.wire.test_application import environ

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
MODELS = ROOT / "examples" / "models"
MOST_LINES = 140


def test_the_environment_is_read_if_no_settings_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETORT_MODELS_DIR", str(MODELS))
    monkeypatch.setenv("RETORT_DEFAULT_MODEL", "digits")
    listed = create_app().test_client().get("/models").json["models"]
    assert [model["name"] for model in listed if model["default"]] == ["digits"]


def test_an_unusable_environment_is_refused_with_every_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RETORT_MODEL_DIR": "x", "RETORT_TURBO": "1", "RETORT_THREADS": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSettings) as refused:
        create_app()
    assert len(refused.value.problems) == 3
    for part in ("RETORT_MODEL_DIR is not a setting (did you mean RETORT_MODELS_DIR?)", "RETORT_TURBO", "'0' must be"):
        assert part in refused.value.detail


def test_given_settings_override_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETORT_TURBO", "1")
    assert create_app(Settings(models_dir=tmp_path)).test_client().get("/models").json == {"models": []}


def test_nothing_is_loaded_until_the_first_use(tmp_path: Path) -> None:
    app = create_app(Settings(models_dir=tmp_path / "models"))
    (tmp_path / "models").symlink_to(MODELS)  # made after the application, and found by it
    assert len(app.test_client().get("/models").json["models"]) == 5


def test_two_applications_share_nothing(tmp_path: Path) -> None:
    empty, full = (create_app(Settings(models_dir=folder)).test_client() for folder in (tmp_path, MODELS))
    assert len(full.get("/models").json["models"]) == 5
    assert empty.get("/models").json["models"] == []


def test_a_proxy_around_the_application_sees_every_request(tmp_path: Path) -> None:
    service, seen = create_app(Settings(models_dir=tmp_path)), list[object]()
    request = environ("/livez", REQUEST_METHOD="GET")
    served = serving_app(Proxy(service, seen))
    served.started(dict)
    assert served.admit(request).through_wsgi
    run_wsgi_app(served, request)
    assert len(seen) == 1
    assert not serving_app(service).admit(environ("/livez", REQUEST_METHOD="GET")).through_wsgi


class Unprintable:
    """A wrapper that cannot be shown."""

    def __init__(self, application: Any) -> None:
        self.application = application

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.application(environ, start_response)

    def __repr__(self) -> str:
        raise RuntimeError("no connection")


def test_a_wrapper_that_cannot_be_shown_is_named_by_its_class(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    served = serving_app(Unprintable(create_app(Settings(models_dir=tmp_path))))
    with caplog.at_level(logging.INFO):
        served.started(dict)
    assert "tests.test_factory.Unprintable around the application" in caplog.text
    assert served.admit(environ("/livez", REQUEST_METHOD="GET")).through_wsgi


def test_liveness_needs_no_model(tmp_path: Path) -> None:
    broken = tmp_path / "models"
    broken.mkdir()
    (broken / "repository.json").write_text("{")
    client = create_app(Settings(models_dir=broken)).test_client()
    assert client.get("/livez").status_code == 200


def test_importing_the_factory_has_no_effect() -> None:
    """It starts no thread, loads no model library and reads no settings: `RETORT_TURBO` would be refused."""
    script = (
        "import sys, threading, app.factory\n"
        "assert threading.active_count() == 1\n"
        "loaded = {'sklearn', 'joblib', 'pandas', 'app.packing'} & set(sys.modules)\n"
        "assert not loaded, loaded\n"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={"RETORT_TURBO": "1"}, check=True)


def test_frameworks_that_svcs_also_knows_can_be_imported_later() -> None:
    script = "import gc, app; app.create_app; assert gc.isenabled(); import svcs.aiohttp; svcs.aiohttp.init_app"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, env={}, check=True)


def test_a_server_in_production_never_imports_packing() -> None:
    script = (
        "import sys, pathlib\n"
        "from app import create_app\n"
        "from app.settings import Settings\n"
        "client = create_app(Settings(models_dir=pathlib.Path('examples/models'))).test_client()\n"
        "assert client.post('/models/iris-two/predict', json={'feature1': 5.1, 'feature2': 3.5}).status_code == 200\n"
        "assert client.get('/openapi.json').status_code == 200\n"
        "assert not [name for name in sys.modules if name.startswith('app.packing')]\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", script], cwd=ROOT, env={}, check=True)


def test_the_factory_stays_small() -> None:
    """The module that knows all others does nothing else."""
    text = (ROOT / "app" / "factory.py").read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES
