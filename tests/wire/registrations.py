"""Every way to run user code around a prediction, as a Flask developer would write it.

Each function installs code that appends to `seen` once for each `POST /predict`. It may return another application to
serve instead. `patch` undoes changes to classes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flask.app
import flask.ctx
import pytest
import werkzeug.routing.map
import werkzeug.wrappers.request
from blinker import NamedSignal
from flask import Blueprint, Config, Flask, Request, Response, signals
from flask.sessions import NullSession, SecureCookieSessionInterface
from flask.typing import ResponseReturnValue
from flask.wrappers import Request as FlaskRequest
from werkzeug.datastructures import EnvironHeaders
from werkzeug.exceptions import NotFound
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.routing import Map, MapAdapter, Rule
from werkzeug.routing.matcher import StateMachineMatcher
from werkzeug.utils import cached_property
from werkzeug.wrappers import Request as WerkzeugRequest
from werkzeug.wrappers import Response as WerkzeugResponse

from app.errors import ModelNotFound, RetortError
from app.wire import registrations
from app.wire.application import Application

Install = Callable[[Application, list[Any], pytest.MonkeyPatch], Any]
PREDICT = "predict.predict"


class Proxy:
    """Stand for a function like the proxies of wrapt, which tracers use: it equals the function, and has its class."""

    def __init__(self, wrapped: Any, seen: list[Any]) -> None:
        self.wrapped, self.seen = wrapped, seen

    def __get__(self, owner: Any, kind: Any) -> Any:
        return functools.partial(self, owner) if owner is not None else self

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        self.seen.append(self)
        return self.wrapped(*arguments, **named)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)

    def __eq__(self, other: object) -> bool:
        return bool(self.wrapped == other)

    def __hash__(self) -> int:
        return hash(self.wrapped)

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return self.wrapped.__class__


class Counting:
    """A middleware."""

    def __init__(self, application: Any, seen: list[Any]) -> None:
        self.application, self.seen = application, seen

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        self.seen.append(environ["PATH_INFO"])
        return self.application(environ, start_response)


def counted(function: Any, seen: list[Any]) -> Any:
    """Return the function with a usual decorator."""

    @functools.wraps(function)
    def wrapper(*arguments: Any, **named: Any) -> Any:
        seen.append(function)
        return function(*arguments, **named)

    return wrapper


REGISTRATIONS: dict[str, Install] = {}


def registration(install: Install) -> Install:
    REGISTRATIONS[install.__name__] = install
    return install


@registration
def before_request(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.before_request(lambda: seen.append(1))


def _executed(seen: list[Any]) -> dict[str, Any]:
    """Return functions that are in no module. `decorator` and template engines make such functions."""
    names: dict[str, Any] = {"seen": seen, "dispatch": Flask.dispatch_request}
    exec(EXECUTED, names)
    return names


EXECUTED = """
def before():
    seen.append(1)

def dispatch_request(self):
    seen.append(1)
    return dispatch(self)

class Dispatch:
    __module__ = None

    def __get__(self, app, kind):
        return lambda: dispatch_request(app)

    def __call__(self):
        pass
