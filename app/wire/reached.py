"""Find the code that a request reaches in Flask and the libraries below it, and distinguish it from user code."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from _thread import LockType
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import blinker
import flask
import flask.ctx
import itsdangerous
import markupsafe
import werkzeug
from flask import Flask
from flask.config import ConfigAttribute
from werkzeug.routing import MapAdapter
from werkzeug.routing.converters import DEFAULT_CONVERTERS
from werkzeug.utils import cached_property

import app
from app.core.steps.injection import svcs

CONTEXTS = [each for each in vars(flask.ctx).values() if isinstance(each, type) and hasattr(each, "push")]
CONTEXT_METHODS = ("push", "pop", "match_request")
"""Methods that Flask calls on the contexts that it makes for each request."""
SETUP = frozenset({"__init__", "add_url_rule", "get", "endpoint", "run", "route"})
"""Method names in Flask's code that the search does not follow: no request calls these methods of the application, and
other objects have methods of the same names."""
IMPLICIT = frozenset(
    {"__init__", "__new__", "__call__", "__getattribute__", "__getattr__", "__getitem__", "__contains__", "__iter__"}
    | {"__next__", "__len__", "__bool__", "__eq__", "__get__", "__set__", "__enter__", "__exit__"}
)
"""Methods that Python calls although the code does not name them."""
OF_CLASSES = frozenset(
    {"__module__", "__qualname__", "__doc__", "__dict__", "__weakref__", "__annotations__", "__slots__"}
    | {"__firstlineno__", "__static_attributes__", "__annotate_func__", "__annotations_cache__"}
)
"""Special names that any class may have and that run no code."""
LIBRARIES = (app, flask, svcs, werkzeug, blinker, itsdangerous, markupsafe)
OUR_FOLDERS = tuple(f"{Path(str(module.__file__)).parent}{os.sep}" for module in LIBRARIES)
OUR_NAMES = frozenset(module.__name__ for module in LIBRARIES)


@dataclass(slots=True)
class Reached:
    """The code that a request reaches, found by following the names in Flask's code.

    Attributes:
        names: every attribute name in that code.
        globals: the members of a module, by the id of its members and a name in it.
        classes: the classes of the libraries, in the order in which they were found.
        functions: the followed functions, each with its code.
    """

    names: set[str]
    globals: dict[tuple[int, str], dict[str, Any]] = field(default_factory=dict)
    classes: dict[type, None] = field(default_factory=dict)
    functions: dict[FunctionType, CodeType] = field(default_factory=dict)

    def values(self) -> Iterator[tuple[dict[str, Any], str, Any]]:
        """Yield the members of a module, one of their names, and its value."""
        for (_, name), members in self.globals.items():
            if name in members:
                yield members, name, members[name]


def reached_by(app: Flask) -> Reached:
    """Return the code that a request reaches in an application."""
    of_objects = classes_of_objects(app)
    first = [*classes_of_app(app), *of_objects, *classes_of_map(app)]
    reached, values = Reached({"__call__", "__getattribute__", "__getattr__"}), defaultdict[str, list[Any]](list)
    for each in dict.fromkeys(first):
        _add(values, each)
    pending = [value for name in ("__call__", *CONTEXT_METHODS) for value in values[name]]
    pending += [vars(each).get("__init__") for each in (*CONTEXTS, *of_objects)]
    pending += DEFAULT_CONVERTERS.values()
    while pending:
        value = pending.pop()
        for each in _library_classes(value):
            if each not in reached.classes:
                reached.classes[each] = None
                _add(values, each)
                pending += [vars(each)[name] for name in (reached.names | IMPLICIT) & vars(each).keys()]
        function = (
            None if type(value) is cached_property else _function(value)
        )  # such as a logger, which no request creates
        if type(function) is not FunctionType or function in reached.functions or not is_ours(function):
            continue
        reached.functions[function] = function.__code__
        names, members = {*_names(function.__code__)}, function.__globals__
        for name in names - reached.names - SETUP:
            reached.names.add(name)
            pending += values.get(name, ())
        for name in names & members.keys():
            if (id(members), name) not in reached.globals:
                reached.globals[id(members), name] = members
                pending.append(members[name])
    return reached


def _add(values: dict[str, list[Any]], each: type) -> None:
    for name, value in vars(each).items():
        values[name].append(value)


def _library_classes(value: Any) -> Iterator[type]:
    """Yield the classes of Flask and the libraries below it among the value's classes or, for a class, its bases."""
    if type(value) is FunctionType or type(value) is ModuleType:
        return
    for each in (value if is_class(value) else type(value)).__mro__:
        if _package(each.__module__) in OUR_NAMES:
            yield each


def classes_of_app(app: Flask) -> list[type]:
    """Return the classes of an application and of its contexts."""
    return [*type(app).__mro__[:-1], *CONTEXTS]


def classes_of_map(app: Flask) -> list[type]:
    """Return the classes of the map of URLs."""
    return [*type(app.url_map).__mro__[:-1]]


def classes_of_objects(app: Flask) -> list[type]:
    """Return the classes of the objects that Flask creates or uses for each request, with their bases."""
    created = app.request_class, app.response_class, app.app_ctx_globals_class, MapAdapter
    kinds = (*created, type(app.session_interface), type(app.config))
    bases = [base for kind in kinds for base in kind.__mro__]
    return [each for each in dict.fromkeys(bases) if each.__module__ not in ("builtins", "typing")]


