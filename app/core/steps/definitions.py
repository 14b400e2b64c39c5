"""Define steps (functions that run before or after a model) and factories of the services that they request.

    from app import step

    @step("enrich", needs={"customer_id": int}, provides=("income", "age"))
    def enrich(instances, session: Session): ...

A decorator only marks its function; importing a module registers nothing. `found_in` returns the marked functions.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import typing
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

from app.errors import InvalidSettings

FunctionT = TypeVar("FunctionT", bound=Callable[..., Any])

INSTANCES, OUTPUTS = "instances", "outputs"
GIVEN = (INSTANCES, OUTPUTS)
"""Parameters that a step receives by their name. It receives all others by their type."""
KIND_OF: dict[type, tuple[str, str]] = {
    bool: ("boolean", "bool"),
    int: ("integer", "int64"),
    float: ("number", "float64"),
    str: ("text", "str"),
}
"""The kind and dtype of an input, for each type of a field that a step may need."""
LIFETIMES = ("process", "request")
MARK = "retort_mark"


@dataclass(frozen=True)
class Step:
    """One named function.

    `needs` are fields that the client sends for this step beside the model's inputs, each with a type or an example.
    `provides` are inputs that the client then need not send, or additional outputs. `given` are the parameters for
    instances and outputs; `services` holds the types of all other parameters, by name.
    """

    name: str
    function: Callable[..., Any]
    needs: Mapping[str, Any] = field(default_factory=dict)
    provides: tuple[str, ...] = ()
    given: tuple[str, ...] = (INSTANCES,)
    services: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def is_async(self) -> bool:
        """Whether it is a coroutine function, which runs on the event loop of the process."""
        return inspect.iscoroutinefunction(self.function)


@dataclass(frozen=True, slots=True)
class Factory:
    """A factory of one service type, called once per process or per request.

    `check` is called with the service and raises if the service is not well.
    """

    type: Any
    function: Callable[..., Any]
    per: str = "request"
    check: Callable[[Any], Any] | None = None
    services: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_async(self) -> bool:
        """Whether calling it needs await."""
        return inspect.iscoroutinefunction(self.function) or inspect.isasyncgenfunction(self.function)


@dataclass(frozen=True, slots=True)
class StepModule:
    """The steps of a module, by name, and its factories."""

    steps: Mapping[str, Step] = field(default_factory=dict)
    factories: tuple[Factory, ...] = ()


class Refused(Exception):
    """A step raises this to refuse instances. Each (position, field, message) becomes an entry of the 422 answer.

    Raises:
        TypeError: an argument is not a tuple of these three.
    """

    def __init__(self, *wrong: tuple[int, str, str]) -> None:
        arguments: tuple[object, ...] = wrong  # few users check the types of their steps
        for argument in arguments:
            if not (isinstance(argument, tuple | list) and len(argument) == 3):
                raise TypeError(
                    "Refused takes a tuple of position, field and message for each value, as in"
                    f' Refused((0, "age", "is negative")); got {argument!r}'
                )
        super().__init__(f"{len(wrong)} values are refused")
        self.wrong = wrong


def step(
    name: str, *, needs: Mapping[str, Any] | None = None, provides: Sequence[str] = ()
) -> Callable[[FunctionT], FunctionT]:
    """Mark a function as the step of this name. Manifests list steps by name."""

    def mark(function: FunctionT) -> FunctionT:
        provided = (provides,) if isinstance(provides, str) else tuple(provides)
        setattr(function, MARK, ("step", name, dict(needs or {}), provided))
        return function

    return mark


def factory(per: str = "request", *, check: Callable[[Any], Any] | None = None) -> Callable[[FunctionT], FunctionT]:
    """Mark a function as the factory of its return type. A generator yields the service once and then cleans up.

    Args:
        per: "process" or "request", the lifetime of the service.
        check: called with the service; `/readyz` reports the service if it raises.
    """

    def mark(function: FunctionT) -> FunctionT:
        setattr(function, MARK, ("factory", per, check))
        return function

    return mark


def load(name: str) -> StepModule:
    """Import a module from the working directory and return its steps and factories. An empty name has none.

    Raises:
        InvalidSettings: the module cannot be imported, or has unusable steps. The error has a sentence for each.
    """
    if not name:
        return StepModule()
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(name)
    except Exception as error:
        raise InvalidSettings(
            [f"RETORT_STEPS={name!r} cannot be imported ({type(error).__name__}: {error})"]
        ) from error
    return found_in(module)


def found_in(module: ModuleType) -> StepModule:
    """Return the steps and factories among a module's names.

    Raises:
        InvalidSettings: the error names everything that cannot be used.
    """
    steps: dict[str, Step] = {}
    factories: dict[Any, Factory] = {}
    wrong: list[str] = []
    for function in dict.fromkeys(value for value in vars(module).values() if inspect.isfunction(value)):
        mark = getattr(function, MARK, None)
        if mark is None:
            continue
        try:
            if mark[0] == "step":
                marked_step = _make_step(function, *mark[1:])
                _require(marked_step.name not in steps, "there is another step of that name")
                steps[marked_step.name] = marked_step
            else:
                marked_factory = _make_factory(function, *mark[1:])
                type_ = marked_factory.type
                _require(type_ not in factories, f"there is another factory of {shown(type_)}")
                factories[type_] = marked_factory
        except (TypeError, NameError) as error:
            wrong.append(f"RETORT_STEPS={module.__name__!r}: {mark[0]} {function.__name__}: {error}")
    if wrong:
        raise InvalidSettings(wrong)
    return StepModule(steps, tuple(factories.values()))


def shown(type_: Any) -> str:
    """Return a type's name as it appears in messages."""
    if not isinstance(type_, type):
        return str(type_)
    return type_.__name__ if type_.__module__ == "builtins" else f"{type_.__module__}.{type_.__qualname__}"