"""


@registration
def a_hook_of_no_module(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.before_request(_executed(seen)["before"])


@registration
def a_method_of_no_module(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Flask, "dispatch_request", _executed(seen)["dispatch_request"])


@registration
def a_method_of_a_class_of_no_module(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Flask, "dispatch_request", _executed(seen)["Dispatch"]())


@registration
def after_request(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    @app.after_request
    def after(response: Response) -> Response:
        seen.append(response)
        return response


@registration
def teardown_request(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.teardown_request(seen.append)


@registration
def teardown_appcontext(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.teardown_appcontext(seen.append)


@registration
def a_partial(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.before_request(functools.partial(seen.append, None))


@registration
def url_value_preprocessor(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.url_value_preprocessor(lambda endpoint, values: seen.append(endpoint))


@registration
def a_hook_at_the_front_of_the_list(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.before_request_funcs.setdefault(None, []).insert(0, lambda: seen.append(1))


@registration
def a_hook_for_a_blueprint_of_ours(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.before_request_funcs.setdefault("predict", []).append(lambda: seen.append(1))


@registration
def the_dictionary_of_hooks_replaced(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.before_request_funcs = {None: [lambda: seen.append(1)]}


def _blueprint(app: Application, register: Callable[[Blueprint], object]) -> None:
    blueprint = Blueprint("of_a_user", __name__)
    register(blueprint)
    app.register_blueprint(blueprint)


@registration
def before_app_request(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _blueprint(app, lambda blueprint: blueprint.before_app_request(lambda: seen.append(1)))


@registration
def after_app_request(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _blueprint(app, lambda blueprint: blueprint.after_app_request(lambda response: seen.append(1) or response))


@registration
def teardown_app_request(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _blueprint(app, lambda blueprint: blueprint.teardown_app_request(seen.append))


@registration
def app_url_value_preprocessor(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _blueprint(app, lambda blueprint: blueprint.app_url_value_preprocessor(lambda endpoint, _: seen.append(endpoint)))


def _error_handler(seen: list[Any]) -> Callable[[Exception], ResponseReturnValue]:
    def answer(error: Exception) -> ResponseReturnValue:
        seen.append(error)
        return "of a user", 418

    return answer


@registration
def error_handler_by_class(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.register_error_handler(RetortError, _error_handler(seen))


@registration
def error_handler_for_a_subclass(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.register_error_handler(ModelNotFound, _error_handler(seen))


@registration
def error_handler_of_a_blueprint(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.error_handler_spec["predict"][None][ModelNotFound] = _error_handler(seen)


@registration
def error_handler_of_ours_behind_a_proxy(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    """Wrap the handler as a tracer does that is set up late."""
    handlers = app.error_handler_spec[None][None]
    handlers[RetortError] = Proxy(handlers[RetortError], seen)


@registration
def app_errorhandler(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _blueprint(app, lambda blueprint: blueprint.app_errorhandler(ModelNotFound)(_error_handler(seen)))


def _signal(signal: Any) -> Install:
    def install(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
        def receive(sender: Any, **named: Any) -> None:
            seen.append(signal.name)

        patch.setitem(app.extensions, "receiver", receive)  # the signal keeps a weak reference
        signal.connect(receive, app)

    return install


for each in (
    signals.appcontext_pushed,
    signals.request_started,
    signals.request_finished,
    signals.request_tearing_down,
    signals.appcontext_tearing_down,
    signals.appcontext_popped,
):
    REGISTRATIONS[f"the signal {each.name}"] = _signal(each)


@registration
def a_signal_of_any_sender(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    def receive(sender: Any, **named: Any) -> None:
        seen.append(sender)

    patch.setitem(app.extensions, "receiver", receive)
    signals.request_started.connect(receive)


@registration
def a_signal_whose_method_was_replaced(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(signals.request_started, "send", counted(signals.request_started.send, seen))


@registration
def the_map_of_urls_bound_by_user_code(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _check_at_once(patch)
    patch.setattr(app.url_map, "bind_to_environ", counted(app.url_map.bind_to_environ, seen))


@registration
def maps_of_urls_bound_by_user_code(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _check_at_once(patch)
    patch.setattr(Map, "bind_to_environ", counted(Map.bind_to_environ, seen))


@registration
def the_search_for_a_rule(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _check_at_once(patch)
    patch.setattr(MapAdapter, "match", counted(MapAdapter.match, seen))


@registration
def the_search_in_the_rules(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _check_at_once(patch)
    patch.setattr(StateMachineMatcher, "match", counted(StateMachineMatcher.match, seen))


@registration
def wsgi_app_wrapped(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.wsgi_app = Counting(app.wsgi_app, seen)  # type: ignore[method-assign]


@registration
def wsgi_app_wrapped_twice(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.wsgi_app = ProxyFix(Counting(app.wsgi_app, seen))  # type: ignore[method-assign]


@registration
def wsgi_app_replaced_by_a_function_of_werkzeug(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    inner = app.wsgi_app

    @Request.application
    def application(request: FlaskRequest) -> Any:
        seen.append(request)
        return inner

    app.wsgi_app = application  # type: ignore[method-assign]


@registration
def wsgi_app_dispatched(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.wsgi_app = DispatcherMiddleware(Counting(app.wsgi_app, seen))  # type: ignore[method-assign]


@registration
def the_application_wrapped(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> Any:
    return Counting(app, seen)


@registration
def view_function_decorated(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.view_functions[PREDICT] = counted(app.view_functions[PREDICT], seen)


@registration
def view_function_behind_a_proxy(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.view_functions[PREDICT] = Proxy(app.view_functions[PREDICT], seen)


@registration
def view_functions_replaced(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    views = app.view_functions
    app.view_functions = {**views, PREDICT: counted(views[PREDICT], seen)}


@registration
def view_functions_of_a_class_of_a_user(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    class Views(dict[str, Any]):
        def __getitem__(self, endpoint: str) -> Any:
            return counted(super().__getitem__(endpoint), seen)

    app.view_functions = Views(app.view_functions)


@registration
def the_dictionary_of_the_application_updated(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    vars(app).update(wsgi_app=Counting(app.wsgi_app, seen))


@registration
def a_method_of_the_session_interface_replaced(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _check_at_once(patch)
    sessions = app.session_interface  # the method serves all applications
    patch.setattr(sessions, "open_session", counted(sessions.open_session, seen))


@registration
def a_class_whose_method_is_a_partial(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Flask, "preprocess_request", functools.partialmethod(counted(Flask.preprocess_request, seen)))


@registration
def a_class_decorated_by_a_context_manager(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def timed() -> Iterator[None]:
        seen.append(1)
        yield

    patch.setattr(Flask, "full_dispatch_request", timed()(Flask.full_dispatch_request))


@registration
def a_class_with_a_cached_property(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _check_at_once(patch)
    blueprints = counted(FlaskRequest.blueprints.fget, seen)  # type: ignore[attr-defined]
    patch.setattr(FlaskRequest, "blueprints", cached_property(blueprints, "blueprints"))


@registration
def the_class_of_configurations(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    def get(config: Config, name: str) -> Any:
        if name == "TRUSTED_HOSTS":
            seen.append(name)
        return dict.__getitem__(config, name)

    _check_at_once(patch)
    patch.setattr(Config, "__getitem__", get, raising=False)


@registration
def a_class_of_null_sessions(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    _check_at_once(patch)
    own = {"__init__": counted(NullSession.__init__, seen)}
    patch.setattr(SecureCookieSessionInterface, "null_session_class", type("Own", (NullSession,), own))


@registration
def hooks_in_a_dictionary_of_a_user(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    class Hooks(dict[Any, Any]):
        def __contains__(self, scope: object) -> bool:
            return True

        def __getitem__(self, scope: Any) -> Any:
            return [lambda: seen.append(1)] if scope is None else []

    _check_at_once(patch)
    app.before_request_funcs = Hooks()


@registration
def session_interface(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    class Sessions(SecureCookieSessionInterface):
        def open_session(self, app: Flask, request: FlaskRequest) -> Any:
            seen.append(request)
            return super().open_session(app, request)

    app.session_interface = Sessions()


@registration
def request_class(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    class OwnRequest(FlaskRequest):
        def __init__(self, environ: Any) -> None:
            seen.append(environ)
            super().__init__(environ)

    app.request_class = OwnRequest


@registration
def app_ctx_globals_class(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    class Globals(flask.ctx._AppCtxGlobals):
        def __init__(self) -> None:
            seen.append(self)

    app.app_ctx_globals_class = Globals


@registration
def the_class_of_the_application_replaced(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    class Own(Application):
        def dispatch_request(self) -> ResponseReturnValue:
            seen.append(self)
            return super().dispatch_request()

    app.__class__ = Own


def _check_at_once(patch: pytest.MonkeyPatch) -> None:
    """Check the registrations before each request instead of once a second."""
    patch.setattr(registrations, "OBJECTS_CHECKED_S", 0.0)


METHODS = (
    *("__call__", "wsgi_app", "request_context", "app_context", "create_url_adapter", "full_dispatch_request"),
    *("preprocess_request", "dispatch_request", "make_response", "finalize_request", "process_response"),
    *("do_teardown_request", "do_teardown_appcontext", "handle_user_exception"),
)
TWICE = {"create_url_adapter"}
"""Methods that Flask calls once for each of the two contexts of a request."""


def _on_instance(name: str) -> Install:
    def install(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
        setattr(app, name, counted(getattr(app, name), seen))

    return install


def _in_module(module: Any, name: str, replace: Callable[[Any, list[Any]], Any]) -> Install:
    def install(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
        _check_at_once(patch)
        patch.setattr(module, name, replace(getattr(module, name), seen))

    return install


def own_context(kind: type, seen: list[Any]) -> type:
    class Own(kind):  # type: ignore[misc]
        def push(self) -> None:
            seen.append(self)
            super().push()

    return Own


def _own_signal(signal: Any, seen: list[Any]) -> Any:
    class Own(NamedSignal):
        def send(self, *arguments: Any, **named: Any) -> Any:
            seen.append(self)
            return signal.send(*arguments, **named)

    return Own(signal.name)


def _with_receiver(signal: Any, seen: list[Any]) -> Any:
    other = NamedSignal(signal.name)
    other.connect(lambda sender, **named: seen.append(sender), weak=False)
    return other


OBJECTS = (FlaskRequest, WerkzeugRequest, Response, WerkzeugResponse, SecureCookieSessionInterface)
"""Classes of the objects that Flask makes for each request."""


def _on_class(kind: type, name: str, wrap: Callable[[Any, list[Any]], Any]) -> Install:
    def install(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
        if kind in OBJECTS or name == "__init__" or not kind.__module__.startswith("flask"):
            _check_at_once(patch)
        patch.setattr(kind, name, wrap(getattr(kind, name), seen))

    return install


for name in METHODS:
    if name != "__call__":  # Python looks it up in the class
        REGISTRATIONS[f"app.{name} replaced"] = _on_instance(name)
    REGISTRATIONS[f"Flask.{name} decorated"] = _on_class(Flask, name, counted)
    REGISTRATIONS[f"Flask.{name} behind a proxy"] = _on_class(Flask, name, Proxy)
    if name not in ("__call__", "wsgi_app"):
        REGISTRATIONS[f"Application.{name} decorated"] = _on_class(Application, name, counted)
for kind, name in (
    *((flask.ctx.RequestContext, "__init__"), (flask.ctx.RequestContext, "push")),
    *((flask.ctx.RequestContext, "match_request"), (SecureCookieSessionInterface, "open_session")),
    *((FlaskRequest, "__init__"), (WerkzeugRequest, "__init__")),
    *((Response, "__call__"), (WerkzeugResponse, "get_wsgi_headers")),
    *((EnvironHeaders, "__init__"), (NullSession, "__init__"), (NotFound, "__init__")),
):
    REGISTRATIONS[f"{kind.__module__}.{kind.__name__}.{name} decorated"] = _on_class(kind, name, counted)
MODULE_NAMES: tuple[tuple[Any, str, Callable[[Any, list[Any]], Any]], ...] = (
    *((flask.app, name, replace) for name in ("RequestContext", "AppContext") for replace in (own_context, Proxy)),
    *((flask.app, "request_started", replace) for replace in (_own_signal, _with_receiver)),
    *((flask.ctx, "appcontext_pushed", replace) for replace in (_own_signal, _with_receiver)),
    *((flask.app, "get_host", counted), (flask.app, "get_host", Proxy), (werkzeug.routing.map, "get_host", counted)),
    (werkzeug.wrappers.request, "EnvironHeaders", counted),
)
for module, name, replace in MODULE_NAMES:
    key = f"{module.__name__}.{name} replaced by {replace.__name__.strip('_')}"
    REGISTRATIONS[key] = _in_module(module, name, replace)
PATCHES = [name for name in REGISTRATIONS if name[0].isupper() or name.startswith(("flask.", "werkzeug."))]
"""Registrations that patch classes and modules, and need no application."""


@registration
def a_rule_that_shadows(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    """Register a new path, `SHADOWED`."""
    app.add_url_rule("/models/special/predict", "special", lambda: seen.append(1) or "special", methods=["POST"])


@registration
def a_rule_added_to_the_map(app: Application, seen: list[Any], patch: pytest.MonkeyPatch) -> None:
    app.url_map.add(Rule("/models/special/predict", endpoint="special", methods=["POST"]))
    app.view_functions["special"] = lambda: seen.append(1) or "special"


SHADOWED = ("a_rule_that_shadows", "a_rule_added_to_the_map")
