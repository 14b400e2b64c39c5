"""Find user code around a view: everything that a user has registered, replaced or set."""

from __future__ import annotations

import inspect
import operator
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from blinker import NamedSignal
from flask import Flask
from werkzeug.routing import Map, Rule, RuleFactory
from werkzeug.utils import cached_property

from app.wire.reached import (
    CONTEXTS,
    IMPLICIT,
    Attributes,
    Reached,
    adds_only,
    attributes_of,
    classes_of_app,
    classes_of_map,
    classes_of_objects,
    is_class,
    is_library,
    is_ours,
    is_plain,
    name_of,
    reached_by,
)

HOOKS = (
    "before_request_funcs",
    "after_request_funcs",
    "teardown_request_funcs",
    "teardown_appcontext_funcs",
    "url_value_preprocessors",
    "error_handler_spec",
)
hooks_of = operator.attrgetter(*HOOKS)
OBJECTS_CHECKED_S = 1.0
"""Interval between checks of the URL map, the names in modules, and the classes of requests, responses, sessions and
URLs. Libraries patch these when they are imported or set up, and a check before each request would cost several
microseconds."""


class CountedMap(Map):
    """A URL map that counts the rules added to it."""

    rules_added = 0

    def add(self, rulefactory: RuleFactory) -> None:
        """Add a rule, or several."""
        super().add(rulefactory)
        self.rules_added += 1


