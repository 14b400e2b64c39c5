"""Find user code around a view: everything that is registered, replaced or set, by any means."""

from __future__ import annotations

import functools
import inspect
import operator
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import Any

import flask
import flask.ctx
import svcs
import werkzeug
from flask import Flask, signals
from flask.config import ConfigAttribute
from werkzeug.routing import Map, RuleFactory
from werkzeug.utils import cached_property

import app

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
"""Settings that make Flask read a request before its view: the host, the session. None unless they are set."""
CONTEXTS = [each for each in vars(flask.ctx).values() if isinstance(each, type) and hasattr(each, "push")]
CONTEXT_METHODS = ("push", "pop", "match_request")
"""Methods that Flask calls on the classes of which it makes an object for each request."""
SETUP = frozenset({"__init__", "add_url_rule", "get", "endpoint", "run", "route"})
"""Names of methods that no request calls, and that other objects have as well."""
OUR_FOLDERS = tuple(f"{Path(str(module.__file__)).parent}{os.sep}" for module in (app, flask, svcs, werkzeug))


class CountedMap(Map):
    """A map of URLs that counts the added rules."""

    rules_added = 0

    def add(self, rulefactory: RuleFactory) -> None:
        """Add a rule, or several."""
        super().add(rulefactory)
        self.rules_added += 1


class CountedFlask(Flask):
    """Flask with a count of replaced and removed attributes: `changes`."""

    url_map_class = CountedMap
    url_map: CountedMap
    changes = 0

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an attribute: a wrapped `wsgi_app`, a session interface, a user's own method."""
        is_new = self.__dict__.get(name, self) is not value
        super().__setattr__(name, value)
        if is_new:
            self.__dict__["changes"] = self.changes + 1

    def __delattr__(self, name: str) -> None:
        """Remove an attribute."""
        super().__delattr__(name)
        self.__dict__["changes"] = self.changes + 1


@dataclass(frozen=True, slots=True)
class Survey:
    """The code around a view at the last check, and whether all of it belongs to Retort or Flask.

    `attributes` holds those that a request reaches: the members of their class, their names, their values. `sizes`
    counts the members of all classes, because a new member may hide one of a base.
    """

    changes: int
    hooks: tuple[Any, ...]
    attributes: Sequence[tuple[Mapping[str, Any], str, Any]]
    members: Sequence[Mapping[str, Any]]
    sizes: list[int]
    is_plain: bool

    def is_current(self, app: CountedFlask) -> bool:
        """Return whether nothing has changed since. Values are compared by identity: a proxy equals its function."""
        try:
            for members, name, value in self.attributes:
                if members[name] is not value:
                    return False
        except KeyError:  # an attribute was removed, and another added
            return False
        return app.changes == self.changes and _hooks(app) == self.hooks and [*map(len, self.members)] == self.sizes


