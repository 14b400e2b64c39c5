"""Nested objects in records, their places, and free-form records."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.errors import InvalidInstances
from app.signature import Input, Layout
from app.signature.records import Nesting, nested_schema
from app.signature.validator import Validator
from tests.signature.specs import signature

NAMES = ["a.b", "a.c.d", "e", "f.g"]
VALIDATOR = Validator(signature(*(Input(name, "number", "float64") for name in NAMES)), 100)
WHOLE = replace(signature(Input("record", "record", "object")), layout=Layout.RECORDS)


def refused(instances: list[Any], validator: Validator = VALIDATOR) -> dict[str, str]:
    with pytest.raises(InvalidInstances) as caught:
        validator.validate(instances, "#/instances")
    assert caught.value.total >= len(caught.value.errors)
    return {error.pointer: error.detail for error in caught.value.errors}


def deep(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    "record",
    [
        {"a": {"b": 1, "c": {"d": 2}}, "e": 3, "f": {"g": 4}},
        {"a.b": 1, "a.c.d": 2, "e": 3, "f.g": 4},
        {"a.b": 1, "a": {"c.d": 2}, "e": 3, "f": {"g": 4}},
        {"a": {"b": 9}, "e": 3, "f": {"g": 4}, "a.b": 1, "a.c": {"d": 2}},
    ],
)
def test_nested_objects_become_dotted_names(record: dict[str, Any]) -> None:
    batch = VALIDATOR.validate([record, [1, 2, 3, 4]])
    assert batch.matrix().tolist() == [[1, 2, 3, 4]] * 2


def test_pointers_lead_to_the_place_in_the_sent_record() -> None:
    message = refused([{"a": {"b": "1", "c": {"x": 0}}, "e": {}, "f.g": None}])
    assert list(message) == [
        "#/instances/0/a/b",
        "#/instances/0/a/c/d",
        "#/instances/0/e",
        "#/instances/0/f.g",
        "#/instances/0/a/c/x",
    ]
    assert message["#/instances/0/a/c/d"].startswith("is missing")
    assert message["#/instances/0/a/c/x"].startswith("is not a feature of this model")


def test_a_very_deep_record_is_refused() -> None:
    assert "#/instances/0/a/a" in refused([deep(500)])


def test_records_without_dotted_names_stay_unchanged() -> None:
    assert not Nesting(["a", "b"])
    assert Nesting(["a.b", "a"]).flat({"a": {"b": 1}}) == {"a": {"b": 1}}


def test_the_schema_of_nested_records_is_nested() -> None:
    flat = {"properties": {name: {"type": "number"} for name in NAMES}}
    nested = nested_schema(flat)
    assert nested["required"] == ["a", "e", "f"]
    assert nested["properties"]["a"]["properties"]["c"]["properties"] == {"d": {"type": "number"}}
    both = {"properties": {"a": {"type": "number"}, "a.b": {"type": "number"}}}
    assert nested_schema(both) is both


def test_free_form_records_are_accepted() -> None:
    validator = Validator(WHOLE, 10)
    first = {"city": "Rome", "sun": {"hours": 9, "uv": 7.5}, "tags": ["a", "b"]}
    column = validator.validate([first, [{}], {"wet": True}]).columns["record"]
    assert column.tolist() == [{"city": "Rome", "sun.hours": 9, "sun.uv": 7.5, "tags": ["a", "b"]}, {}, {"wet": True}]


def test_bad_members_are_refused_with_a_reason() -> None:
    bad = [{"a/b": None}, [{"x": {"y": [1]}}], {"n": 2**70}, {"n": float("inf")}, deep(500), 7, [1, 2], [7]]
    message = refused(bad, Validator(WHOLE, 10))
    assert list(message) == [
        "#/instances/0/a~1b",
        "#/instances/1/0/x/y",
        "#/instances/2/n",
        "#/instances/3/n",
        "#/instances/4" + "/a" * 20,
        "#/instances/5",
        "#/instances/6",
        "#/instances/7/0",
    ]
    assert message["#/instances/0/a~1b"].startswith("must not be missing")


def test_every_bad_member_is_named_and_counted() -> None:
    bad = [{"a": None, "b": {"c": [1], "d": 2, "e": 2**70}}, {"a": 1}, [{f"n{at}": None for at in range(200)}], 7]
    with pytest.raises(InvalidInstances) as caught:
        Validator(WHOLE, 10).validate(bad)
    assert [error.pointer for error in caught.value.errors[:4]] == ["#/0/a", "#/0/b/c", "#/0/b/e", "#/2/0/n0"]
    assert (len(caught.value.errors), caught.value.total) == (100, 3 + 200 + 1)
