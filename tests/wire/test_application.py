"""Tests that all code which a Flask developer registers around the views runs, and not on the event loop."""

from __future__ import annotations

import gc
import io
import logging
import timeit
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

import pytest
from flask import Blueprint, Flask, signals
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.routing import BaseConverter, Map, Rule
from werkzeug.test import run_wsgi_app

from app.core.steps.event_loop import EventLoop
from app.errors import ModelNotFound
from app.gateway import Interceptor, RequestContext, RequestRefused, Response
from app.gateway.browsers import SameOrigin
from app.gateway.errors import ErrorRenderer
from app.gateway.forwarded import Forwarding
from app.gateway.gateway import Gateway
from app.telemetry.metrics import SharedMetrics
from app.wire import problems
from app.wire.application import Application, FlaskRouter
from tests.wire.registrations import PREDICT, REGISTRATIONS, SHADOWED, TWICE


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
    router = FlaskRouter(app, {predict: FakeRoute()}, ())
    chain = [SameOrigin([]), *interceptors]
    app.gateway = Gateway(router, chain, errors, Forwarding(0, ""), SharedMetrics(), lambda: None, EventLoop())
    return app


def served_by(app: Application, wrapped: Any = None) -> Gateway:
    """Return the gateway that the worker serves for an application."""
    return app.gateway.serve(wrapped or app, "" if wrapped is None else repr(wrapped))


@pytest.fixture
def service() -> Application:
    return made()


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
        return  # another application, which has admitted nothing
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


def test_a_class_that_was_patched_before_the_application_was_made_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[Any] = []
    REGISTRATIONS["Flask.dispatch_request decorated"](None, seen, monkeypatch)  # type: ignore[arg-type]
    service = made()
    assert not is_direct(service)
    run_wsgi_app(service, environ())
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["SERVER_NAME", "SECRET_KEY", "SECRET_KEY_FALLBACKS"])
def test_a_value_that_flask_looks_at_before_a_view_counts(service: Application, name: str) -> None:
    service.config[name] = "x"
    assert not is_direct(service)
    assert name in service.gateway._router.explain()


@pytest.mark.parametrize("hosts", [["example.org"], []])
def test_trusted_hosts_are_honoured(service: Application, hosts: list[str]) -> None:
    service.config["TRUSTED_HOSTS"] = hosts
    assert not is_direct(service)


def test_matching_by_host_counts(service: Application) -> None:
    service.url_map.host_matching = True
    assert not is_direct(service)


def test_a_map_of_urls_that_was_replaced_counts(service: Application) -> None:
    service.url_map = Map()  # type: ignore[assignment]
    assert not is_direct(service)
    _, status, _ = run_wsgi_app(service, environ())
    assert status.startswith("404")


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
