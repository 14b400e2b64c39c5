"""The Flask application, which hands every request to the gateway first, and what the gateway asks of Flask."""

from __future__ import annotations

import functools
import importlib.metadata
import inspect
import logging
import operator
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

import flask
import flask.ctx
import svcs
import svcs.flask
import werkzeug
from flask import Flask, signals
from flask.config import ConfigAttribute
from werkzeug.exceptions import HTTPException
from werkzeug.routing import Map, RuleFactory

import app
from app.core.services import Services
from app.gateway.context import Match, Route
from app.gateway.gateway import Gateway
from app.server.contract import Environ

log = logging.getLogger(__name__)

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
"""Values that have Flask look at a request before its view: the host, the session. None unless they are set."""
NOT_SET = [None] * len(CONFIG)
CONTEXTS = [each for each in vars(flask.ctx).values() if isinstance(each, type) and hasattr(each, "push")]
CONTEXT_METHODS = ("push", "pop", "match_request")
"""The classes of which Flask makes an object for each request, and what is called of them besides."""
SETUP = frozenset({"__init__", "add_url_rule", "get", "endpoint", "run", "route"})
"""Names of methods that no request calls, and that methods of other objects have as well."""
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
    changes = 0
    """How often an attribute was replaced or removed."""

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute: a wrapped `wsgi_app`, a session interface, a method of one's own."""
        is_new = self.__dict__.get(name, self) is not value
        super().__setattr__(name, value)
        if is_new:
            self.__dict__["changes"] = self.changes + 1

    def __delattr__(self, name: str) -> None:
        """Remove an attribute."""
        super().__delattr__(name)
        self.__dict__["changes"] = self.changes + 1

    def offer(self, services: Services) -> None:
        """Offer the services of steps to views as well: `svcs.flask.get` finds them."""
        svcs.flask.init_app(self, registry=services.registry)

    def __call__(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request (PEP 3333)."""
        return self.gateway.around(environ, start_response, super().__call__)

    def wsgi_app(self, environ: Environ, start_response: Any) -> Iterable[bytes]:
        """Answer one request, also where a middleware calls this and not the application."""
        return self.gateway.around(environ, start_response, super().wsgi_app)


@dataclass(frozen=True, slots=True)
class Survey:
    """What Flask would call around a view when it was last looked at, and whether all of it is Retort's or Flask's."""

    changes: int
    hooks: tuple[Any, ...]
    read: tuple[Callable[[], tuple[Any, ...]], ...]
    """Each reads, of one class, the attributes that a request reaches."""
    attributes: tuple[Any, ...]
    classes: tuple[Mapping[str, Any], ...]
    sizes: list[int]
    """How many attributes each class has: one that is added may hide that of a base."""
    is_plain: bool


class FlaskRouter:
    """Matches requests as Flask does, and knows whether anything was registered around the views that it matches.

    Made when the application is complete. Every change of what Flask would call around a view, then or later, is
    noticed at the next request; where any of it is neither Retort's nor Flask's own, requests go through Flask. Safe to
    call from many threads.
    """

    def __init__(self, app: Application, routes: Mapping[Any, Route], blocking: Iterable[str]) -> None:
        self._app = app
        self._routes = routes
        self._own = dict(app.view_functions)
        self._blocking = frozenset(blocking)
        self._map = app.url_map
        self._known: tuple[int, dict[tuple[str, str], tuple[str, Match]]] = (-1, {})
        self._replaced: set[str] = set()
        for rule in app.url_map.iter_rules():
            rule.strict_slashes = False  # a trailing slash is answered
        own = (endpoint for endpoint, view in self._own.items() if view in routes)
        self._scopes = {None, *(endpoint.rpartition(".")[0] for endpoint in own)}
        self._own_hooks = [each for _, each in self._hooked(_kept(_hooks(app))) if _is_ours(each)]
        self._survey = self._look()

    def match(self, environ: Environ) -> Match:
        """Return what the request leads to."""
        if self._app.url_map is not self._map:
            return Match()
        rules, known = self._known
        if rules != self._map.rules_added:
            rules, known = self._known = self._map.rules_added, {}
        key = environ["REQUEST_METHOD"], environ["PATH_INFO"]
        found = known.get(key)
        if found is None:
            found = self._find(*key)
            if len(known) >= KNOWN_PATHS:
                known.clear()
            known[key] = found
        endpoint, match = found
        if match.route is None:
            return match
        is_replaced = self._app.view_functions.get(endpoint) is not self._own[endpoint]
        if is_replaced and endpoint not in self._replaced:
            self._replaced.add(endpoint)
            log.info("requests for the view %s go through Flask: it was replaced or decorated", endpoint)
        return Match() if is_replaced or TEST_CLIENT in environ else match

    def _find(self, method: str, path: str) -> tuple[str, Match]:
        adapter = self._map.bind("localhost")
        try:
            decoded = path.encode("latin-1").decode("utf-8", "replace")
            rule, arguments = adapter.match(decoded, method, return_rule=True)
        except HTTPException:
            return "", Match()
        endpoint: str = rule.endpoint
        view = self._own.get(endpoint)
        if view not in self._routes:
            return endpoint, Match(None, arguments, view is not None, endpoint in self._blocking)
        route = self._routes[view] if method in (rule.methods or ()) and method not in ("OPTIONS", "HEAD") else None
        return endpoint, Match(route, arguments, False, endpoint in self._blocking)

    def is_direct(self) -> bool:
        """Tell whether nothing was registered around the views: then a route may be answered without Flask."""
        app, survey = self._app, self._survey
        found: list[Any] = []
        for read in survey.read:
            found += read()
        if (
            app.changes != survey.changes
            or _hooks(app) != survey.hooks
            or [*map(len, survey.classes)] != survey.sizes
            or not all(map(operator.is_, found, survey.attributes))  # a proxy of a function is equal to it
        ):
            survey = self._survey = self._look()
        if not survey.is_plain or [*map(app.config.get, CONFIG)] != NOT_SET or self._map.host_matching:
            return False
        for signal in SIGNALS:
            if signal.receivers:
                for _ in signal.receivers_for(app):
                    return False
        return True

    def explain(self) -> str:
        """Return the names of what was registered around the views; empty for nothing."""
        found = [*self._foreign(_kept(_hooks(self._app)), self._reached())]
        found += (f"the configuration value {name}" for name in CONFIG if self._app.config.get(name) is not None)
        found += (f"a receiver of the signal {each.name}" for each in SIGNALS for _ in each.receivers_for(self._app))
        if self._map.host_matching:
            found.append("url_map.host_matching")
        return ", ".join(dict.fromkeys(found))

    def _look(self) -> Survey:
        """Look at everything that Flask would call around a view. What changes meanwhile is noticed the next time."""
        changes, sizes = self._app.changes, [len(vars(each)) for each in self._classes()]
        hooks, reached = _kept(_hooks(self._app)), self._reached()
        read, attributes = [], []
        for each, names in reached.items():
            read.append(functools.partial(operator.itemgetter(*names, names[0]), vars(each)))
            attributes += read[-1]()
        classes = tuple(vars(each) for each in self._classes())
        is_plain = not any(True for _ in self._foreign(hooks, reached))
        return Survey(changes, hooks, tuple(read), tuple(attributes), classes, sizes, is_plain)

    def _classes(self) -> list[type]:
        return [*type(self._app).__mro__[:-1], *CONTEXTS]

    def _reached(self) -> dict[type, list[str]]:
        """The attributes of Flask's classes that a request reaches: their code says which."""
        classes = self._classes()
        names = {"__call__"}
        pending = [vars(each).get(name) for each in classes for name in ("__call__", *CONTEXT_METHODS)]
        pending += [vars(each)["__init__"] for each in CONTEXTS]
        while pending:
            function = _function(pending.pop())
            if type(function) is FunctionType:
                found = {*_names(function.__code__)} - names - SETUP
                names |= found
                pending += [vars(each).get(name) for each in classes for name in found]
        reached = {}
        for each in classes:
            found = {name for name in names.intersection(vars(each)) if not _is_plain(vars(each)[name])}
            if found:
                reached[each] = sorted(found)
        return reached

    def _hooked(self, hooks: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
        """The functions that are registered for the views that have routes, each with the name of its kind."""
        for kind, registered in zip(HOOKS, hooks, strict=True):
            by_scope = registered if isinstance(registered, dict) else {None: registered}
            for scope in self._scopes.intersection(by_scope):
                yield from ((kind, each) for each in _leaves(by_scope[scope]))

    def _foreign(self, hooks: tuple[Any, ...], reached: Mapping[type, list[str]]) -> Iterator[str]:
        """The names of what is neither Flask's nor Retort's."""
        app = self._app
        for kind, function in self._hooked(hooks):
            if not any(function is own for own in self._own_hooks):
                yield f"{kind}: {_named(function)}"
        for each, names in reached.items():
            for name in names:
                if not _is_ours(vars(each)[name]):
                    yield f"{each.__name__}.{name}: {_named(vars(each)[name])}"
        for name in {name for names in reached.values() for name in names}.intersection(app.__dict__):
            value = app.__dict__[name]
            if (callable(value) and not isinstance(value, type)) or not _is_ours(value):
                yield f"{name}: {_named(value)}"
        if app.subdomain_matching:
            yield "subdomain_matching"
        if app.url_map is not self._map:
            yield "url_map, which was replaced"


_hooks = operator.attrgetter(*HOOKS)


def _kept(hooks: Any) -> Any:
    """A copy of registered functions, to its depth, that does not change with them."""
    if isinstance(hooks, dict):
        return {key: _kept(value) for key, value in dict(hooks).items()}
    if isinstance(hooks, tuple):
        return tuple(map(_kept, hooks))
    return list(hooks) if isinstance(hooks, list) else hooks


def _leaves(hooks: Any) -> Iterator[Any]:
    if isinstance(hooks, dict):
        hooks = list(hooks.values())
    if isinstance(hooks, list):
        for each in hooks:
            yield from _leaves(each)
    else:
        yield hooks


def _function(attribute: Any) -> Any:
    """The function that an attribute of a class is made of."""
    if type(attribute) is property:
        return attribute.fget
    return attribute.__func__ if type(attribute) in (staticmethod, classmethod) else attribute


def _is_plain(value: Any) -> bool:
    """Tell whether a value calls nothing: text, a number, a setting."""
    return value is None or type(value) in (bool, int, str, dict, ConfigAttribute)


def _names(code: CodeType) -> Iterator[str]:
    """The names of attributes that a function uses."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def _is_ours(attribute: Any) -> bool:
    """Tell whether a function, a class, or an object's class is written in Retort's, Flask's or Werkzeug's own files.

    The code of a function is looked at: a decorator copies the name and the module of what it wraps, and not the code.
    A proxy says that it has the class of what it stands for: `type` is not deceived.
    """
    function = _function(attribute)
    if type(function) is FunctionType:
        return function.__code__.co_filename.startswith(OUR_FOLDERS)
    written_as = function if isinstance(function, type) else type(function)
    if written_as.__module__ in ("builtins", "collections"):
        return not callable(function)
    try:
        return inspect.getfile(written_as).startswith(OUR_FOLDERS)
    except (TypeError, OSError):  # it is written in C, or nowhere
        return False


def _named(function: Any) -> str:
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "") or repr(function)
    return f"{module}.{name}" if module else name