class CountedFlask(Flask):
    """Flask with a `CountedMap`."""

    url_map_class = CountedMap
    url_map: CountedMap


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a URL map when this was created. User code may change rules in place. `added` counts them."""

    url_map: CountedMap
    added: int
    states: list[Any]

    def is_current(self) -> bool:
        """Return whether no rule has changed since."""
        return states_of(self.url_map) == self.states


@dataclass(frozen=True, slots=True)
class Survey:
    """The code around a view at the last check.

    Attributes:
        hooks: the registered functions.
        of_app: the attributes of the application and of its contexts.
        of_objects: the attributes of requests, responses, sessions and the URL map, and of the libraries' classes.
        rules: the rules of the URL map.
        signals: the signals that Flask sends.
        codes: the code of each function that a request reaches, which tracers may replace.
        is_plain: whether all of it belongs to Retort, Flask or the libraries below it.
    """

    hooks: tuple[Any, ...]
    of_app: Attributes
    of_objects: Sequence[Attributes]
    rules: Rules
    signals: Sequence[NamedSignal]
    codes: list[CodeType]
    is_plain: bool

    def is_current(self, app: CountedFlask) -> bool:
        """Return whether nothing has changed since, except for `of_objects`."""
        return self.hooks == hooks_of(app) and self.of_app.is_current()


class Registrations:
    """The user code around the views of some blueprints of an application.

    Create it when the application is complete. `is_direct` notices every later change. Safe to call from many threads.
    """

    def __init__(self, app: CountedFlask, blueprints: Iterable[str]) -> None:
        self._app = app
        self._map = app.url_map
        self._scopes = {None, *blueprints}
        self._own_hooks = [each for _, each in self._registered(copied(hooks_of(app))) if is_ours(each)]
        reached, own = reached_by(app), [*app.view_functions.values(), *self._own_hooks]
        self._codes = reached.functions | {each: each.__code__ for each in own if type(each) is FunctionType}
        self._checked: tuple[object, Survey | None, float] = object(), None, 0.0
        """The last check of `of_objects`: the demand that it met, its survey, and its monotonic time."""
        self._survey = self._survey_of(reached)
        self.check_at_once()

    def is_direct(self) -> bool:
        """Return whether no user code surrounds the views, so that the gateway may answer without Flask."""
        survey = self._survey  # another thread may replace `_survey` with an older one
        if not (survey.is_current(self._app) and self._are_objects_current(survey)):
            survey = self.survey_again()
        return survey.is_plain and next(self._settings_around(survey), None) is None

    def survey_again(self) -> Survey:
        """Take a new survey of the code around a view."""
        self._survey = survey = self._take_survey()
        return survey

    def check_at_once(self) -> None:
        """Make the next check complete, because user code may have run."""
        self._demand = object()

    def _are_objects_current(self, survey: Survey) -> bool:
        """Return whether a survey's objects, rules and codes are unchanged, checked every `OBJECTS_CHECKED_S` seconds.

        Several threads may check at once, because none may rely on a check that has not ended.
        """
        demand, (demand_met, survey_checked, checked_s), now_s = self._demand, self._checked, time.monotonic()
        if demand_met is demand and survey_checked is survey and now_s - checked_s < OBJECTS_CHECKED_S:
            return True
        if [each.__code__ for each in self._codes] != survey.codes:
            return False
        if not (survey.rules.is_current() and all(each.is_current() for each in survey.of_objects)):
            return False
        self._checked = demand, survey, now_s
        return True

    def explain(self) -> str:
        """Return the names of the user code around the views; empty if there is none."""
        names = [
            *self._user_code(copied(hooks_of(self._app)), reached_by(self._app)),
            *self._settings_around(self._survey),
        ]
        return ", ".join(dict.fromkeys(names))

    def _settings_around(self, survey: Survey) -> Iterator[str]:
        """Yield the names of settings and signal receivers that a survey does not record."""
        app = self._app
        if app.config.get("TRUSTED_HOSTS") is not None:
            yield "the configuration value TRUSTED_HOSTS"
        if app.request_class.trusted_hosts is not None:
            yield "request_class.trusted_hosts"
        for signal in survey.signals:
            if "send" in vars(signal):
                yield f"a replaced method of the signal {signal.name}"
            if signal.receivers:
                for _ in signal.receivers_for(app):
                    yield f"a receiver of the signal {signal.name}"
        if app.url_map.host_matching:
            yield "url_map.host_matching"
        if app.subdomain_matching:
            yield "subdomain_matching"

    def _take_survey(self) -> Survey:
        """Return a new survey. The next check notices changes made during the survey."""
        return self._survey_of(reached_by(self._app))

    def _survey_of(self, reached: Reached) -> Survey:
        app = self._app
        hooks, names = copied(hooks_of(app)), reached.names
        of_app = attributes_of(app, classes_of_app(app), names - {*HOOKS})
        classes = [*CONTEXTS, *classes_of_objects(app), *reached.classes]
        in_modules = [each for each in reached.values() if not is_plain(each[2])]
        of_sessions = attributes_of(app.session_interface, classes, names | IMPLICIT, in_modules)
        containers = [(vars(app), name, getattr(app, name)) for name in HOOKS]
        of_map = attributes_of(app.url_map, classes_of_map(app), names, containers)
        rules = Rules(self._map, self._map.rules_added, states_of(self._map))
        signals = [*dict.fromkeys(value for _, _, value in in_modules if issubclass(type(value), NamedSignal))]
        codes = [each.__code__ for each in self._codes]
        user_code = next(self._user_code(hooks, reached), None)
        return Survey(
            copied(hooks, Same), of_app, (of_sessions, of_map), rules, signals, codes, is_plain=user_code is None
        )

    def _registered(self, hooks: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
        """Yield the functions registered for the application or these blueprints, each with the name of its hook."""
        for kind, registered in zip(HOOKS, hooks, strict=True):
            by_scope = registered if isinstance(registered, dict) else {None: registered}
            for scope in self._scopes.intersection(by_scope):
                yield from ((kind, each) for each in _leaves(by_scope[scope]))

    def _user_code(self, hooks: tuple[Any, ...], reached: Reached) -> Iterator[str]:
        """Yield the names of the user code around the views, except settings."""
        app = self._app
        for kind, function in self._registered(hooks):
            if not any(function is own for own in self._own_hooks):
                yield f"{kind}: {name_of(function)}"
        yield from self._user_code_of_classes(reached)
        for members, name, value in reached.values():
            if not is_library(value):
                yield f"{members['__name__']}.{name}: {name_of(value)}"
        for prefix, owner in (("", app), ("session_interface.", app.session_interface), ("url_map.", app.url_map)):
            for name in reached.names.intersection(vars(owner)) - {"json"}:  # no prediction needs `json`
                value, replaced = vars(owner)[name], inspect.getattr_static(type(owner), name, None)
                is_override = replaced is not None and callable(value) and not is_class(value)
                is_harmless = is_plain(value) or type(replaced) is cached_property
                is_harmless |= is_class(value) and adds_only(value, reached.names)
                if not is_harmless and (is_override or not is_ours(value)):
                    yield f"{prefix}{name}: {name_of(value)}"
        for each in dict.fromkeys(map(type, self._map.iter_rules())):
            if not is_ours(each):  # a derived rule may match other paths than its text shows
                yield f"rules of the class {name_of(each)}"
        for function, code in self._codes.items():
            if function.__code__ is not code:
                yield f"the code of {function.__module__}.{function.__qualname__}"
        if app.url_map is not self._map:
            yield "url_map, which was replaced"

    def _user_code_of_classes(self, reached: Reached) -> Iterator[str]:
        app = self._app
        of_app, of_objects = [*classes_of_app(app), *classes_of_map(app)], [*CONTEXTS, *classes_of_objects(app)]
        for classes, names in ((of_app, reached.names), ([*of_objects, *reached.classes], reached.names | IMPLICIT)):
            for each in classes:
                for name in names & vars(each).keys():
                    value = vars(each)[name]
                    if not (is_plain(value) or is_library(value)):
                        yield f"{each.__name__}.{name}: {name_of(value)}"
        if type(inspect.getattr_static(app.request_class, "max_content_length")) is not property:
            yield "request_class.max_content_length"


def _leaves(hooks: Any) -> Iterator[Any]:
    """Yield the functions in nested dictionaries and lists. Any other object counts as a function."""
    if type(hooks) in (dict, defaultdict, list):
        for each in hooks if type(hooks) is list else hooks.values():
            yield from _leaves(each)
    else:
        yield hooks


def _state_of(rule: Rule) -> tuple[Any, ...]:
    """Return the attributes of a rule that affect how it answers."""
    methods = rule.methods if rule.methods is None else frozenset(rule.methods)
    defaults = rule.defaults and dict(rule.defaults)
    of_rule = rule.endpoint, rule.redirect_to, rule.websocket, rule.strict_slashes, defaults, rule.alias
    return type(rule), methods, of_rule, [*rule._converters.values()]


def states_of(url_map: Map) -> list[Any]:
    """Return the attributes that affect how a URL map answers: its own, then those of each rule."""
    of_map = url_map.strict_slashes, url_map.merge_slashes, url_map.redirect_defaults, url_map.default_subdomain
    return [of_map, *map(_state_of, url_map.iter_rules())]


class Same:
    """A value that equals one function, by identity. It does not call the `__eq__` of a proxy, which would agree."""

    __slots__ = ("_function",)

    def __init__(self, function: object) -> None:
        self._function = function

    def __eq__(self, other: object) -> bool:
        return other is self._function

    __hash__ = None  # type: ignore[assignment]


def copied(hooks: Any, leaf: Callable[[Any], Any] = lambda function: function) -> Any:
    """Return a deep copy of registered functions, each replaced by the result of `leaf`."""
    if isinstance(hooks, dict):
        copy = {key: copied(value, leaf) for key, value in dict(hooks).items()}
        # Python would call `__eq__` of a derived class first, so the copy has the same class.
        return defaultdict(None, copy) if type(hooks) is defaultdict else copy
    if isinstance(hooks, tuple):
        return tuple(copied(each, leaf) for each in hooks)
    return [*map(leaf, hooks)] if isinstance(hooks, list) else leaf(hooks)
