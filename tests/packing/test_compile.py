"""The number of rows that a compiled graph runs at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import LinearRegression
from sklearn.neighbors import KNeighborsRegressor

from app.packing.graph import MAX_CELLS_AT_ONCE, MOST_ROWS_AT_ONCE, compile_graph
from app.packing.infer import infer
from app.runtime.graph import MAX_ROWS_AT_ONCE, ROWS_AT_ONCE

ROWS = np.random.default_rng(0).normal(size=(400, 8))
TARGET = ROWS.sum(axis=1)


def rows_at_once(estimator: Any) -> int:
    signature, _ = infer(estimator.fit(ROWS, TARGET), None)
    properties = {p.key: p.value for p in compile_graph(estimator, signature).metadata_props}
    return int(properties[ROWS_AT_ONCE])


def test_a_small_graph_runs_many_rows_at_once() -> None:
    assert rows_at_once(LinearRegression()) == MOST_ROWS_AT_ONCE


@pytest.mark.parametrize("trees", [1, 20])
def test_trees_run_as_many_rows_as_usual(trees: int) -> None:
    assert rows_at_once(RandomForestRegressor(trees, random_state=0)) == MAX_ROWS_AT_ONCE


def test_the_more_constants_a_graph_has_the_fewer_rows_it_runs_at_once() -> None:
    rows = rows_at_once(KNeighborsRegressor())
    assert MAX_ROWS_AT_ONCE < rows < MOST_ROWS_AT_ONCE
    assert rows * ROWS.size <= MAX_CELLS_AT_ONCE
