"""Tests that tensors keep their values in both directions, as JSON and as raw bytes, and of false declarations."""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import msgspec
import numpy as np
import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as shapes

from app.errors import MalformedRequest
from app.wire.open_inference.describe import array_of, datatype_of
from app.wire.open_inference.tensors import DTYPES, LENGTH, Tensor, from_binary, from_json, to_binary, to_json
from tests.wire.exchange import post

SHAPES = shapes.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
bounded = settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
INFER = "/v2/models/iris-two/infer"


def equal(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    return one.shape == other.shape and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")


@pytest.mark.slow
@bounded
@given(st.data())
def test_numbers_as_raw_bytes_and_as_json(data: st.DataObject) -> None:
    datatype = data.draw(st.sampled_from([*DTYPES]))
    array = data.draw(shapes.arrays(np.dtype(DTYPES[datatype]), SHAPES))
    raw = to_binary(array)
    assert len(raw) == array.size * array.dtype.itemsize
    assert equal(from_binary(memoryview(raw), datatype, array.shape, "#"), array)
    finite = np.where(np.isfinite(array), array, np.nan).astype(array.dtype) if array.dtype.kind == "f" else array
    for sent in (to_json(array), msgspec.json.decode(msgspec.json.encode(to_json(array)))):
        assert equal(from_json(sent, datatype, array.shape, "#")[0], finite)
    if array.dtype.kind != "f":
        assert equal(from_json(array.tolist(), datatype, array.shape, "#")[0], array)


@pytest.mark.slow
@bounded
@given(st.data())
def test_texts_as_raw_bytes_and_as_json(data: st.DataObject) -> None:
    text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    array = data.draw(shapes.arrays(np.dtype(object), SHAPES, elements=text, fill=st.nothing()))
    assert equal(from_binary(memoryview(to_binary(array)), "BYTES", array.shape, "#"), array)
    assert equal(from_json(to_json(array), "BYTES", array.shape, "#")[0], array)


@pytest.mark.slow
@bounded
@given(raw=st.binary(max_size=40), datatype=st.sampled_from([*DTYPES, "BF16", "BYTES"]), shape=SHAPES)
def test_any_bytes_are_a_tensor_or_refused(raw: bytes, datatype: str, shape: tuple[int, ...]) -> None:
    with suppress(MalformedRequest):
        assert from_binary(memoryview(raw), datatype, shape, "#/inputs/0").shape == shape


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3), st.lists, max_leaves=8
)


@bounded
@given(nested=JSON, datatype=st.sampled_from([*DTYPES, "BF16", "BYTES"]), shape=SHAPES)
@pytest.mark.slow
def test_any_json_is_a_tensor_or_refused(nested: Any, datatype: str, shape: tuple[int, ...]) -> None:
    with suppress(MalformedRequest):
        assert from_json(nested, datatype, shape, "#/inputs/0")[0].shape == shape


MEMBERS = {
    "name": JSON | st.sampled_from(["feature1", "x"]),
    "shape": JSON | st.sampled_from([[1, 2], [1], [0], [2, 1]]),
    "datatype": JSON | st.sampled_from([*DTYPES, "BYTES"]),
    "data": JSON | st.just([[5.1, 3.5]]),
    "parameters": JSON | st.dictionaries(st.sampled_from(["binary_data_size", "content_type"]), JSON),
}
TENSOR = st.fixed_dictionaries({}, optional=MEMBERS) | JSON
DOCUMENT = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=3) | JSON},
    optional={"id": JSON, "parameters": JSON, "outputs": st.lists(JSON | st.fixed_dictionaries({"name": JSON})) | JSON},
)


@pytest.mark.slow
@bounded
@given(document=DOCUMENT | JSON, raw=st.binary(max_size=20), shift=st.integers(-2, 2) | st.none())
def test_no_document_is_a_500(app: Flask, document: Any, raw: bytes, shift: int | None) -> None:
    head = json.dumps(document).encode()
    headers = {} if shift is None else {"Inference-Header-Content-Length": str(len(head) + shift)}
    answer = post(app, INFER, head + (b"" if shift is None else raw), headers)
    assert answer.status in {200, 400, 413}, answer.content
    assert answer.status == 200 or list(answer.document) == ["error"]


def test_strings_are_counted_before_they_are_decoded() -> None:
    with pytest.raises(MalformedRequest, match="too few for the 1000000000000 elements"):
        from_binary(memoryview(LENGTH.pack(0)), "BYTES", [10**12], "#")


@pytest.mark.parametrize(
    ("given", "datatype", "gone_out"),
    [
        (np.array([1, 2], "int8"), "INT64", [1, 2]),
        (np.array([1, 2**64 - 1], "uint64"), "UINT64", [1, 2**64 - 1]),
        (np.array([0.5, np.inf], "float32"), "FP64", [0.5, None]),
        (np.array([True]), "BOOL", [True]),
        (np.array(["a", "bc"]), "BYTES", ["a", "bc"]),
        (np.array(["a", None, 3], object), "BYTES", ["a", None, "3"]),
        (np.array([1, 2.5, None], object), "FP64", [1.0, 2.5, None]),
        (np.array([1, 2], object), "INT64", [1, 2]),
    ],
)
def test_an_output_goes_out_in_the_widest_form(given: Any, datatype: str, gone_out: list[Any]) -> None:
    array = array_of(given)
    assert (datatype_of(array), to_json(array)) == (datatype, gone_out)
    assert len(to_binary(array)) == (
        sum(4 + len(text or "") for text in gone_out) if datatype == "BYTES" else array.nbytes
    )


def test_probabilities_of_several_targets() -> None:
    regular, ragged = np.empty(2, object), np.empty(2, object)
    regular[:] = [[[0.1, 0.9], [0.2, 0.8]], [[0.3, 0.7], [0.4, 0.6]]]
    ragged[:] = [[[0.1, 0.9], [0.2, 0.3, 0.5]], [[0.3, 0.7], [0.4, 0.1, 0.5]]]
    assert array_of(regular).shape == (2, 2, 2)
    assert array_of(ragged).tolist() == ["[[0.1, 0.9], [0.2, 0.3, 0.5]]", "[[0.3, 0.7], [0.4, 0.1, 0.5]]"]


def test_a_pointer_into_flat_data_counts_elements() -> None:
    array = np.zeros((3, 2))
    assert Tensor("x", array, 1).pointer_to(2, 1) == "#/inputs/1/data/2/1"
    assert Tensor("x", array, 1, flat=True).pointer_to(2, 1) == "#/inputs/1/data/5"
    assert Tensor("x", array[:, :1], 1, flat=True).pointer_to(2) == "#/inputs/1/data/2"


def test_nan_goes_out_as_null() -> None:
    assert to_json(np.array([[1.0, math.nan]])) == [1.0, None]
