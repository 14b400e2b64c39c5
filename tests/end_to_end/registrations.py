"""Everything that can be registered around the views of a Flask application. Each counts or refuses requests.

`tests.end_to_end.registered` serves an application with one of them. A registration that refuses lets requests with
`X-Pass: yes` pass; all others let every request pass. `GET /seen` returns how often each request was seen, by its id.
"""

from __future__ import annotations

import functools
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.validate import validator

import flask.app
import flask.ctx
from flask import Flask, abort, current_app, request, signals
from werkzeug.exceptions import Unauthorized
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix

from app.errors import InvalidInstances
from app.gateway import Interceptor, RequestContext, RequestRefused, Response
from app.telemetry import request_id

SEEN: Counter[str] = Counter()
LOCK = threading.Lock()
PREDICTIONS = (
    "predict.",
    "invocations.invocations",
    "open_inference.infer",
    "tensorflow_serving.v1_predict",
    "vertex.vertex_predict",
)


def see(name: str) -> None:
    """Count a request. User code must not run on the event loop, which is the main thread of a worker."""
    if os.environ["RETORT_WORKER"] == "retort" and threading.current_thread() is threading.main_thread():
        name += " on the event loop"
    with LOCK:
        SEEN[name] += 1


def check_view(**_: Any) -> None:
    """Count the request of a view, and refuse it unless it passes."""
    see(request.headers["X-Request-ID"])
    if request.headers.get("X-Pass") != "yes":
        abort(401)


def count_view(*_: Any, **__: Any) -> None:
    see(request.headers["X-Request-ID"])


def check_response() -> Any:
    """Like `check_view`, for places without an error handler around them."""
    count_view()
    return None if request.headers.get("X-Pass") == "yes" else current_app.make_response(("", 401))


def read_body() -> None:
    count_view()
    request.get_data(cache=False)


def returning(response: Any) -> Any:
    count_view()
    return response


class Auth:
    """A WSGI middleware."""

    def __init__(self, wsgi: Any, passes: Callable[[dict[str, Any]], bool] | None = None) -> None:
        self.wsgi = wsgi
        self.passes = passes or (lambda environ: environ.get("HTTP_X_PASS") == "yes")

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        see(environ["HTTP_X_REQUEST_ID"])
        if not self.passes(environ):
            start_response("401 UNAUTHORIZED", [("Content-Length", "0")])
            return [b""]
        return self.wsgi(environ, start_response)  # type: ignore[no-any-return]


