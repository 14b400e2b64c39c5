"""Accepted values that are new to the model are reported, refused or ignored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from app.errors import InvalidInstances
from app.signature import Input, Signature
from app.signature.validator import Validator
from app.signature.watch import NO_WARNINGS, Warnings
from tests.signature.specs import signature

LENGTH = Input("length", "number", "float64", True, minimum=1.0, maximum=2.5)
COUNT = Input("count", "integer", "int64", minimum=0.0, maximum=9.0)
ISLAND = Input("an/island", "category", "str", True, categories=("Dream", "Biscoe"), unseen="warn")


def sig(*specs: Input, out_of_range: str | None = "warn") -> Signature:
    return replace(signature(*specs), out_of_range=out_of_range)


def seen(sig: Signature, instances: list[Any], in_rows: bool = False) -> Warnings:
    validator = Validator(sig, 1000)
    assert validator.watch is not None
    return validator.watch.check(validator.validate(instances), lambda row: (f"#/instances/{row}", in_rows))


def test_every_new_value_is_reported_in_the_order_of_rows() -> None:
    instances = [
        {"length": 2.5, "count": 10, "an/island": "Dream"},
        {"length": 0.5, "count": 0, "an/island": "Mars"},
        {"length": None, "count": 9, "an/island": None},
    ]
    found = seen(sig(LENGTH, COUNT, ISLAND), instances)
    assert [(w.pointer, w.detail, w.value) for w in found.found] == [
        ("#/instances/0/count", "is outside the range seen in training: 0 to 9", 10),
        ("#/instances/1/length", "is outside the range seen in training: 1 to 2.5", 0.5),
        ("#/instances/1/an~1island", "was not seen in training; seen: Dream, Biscoe", "Mars"),
    ]
    assert found.more == 0
    assert seen(sig(LENGTH), [[0.0]], in_rows=True).found[0].pointer == "#/instances/0/0"


def test_known_values_give_no_warning() -> None:
    assert seen(sig(LENGTH, COUNT, ISLAND), [[1.0, 0, "Dream"], [2.5, 9, None]]) is NO_WARNINGS
    assert seen(sig(LENGTH), []) is NO_WARNINGS


def test_a_hundred_warnings_are_listed_and_the_others_counted() -> None:
    found = seen(sig(LENGTH, ISLAND), [[3.0, "Mars"]] * 80)
    assert (len(found.found), found.more) == (100, 60)
    assert found.found[-1].pointer == "#/instances/49/an~1island"


def test_numbers_outside_the_range_are_refused_if_the_model_rejects_them() -> None:
    with pytest.raises(InvalidInstances) as caught:
        seen(sig(LENGTH, ISLAND, out_of_range="reject"), [[3.0, "Mars"], [1.0, "Mars"]])
    assert [(e.pointer, e.detail, e.value) for e in caught.value.errors] == [
        ("#/instances/0/length", "must be within the range seen in training: 1 to 2.5", 3.0)
    ]
    accepted = seen(sig(LENGTH, ISLAND, out_of_range="reject"), [[2.0, "Mars"]])
    assert [w.pointer for w in accepted.found] == ["#/instances/0/an~1island"]


@pytest.mark.parametrize(
    ("own", "setting", "watched"),
    [
        (None, "ignore", False),
        (None, "warn", True),
        (None, "reject", True),
        ("ignore", "reject", False),
        ("warn", "ignore", True),
    ],
)
def test_the_models_own_choice_overrides_the_setting(own: str | None, setting: str, watched: bool) -> None:
    validator = Validator(sig(LENGTH, out_of_range=own), 10, setting)
    assert (validator.watch is not None) is watched


def test_there_is_nothing_to_watch_without_a_range() -> None:
    assert Validator(sig(Input("x", "number", "float64"), Input("t", "text", "str")), 10).watch is None
    assert Validator(sig(replace(ISLAND, unseen="accept")), 10).watch is None
