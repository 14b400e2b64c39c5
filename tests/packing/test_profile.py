"""The profile of a sample: the distributions of its inputs, and of the predictions for it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app.packing.agreement import MOST_VALUES, count_labels, histogram, profile_of
from app.signature import Input, Layout, Signature


@pytest.mark.parametrize("values", [[], [None], [1.0, 1.0], [float("nan"), 2.0], ["a", "b"]])
def test_there_is_no_histogram_of_fewer_than_two_numbers(values: list[Any]) -> None:
    assert histogram(values) is None


def test_a_histogram_counts_every_number_once() -> None:
    found = histogram([0, 1, 15.9, 16, None, float("nan"), 8])
    assert found == {"from": 0.0, "to": 16.0, "counts": [1, 1, *[0] * 6, 1, *[0] * 6, 2], "missing": 2}


def test_the_widest_numbers_have_a_histogram_too() -> None:
    found = histogram([-1.7e308, 0.0, 1.7e308])
    assert found is not None
    assert sum(found["counts"]) == 3  # type: ignore[call-overload]


def test_labels_are_counted_by_type_and_rare_labels_together() -> None:
    assert count_labels(["b", "a", "b", None]) == {"values": [["b", 2], ["a", 1]], "missing": 1}
    assert count_labels([True, 1, 1]) == {"values": [[1, 2], [True, 1]]}
    assert count_labels([*range(MOST_VALUES), "x", "y"])["others"] == 2


def test_inputs_and_predictions_of_a_pipeline() -> None:
    frame = pd.DataFrame({"colour": ["red", "blue"] * 20, "size": np.linspace(0.0, 9.0, 40)})
    encode = make_column_transformer((OneHotEncoder(), ["colour"]), remainder="passthrough")
    model = make_pipeline(encode, LogisticRegression()).fit(frame, frame["size"] > 4)
    inputs = (
        Input("colour", "category", "str", categories=("blue", "red"), unseen="reject"),
        Input("size", "number", "float64"),
    )
    signature = Signature(inputs, ("prediction",), ("prediction",), Layout.FRAME, classes=(False, True))
    profile = profile_of(model, signature, frame.to_dict("records"))
    assert profile["rows"] == 40
    assert profile["inputs"]["colour"] == {"values": [["red", 20], ["blue", 20]]}  # type: ignore[index]
    assert sum(profile["inputs"]["size"]["counts"]) == 40  # type: ignore[index]
    assert sum(count for _, count in profile["prediction"]["values"]) == 40  # type: ignore[index]
    json.dumps(profile)


def test_numbers_that_are_predicted_have_a_histogram() -> None:
    model = LinearRegression().fit([[0.0], [1.0], [2.0]], [0.0, 2.0, 4.0])
    signature = Signature((Input("x", "number", "float64"),), ("prediction",), ("prediction",), Layout.MATRIX)
    profile = profile_of(model, signature, [{"x": 0.0}, {"x": 1.0}, {"x": 2.0}])
    assert profile["prediction"]["from"] == pytest.approx(0.0)  # type: ignore[index]
    assert profile["prediction"]["to"] == pytest.approx(4.0)  # type: ignore[index]
