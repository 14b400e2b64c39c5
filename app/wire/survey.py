"""The state of the code around a view at one moment, so that each later change of it is noticed."""

from __future__ import annotations

import operator
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import CodeType
from typing import Any

from blinker import NamedSignal
from flask import Flask
from werkzeug.routing import Map, Rule, RuleFactory

from app.wire.reached import is_plain

HOOKS = (
    "before_request_funcs",
    "after_request_funcs",
    "teardown_request_funcs",
    "teardown_appcontext_funcs",
    "url_value_preprocessors",
    "error_handler_spec",
)


class CountedMap(Map):
    """A map of URLs that counts the added rules."""

    rules_added = 0

    def add(self, rulefactory: RuleFactory) -> None:
        """Add a rule, or several."""
        super().add(rulefactory)
        self.rules_added += 1


class CountedFlask(Flask):
    """Flask with a map of URLs that counts its rules."""

    url_map_class = CountedMap
    url_map: CountedMap


@dataclass(frozen=True, slots=True)
class Attributes:
    """Attributes of classes and objects that a request reaches: the members of their owner, their names, their values.

    A new member may hide one of a base: `sizes` counts those of the classes, `of_object` names those of the object.
    """

    reached: Sequence[tuple[Mapping[str, Any], str, Any]]
    members: Sequence[Mapping[str, Any]]
    sizes: list[int]
    owner: object
    kind: type
    of_object: list[str]

    def is_current(self) -> bool:
        """Return whether nothing has changed since. Values are compared by identity: a proxy equals its function."""
        try:
            for members, name, value in self.reached:
                if members[name] is not value:
                    return False
        except KeyError:  # an attribute was removed, and another added
            return False
        is_kind = type(self.owner) is self.kind  # an object may be given another class
        return is_kind and [*vars(self.owner)] == self.of_object and [*map(len, self.members)] == self.sizes


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a map of URLs, which may be changed in place. `added` counts them."""

    url_map: CountedMap
    added: int
    states: list[Any]

    def is_current(self) -> bool:
        """Return whether no rule has changed since."""
        return states_of(self.url_map) == self.states


def _state_of(rule: Rule) -> tuple[Any, ...]:
    """Return the attributes by which a rule answers a request."""
    methods = rule.methods if rule.methods is None else frozenset(rule.methods)
    defaults = rule.defaults and dict(rule.defaults)
    of_rule = rule.endpoint, rule.redirect_to, rule.websocket, rule.strict_slashes, defaults, rule.alias
    return type(rule), methods, of_rule, [*rule._converters.values()]


def states_of(url_map: Map) -> list[Any]:
    """Return the attributes by which a map of URLs answers a request: its own, then those of each rule."""
    of_map = url_map.strict_slashes, url_map.merge_slashes, url_map.redirect_defaults, url_map.default_subdomain
    return [of_map, *map(_state_of, url_map.iter_rules())]


@dataclass(frozen=True, slots=True)
class Survey:
    """The code around a view at the last check, and whether all of it belongs to Retort or Flask.

    `of_app` holds the attributes that a request reaches of the application and of its contexts, `of_objects` those of
    the requests, responses and sessions that Flask makes, of the libraries below it, and of the map of URLs. `signals`
    are those that Flask sends, `codes` those of the functions that a request reaches, which tracers may replace.
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


hooks_of = operator.attrgetter(*HOOKS)


def attributes_of(
    owner: object, classes: Sequence[type], names: set[str], more: Sequence[tuple[Mapping[str, Any], str, Any]] = ()
) -> Attributes:
    """Return the attributes of an object and of classes with these names, as they are now."""
    of_object, members = [*vars(owner)], [vars(each) for each in dict.fromkeys(classes)]
    sizes = [*map(len, members)]
    found = [(each, name, each[name]) for each in (vars(owner), *members) for name in sorted(names & each.keys())]
    reached = [each for each in found if type(each[2]) is dict or not is_plain(each[2])]
    return Attributes([*reached, *more], members, sizes, owner, type(owner), of_object)


class Same:
    """Equals one function, by identity. It does not ask the other side, because a proxy says that it is equal too."""

    __slots__ = ("_function",)

    def __init__(self, function: object) -> None:
        self._function = function

    def __eq__(self, other: object) -> bool:
        return other is self._function

    __hash__ = None  # type: ignore[assignment]


def copied(hooks: Any, leaf: Callable[[Any], Any] = lambda function: function) -> Any:
    """Return a deep copy of registered functions, which does not change with them. `leaf` is called for each."""
    if isinstance(hooks, dict):
        copy = {key: copied(value, leaf) for key, value in dict(hooks).items()}
        # Python asks an object of a derived class first whether it equals another.
        return defaultdict(None, copy) if type(hooks) is defaultdict else copy
    if isinstance(hooks, tuple):
        return tuple(copied(each, leaf) for each in hooks)
    return [*map(leaf, hooks)] if isinstance(hooks, list) else leaf(hooks)