def _function(attribute: Any) -> Any:
    """Return the function inside a property, static method or class method; any other attribute as it is."""
    if type(attribute) in (property, cached_property):
        return attribute.fget
    return attribute.__func__ if type(attribute) in (staticmethod, classmethod) else attribute


def is_class(value: Any) -> bool:
    """Return whether a value is a class. `isinstance` would also accept a proxy of a class."""
    return issubclass(type(value), type)


def adds_only(kind: type, names: set[str]) -> bool:
    """Return whether a class overrides none of these names of Flask's classes and has no special methods."""
    own = {name for base in kind.__mro__[:-1] if not is_library(base) for name in vars(base)} - OF_CLASSES
    return type(kind) is type and not any(name in names or name.startswith("__") for name in own)


def is_plain(value: Any) -> bool:
    """Return whether a value runs no code: text, a number, a lock, a setting."""
    return value is None or type(value) in (bool, int, str, dict, LockType, ConfigAttribute)


def _names(code: CodeType) -> Iterator[str]:
    """Yield the global and attribute names in a function's code, with those in nested functions."""
    yield from code.co_names
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from _names(each)


def is_ours(attribute: Any) -> bool:
    """Return whether the files of Retort, Flask or a library below it define a function, a class, or an object's class.

    For a function, this checks its code, because a decorator copies the name and the module of the wrapped function. It
    calls `type`, because the `__class__` of a proxy is the class of its target.
    """
    function = _function(attribute)
    if type(function) is FunctionType:
        if function.__code__.co_filename == "<string>":  # a method of a dataclass
            return _package(_module_of(function)) in OUR_NAMES
        return function.__code__.co_filename.startswith(OUR_FOLDERS)
    defining_class = function if is_class(function) else type(function)
    if defining_class.__module__ in ("builtins", "collections"):
        return not callable(function)
    try:
        return inspect.getfile(defining_class).startswith(OUR_FOLDERS)
    except (TypeError, OSError):  # a C extension, or no file
        return False


def is_library(attribute: Any) -> bool:
    """Return whether a value belongs to Python, Retort, Flask or a library below Flask."""
    value = _function(attribute)
    if type(value) in (functools.partial, functools.cached_property):
        return is_library(value.func)
    if type(value) is functools._lru_cache_wrapper:
        return is_library(value.__wrapped__)
    if is_plain(value) or type(value) in (ModuleType, BuiltinFunctionType) or is_ours(value):
        return True
    if type(value) is FunctionType:  # a decorator copies `__module__`, not the globals
        return bool(value.__module__ == _module_of(value)) and _is_pythons(value.__module__)
    if is_class(value):
        return _is_pythons_class(value)
    return _is_pythons_class(type(value)) and not (callable(value) or hasattr(type(value), "__get__"))


def _is_pythons_class(kind: type) -> bool:
    # A class that `type` derives from an abstract one claims the module `abc`.
    return _is_pythons(kind.__module__) and getattr(sys.modules.get(kind.__module__), kind.__name__, None) is kind


def _is_pythons(module: object) -> bool:
    return _package(module) in sys.stdlib_module_names


def _package(module: object) -> str:
    return str(module).partition(".")[0]


def _module_of(function: FunctionType) -> object:
    """Return the name of the module that defines a function; None for some code run by `exec`."""
    return function.__globals__.get("__name__")


def name_of(function: Any) -> str:
    """Return the name of a function or class, or else of the object's class, without calling the object."""
    if type(function) is functools.partial:
        return name_of(function.func)
    if type(function) is FunctionType:  # a decorator copies the function's names, not its code
        return f"{_module_of(function)}.{function.__code__.co_qualname}"
    has_name = is_class(function) or type(function) in (MethodType, BuiltinFunctionType)
    named = function if has_name else type(function)
    return f"{named.__module__}.{named.__qualname__}"


@dataclass(frozen=True, slots=True)
class Attributes:
    """The attributes of an object and of classes that a request reaches, as they were when this was created.

    Attributes:
        reached: the members of a class or object, an attribute name, and its value.
        members: the members of each class.
        sizes: the number of members of each class. A new member may hide one of a base.
        owner: the object.
        kind: the class of the object.
        of_object: the names of the object's own attributes.
    """

    reached: Sequence[tuple[Mapping[str, Any], str, Any]]
    members: Sequence[Mapping[str, Any]]
    sizes: list[int]
    owner: object
    kind: type
    of_object: list[str]

    def is_current(self) -> bool:
        """Return whether nothing has changed since. This compares by identity, because a proxy equals its function."""
        try:
            for members, name, value in self.reached:
                if members[name] is not value:
                    return False
        except KeyError:  # an attribute was removed, and another added
            return False
        is_kind = type(self.owner) is self.kind  # user code may set `__class__`
        return is_kind and [*vars(self.owner)] == self.of_object and [*map(len, self.members)] == self.sizes


def attributes_of(
    owner: object, classes: Sequence[type], names: set[str], more: Sequence[tuple[Mapping[str, Any], str, Any]] = ()
) -> Attributes:
    """Return the current attributes of an object and of classes that have these names, and `more` attributes."""
    of_object, members = [*vars(owner)], [vars(each) for each in dict.fromkeys(classes)]
    sizes = [*map(len, members)]
    attributes = [(each, name, each[name]) for each in (vars(owner), *members) for name in sorted(names & each.keys())]
    reached = [each for each in attributes if type(each[2]) is dict or not is_plain(each[2])]
    return Attributes([*reached, *more], members, sizes, owner, type(owner), of_object)
