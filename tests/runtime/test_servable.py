"""The estimator is called as in a notebook, and answers by row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from app.runtime.servable import ArtifactServable, call, frame_of
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch, json_values


class Remembers:
    """Return a fixed result, and record its argument."""

    def __init__(self, **answers: Any) -> None:
        self.given: Any = None
        for method, answer in answers.items():
            setattr(self, method, self._answering(answer))

    def _answering(self, answer: Any) -> Any:
        def method(features: Any) -> Any:
            self.given = features
            return answer

        return method


def objects(*values: Any) -> Any:
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def sig(layout: Layout, *inputs: Input) -> Signature:
    return Signature(inputs, ("prediction",), ("prediction",), layout)


def frame(**columns: tuple[Input, Any]) -> pd.DataFrame:
    signature = sig(Layout.FRAME, *(spec for spec, _ in columns.values()))
    rows = len(next(iter(columns.values()))[1])
    made = frame_of(Batch({name: column for name, (_, column) in columns.items()}, rows), signature)
    assert isinstance(made, pd.DataFrame)
    return made


@pytest.mark.parametrize(
    ("output", "method"),
    [
        ("prediction", "predict"),
        ("probabilities", "predict_proba"),
        ("decision_scores", "decision_function"),
        ("transformed", "transform"),
    ],
)
def test_the_method_of_each_output(output: str, method: str) -> None:
    answers = {name: np.array([name]) for name in ("predict", "predict_proba", "decision_function", "transform")}
    assert call(Remembers(**answers), output, None).tolist() == [method]


def test_the_prediction_of_a_transformer_is_its_transform() -> None:
    assert call(Remembers(transform="transformed"), "prediction", None) == "transformed"


def test_a_frame_has_names_order_and_dtypes_of_training() -> None:
    made = frame(
        b=(Input("b", "number", "float32"), np.array([1.5], dtype=np.float32)),
        a=(Input("a", "integer", "int64"), np.array([2])),
        c=(Input("c", "boolean", "bool"), np.array([True])),
    )
    assert list(made.columns) == ["b", "a", "c"]
    assert list(map(str, made.dtypes)) == ["float32", "int64", "bool"]
    assert made.index.equals(pd.RangeIndex(1))


def test_a_pandas_category_keeps_its_categories_in_order() -> None:
    spec = Input("colour", "category", "category", True, categories=("red", "green", "blue"))
    made = frame(colour=(spec, objects("green", np.nan)))["colour"]
    assert list(made.cat.categories) == ["red", "green", "blue"]
    assert made.cat.codes.tolist() == [1, -1]


def test_strings_are_strings_and_objects_stay_objects() -> None:
    made = frame(
        a=(Input("a", "text", "str"), objects("x", np.nan)),
        b=(Input("b", "text", "object", missing="none"), objects("x", None)),
    )
    assert str(made["a"].dtype) == "str"
    assert made["a"].isna().tolist() == [False, True]
    assert made["b"].dtype == object
    assert made["b"].tolist() == ["x", None]


def test_a_frame_without_columns_keeps_its_rows() -> None:
    assert frame_of(Batch({}, 3), sig(Layout.FRAME)).shape == (3, 0)


def test_a_matrix_and_a_sequence_keep_their_shape() -> None:
    numbers, texts = np.array([1.0, 2.0]), objects("a", "b")
    matrix = frame_of(Batch({"x": numbers}, 2), sig(Layout.MATRIX, Input("x", "number", "float64")))
    assert (type(matrix), matrix.shape) == (np.ndarray, (2, 1))
    sequence = frame_of(Batch({"x": texts}, 2), sig(Layout.SEQUENCE, Input("x", "text", "object")))
    assert sequence.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("result", "rows"),
    [
        (np.array(["a", "b"]), ["a", "b"]),
        (np.array([[1.0, 2.0], [3.0, 4.0]]), [[1.0, 2.0], [3.0, 4.0]]),
        (pd.Series([1, 2]), [1, 2]),
        (pd.DataFrame({"a": [1, 2]}), [[1], [2]]),
        (sparse.csr_matrix(np.eye(2)), [[1.0, 0.0], [0.0, 1.0]]),
        ([1, 2], [1, 2]),
        (
            [np.array([[0.1, 0.9], [0.2, 0.8]]), np.array([[0.3, 0.3, 0.4], [1.0, 0.0, 0.0]])],
            [[[0.1, 0.9], [0.3, 0.3, 0.4]], [[0.2, 0.8], [1.0, 0.0, 0.0]]],
        ),
        ([np.array([[0.5, 0.5]])], [[[0.5, 0.5]]]),
    ],
    ids=["labels", "two targets", "series", "frame", "sparse", "list", "several targets", "one target of several"],
)
def test_axis_0_of_an_output_is_the_row(result: Any, rows: list[Any]) -> None:
    estimator = Remembers(predict=result)
    signature = sig(Layout.MATRIX, Input("x", "number", "float64"))
    outputs = ArtifactServable(estimator, signature).run(Batch({"x": np.array([1.0, 2.0])}, 2), ["prediction"])
    assert json_values(outputs["prediction"]) == rows
    assert estimator.given.tolist() == [[1.0], [2.0]]


def test_only_requested_outputs_are_run() -> None:
    estimator = Remembers(predict=np.array([1]))  # without predict_proba
    signature = sig(Layout.MATRIX, Input("x", "number", "float64"))
    batch = Batch({"x": np.array([1.0])}, 1)
    assert set(ArtifactServable(estimator, signature).run(batch, ["prediction"])) == {"prediction"}
    with pytest.raises(AttributeError):
        ArtifactServable(estimator, signature).run(batch, ["probabilities"])
