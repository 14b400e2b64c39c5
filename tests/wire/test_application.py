"""Tests that all code which a Flask developer registers around the views runs, and not on the event loop."""

from __future__ import annotations

import gc
import io
import logging
import time
import timeit
import weakref
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, ClassVar, cast

import flask.app
import pytest
from flask import Blueprint, Flask, Request, signals
from flask import Response as FlaskResponse
from flask.json.provider import DefaultJSONProvider
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.routing import BaseConverter, Map, MapAdapter, Rule
from werkzeug.test import run_wsgi_app

from app.core.steps.event_loop import EventLoop
from app.errors import ModelNotFound, RetortError
from app.gateway import Interceptor, RequestContext, RequestRefused, Response
from app.gateway.browsers import SameOrigin
from app.gateway.errors import ErrorRenderer
from app.gateway.forwarded import Forwarding
from app.gateway.gateway import Gateway
from app.telemetry.metrics import SharedMetrics
from app.wire import problems, registrations
from app.wire.application import Application, FlaskRouter
from tests.wire.registrations import PATCHES, PREDICT, REGISTRATIONS, SHADOWED, TWICE, Proxy, counted, own_context


def environ(path: str = "/predict", **more: Any) -> dict[str, Any]:
    """Return a request's environ as the worker passes it."""
    body = b'{"feature1": 1}'
    return {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": path,
        "SERVER_NAME": "localhost",
        "SERVER_PORT": "80",
        "HTTP_HOST": "localhost",
        "REMOTE_ADDR": "127.0.0.1",
        "wsgi.url_scheme": "http",
        "wsgi.errors": io.StringIO(),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": "application/json",
        "wsgi.input": io.BytesIO(body),
        **more,
    }


class FakeRoute:
    """A prediction URL whose model is never found."""

    def plan(self, context: RequestContext) -> None:
        context.runs_inline, context.batch_key = True, self

    def respond(self, contexts: Sequence[RequestContext]) -> list[Response]:
        return [Response(404) for _ in contexts]


def made(interceptors: Sequence[Interceptor] = ()) -> Application:
    """Return an application with the views of a service, and no service behind them."""
    app, blueprint = Application("app", static_folder=None), Blueprint("predict", "app")

    def predict(**_: Any) -> None:
        raise ModelNotFound(None, [])

    blueprint.add_url_rule("/predict", "predict", predict, methods=["POST"])
    blueprint.add_url_rule("/models/<model>/predict", "predict_with_model", predict, methods=["POST"])
    blueprint.add_url_rule("/models/<model>/unload", "unload", lambda model: "unloaded", methods=["POST"])
    blueprint.add_url_rule("/livez", "live", lambda: "alive")
    app.register_blueprint(blueprint)
    errors = ErrorRenderer([], problems.PROBLEM_FORMAT)
    problems.register(app, errors)
    router = FlaskRouter(app, {predict: FakeRoute()}, (), {}, ())
    chain = [SameOrigin([]), *interceptors]
    app.gateway = Gateway(router, chain, errors, Forwarding(0, ""), SharedMetrics(), lambda: None, EventLoop())
    return app


def served_by(app: Application, wrapped: Any = None) -> Gateway:
    """Return the gateway that the worker serves for an application."""
    return app.gateway.serve(wrapped or app, "" if wrapped is None else repr(wrapped))


@pytest.fixture
def service() -> Application:
    """Return an application that was checked: registrations of a test have to be noticed."""
    service = made()
    assert is_direct(service)
    return service


