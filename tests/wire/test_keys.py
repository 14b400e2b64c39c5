"""API keys around the application: scopes, models, views of a user, browsers. The real worker has its own tests."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Blueprint
from openapi_spec_validator import validate
from svcs.flask import get as service
from werkzeug.test import TestResponse

from app import Models, create_app, needs_scope
from app.server.contract import Response
from app.settings import Settings
from app.storage.keys import make_key
from app.wire import OPEN, SCOPES
from app.wire.application import FURTHER_URL, Application
from tests.wire.conftest import MODELS

ROW = {"instances": [[5.1, 3.5]]}
PAGE = {"Accept": "text/html"}
KEYS = {
    "predict": make_key("predict", ["predict"]),
    "admin": make_key("admin", ["admin"]),
    "metrics": make_key("metrics", ["metrics"]),
    "iris": make_key("iris", ["predict", "admin"], ["iris-two"]),
}


@pytest.fixture(scope="module")
def keyed() -> Application:
    """Return the service with these keys."""
    given = tuple(stored.entry() for _, stored in KEYS.values())
    made = create_app(Settings(models_dir=MODELS, api_keys=given, access_log=False))
    made.extensions["retort"].prove()
    return made


Ask = Callable[..., TestResponse]


@pytest.fixture
def ask(keyed: Application) -> Ask:
    """Send a request with one of the keys, or with none."""

    def send(method: str, path: str, key: str = "", **options: Any) -> TestResponse:
        headers = {**options.pop("headers", {}), **({"X-API-Key": KEYS[key][0]} if key else {})}
        return keyed.test_client().open(path, method=method, headers=headers, **options)

    return send


def test_every_view_that_changes_something_has_a_scope_of_its_own(keyed: Application) -> None:
    predicting = {FURTHER_URL.sub("", name) for name, view in keyed.view_functions.items() if _predicts(keyed, view)}
    for rule in keyed.url_map.iter_rules():
        name = FURTHER_URL.sub("", rule.endpoint)
        if {"POST", "PUT", "PATCH", "DELETE"} & (rule.methods or set()) and name not in predicting:
            assert name in SCOPES, f"{rule.rule} needs a line in app/wire/__init__.py"
    assert {*OPEN} <= {FURTHER_URL.sub("", rule.endpoint) for rule in keyed.url_map.iter_rules()}


def _predicts(app: Application, view: object) -> bool:
    routes: dict[object, object] = app.gateway._router._routes  # type: ignore[attr-defined]
    return view in routes


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/models/iris-two/predict", {"predict", "iris"}),
        ("POST", "/v2/models/iris-two/infer", {"predict", "iris"}),
        ("POST", "/v1/models/iris-two:predict", {"predict", "iris"}),
        ("GET", "/models", {"predict", "iris"}),
        ("GET", "/", {"predict", "iris"}),
        ("GET", "/docs", {"predict", "iris"}),
        ("GET", "/openapi.json", {"predict", "iris"}),
        ("GET", "/metrics", {"metrics", "admin", "iris"}),
        ("POST", "/v2/repository/index", {"admin", "iris"}),
        ("POST", "/v2/repository/models/iris-two/load", {"admin", "iris"}),
        ("GET", "/nowhere", {"predict", "iris"}),
    ],
)
@pytest.mark.fault("X05")
def test_each_view_needs_its_scope(ask: Ask, method: str, path: str, allowed: set[str]) -> None:
    without = ask(method, path, json=ROW)
    assert without.status_code == 401
    assert without.headers["WWW-Authenticate"] == 'Bearer realm="retort"'
    for key in KEYS:
        answer = ask(method, path, key, json=ROW)
        assert (answer.status_code != 403) is (key in allowed), key
        assert answer.status_code != 401
        if key not in allowed:
            assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/ping", "/health", "/v2/health/live", "/v2/health/ready"])
def test_probes_need_no_key(ask: Ask, path: str) -> None:
    assert ask("GET", path).status_code == 200
    assert ask("GET", path, headers={"X-API-Key": "wrong"}).status_code == 200


@pytest.mark.parametrize("path", ["/favicon.ico", "/problems", "/problems/key-required"])
def test_pages_that_say_nothing_of_a_model_need_no_key(ask: Ask, path: str) -> None:
    assert ask("GET", path).status_code == 200


OTHERS = [
    ("POST", "/predict"),  # the default model is penguins
    ("POST", "/invocations"),
    ("POST", "/v1/endpoints/1/deployedModels/2:predict"),
    ("POST", "/models/penguins/predict"),
    ("POST", "/models/penguins/versions/1/predict"),
    ("POST", "/endpoints/penguins/invocations"),
    ("POST", "/v2/models/penguins/infer"),
    ("POST", "/v2/models/penguins/versions/1/infer"),
    ("POST", "/v1/models/penguins:predict"),
    ("POST", "/v1/models/penguins/versions/1:predict"),
    ("GET", "/models/penguins"),
    ("GET", "/models/penguins/versions/1"),
    ("GET", "/v2/models/penguins"),
    ("GET", "/v2/models/penguins/config"),
    ("GET", "/v2/models/penguins/stats"),
    ("GET", "/v2/models/penguins/ready"),
    ("GET", "/v1/models/penguins"),
    ("GET", "/v1/models/penguins/metadata"),
    ("POST", "/models/penguins/try"),
    ("POST", "/v2/repository/models/penguins/load"),
    ("POST", "/v2/repository/models/penguins/unload"),
    ("POST", "/models/nobody/predict"),
]


@pytest.mark.parametrize(("method", "path"), OTHERS)
def test_a_key_of_one_model_may_use_no_other(ask: Ask, method: str, path: str) -> None:
    answer = ask(method, path, "iris", json=ROW)
    assert answer.status_code == 403
    assert b"this key may use: iris-two" in answer.data


def test_every_path_that_names_a_model_is_tested(keyed: Application) -> None:
    tried = [re.sub(r"penguins|nobody", "<string:model>", path) for _, path in OTHERS]
    for rule in keyed.url_map.iter_rules():
        if "model>" in rule.rule:
            form = (
                re.sub(r"<[^<>]*model>", "<string:model>", rule.rule).partition("/versions")[0].partition("/labels")[0]
            )
            assert any(path.startswith(form.partition(":<verb")[0]) for path in tried), rule.rule


@pytest.mark.parametrize("path", ["/models", "/v2/models", "/v2/models/stats", "/v1/models", "/openapi.json", "/docs"])
def test_lists_leave_out_the_models_that_a_key_may_not_use(ask: Ask, path: str) -> None:
    for headers in ({}, PAGE):
        assert "penguins" not in ask("GET", path, "iris", headers=headers).text
        if path != "/docs":
            assert "penguins" in ask("GET", path, "predict", headers=headers).text


def test_the_home_page_and_the_index_leave_out_forbidden_models_too(ask: Ask) -> None:
    home = ask("GET", "/", "iris", headers=PAGE).text
    assert "iris-two" in home
    assert "penguins" not in home
    assert "penguins" in ask("GET", "/", "predict", headers=PAGE).text
    assert {each["name"] for each in ask("POST", "/v2/repository/index", "iris").get_json()} == {"iris-two"}


def test_errors_have_the_format_of_the_protocol(ask: Ask) -> None:
    assert ask("POST", "/v2/models/iris-two/infer").get_json().keys() == {"error"}
    assert ask("POST", "/predict").get_json()["type"] == "/problems/key-required"
    assert ask("POST", "/predict", "metrics").get_json()["type"] == "/problems/scope-missing"
    assert ask("POST", "/predict", "iris").get_json()["type"] == "/problems/model-not-permitted"


def test_fairness_distinguishes_clients_by_their_keys(keyed: Application) -> None:
    key, stored = KEYS["predict"]
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/models", "REMOTE_ADDR": "192.0.2.1"}
    assert keyed.gateway.client_of(environ) == "192.0.2.1"
    assert keyed.gateway.client_of({**environ, "HTTP_X_API_KEY": "wrong"}) == "192.0.2.1"
    assert keyed.gateway.client_of({**environ, "HTTP_X_API_KEY": key}) == stored.id
    context = keyed.gateway.admit({**environ, "HTTP_X_API_KEY": key})
    assert (context.client, context.address) == (stored.id, "192.0.2.1")
    assert context.principal is not None
    assert context.principal.name == "predict"


@pytest.mark.slow
def test_the_document_says_that_a_key_is_needed(ask: Ask, app: Application) -> None:
    document = ask("GET", "/openapi.json", "predict").get_json()
    validate(document)
    assert document["security"] == [{"bearer": []}, {"apiKey": []}]
    assert document["components"]["securitySchemes"]["apiKey"]["name"] == "X-API-Key"
    assert document["paths"]["/livez"]["get"]["security"] == []
    assert "security" not in document["paths"]["/predict"]["post"]
    assert {"401", "403"} <= document["paths"]["/predict"]["post"]["responses"].keys()
    assert "security" not in app.test_client().get("/openapi.json").get_json()


# --- browsers


@pytest.mark.slow
def test_a_page_of_an_allowed_origin_may_send_a_key_and_read_the_refusal() -> None:
    key, stored = KEYS["predict"]
    settings = Settings(models_dir=MODELS, api_keys=(stored.entry(),), cors_origins=("https://app.example",))
    client, origin = create_app(settings).test_client(), {"Origin": "https://app.example"}
    asked = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    preflight = client.options("/models/iris-two/predict", headers={**origin, **asked})
    assert (preflight.status_code, preflight.headers["Access-Control-Allow-Headers"]) == (204, "authorization")
    refused = client.post("/models/iris-two/predict", json=ROW, headers=origin)
    assert (refused.status_code, refused.headers["Access-Control-Allow-Origin"]) == (401, "https://app.example")
    assert "WWW-Authenticate" in refused.headers["Access-Control-Expose-Headers"]
    sent = client.post("/models/iris-two/predict", json=ROW, headers={**origin, "Authorization": f"Bearer {key}"})
    assert sent.status_code == 200


def basic(key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f":{KEYS[key][0]}".encode()).decode()}


def test_a_browser_is_asked_for_the_key_and_shows_it_as_a_password(ask: Ask) -> None:
    refused = ask("GET", "/", headers=PAGE)
    assert (refused.status_code, refused.mimetype) == (401, "text/html")
    assert refused.headers["WWW-Authenticate"] == 'Basic realm="retort", charset="UTF-8"'
    assert ask("GET", "/", headers={**PAGE, **basic("predict")}).status_code == 200
    form = {"feature1": "5.1", "feature2": "3.5"}
    tried = ask("POST", "/models/iris-two/try", headers={**PAGE, **basic("predict")}, data=form)
    assert tried.status_code == 200


@pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
def test_a_page_of_another_origin_cannot_make_a_browser_send_its_key_with_a_change(
    ask: Ask, headers: dict[str, str]
) -> None:
    for path in ("/models/iris-two/predict", "/v2/repository/models/iris-two/load"):
        key = "admin" if "repository" in path else "predict"
        assert ask("POST", path, headers={**basic(key), **headers}, json=ROW).status_code == 403
        assert ask("POST", path, headers=basic(key), json=ROW).status_code == 200
    page = ask("POST", "/models/iris-two/predict", "predict", headers=headers, json=ROW)
    assert page.status_code == 200  # the page has put the key there itself


# --- views of a user


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Application:
    """Return the service with views of a user."""
    given = tuple(stored.entry() for _, stored in KEYS.values())
    made = create_app(Settings(models_dir=MODELS, api_keys=given, access_log=False))
    views = Blueprint("own", __name__, static_folder=str(tmp_path_factory.mktemp("static")), static_url_path="/files")

    @views.post("/quote/<name>")
    def quote(name: str) -> Any:
        return dict(service(Models).predict(name, [[5.1, 3.5]]))

    @views.get("/open")
    @needs_scope(None)
    def everybody() -> str:
        return "open"

    @needs_scope("admin")
    @views.get("/closed")
    def closed() -> str:
        return "closed"

    made.register_blueprint(views)
    made.wsgi_app = Mounted(made.wsgi_app)  # type: ignore[method-assign]
    return made


class Mounted:
    """A middleware that answers below /mounted itself, and moves /moved to a view that needs a key."""

    def __init__(self, wsgi: Any) -> None:
        self.wsgi = wsgi

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/mounted":
            start_response("200 OK", [])
            return [b"mounted"]
        if environ["PATH_INFO"] == "/open" and environ.get("HTTP_X_MOVE"):
            environ["PATH_INFO"] = environ["HTTP_X_MOVE"]
        return self.wsgi(environ, start_response)


def status(app: Application, path: str, key: str = "", method: str = "GET", **headers: str) -> int:
    shown = {"X-API-Key": KEYS[key][0]} if key else {}
    return app.test_client().open(path, method=method, headers={**shown, **headers}).status_code


def test_views_of_a_user_need_predict_unless_they_are_decorated(own: Application) -> None:
    assert [status(own, "/quote/iris-two", key, "POST") for key in ("", "metrics", "predict")] == [401, 403, 200]
    assert [status(own, "/open", key) for key in ("", "metrics")] == [200, 200]
    assert [status(own, "/closed", key) for key in ("", "predict", "admin")] == [401, 403, 200]
    assert [status(own, "/files/nothing.txt", key) for key in ("", "predict")] == [401, 404]


def test_a_view_asks_no_model_that_the_key_may_not_use(own: Application) -> None:
    assert status(own, "/quote/iris-two", "iris", "POST") == 200
    assert status(own, "/quote/penguins", "iris", "POST") == 403


def test_a_response_of_a_middleware_needs_a_key(own: Application) -> None:
    assert [status(own, "/mounted", key) for key in ("", "predict")] == [401, 200]


def test_a_request_that_a_middleware_moves_needs_what_its_view_needs(own: Application) -> None:
    assert status(own, "/open", **{"X-Move": "/closed"}) == 401
    assert status(own, "/open", "predict", **{"X-Move": "/closed"}) == 403
    assert status(own, "/open", "iris", **{"X-Move": "/models/penguins"}) == 403
    assert status(own, "/open", **{"X-Move": "/livez"}) == 200


def test_a_view_that_only_flask_finds_needs_its_own_scope() -> None:
    given = tuple(stored.entry() for _, stored in KEYS.values())
    made = create_app(Settings(models_dir=MODELS, api_keys=given, access_log=False))
    made.config["SERVER_NAME"], made.subdomain_matching = "example.org", True
    made.add_url_rule("/livez", "orders", lambda: "orders", subdomain="shop")
    assert status(made, "/livez", Host="example.org") == 200
    assert [status(made, "/livez", key, Host="shop.example.org") for key in ("", "metrics", "predict")] == [
        401,
        403,
        200,
    ]


@pytest.mark.slow
def test_keys_in_the_file_of_the_instance_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.gateway.key_table.REFRESH_S", 0.0)
    made = create_app(Settings(models_dir=MODELS, instance_dir=tmp_path, access_log=False))
    assert status(made, "/models") == 200
    printed = made.test_cli_runner().invoke(args=["keys", "create", "--name", "a"])
    key = printed.stdout.split()[-1]
    assert status(made, "/models") == 401
    assert status(made, "/models", **{"X-API-Key": key}) == 200
    made.test_cli_runner().invoke(args=["keys", "revoke", key.split("_")[1]])
    assert status(made, "/models", **{"X-API-Key": key}) == 401
    made.extensions["retort_keys"].close()


def test_a_request_without_the_right_key_is_refused_by_its_head_as_later(keyed: Application) -> None:
    def by_head(path: str, key: str = "", **fields: str) -> Response | None:
        shown = {"HTTP_X_API_KEY": KEYS[key][0]} if key else {}
        environ = {"REQUEST_METHOD": "POST", "PATH_INFO": path, "REMOTE_ADDR": "192.0.2.1", **shown, **fields}
        before = environ.copy()
        refused = keyed.gateway.refuse_by_head(environ)
        assert environ == before
        return refused

    for path in ("/jobs", "/predict", "/v2/models/iris-two/infer", "/v1/models/iris-two:predict", "/nothing"):
        refused = by_head(path)
        assert refused is not None, path
        assert refused.status == 401, path
        names = {name for name, _ in refused.headers}
        assert {"WWW-Authenticate", "X-Request-ID"} <= names
        assert by_head(path, "predict") is None, path
    assert [by_head("/predict", "metrics").status, by_head("/models/penguins/predict", "iris").status] == [403, 403]  # type: ignore[union-attr]
    foreign = by_head("/v2/repository/models/iris-two/unload", "admin", HTTP_SEC_FETCH_SITE="cross-site")
    assert foreign is not None
    assert foreign.status == 403
    assert by_head("/livez", REQUEST_METHOD="GET") is None
