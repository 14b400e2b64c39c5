"""Limits in the whole application, under any WSGI server."""

from __future__ import annotations

import subprocess
import sys

import pytest
from flask.testing import FlaskClient

from app import create_app
from app.settings import Settings
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT

pytestmark = pytest.mark.slow

PATH = "/models/iris-two/predict"
RECORD = {"feature1": 5.1, "feature2": 3.5}
ORIGIN = "https://app.example.org"


def client_of(with_hook: bool = False, **settings: str | tuple[str, ...]) -> FlaskClient:
    app = create_app(Settings(models_dir=EXAMPLE_MODELS, limit_requests="2/day", limit_rows="1000/day", **settings))
    if with_hook:
        app.before_request(lambda: None)
    return app.test_client()


@pytest.mark.parametrize("with_hook", [False, True])
def test_requests_are_limited_under_any_server(with_hook: bool) -> None:
    client = client_of(with_hook)
    answers = [client.post(PATH, json=RECORD) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[1].headers["RateLimit"].startswith('"rows per day";r=998;')
    assert answers[2].json["type"] == "/problems/rate-limited"
    assert client.post("/v2/models/iris-two/infer", json={}).json["error"].startswith("this address has used up")
    assert client.post(PATH, json=RECORD, environ_base={"REMOTE_ADDR": "192.0.2.9"}).status_code == 200


def test_a_page_of_an_allowed_origin_may_read_the_limits_and_its_preflight_is_free() -> None:
    client = client_of(cors_origins=(ORIGIN,))
    for _ in range(5):
        asked = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
        assert client.options(PATH, headers=asked).status_code == 204
    answers = [client.post(PATH, json=RECORD, headers={"Origin": ORIGIN}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    for answer in answers:
        assert {"RateLimit", "RateLimit-Policy"} <= set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN


def test_both_health_paths_of_sagemaker_get_a_thread_of_their_own() -> None:
    gateway = create_app(Settings(models_dir=EXAMPLE_MODELS)).gateway
    for path in ("/ping", "/health", "/readyz", "/v2/health/ready"):
        context = gateway.admit({"REQUEST_METHOD": "GET", "PATH_INFO": path})
        assert (context.may_block, context.is_limited) == (True, False)


def test_the_problem_has_a_page() -> None:
    assert client_of().get("/problems/rate-limited").json["status"] == 429


def test_without_limits_the_library_is_not_imported() -> None:
    script = (
        "import sys\nfrom app import create_app\nfrom app.settings import Settings\n"
        "create_app(Settings())\nassert not {'limits', 'redis'} & sys.modules.keys()\n"
        "create_app(Settings(limit_rows='1/day', redis_url='redis://127.0.0.1:1/0'))\nassert 'redis' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, timeout=120)