class Failing:
    """A WSGI middleware that fails before or during the response, as the request asks."""

    def __init__(self, wsgi: Any) -> None:
        self.wsgi = wsgi

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        how = environ.get("HTTP_X_FAIL", "")
        if how == "called":
            raise ValueError("a secret")
        if how == "by the network":
            raise ConnectionResetError("a secret")
        return self.parts(how, environ, start_response)

    def parts(self, how: str, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        parts = self.wsgi(environ, start_response)
        if how == "iterated":
            raise ValueError("a secret")
        yield b""
        yield from [each.decode() for each in parts] if how == "text" else parts  # type: ignore[misc]


class Marking(Interceptor):
    """Mark every response, also of refused requests."""

    may_block = False

    def after(self, context: RequestContext, response: Response) -> None:
        response.headers.append(("X-Marked", "yes"))


class Refusing(Interceptor):
    def __init__(self, may_block: bool) -> None:
        self.may_block = may_block

    def before(self, context: RequestContext) -> None:
        if self.may_block:
            see(context.id)
        if context.environ.get("HTTP_X_PASS") != "yes":
            raise RequestRefused(401, "no-pass", "it does not pass")

    def after(self, context: RequestContext, response: Response) -> None:
        if not self.may_block:
            with LOCK:
                SEEN[context.id] += 1


def around(function: Callable[..., Any], check: Callable[..., Any] = check_view) -> Callable[..., Any]:
    """Return a decorated function that looks like the original."""

    @functools.wraps(function)
    def decorated(*args: Any, **named: Any) -> Any:
        return check() or function(*args, **named)

    return decorated


def decorate_views(app: Flask, decorator: Callable[..., Any]) -> None:
    for endpoint, view in list(app.view_functions.items()):
        if endpoint.startswith(PREDICTIONS):
            app.view_functions[endpoint] = decorator(view)


def on_instance(method: str, check: Callable[..., Any] = check_view) -> Callable[[Flask], None]:
    return lambda app: setattr(app, method, around(getattr(app, method), check))


def on_class(method: str) -> Callable[[Flask], None]:
    def patch(app: Flask) -> None:
        setattr(Flask, method, around(getattr(Flask, method)))

    return patch


def on_signal(signal: Any, receiver: Callable[..., None]) -> Callable[[Flask], None]:
    return lambda app: signal.connect(receiver, app, weak=False) and None  # type: ignore[func-returns-value]


def for_blueprints(hooks: str, function: Callable[..., Any]) -> Callable[[Flask], None]:
    def register(app: Flask) -> None:
        for name in app.blueprints:
            getattr(app, hooks).setdefault(name, []).append(function)

    return register


def http_auth(app: Flask) -> None:
    from flask_httpauth import HTTPTokenAuth

    auth = HTTPTokenAuth("Bearer", header="X-Pass")
    auth.verify_token(lambda token: (see(request.headers["X-Request-ID"]), token == "yes")[1])
    decorate_views(app, auth.login_required)


def login(app: Flask) -> Any:
    from flask_login import LoginManager, UserMixin

    manager = LoginManager(app)
    manager.request_loader(lambda sent: UserMixin() if sent.headers.get("X-Pass") == "yes" else None)
    return manager


def login_by_hook(app: Flask) -> None:
    from flask_login import current_user

    login(app)

    @app.before_request
    def look() -> None:
        count_view()
        if not current_user.is_authenticated:
            abort(401)


def login_by_decorator(app: Flask) -> None:
    from flask_login import login_required

    login(app)
    decorate_views(app, lambda view: around(login_required(view), count_view))


def whose() -> str:
    """Return a new client for each request that passes, and one for all others, whose budget is one request."""
    see(request.headers["X-Request-ID"])
    return request.headers["X-Request-ID"] if request.headers.get("X-Pass") == "yes" else "all others"


def limit_by_default(app: Flask) -> None:
    from flask_limiter import Limiter

    Limiter(whose, app=app, default_limits=["1 per day"], storage_uri="memory://")


def limit_by_decorator(app: Flask) -> None:
    from flask_limiter import Limiter

    decorate_views(app, Limiter(whose, app=app, storage_uri="memory://").limit("1 per day"))


def opentelemetry_wsgi(app: Flask) -> None:
    from opentelemetry.instrumentation.wsgi import OpenTelemetryMiddleware

    app.wsgi_app = OpenTelemetryMiddleware(  # type: ignore[method-assign]
        app.wsgi_app, request_hook=lambda span, environ: see(environ["HTTP_X_REQUEST_ID"])
    )


def opentelemetry_flask(app: Flask) -> None:
    from opentelemetry.instrumentation.flask import FlaskInstrumentor
    from opentelemetry.sdk.trace import TracerProvider

    FlaskInstrumentor().instrument_app(
        app, tracer_provider=TracerProvider(), request_hook=lambda span, environ: see(environ["HTTP_X_REQUEST_ID"])
    )


def prometheus_exporter(app: Flask) -> None:
    from prometheus_client import CollectorRegistry
    from prometheus_flask_exporter import PrometheusMetrics

    metrics = PrometheusMetrics(app, path=None, registry=CollectorRegistry())
    app.after_request(returning)
    assert metrics is not None


def own_subclass(app: Flask) -> None:
    class Own(type(app)):  # type: ignore[misc]
        def preprocess_request(self) -> Any:
            check_view()
            return super().preprocess_request()

    app.__class__ = Own


class CheckedContext(flask.ctx.RequestContext):
    """The context of a request, with a check before its view is found."""

    def match_request(self) -> None:
        super().match_request()
        see(self.request.headers["X-Request-ID"])
        if self.request.headers.get("X-Pass") != "yes":
            self.request.routing_exception = Unauthorized()


def own_context(app: Flask) -> None:
    flask.app.RequestContext = CheckedContext  # type: ignore[misc]


def later(register: Callable[[Flask], None]) -> Callable[[Flask], None]:
    """Register by a request for `/register`, while the server runs."""

    def add(app: Flask) -> None:
        def view() -> str:
            register(app)
            return "registered"

        app.add_url_rule("/register", "register", view)

    return add


def middleware(wrap: Callable[[Any], Any]) -> Callable[[Flask], None]:
    return lambda app: setattr(app, "wsgi_app", wrap(app.wsgi_app))


def from_inside(environ: dict[str, Any]) -> bool:
    return environ["REMOTE_ADDR"] == "10.1.1.1"


def counting(wsgi: Any) -> Any:
    return Auth(wsgi, lambda environ: True)


REFUSING: dict[str, Callable[[Flask], None]] = {
    "before_request": lambda app: app.before_request(check_view) and None,
    "before_request of blueprints": for_blueprints("before_request_funcs", check_view),
    "url_value_preprocessor": lambda app: app.url_value_preprocessor(lambda endpoint, values: check_view()) and None,
    "url_value_preprocessor of blueprints": for_blueprints("url_value_preprocessors", lambda *_: check_view()),
    "request_started": on_signal(signals.request_started, lambda sender, **_: check_view()),
    "decorated views": lambda app: decorate_views(app, around),
    "Flask-HTTPAuth": http_auth,
    "Flask-Login": login_by_hook,
    "Flask-Login by decorator": login_by_decorator,
    "Flask-Limiter by default": limit_by_default,
    "Flask-Limiter by decorator": limit_by_decorator,
    "dispatch_request": on_instance("dispatch_request"),
    "full_dispatch_request": on_instance("full_dispatch_request", check_response),
    "preprocess_request of the class": on_class("preprocess_request"),
    "a subclass": own_subclass,
    "wsgi_app": middleware(Auth),
    "ProxyFix and an allow-list": middleware(lambda wsgi: ProxyFix(Auth(wsgi, from_inside))),
    "DispatcherMiddleware": middleware(lambda wsgi: DispatcherMiddleware(Auth(wsgi), {"/other": wsgi})),
}
LATER: dict[str, Callable[[Flask], None]] = {
    f"{name} while it runs": later(register)
    for name, register in {
        "wsgi_app": middleware(Auth),
        "a hook": lambda app: app.before_request_funcs.setdefault(None, []).append(check_view),
        "preprocess_request of the class": on_class("preprocess_request"),
        "a context": own_context,
        "decorated views": lambda app: decorate_views(app, around),
    }.items()
}
REFUSING |= {"a context in flask.app": own_context, **LATER}
OBSERVING: dict[str, Callable[[Flask], None]] = {
    "after_request": lambda app: app.after_request(returning) and None,
    "after_request of blueprints": for_blueprints("after_request_funcs", returning),
    "teardown_request": lambda app: app.teardown_request(count_view) and None,
    "teardown_request of blueprints": for_blueprints("teardown_request_funcs", count_view),
    "teardown_appcontext": lambda app: app.teardown_appcontext(lambda _: see(request_id())) and None,
    "make_response": on_instance("make_response", count_view),
    "request_finished": on_signal(signals.request_finished, count_view),
    "request_tearing_down": on_signal(signals.request_tearing_down, count_view),
    "a counting middleware": middleware(counting),
    "a hook that reads the body": lambda app: app.before_request(read_body) and None,
    "wsgiref's validator": middleware(lambda wsgi: counting(validator(wsgi))),
    "OpenTelemetry's middleware": opentelemetry_wsgi,
    "OpenTelemetry for Flask": opentelemetry_flask,
    "prometheus_flask_exporter": prometheus_exporter,
    "an error handler": lambda app: app.register_error_handler(InvalidInstances, lambda _: returning(("mine", 418))),
}
WRAPPED: dict[str, Callable[[Any], Any]] = {
    "app = Auth(app)": Auth,
    "app = DispatcherMiddleware(Auth(app))": lambda app: DispatcherMiddleware(Auth(app), {"/other": app}),
}
FAILING: dict[str, Callable[[Flask], Any]] = {"wsgi_app that fails": middleware(Failing), "app = Failing(app)": Failing}
FAILURES = ("called", "by the network", "iterated", "text")
"""The ways of `Failing`."""
INTERCEPTORS = {"an interceptor": False, "an interceptor that may block": True}
