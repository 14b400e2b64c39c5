"""The Flask application, which hands every request to the gateway first, and what the gateway asks of Flask."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import flask
import svcs
import svcs.flask
import werkzeug
from flask import Flask, signals
from flask.sessions import SecureCookieSessionInterface
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, RuleFactory

import app
from app.core.services import Services
from app.gateway.context import KEY, Match, Route
from app.gateway.gateway import Gateway
from app.server.contract import Environ

KNOWN_PATHS = 2048
"""How many pairs of method and path are remembered."""
HOOKS = (
    "before_request_funcs",
    "after_request_funcs",
    "teardown_request_funcs",
    "teardown_appcontext_funcs",
    "url_value_preprocessors",
    "error_handler_spec",
)
CLASSES = ("request_class", "response_class", "app_ctx_globals_class", "json", "url_build_error_handlers")
METHODS = (
    *("__call__", "wsgi_app", "request_context", "app_context", "create_url_adapter", "full_dispatch_request"),
    *("preprocess_request", "dispatch_request", "raise_routing_exception", "ensure_sync", "make_response"),
    *("finalize_request", "process_response", "handle_user_exception", "handle_http_exception", "handle_exception"),
    *("_find_error_handler", "trap_http_exception", "log_exception", "should_ignore_error", "inject_url_defaults"),
    *("do_teardown_request", "do_teardown_appcontext"),
)
"""What Flask calls for a request, in this order."""
SIGNALS = (
    signals.appcontext_pushed,
    signals.request_started,
    signals.got_request_exception,
    signals.request_finished,
    signals.request_tearing_down,
    signals.appcontext_tearing_down,
    signals.appcontext_popped,
)
CONFIG = ("SERVER_NAME", "TRUSTED_HOSTS", "SECRET_KEY", "SECRET_KEY_FALLBACKS")
"""Values that have Flask look at a request before its view: the host, the session."""
OUR_FOLDERS = tuple(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (app, flask, svcs, werkzeug))
TEST_CLIENT = "werkzeug.debug.preserve_context"
"""Flask's test client keeps the context of a request, so Flask has to make one."""


@functools.cache
def release() -> str:
    """Return the version of this server."""
    try:
        return importlib.metadata.version("retort-serving")
    except importlib.metadata.PackageNotFoundError:  # it runs from its folder, and is not installed
        return "unknown"


class CountedMap(Map):
    """A map of URLs that counts what is added to it, whoever adds it."""

    rules_added = 0

    def add(self, rulefactory: RuleFactory) -> None:
        """Add a rule, or several."""
        super().add(rulefactory)
        self.rules_added += 1


