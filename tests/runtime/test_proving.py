"""Recorded examples are run again: equal predictions pass, others are refused."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import LoadingFailed
from app.runtime.proving import prove, same
from app.runtime.servable import ArtifactServable
from app.signature.batch import Batch
from app.signature.validator import Validator
from app.storage.manifest import Example
from tests.runtime.estimators import DOUBLED, SIGNATURE, Doubles, Exits, Raises, Triples, manifest_of, with_libraries

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.lists(inner, max_size=3),
    max_leaves=6,
)
VALIDATOR = Validator(SIGNATURE, 100)


class Gives:
    """A servable with fixed outputs."""

    def __init__(self, outputs: Mapping[str, Any]) -> None:
        self.outputs = outputs

    def run(self, batch: Batch, outputs: Sequence[str]) -> Any:
        return self.outputs


def refusal(servable: Any, *examples: Example, **facts: Any) -> str:
    with pytest.raises(LoadingFailed) as caught:
        prove(servable, VALIDATOR, manifest_of(*examples, **facts))
    return caught.value.detail


@pytest.mark.slow
@given(JSON)
def test_every_value_equals_itself(value: Any) -> None:
    assert same(value, value)


@pytest.mark.parametrize(
    ("recorded", "got", "equal"),
    [
        (1.0, 1.0 + 1e-10, True),
        (1.0, 1.0 + 1e-8, False),
        (1e300, 1e300 * (1 + 1e-10), True),
        (0.0, 1e-13, True),
        (0.0, 1e-11, False),
        (0.0, -0.0, True),
        (2.0, 2, True),
        (2, 3, False),
        (2**53, 2**53 + 1, False),
        ("a", "a", True),
        ("a", "b", False),
        ("1", 1, False),
        (None, None, True),
        (None, 0.0, False),
        (True, True, True),
        (True, 1, False),
        (False, 0.0, False),
        ([1.0, "a"], [1.0 + 1e-12, "a"], True),
        ([1.0], [1.0, 1.0], False),
        ([[0.5]], [[0.4]], False),
        ([1.0], 1.0, False),
    ],
)
def test_values_are_compared_exactly_except_floats(recorded: Any, got: Any, equal: bool) -> None:
    assert same(recorded, got) is equal
    assert same(got, recorded) is equal


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_floats_are_equal_within_the_tolerance(a: float, b: float) -> None:
    near = math.isfinite(a - b) and abs(a - b) <= max(1e-9 * max(abs(a), abs(b)), 1e-12)
    assert same(a, b) is (near or a == b)


def test_a_model_with_the_recorded_predictions_passes_in_one_run() -> None:
    estimator = Doubles()
    prove(ArtifactServable(estimator, SIGNATURE), VALIDATOR, manifest_of(*DOUBLED))
    assert estimator.runs == [2]


def test_without_examples_nothing_is_run() -> None:
    prove(ArtifactServable(Raises(), SIGNATURE), VALIDATOR, manifest_of())


def test_other_predictions_are_refused_with_the_changed_versions() -> None:
    message = refusal(ArtifactServable(Triples(), SIGNATURE), *DOUBLED, environment=with_libraries(scikit_learn="0.1"))
    assert message.startswith(
        "its prediction of recorded example 0 was 3.0, is 4.5; since packing, scikit-learn was 0.1, is "
    )


def test_other_predictions_by_the_same_libraries_are_refused() -> None:
    message = refusal(ArtifactServable(Triples(), SIGNATURE), *DOUBLED)
    assert message.endswith("; the library versions are those of packing time")


def test_a_model_that_raises_is_refused() -> None:
    message = refusal(ArtifactServable(Raises(), SIGNATURE), *DOUBLED, environment=with_libraries(numpy="1.0"))
    assert message.startswith(
        "it fails on its recorded examples (ValueError: this is not for clients); since packing, numpy was 1.0, is "
    )


def test_a_model_that_exits_is_refused() -> None:
    message = refusal(ArtifactServable(Exits(), SIGNATURE), *DOUBLED)
    assert message.startswith("it fails on its recorded examples (SystemExit: 3); ")


def test_examples_that_the_signature_refuses_are_an_error() -> None:
    message = refusal(ArtifactServable(Doubles(), SIGNATURE), Example({"x": "a"}, {"prediction": 1.0}))
    assert message == "its recorded examples are not accepted: 1 value is not acceptable"


def test_too_few_predictions_are_refused() -> None:
    message = refusal(Gives({"prediction": np.array([3.0])}), *DOUBLED)
    assert message.startswith("its prediction of recorded example 1 was -4.0, is nothing")


def test_a_long_value_is_shortened_in_the_message() -> None:
    message = refusal(Gives({"prediction": np.array(["x" * 1000])}), Example({"x": 1.0}, {"prediction": "y" * 1000}))
    assert len(message) < 400
    assert "y" * 80 + "…, is " + "x" * 80 + "…;" in message


@pytest.mark.parametrize("outputs", [{"prediction": np.array(3.0)}, {}], ids=["a scalar", "none at all"])
def test_missing_or_malformed_outputs_are_refused(outputs: Any) -> None:
    refusal(Gives(outputs), *DOUBLED)


def test_a_missing_output_of_one_example_is_refused() -> None:
    refusal(
        Gives({"prediction": np.array([3.0, -4.0])}),
        DOUBLED[0],
        Example({"x": -2.0}, {"predictions": -4.0}),
    )
