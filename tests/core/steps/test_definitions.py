"""Steps and factories of a user's module are found, or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from app.core import steps
from app.core.steps import Refused, factory, found_in, step
from app.core.steps.services import Caller
from app.errors import InvalidSettings


class Table:
    """A service."""


def module(*functions: Any) -> ModuleType:
    made = ModuleType("my_steps")
    for number, function in enumerate(functions):
        setattr(made, f"function{number}", function)
    return made


@step("enrich", needs={"customer_id": int}, provides=("income", "age"))
def enrich(instances: list[Any], table: Table) -> None: ...


@step("scale", provides="score")
async def scale(outputs, instances, caller: Caller): ...  # type: ignore[no-untyped-def]


@factory(per="process")
def table() -> Iterator[Table]:
    yield Table()


def test_marked_functions_are_found_with_their_services() -> None:
    found = found_in(module(enrich, scale, table, len))
    first, second = found.steps["enrich"], found.steps["scale"]
    assert (first.needs, first.provides, first.given) == ({"customer_id": int}, ("income", "age"), ("instances",))
    assert (dict(first.services), first.is_async) == ({"table": Table}, False)
    assert (second.given, dict(second.services), second.is_async) == (
        ("outputs", "instances"),
        {"caller": Caller},
        True,
    )
    assert [(each.type, each.per) for each in found.factories] == [(Table, "process")]


def test_two_names_of_one_function_are_one_step() -> None:
    assert list(found_in(module(enrich, enrich)).steps) == ["enrich"]


def test_there_are_no_steps_without_a_module() -> None:
    assert steps.load("") == steps.StepModule()


def test_a_module_is_found_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["from app.core.steps import step", '@step("log")', "def log(instances): ..."]
    (tmp_path / "steps_of_this_test.py").write_text("\n".join(lines))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["/nowhere"])
    assert list(steps.load("steps_of_this_test").steps) == ["log"]


def test_a_missing_module_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.path", list(__import__("sys").path))
    with pytest.raises(InvalidSettings, match=r"RETORT_STEPS='no_such_steps' cannot be imported .*no_such_steps"):
        steps.load("no_such_steps")


def untyped(instances, session): ...  # type: ignore[no-untyped-def]


def starred(instances, *others): ...  # type: ignore[no-untyped-def]


def unreturned():  # type: ignore[no-untyped-def]
    return 1


@pytest.mark.parametrize(
    ("marked", "sentence"),
    [
        (lambda: step("a")(untyped), "step untyped: parameters session have no type"),
        (lambda: step("a")(starred), "parameters others take any number"),
        (lambda: step("a", needs={"when": list})(lambda instances: None), "needs 'when' as list; allowed: bool, int"),
        (lambda: step("")(lambda instances: None), "its name '' is not printable"),
        (lambda: factory()(unreturned), "factory unreturned: it has no return type"),
        (lambda: factory(per="week")(lambda: None), "lives per 'week'; allowed: process, request"),
    ],
)
def test_unusable_functions_are_refused_with_a_reason(marked: Any, sentence: str) -> None:
    with pytest.raises(InvalidSettings) as caught:
        found_in(module(marked()))
    assert sentence in caught.value.detail


def test_two_steps_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidSettings, match="there is another step of that name"):
        found_in(module(enrich, step("enrich")(lambda instances: None)))


def test_a_refusal_of_one_value_is_a_tuple_too() -> None:
    assert Refused((0, "age", "is negative")).wrong == ((0, "age", "is negative"),)
    with pytest.raises(TypeError, match=r'as in Refused\(\(0, "age", "is negative"\)\); got 0$'):
        Refused(0, "age", "is negative")  # type: ignore[arg-type]
