"""Answers as flat columns: names, probabilities, and outputs that are no matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from app.core import answer
from app.core.answer import Answer, column_names, columns_of
from app.storage.repository import Repository
from tests.end_to_end.process import EXAMPLE_MODELS


def columns(output: Any, name: str = "prediction", classes: Sequence[object] | None = None) -> dict[str, list[Any]]:
    made = columns_of(Answer({name: output}, classes, "flowers", 1))
    return {key: column.tolist() for key, column in made.items()}


def objects(*values: Any) -> Any:
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def test_one_value_for_each_row_keeps_its_name() -> None:
    assert columns(np.array([1.5, 2.5])) == {"prediction": [1.5, 2.5]}
    assert columns(objects("a", None)) == {"prediction": ["a", None]}


def test_several_values_become_numbered_columns() -> None:
    assert columns(np.array([[1, 2], [3, 4]])) == {"prediction_0": [1, 3], "prediction_1": [2, 4]}
    assert columns(objects([1, 2], [3, 4])) == {"prediction_0": [1, 3], "prediction_1": [2, 4]}


def test_probabilities_are_named_after_their_classes() -> None:
    expected = {"probability_no": [0.25], "probability_yes": [0.75]}
    assert columns(np.array([[0.25, 0.75]]), "probabilities", ["no", "yes"]) == expected
    assert columns(np.empty(0), "probabilities", ["no", "yes"]) == {"probability_no": [], "probability_yes": []}


def test_probabilities_of_several_targets_are_named_after_the_target_and_the_class() -> None:
    classes = [["a", "b", "c"], ["no", "yes"]]
    names = ["probability_0_a", "probability_0_b", "probability_0_c", "probability_1_no", "probability_1_yes"]
    unequal = objects([[0.5, 0.25, 0.25], [0.125, 0.875]], [[1.0, 0.0, 0.0], [0.0, 1.0]])
    expected = dict(zip(names, [[0.5, 1.0], [0.25, 0.0], [0.25, 0.0], [0.125, 0.0], [0.875, 1.0]], strict=True))
    assert columns(unequal, "probabilities", classes) == expected
    assert columns(objects(), "probabilities", classes) == {name: [] for name in names}
    equal = np.array([[[0.25, 0.75], [0.5, 0.5]]])
    expected = {
        "probability_0_1": [0.25],
        "probability_0_1_1": [0.75],
        "probability_1_1": [0.5],
        "probability_1_x": [0.5],
    }
    assert columns(equal, "probabilities", [["1", "1_1"], ["1", "x"]]) == expected
    assert columns(objects(equal[0].tolist()), "probabilities", [["1", "1_1"], ["1", "x"]]) == expected


def test_no_column_takes_the_name_of_another() -> None:
    twice = np.array([[0.25, 0.75]])
    assert columns(twice, "probabilities", ["1", 1]) == {"probabilities": ["[0.25,0.75]"]}
    assert columns(twice, "probabilities", [["a"], ["b"]]) == {"probability_0_a": [0.25], "probability_1_b": [0.75]}
    outputs = {
        "a": np.array([[1, 2]]),
        "a_0": np.array([[3, 4]]),
        "probability_x": np.array([5]),
        "a_0_1": np.array([6]),
    }
    made = columns_of(Answer({**outputs, "probabilities": np.array([[1.0]])}, ["x"], "flowers", 1))
    assert {name: column.tolist() for name, column in made.items()} == {
        "a": ["[1,2]"],
        "a_0": ["[3,4]"],
        "probability_x": [5],
        "a_0_1": [6],
        "probabilities": ["[1.0]"],
    }


@pytest.mark.parametrize("model", ["penguins", "iris-two", "diabetes"])
def test_the_names_of_columns_are_known_without_a_run(model: str) -> None:
    manifest = Repository(EXAMPLE_MODELS).manifest(model, 1)
    probabilities = [f"probability_{label}" for label in manifest.signature.classes or ()]
    assert column_names(manifest) == ("prediction", *probabilities)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (([1], [2, 3]), ["[1]", "[2,3]"]),
        (((1, 2), "a"), ["[1,2]", '"a"']),
        ((np.array([1.5]), None), ["[1.5]", "null"]),
        ((["a", "b"], ["c", "d"]), ['["a","b"]', '["c","d"]']),
    ],
)
def test_irregular_outputs_become_json_in_text(values: tuple[Any, ...], texts: list[str]) -> None:
    assert columns(objects(*values)) == {"prediction": texts}


def test_more_columns_than_the_limit_become_json_in_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answer, "MAX_COLUMNS_OF_AN_OUTPUT", 2)
    assert list(columns(np.array([[1, 2]]))) == ["prediction_0", "prediction_1"]
    assert columns(np.array([[1, 2, 3]])) == {"prediction": ["[1,2,3]"]}
