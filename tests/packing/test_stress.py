"""Rows at the steps of a model's answers are found, and smooth answers take few calls."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from app.packing.probe import Record
from app.packing.stress import LINES, MOST_TURNS, Pools, boundaries
from app.signature import Input, Layout, Signature

SIGNATURE = Signature(
    (Input("a", "number", "float64"), Input("b", "number", "float64")), ("prediction",), ("prediction",), Layout.MATRIX
)
RECORDS: list[Record] = [{"a": row / 7 - 1.0, "b": row / 11 + 3.0} for row in range(20)]
SIDES = 4
"""Rows for each step: two on each side."""


class Model:
    """Answer by a function of two columns; count the calls."""

    def __init__(self, function: Callable[[NDArray[Any], NDArray[Any]], NDArray[Any]]) -> None:
        self.function = function
        self.calls = 0

    def __call__(self, records: list[Record]) -> NDArray[Any]:
        self.calls += 1
        return self.function(*(np.array([record[name] for record in records]) for name in ("a", "b")))


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda a, b: a > 0.3, id="a threshold"),
        pytest.param(lambda a, b: a > 0.0, id="a threshold at zero"),
        pytest.param(lambda a, b: np.where(a * b > 2.5, "more", "less"), id="labels by a product"),
        pytest.param(lambda a, b: np.floor(3 * a) + np.floor(2 * b), id="many steps"),
        pytest.param(lambda a, b: np.maximum(a, 0.25), id="smooth beyond a point"),
        pytest.param(lambda a, b: a + 2 * b, id="smooth"),
    ],
)
def test_both_sides_of_each_step_are_neighbours_with_different_answers(function: Any) -> None:
    found = boundaries(Model(function), Pools(SIGNATURE, RECORDS))
    assert found
    steps = len(found) // SIDES
    for low, high in zip(found[:steps], found[steps : 2 * steps], strict=True):
        [name] = [name for name in low if low[name] != high[name]]
        assert np.nextafter(low[name], np.inf) == high[name] or abs(low[name]) < 1e-9  # numbers are dense around zero
        below, above = function(*(np.array([low[each], high[each]]) for each in ("a", "b")))
        assert below != above


def test_a_threshold_is_found_on_every_line_that_crosses_it() -> None:
    found = boundaries(Model(lambda a, b: a > 0.3), Pools(SIGNATURE, RECORDS))
    steps = len(found) // SIDES
    assert steps > LINES // 10
    assert {row["a"] for row in found[:steps]} == {0.3}


def test_smooth_answers_take_few_calls() -> None:
    pools = Pools(SIGNATURE, [record | {"a": record["a"] + 5.0} for record in RECORDS])
    smooth, stepped = Model(lambda a, b: a + 2 * b), Model(lambda a, b: a > 5.3)
    for model in (smooth, stepped):
        assert boundaries(model, pools)
    assert smooth.calls < stepped.calls / 2 < MOST_TURNS / 2


def test_answers_without_a_step_are_asked_twice() -> None:
    model = Model(lambda a, b: np.zeros(len(a)))
    assert boundaries(model, Pools(SIGNATURE, RECORDS)) == []
    assert model.calls == 2