def test_libraries_are_searched_once_when_an_application_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    searched: list[object] = []
    reached_by = registrations.reached_by
    monkeypatch.setattr(registrations, "reached_by", lambda app: searched.append(app) or reached_by(app))
    assert searched == [made()]


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTRATIONS)
def test_a_registration_sees_every_request_once_and_none_on_the_loop(
    service: Application, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    path = "/models/special/predict" if name in SHADOWED else "/predict"
    assert not service.gateway.admit(environ(path)).through_wsgi
    served = served_by(service, REGISTRATIONS[name](service, seen, monkeypatch))
    served.started(dict)
    for count in (1, 2):
        request = environ(path)
        context = served.admit(request)
        assert context.through_wsgi
        assert not context.runs_inline
        assert context.batch_key is None
        assert len(seen) == (count - 1) * times(name)
        run_wsgi_app(served, context.environ)
        assert len(seen) == count * times(name)


@pytest.mark.parametrize("name", REGISTRATIONS)
def test_a_registration_counts_for_requests_that_were_admitted_before(
    service: Application, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    served = served_by(service)
    path = "/models/special/predict" if name in SHADOWED else "/predict"
    before = served.admit(environ(path))
    wrapped = REGISTRATIONS[name](service, seen, monkeypatch)
    if wrapped is not None:
        return  # another application, which has admitted no request
    assert served.respond([before]) is None
    assert seen == []
    run_wsgi_app(served, before.environ)
    assert len(seen) == times(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", REGISTRATIONS)
def test_a_registration_is_honoured_by_every_other_server(
    service: Application, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    served = REGISTRATIONS[name](service, seen, monkeypatch) or service
    run_wsgi_app(served, environ("/models/special/predict" if name in SHADOWED else "/predict"))
    assert len(seen) == times(name)


def times(name: str) -> int:
    return 2 if any(method in name for method in TWICE) else 1


def is_direct(app: Application) -> bool:
    return app.gateway._router.is_direct()


def test_a_registration_that_is_taken_back_no_longer_counts(
    service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.before_request(print)
    assert not is_direct(service)
    service.before_request_funcs[None].clear()
    assert is_direct(service)
    with monkeypatch.context() as patch:
        patch.setattr(Flask, "dispatch_request", lambda self: "")
        patch.setattr(service, "wsgi_app", None)
        assert not is_direct(service)
    assert is_direct(service)
    with signals.request_started.connected_to(print, service):
        assert not is_direct(service)
    assert is_direct(service)


def test_the_next_request_needs_no_flask_once_a_hook_is_taken_back(service: Application) -> None:
    """No server has to check the registrations in between."""
    for _ in range(2):
        service.teardown_request_funcs.setdefault(None, []).append(print)
        list(run_wsgi_app(service, environ())[0])
        assert service.gateway.admit(environ()).through_wsgi
        service.teardown_request_funcs.clear()
        assert not service.gateway.admit(environ()).through_wsgi


def test_an_error_handler_of_ours_without_its_proxy_needs_no_flask(service: Application) -> None:
    handlers = service.error_handler_spec[None][None]
    own = handlers[RetortError]
    handlers[RetortError] = Proxy(own, [])
    assert not is_direct(service)
    handlers[RetortError] = own
    assert is_direct(service)


def test_a_hook_is_not_asked_whether_it_equals_another(service: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    class Hook:
        def __call__(self) -> None: ...

        def __eq__(self, other: object) -> bool:
            raise AssertionError("user code runs on the event loop")

        __hash__ = None  # type: ignore[assignment]

    for _ in range(2):
        service.before_request_funcs[None] = [Hook()]
        assert not is_direct(service)
    monkeypatch.setattr(service.gateway._router, "_take_survey", None)
    assert not is_direct(service)


def test_a_method_that_was_removed_from_a_class_is_noticed(
    service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Application, "dispatch_request", lambda self: "", raising=False)
    assert not is_direct(service)
    monkeypatch.undo()
    assert is_direct(service)
    monkeypatch.delattr(Flask, "log_exception")
    assert is_direct(service)


def test_a_receiver_that_is_gone_or_another_applications_does_not_count(service: Application) -> None:
    class Receiver:
        def receive(self, sender: Any, **named: Any) -> None: ...

    mine, other = Receiver(), Receiver()
    signals.request_started.connect(mine.receive, service)
    signals.request_started.connect(other.receive, Flask("other"))
    assert not is_direct(service)
    del mine
    assert is_direct(service)


def test_a_blueprint_of_a_user_with_hooks_of_its_own_leaves_predictions_alone(service: Application) -> None:
    blueprint = Blueprint("of_a_user", __name__)
    blueprint.before_request(print)
    blueprint.register_error_handler(404, print)
    service.register_blueprint(blueprint)
    assert is_direct(service)


@pytest.mark.parametrize("name", PATCHES)
def test_a_patch_from_before_the_application_was_made_counts(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    REGISTRATIONS[name](None, seen, monkeypatch)  # type: ignore[arg-type]
    service = made()
    assert not is_direct(service), service.gateway._router.explain()
    seen.clear()
    run_wsgi_app(service, environ())
    assert len(seen) == times(name)


def rule_of(app: Application, path: str) -> Rule:
    return next(rule for rule in app.url_map.iter_rules() if rule.rule == path)


@pytest.mark.parametrize("change", ["discard", "replace"])
def test_a_rule_that_is_changed_in_place_counts_at_once(service: Application, change: str) -> None:
    rule = rule_of(service, "/predict")
    request = environ()
    context = served_by(service).admit(request)
    if change == "discard":
        cast("set[str]", rule.methods).discard("POST")
    else:
        rule.methods = {"PUT"}
    assert service.gateway.respond([context]) is None
    assert served_by(service).admit(environ()).through_wsgi
    _, status, _ = run_wsgi_app(service, request)
    assert status.startswith("405")


@pytest.mark.parametrize("methods", [{"POST", "GET"}, ["POST"]])
def test_a_rule_that_gets_other_methods_still_leads_to_its_view(service: Application, methods: Any) -> None:
    rule_of(service, "/predict").methods = methods
    assert not served_by(service).admit(environ()).through_wsgi


def test_a_rule_whose_methods_are_not_as_requests_name_them_answers_none(service: Application) -> None:
    rule_of(service, "/predict").methods = {"post"}
    _, status, _ = run_wsgi_app(service, environ())
    assert status.startswith("405")


def test_a_rule_that_leads_to_another_view_counts_at_once(service: Application) -> None:
    rule = rule_of(service, "/predict")
    assert not served_by(service).admit(environ()).through_wsgi
    rule.endpoint = "predict.live"
    assert served_by(service).admit(environ()).through_wsgi
    body, _, _ = run_wsgi_app(service, environ())
    assert list(body) == [b"alive"]


def test_defaults_of_a_rule_that_are_changed_in_place_count(
    service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "OBJECTS_CHECKED_S", 0.0)
    rule = Rule("/fixed", methods=["POST"], defaults={"model": "first"}, endpoint=f"{PREDICT}_with_model")
    service.url_map.add(rule)
    assert served_by(service).admit(environ("/fixed")).arguments == {"model": "first"}
    cast("dict[str, str]", rule.defaults)["model"] = "second"
    assert is_direct(service)
    assert service.gateway.admit(environ("/fixed")).arguments == {"model": "second"}


def test_an_object_that_does_not_tell_its_class_counts(service: Application) -> None:
    class Silent:
        __class__ = property(lambda self: 1 / 0)  # type: ignore[assignment]

        def __call__(self) -> str:
            return ""

    service.dispatch_request = Silent()  # type: ignore[method-assign]
    assert not is_direct(service)


def test_a_rule_of_a_user_that_is_changed_in_place_counts(
    service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "OBJECTS_CHECKED_S", 0.0)
    service.add_url_rule("/models/special/predict", "special", lambda: "special")
    path = "/models/special/predict"
    context = served_by(service).admit(environ(path))
    assert not context.through_wsgi
    rule = rule_of(service, path)
    cast("set[str]", rule.methods).add("POST")
    assert service.gateway.respond([context]) is None
    body, _, _ = run_wsgi_app(service, environ(path))
    assert list(body) == [b"special"]


MODEL_RULE = "/models/<model>/predict"


def _convert(app: Application, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(BaseConverter, "to_python", lambda self, value: value.upper())


def _convert_one(app: Application, patch: pytest.MonkeyPatch) -> None:
    rule_of(app, MODEL_RULE)._converters["model"] = Tenant(app.url_map)


def _redirect(app: Application, patch: pytest.MonkeyPatch) -> None:
    rule_of(app, MODEL_RULE).redirect_to = "elsewhere"


def _subclass(app: Application, patch: pytest.MonkeyPatch) -> None:
    class Own(Application):
        @property
        def view_functions(self) -> Any:  # type: ignore[override]
            return vars(self)["view_functions"]

    app.__class__ = Own


def _get(app: Application, patch: pytest.MonkeyPatch) -> None:
    def get(app: Application, name: str) -> Any:
        return object.__getattribute__(app, name)

    patch.setattr(Flask, "__getattribute__", get, raising=False)


def _replace_code(app: Application, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Flask.full_dispatch_request, "__code__", (lambda self: "mine").__code__)


def _replace_code_of_view(app: Application, patch: pytest.MonkeyPatch) -> None:
    def view(**_: Any) -> None: ...

    patch.setattr(app.view_functions[PREDICT], "__code__", view.__code__)


@pytest.mark.parametrize(
    "change", [_convert, _convert_one, _redirect, _subclass, _get, _replace_code, _replace_code_of_view]
)
def test_a_change_below_the_views_counts(
    service: Application, change: Callable[[Application, pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "OBJECTS_CHECKED_S", 0.0)
    context = served_by(service).admit(environ("/models/m/predict"))
    assert not context.through_wsgi
    change(service, monkeypatch)
    assert service.gateway.respond([context]) is None
    assert service.gateway.admit(environ("/models/m/predict")).through_wsgi


@pytest.mark.parametrize(("kind", "name"), [(MapAdapter, "match"), (BaseConverter, "to_python")])
def test_a_patch_that_is_gone_before_any_check_leaves_no_trace(service: Application, kind: type, name: str) -> None:
    path = "/models/m/predict"
    assert not served_by(service).admit(environ()).through_wsgi
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, name, counted(getattr(kind, name), []))
        match = service.gateway._router.match(environ(path))
        assert match.route is None or not match.is_direct
    assert not service.gateway.admit(environ(path)).through_wsgi


def test_no_thread_relies_on_a_check_that_has_not_ended(service: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    router, found = cast(FlaskRouter, service.gateway._router), list[bool]()
    take = router._take_survey

    def slow() -> Any:
        found.append(router._are_objects_current(router._survey))  # as another thread meanwhile
        return take()

    assert router.is_direct()
    monkeypatch.setattr(router, "_take_survey", slow)
    monkeypatch.setattr(flask.ctx.AppContext, "push", lambda self: None)
    router.check_at_once()
    assert not router.is_direct()
    assert found == [False]


def test_a_survey_that_another_thread_began_before_a_patch_does_not_hide_it(
    service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    router = cast(FlaskRouter, service.gateway._router)
    before = router._take_survey()
    monkeypatch.setattr(flask.app, "RequestContext", own_context(flask.app.RequestContext, []))
    router.check_at_once()
    assert not router.is_direct()
    assert not router.is_direct()
    router._survey = before  # the other thread ends
    assert not router.is_direct()


class OwnRule(Rule):
    """A user's rule, with other arguments, which matches another path than its text says."""

    def __init__(self, tenant: str, endpoint: str) -> None:
        super().__init__(f"/{tenant}", endpoint=endpoint, methods=["POST"])
        self.tenant = tenant

    def compile(self) -> None:
        text, self.rule = self.rule, f"/models/{self.tenant}/predict"
        super().compile()
        self.rule = text


def test_a_rule_of_a_class_of_a_user_counts(service: Application) -> None:
    path = "/models/acme/predict"
    context = served_by(service).admit(environ(path))
    assert service.gateway._router.is_direct()  # the last check was a moment ago
    service.view_functions["mine"] = lambda: "mine"
    service.url_map.add(OwnRule("acme", "mine"))
    assert service.gateway.respond([context]) is None
    assert service.gateway.admit(environ(path)).through_wsgi
    assert "OwnRule" in service.gateway._router.explain()
    body, _, _ = run_wsgi_app(service, environ(path))
    assert list(body) == [b"mine"]


@pytest.mark.parametrize("where", ["a subclass", "the class"])
def test_a_limit_of_the_class_of_requests_counts(
    service: Application, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "OBJECTS_CHECKED_S", 0.0)
    if where == "the class":
        monkeypatch.setattr(Request, "max_content_length", 10)
    else:
        service.request_class = type("Limited", (Request,), {"max_content_length": 10})
    assert not is_direct(service)
    assert "max_content_length" in service.gateway._router.explain()


def test_a_class_of_requests_that_only_adds_to_flasks_does_not_count(
    service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registrations, "OBJECTS_CHECKED_S", 0.0)

    class Tenants:
        tenant = property(lambda self: "acme")

    class OwnRequest(Tenants, Request):
        def language(self) -> str:
            return self.headers["Accept-Language"]

    service.request_class = OwnRequest
    assert is_direct(service), service.gateway._router.explain()
    monkeypatch.setattr(Tenants, "blueprints", [], raising=False)
    assert not is_direct(service)


@pytest.mark.parametrize("name", ["path", "__init_subclass__", "__setattr__", "default_mimetype"])
def test_a_class_that_changes_one_of_flasks_counts(service: Application, name: str) -> None:
    if name == "default_mimetype":
        service.response_class = type("Own", (FlaskResponse,), {name: "text/plain"})
    else:
        service.request_class = type("Own", (Request,), {name: lambda *_, **__: None})
    assert not is_direct(service)


def test_the_first_check_looks_at_everything(service: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    service = made()
    monkeypatch.setattr(MapAdapter, "match", lambda self: None)
    assert not is_direct(service)


def test_a_session_counts_for_requests_that_may_have_one(
    service: Application, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    served = served_by(service)
    cookie = environ(HTTP_COOKIE="session=x")
    assert not served.admit(cookie).through_wsgi
    service.config["SECRET_KEY"] = "x"
    before = served.admit(environ())
    assert [served.admit(each).through_wsgi for each in (environ(), cookie, cookie)] == [False, True, True]
    assert served.respond([before]) is not None
    assert ["SECRET_KEY" in each for each in caplog.messages].count(True) == 1


@pytest.mark.parametrize("name", ["SERVER_NAME", "SECRET_KEY", "MAX_CONTENT_LENGTH"])
def test_a_usual_value_of_the_configuration_costs_nothing(service: Application, name: str) -> None:
    service.config[name] = 1 if name == "MAX_CONTENT_LENGTH" else "example.org"
    assert is_direct(service)
    assert not served_by(service).admit(environ()).through_wsgi


@pytest.mark.parametrize("hosts", [["example.org"], []])
def test_trusted_hosts_are_honoured(service: Application, hosts: list[str]) -> None:
    service.config["TRUSTED_HOSTS"] = hosts
    assert not is_direct(service)


def test_trusted_hosts_of_the_class_of_requests_count(service: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.request_class, "trusted_hosts", ["example.org"])
    assert not is_direct(service)
    assert "request_class.trusted_hosts" in service.gateway._router.explain()


def test_matching_by_host_counts(service: Application) -> None:
    service.url_map.host_matching = True
    assert not is_direct(service)


def test_matching_by_subdomain_counts(service: Application) -> None:
    assert is_direct(service)
    service.subdomain_matching = True
    assert not is_direct(service)


def test_an_attribute_of_a_user_that_changes_with_each_request_costs_no_survey(
    service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    own: Any = service
    own.counter = 0
    assert is_direct(service)
    monkeypatch.setattr(service.gateway._router, "_take_survey", None)
    own.counter = 1
    assert is_direct(service)


def test_an_attribute_that_takes_the_place_of_another_counts(service: Application) -> None:
    own: Any = service
    own.counter = 0
    assert is_direct(service)
    del own.counter
    vars(service)["wsgi_app"] = print
    assert not is_direct(service)


def test_a_map_of_urls_that_was_replaced_counts(service: Application) -> None:
    service.url_map = Map()  # type: ignore[assignment]
    assert not is_direct(service)
    _, status, _ = run_wsgi_app(service, environ())
    assert status.startswith("404")


def test_classes_of_objects_are_checked_once_a_second(service: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_direct(service)
    clock = [time.monotonic()]
    monkeypatch.setattr(registrations, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    monkeypatch.setattr(MapAdapter, "match", lambda self: None)
    assert is_direct(service)
    clock[0] += 2.0
    assert not is_direct(service)
    assert "MapAdapter.match" in service.gateway._router.explain()


def test_a_patch_by_a_view_counts_for_the_next_request(service: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    @service.get("/patch")
    def patch() -> str:
        monkeypatch.setattr(flask.app, "RequestContext", own_context(flask.app.RequestContext, seen))
        return "patched"

    assert is_direct(service)
    before = served_by(service).admit(environ())
    run_wsgi_app(service, environ("/patch", REQUEST_METHOD="GET"), buffered=True)
    assert service.gateway.respond([before]) is None
    run_wsgi_app(service, before.environ)
    assert len(seen) == 1


def test_a_patch_by_a_view_that_takes_back_another_registration_counts(
    service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.config["TRUSTED_HOSTS"] = ["localhost"]

    @service.get("/patch")
    def patch() -> str:
        service.config["TRUSTED_HOSTS"] = None
        monkeypatch.setattr(flask.app, "RequestContext", own_context(flask.app.RequestContext, []))
        return "patched"

    served_by(service).started(dict)
    assert not is_direct(service)
    run_wsgi_app(service, environ("/patch", REQUEST_METHOD="GET"), buffered=True)
    assert service.gateway.admit(environ()).through_wsgi


def test_a_json_provider_of_a_user_does_not_count(service: Application) -> None:
    class Provider(DefaultJSONProvider): ...

    service.json = Provider(service)
    assert is_direct(service)


class Tenant(BaseConverter):
    """A user's converter, which might query a database."""

    asked: ClassVar[list[str]] = []

    def to_python(self, value: str) -> str:
        self.asked.append(value)
        return value.upper()


def test_values_that_flask_keeps_do_not_count(service: Application) -> None:
    kept = service.logger, service.name, service.jinja_env, service.url_build_error_handlers
    assert all(each is not None for each in kept)
    run_wsgi_app(service, environ("/nowhere"))
    assert is_direct(service), service.gateway._router.explain()


def test_a_converter_of_a_user_runs_in_flask_and_not_when_a_request_is_admitted(service: Application) -> None:
    service.url_map.converters["tenant"] = Tenant
    service.add_url_rule("/<tenant:tenant>/predict", "tenants", lambda tenant: tenant, methods=["POST"])
    Tenant.asked.clear()
    request = environ("/acme/predict")
    context = served_by(service).admit(request)
    assert (context.through_wsgi, Tenant.asked) == (True, [])
    body, _, _ = run_wsgi_app(service.gateway, request)
    assert (b"".join(body), Tenant.asked) == (b"ACME", ["acme"])
    assert not service.gateway.admit(environ("/predict")).through_wsgi


@pytest.mark.parametrize(
    ("path", "rule"),
    [
        ("/models/m/predict", {"string": "/fixed", "defaults": {"model": "m"}, "endpoint": f"{PREDICT}_with_model"}),
        ("/other", {"string": "/other", "alias": True, "endpoint": PREDICT}),
    ],
)
def test_flask_redirects_to_the_canonical_url_of_a_view(service: Application, path: str, rule: dict[str, Any]) -> None:
    service.url_map.add(Rule(methods=["POST"], **rule))
    _, status, _ = run_wsgi_app(service, environ(path))
    assert status.startswith("308")
    service.url_map.redirect_defaults = False
    service.url_map.add(Rule("/another", endpoint="another"))
    assert not service.gateway.admit(environ(path)).through_wsgi


def test_a_converter_of_a_user_builds_no_url_when_a_request_is_admitted(
    service: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tenant, "to_url", lambda self, value: self.asked.append(value), raising=False)
    service.url_map.converters["tenant"] = Tenant
    service.add_url_rule("/<tenant:tenant>/predict", "tenants", lambda tenant: tenant, methods=["POST"])
    service.add_url_rule("/acme", "tenants", defaults={"tenant": "acme"}, methods=["POST"])
    Tenant.asked.clear()
    assert served_by(service).admit(environ("/acme/predict")).through_wsgi
    assert Tenant.asked == []


def test_a_redirect_of_a_user_runs_in_flask_and_not_when_a_request_is_admitted(service: Application) -> None:
    asked: list[Any] = []

    def elsewhere(adapter: Any, **arguments: Any) -> str:
        asked.append(adapter)
        return "predict"

    service.url_map.add(Rule("/old", endpoint="old", redirect_to=elsewhere))
    request = environ("/old", REQUEST_METHOD="GET")
    served_by(service).admit(request)
    assert asked == []
    _, status, _ = run_wsgi_app(service.gateway, request)
    assert (status[:3], len(asked)) == ("308", 1)


@pytest.mark.parametrize("path", ["/predict", "/predict/", "//predict", "/Predict", "/models/a%20b/predict", "/é", ""])
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "OPTIONS", "BREW", "post"])
def test_a_route_is_taken_only_where_flask_finds_its_view(service: Application, path: str, method: str) -> None:
    sent = path.encode().decode("latin-1")
    context = service.gateway.admit(environ(sent, REQUEST_METHOD=method))
    with service.request_context(environ(sent, REQUEST_METHOD=method)) as flasks:
        endpoint = flasks.request.endpoint
    if context.route is not None:
        assert endpoint in ("predict.predict", "predict.predict_with_model")
        assert context.arguments == flasks.request.view_args
    elif method == "POST":
        assert endpoint is None


def test_the_log_names_what_was_found_once(service: Application, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    def check_key() -> None: ...

    service.before_request(check_key)
    service.wsgi_app = DispatcherMiddleware(service.wsgi_app)  # type: ignore[method-assign]
    for _ in range(3):
        run_wsgi_app(service, environ())
    messages = [record.getMessage() for record in caplog.records if "go through Flask" in record.getMessage()]
    assert len(messages) == 1
    assert "check_key" in messages[0]
    assert "DispatcherMiddleware" in messages[0]


def test_the_log_names_a_view_that_was_replaced_once(service: Application, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    service.view_functions[PREDICT] = lambda: "mine"
    for _ in range(3):
        body, _, _ = run_wsgi_app(service, environ())
        assert list(body) == [b"mine"]
    assert [PREDICT in record.getMessage() for record in caplog.records].count(True) == 1


def test_an_extension_that_registers_at_the_first_request_counts_from_then_on(service: Application) -> None:
    seen: list[Any] = []

    @service.before_request
    def once() -> None:
        service.before_request_funcs[None][:] = [lambda: seen.append(1)]

    for _ in range(3):
        run_wsgi_app(service, environ())
    assert len(seen) == 2


@pytest.mark.alone
def test_checking_for_registrations_is_fast(service: Application) -> None:
    router = service.gateway._router
    assert min(timeit.repeat(router.is_direct, number=2000, repeat=20)) / 2000 < 20e-6  # about 2.4 us where it is quiet


def test_two_services_behind_one_dispatcher_each_run_their_own_interceptors() -> None:
    class Refusing(Interceptor):
        def before(self, context: Any) -> None:
            raise RequestRefused(403, "no-tenant", "the header X-Tenant is missing")

    guarded, plain = made([Refusing()]), made()
    served = served_by(plain, DispatcherMiddleware(guarded, {"/plain": plain}))
    for path, expected in (("/livez", "403"), ("/plain/livez", "200")):
        request = environ(path, REQUEST_METHOD="GET")
        served.admit(request)
        _, status, _ = run_wsgi_app(served, request)
        assert status.startswith(expected)


@pytest.mark.parametrize("copies", [False, True])
def test_a_page_of_another_origin_may_not_unload_models_by_another_method(service: Application, copies: bool) -> None:
    inner = service.wsgi_app

    def override(sent: dict[str, Any], start_response: Any) -> Any:
        moved = dict(sent) if copies else sent
        moved["REQUEST_METHOD"] = sent["HTTP_X_HTTP_METHOD_OVERRIDE"]
        return inner(moved, start_response)

    service.wsgi_app = override  # type: ignore[method-assign]
    for origin, expected in (("http://evil.example", "403"), ("http://localhost", "200")):
        more = {"HTTP_ORIGIN": origin, "HTTP_X_HTTP_METHOD_OVERRIDE": "POST", "REQUEST_METHOD": "GET"}
        _, status, _ = run_wsgi_app(service, environ("/models/m/unload", **more))
        assert status.startswith(expected)


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize("path", ["/predict", "/livez", "/models/m/unload", "/nowhere", "/models/m/unload/"])
def test_a_request_is_freed_without_the_garbage_collector(service: Application, path: str, hooked: bool) -> None:
    if hooked:
        service.before_request(lambda: None)
    method = "GET" if path in ("/livez", "/models/m/unload/") else "POST"  # the last is a 405
    gc.disable()
    try:
        request = environ(path, REQUEST_METHOD=method, HTTP_ORIGIN="http://elsewhere.example")
        context = served_by(service).admit(request)
        run_wsgi_app(service.gateway, request)
        freed = weakref.ref(context)
        del context, request
        assert freed() is None
    finally:
        gc.enable()


def test_a_page_of_another_origin_may_not_unload_models_below_a_mount(service: Application) -> None:
    mounted = DispatcherMiddleware(Flask("other"), {"/ml": service})
    served = served_by(service, mounted)
    for path, origin, expected in (
        ("/ml/models/m/unload", "http://evil.example", "403"),
        ("/ml/models/m/unload", "", "200"),
        ("/ml/predict", "http://evil.example", "404"),
    ):
        more = {"HTTP_ORIGIN": origin} if origin else {}
        _, status, _ = run_wsgi_app(served, environ(path, **more))
        assert status.startswith(expected)