def _make_step(function: Callable[..., Any], name: str, needs: Mapping[str, Any], provides: tuple[str, ...]) -> Step:
    _require(bool(name) and name.isprintable(), f"its name {name!r} is not printable")
    for key, need in needs.items():
        type_ = need if isinstance(need, type) else type(need)
        allowed = ", ".join(map(shown, KIND_OF))
        _require(type_ in KIND_OF, f"it needs {key!r} as {shown(type_)}; allowed: {allowed}, or an example of one")
    parameters = _parameters(function)
    given = tuple(parameter for parameter in parameters if parameter in GIVEN)
    return Step(name, function, needs, provides, given, _services(function, parameters))


def _make_factory(function: Callable[..., Any], per: str, check: Callable[[Any], Any] | None) -> Factory:
    _require(per in LIFETIMES, f"it lives per {per!r}; allowed: {', '.join(LIFETIMES)}")
    hints = typing.get_type_hints(function)
    _require("return" in hints, "it has no return type, which names its service")
    type_ = hints["return"]
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        type_ = (typing.get_args(type_) or (type_,))[0]
    return Factory(type_, function, per, check, _services(function, _parameters(function)))


def _services(function: Callable[..., Any], parameters: Sequence[str]) -> dict[str, Any]:
    """Return the types of the parameters that are services."""
    hints = typing.get_type_hints(function)
    services = [parameter for parameter in parameters if parameter not in GIVEN]
    untyped = [parameter for parameter in services if parameter not in hints]
    _require(not untyped, f"parameters {', '.join(untyped)} have no type, by which services are found")
    return {parameter: hints[parameter] for parameter in services}


def as_context_manager(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a factory in the form that svcs takes: a generator becomes a context manager."""
    if inspect.isgeneratorfunction(function):
        return contextmanager(typing.cast(Callable[..., Iterator[Any]], function))
    if inspect.isasyncgenfunction(function):
        return asynccontextmanager(typing.cast(Callable[..., AsyncIterator[Any]], function))
    return function


def _parameters(function: Callable[..., Any]) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    starred = [p.name for p in parameters if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    _require(not starred, f"parameters {', '.join(starred)} take any number of arguments; each needs a name and a type")
    positional = [p.name for p in parameters if p.kind is p.POSITIONAL_ONLY]
    _require(not positional, f"parameters {', '.join(positional)} cannot be given by name")
    return [p.name for p in parameters]


def _require(condition: bool, problem: str) -> None:
    if not condition:
        raise TypeError(problem)