class Registrations:
    """The code registered around the views of some blueprints of an application.

    Create it when the application is complete. The next call of `is_direct` notices every later change. Safe to call
    from many threads.
    """

    def __init__(self, app: CountedFlask, blueprints: Iterable[str]) -> None:
        self._app = app
        self._map = app.url_map
        self._scopes = {None, *blueprints}
        self._own_hooks = [each for _, each in self._registered(_copied(_hooks(app))) if is_ours(each)]
        self._survey = self._take_survey()

    def is_direct(self) -> bool:
        """Return whether all code is Retort's or Flask's own, so that a route may be answered without Flask."""
        if not self._survey.is_current(self._app):
            self._survey = self._take_survey()
        return self._survey.is_plain and next(self._settings_around(), None) is None

    def explain(self) -> str:
        """Return the names of the code registered around the views; empty if there is none."""
        found = [*self._user_code(_copied(_hooks(self._app)), self._reached_attributes()), *self._settings_around()]
        return ", ".join(dict.fromkeys(found))

    def _settings_around(self) -> Iterator[str]:
        """Yield the names of the settings that no survey notices."""
        app = self._app
        for name in CONFIG:
            if app.config.get(name) is not None:
                yield f"the configuration value {name}"
        for signal in SIGNALS:
            if signal.receivers:
                for _ in signal.receivers_for(app):
                    yield f"a receiver of the signal {signal.name}"
        if app.url_map.host_matching:
            yield "url_map.host_matching"

    def _take_survey(self) -> Survey:
        """Return a new survey of the code around a view. The next one notices changes made meanwhile."""
        changes, members = self._app.changes, [vars(each) for each in self._classes()]
        sizes = [*map(len, members)]
        hooks, reached = _copied(_hooks(self._app)), self._reached_attributes()
        attributes = [(vars(each), name, value) for each, name, value in reached]
        is_plain = not any(True for _ in self._user_code(hooks, reached))
        return Survey(changes, hooks, attributes, members, sizes, is_plain)

    def _classes(self) -> list[type]:
        return [*type(self._app).__mro__[:-1], *CONTEXTS]

    def _reached_attributes(self) -> list[tuple[type, str, Any]]:
        """Return the attributes of Flask's classes that a request reaches, found by their code."""
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
        members = [(each, name, value) for each in classes for name, value in dict(vars(each)).items()]
        return [(each, name, value) for each, name, value in members if name in names and not _is_plain(value)]

    def _registered(self, hooks: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
        """Yield the functions registered for the views that have routes, each with the name of its kind."""
        for kind, registered in zip(HOOKS, hooks, strict=True):
            by_scope = registered if isinstance(registered, dict) else {None: registered}
            for scope in self._scopes.intersection(by_scope):
                yield from ((kind, each) for each in _leaves(by_scope[scope]))

    def _user_code(self, hooks: tuple[Any, ...], reached: list[tuple[type, str, Any]]) -> Iterator[str]:
        """Yield the names of the code that is neither Flask's nor Retort's."""
        app = self._app
        for kind, function in self._registered(hooks):
            if not any(function is own for own in self._own_hooks):
                yield f"{kind}: {_name_of(function)}"
        for each, name, value in reached:
            if not is_ours(value):
                yield f"{each.__name__}.{name}: {_name_of(value)}"
        for name in {name for _, name, _ in reached}.intersection(app.__dict__):
            value = app.__dict__[name]
            if (callable(value) and not isinstance(value, type)) or not is_ours(value):
                yield f"{name}: {_name_of(value)}"
        if app.subdomain_matching:
            yield "subdomain_matching"
        if app.url_map is not self._map:
            yield "url_map, which was replaced"


_hooks = operator.attrgetter(*HOOKS)


def _copied(hooks: Any) -> Any:
    """Return a deep copy of registered functions, which does not change with them."""
    if isinstance(hooks, dict):
        return {key: _copied(value) for key, value in dict(hooks).items()}
    if isinstance(hooks, tuple):
        return tuple(map(_copied, hooks))
    return list(hooks) if isinstance(hooks, list) else hooks


def _leaves(hooks: Any) -> Iterator[Any]:
    if isinstance(hooks, dict | list):
        for each in hooks.values() if isinstance(hooks, dict) else hooks:
            yield from _leaves(each)
    else:
        yield hooks


def _function(attribute: Any) -> Any:
    """Return the function of a class attribute."""
    if type(attribute) is property:
        return attribute.fget
    return attribute.__func__ if type(attribute) in (staticmethod, classmethod) else attribute


def _is_plain(value: Any) -> bool:
    """Return whether a value runs no code: text, a number, a setting, a cached property (a logger)."""
    return value is None or type(value) in (bool, int, str, dict, ConfigAttribute, cached_property)


def _names(code: CodeType) -> Iterator[str]:
    """Yield the attribute names that a function uses."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def is_ours(attribute: Any) -> bool:
    """Return whether a function, a class, or an object's class is defined in the files of Retort, Flask or Werkzeug.

    This checks the code of a function: a decorator copies the name and the module of the wrapped function, not its
    code. It calls `type`, because a proxy returns the class of its target as `__class__`.
    """
    function = _function(attribute)
    if type(function) is FunctionType:
        return function.__code__.co_filename.startswith(OUR_FOLDERS)
    written_as = function if isinstance(function, type) else type(function)
    if written_as.__module__ in ("builtins", "collections"):
        return not callable(function)
    try:
        return inspect.getfile(written_as).startswith(OUR_FOLDERS)
    except (TypeError, OSError):  # a C extension, or no file
        return False


def _name_of(function: Any) -> str:
    """Return the name of a function or a class, or of any other object's class, without calling the object."""
    if type(function) is functools.partial:
        return _name_of(function.func)
    has_name = isinstance(function, type) or type(function) in (FunctionType, MethodType, BuiltinFunctionType)
    named = function if has_name else type(function)
    return f"{named.__module__}.{named.__qualname__}"