class Application(Flask):
    """Flask, with the gateway around every request, whatever server calls it and whatever is wrapped around it."""

    url_map_class = CountedMap
    url_map: CountedMap
    gateway: Gateway

    def offer(self, services: Services) -> None:
        """Offer the services of steps to views as well: `svcs.flask.get` finds them."""
        svcs.flask.init_app(self, registry=services.registry)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return self._guarded(environ, start_response, self.wsgi_app)

    def wsgi_app(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request, also where a middleware calls this and not the application."""
        return self._guarded(environ, start_response, super().wsgi_app)

    def _guarded(self, environ: Environ, start_response: Any, inner: Callable[..., Iterable[bytes]]) -> Iterable[bytes]:
        context = environ.get(KEY)
        if context is not None and context.is_running:  # the gateway has called this
            return inner(environ, start_response)
        return self.gateway.run(environ, start_response, inner)


class FlaskRouter:
    """Matches requests as Flask does, and knows whether anything was registered around the views that it matches.

    Made when the application is complete: what is there then, and is Retort's or Flask's own, is expected; whatever
    else is found, then or later, sends requests through Flask. Safe to call from many threads.
    """

    def __init__(self, app: Application, routes: Mapping[Any, Route], blocking: Iterable[str]) -> None:
        self._app = app
        self._routes = routes
        self._own = dict(app.view_functions)
        self._blocking = frozenset(blocking)
        self._known: dict[tuple[str, str], Match] = {}
        self._rules = 0
        self._own_names = frozenset(METHODS)
        self._routed = [endpoint for endpoint, view in self._own.items() if view in routes]
        for rule in app.url_map.iter_rules():
            rule.strict_slashes = False  # a trailing slash is answered
        self._expected = self._state()
        self._foreign_at_first = [*self._foreign()]

    def match(self, environ: Environ) -> Match:
        """Return what the request leads to."""
        rules = self._app.url_map.rules_added
        if rules != self._rules:
            self._known, self._rules = {}, rules
        key = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        found = self._known.get(key)
        if found is None:
            found = self._find(*key)
            if len(self._known) >= KNOWN_PATHS:
                self._known = {}
            self._known[key] = found
        return replace(found, is_direct=False) if TEST_CLIENT in environ else found

    def _find(self, method: str, path: str) -> Match:
        adapter = self._app.url_map.bind("localhost")
        try:
            decoded = path.encode("latin-1").decode("utf-8", "replace")
            rule, arguments = adapter.match(decoded, method, return_rule=True)
        except HTTPException:
            return Match()
        endpoint: str = rule.endpoint
        view = self._own.get(endpoint)
        route = self._routes.get(view) if method in (rule.methods or ()) and method not in ("OPTIONS", "HEAD") else None
        return Match(route, arguments, view is not None, endpoint in self._blocking, route is not None)

    def is_direct(self) -> bool:
        """Tell whether nothing was registered around the views: then a route may be answered without Flask."""
        app = self._app
        for signal in SIGNALS:
            if signal.receivers and signal.has_receivers_for(app):
                return False
        if not self._own_names.isdisjoint(app.__dict__):
            return False
        if self._look() == self._expected:
            return not self._foreign_at_first
        # Flask adds empty entries as it looks for hooks.
        state = self._state()
        if _without_empty(state) != _without_empty(self._expected):
            return False
        self._expected = state
        return not self._foreign_at_first

    def explain(self) -> str:
        """Return the names of what was registered around the views."""
        return ", ".join(dict.fromkeys(self._foreign())) or "something that was registered around the views"

    def _look(self) -> tuple[Any, ...]:
        """Everything that Flask would call or look at around a view."""
        app = self._app
        config = app.config
        return (
            _hooks(app),
            _classes(app),
            type(app.session_interface),
            _methods(type(app)),
            [config.get(name) for name in CONFIG],
            app.url_map.host_matching or app.subdomain_matching,
            [app.view_functions.get(endpoint) for endpoint in self._routed],
        )

    def _state(self) -> tuple[Any, ...]:
        """`_look`, kept."""
        hooks, *others = self._look()
        return (tuple(_copied(each) for each in hooks), *others)

    def _foreign(self) -> Iterator[str]:
        """The names of what is neither Flask's nor Retort's."""
        app = self._app
        for hook in HOOKS:
            for function in _functions(getattr(app, hook)):
                if not _is_ours(function):
                    yield f"{hook}: {_named(function)}"
        for signal in SIGNALS:
            if signal.has_receivers_for(app):
                yield f"a receiver of the signal {signal.name}"
        for name in METHODS:
            function = app.__dict__.get(name) or getattr(type(app), name)
            if not _is_ours(function):
                yield f"{name}: {_named(function)}"
        for endpoint, view in self._own.items():
            if app.view_functions.get(endpoint) is not view:
                yield f"the view {endpoint}: {_named(app.view_functions.get(endpoint))}"
        if type(app.session_interface) is not SecureCookieSessionInterface:
            yield f"session_interface: {_named(type(app.session_interface))}"
        for name, kind in zip(CLASSES, _classes(app), strict=True):
            if not _is_ours(kind if isinstance(kind, type) else type(kind)) and name != "url_build_error_handlers":
                yield f"{name}: {_named(kind)}"
        yield from (f"the configuration value {name}" for name in CONFIG if app.config.get(name))


_hooks = operator.attrgetter(*HOOKS)
_classes = operator.attrgetter(*CLASSES)
_methods = operator.attrgetter(*METHODS)


def _copied(hooks: Any) -> Any:
    """A copy, to its depth."""
    if isinstance(hooks, dict):
        return {key: _copied(value) for key, value in hooks.items()}
    return copy(hooks) if isinstance(hooks, list) else hooks


def _without_empty(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: found for key, value in state.items() if (found := _without_empty(value))}
    return tuple(map(_without_empty, state)) if isinstance(state, tuple) else state


def _functions(hooks: Any) -> Iterator[Any]:
    if isinstance(hooks, dict):
        hooks = list(hooks.values())
    if isinstance(hooks, list):
        for each in hooks:
            yield from _functions(each)
    else:
        yield hooks


def _is_ours(function: Any) -> bool:
    """Tell whether a function, or a class, is written in Retort's, Flask's or Werkzeug's own files.

    Its code is looked at: a decorator copies the name and the module of what it wraps, and not the code.
    """
    try:
        written_in = inspect.getfile(getattr(function, "__func__", function))
    except TypeError:  # an object that can be called
        return False
    return written_in.startswith(OUR_FOLDERS)


def _named(function: Any) -> str:
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "") or repr(function)
    return f"{module}.{name}" if module else name
