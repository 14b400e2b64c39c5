"""Arrays in every form; wrong, damaged and oversized ones are refused."""

from __future__ import annotations

import io
import tracemalloc
from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRepository
from app.signature import Input
from app.signature.arrays import Array
from app.signature.kinds import rule_of
from app.signature.schema import schema_of
from tests.signature.specs import signature

PAIRS = Input("x", "array", "float32", shape=(2, 3))
COUNTS = Input("x", "array", "uint8", shape=(2,))
FLAGS = Input("x", "array", "bool", shape=(2,))
HOLES = Input("x", "array", "float64", True, shape=(2,), largest=100.0)
NUMBERS = np.arange(6.0).reshape(2, 3)


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), **options)
    return stream.getvalue()


def b64(content: bytes) -> str:
    return b64encode(content).decode()


def only(value: object, spec: Input = PAIRS) -> Any:
    column = Array().column([value], spec)
    assert column is not None
    assert column.dtype == spec.dtype
    return column[0].tolist()


HEADER = b"\x93NUMPY\x01\x00\x76\x00"


def lying(shape: str, descr: str = "'<f8'") -> bytes:
    """Return an npy file whose header declares more than follows."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return HEADER + header.encode() + b"\x00" * 48


@pytest.mark.parametrize(
    "value",
    [
        NUMBERS.tolist(),
        NUMBERS.astype(int).tolist(),
        {"b64": b64(NUMBERS.astype("<f4").tobytes())},
        {"b64": b64(NUMBERS.astype("<f4").tobytes())[:20] + "\n" + b64(NUMBERS.astype("<f4").tobytes())[20:]},
        {"b64": b64(NUMBERS.astype("int16").tobytes()), "dtype": "int16", "shape": [2, 3]},
        {"b64": b64(NUMBERS.astype("<f4").tobytes()), "dtype": "<f4"},
        {"npy": b64(npy(NUMBERS.astype("float16")))},
        {"npy": b64(npy(np.asfortranarray(NUMBERS.astype("int8")), version=(2, 0)))},
        npy(NUMBERS.astype("float32")),
        NUMBERS.astype("float32").tobytes(),
    ],
    ids=range(10),
)
def test_every_form_gives_the_same_array(value: object) -> None:
    assert rule_of(PAIRS)(value) is None
    assert only(value) == NUMBERS.tolist()


def test_elements_must_fit_the_dtype() -> None:
    assert only([1, 2.0], COUNTS) == [1, 2]
    assert only([True, False], FLAGS) == [True, False]
    assert np.isnan(only([None, float("nan")], HOLES)).all()


@pytest.mark.parametrize(
    ("spec", "value", "problem"),
    [
        (PAIRS, 1, 'must be nested lists of shape 2 x 3, {"b64": …} or {"npy": …}, not a number'),
        (PAIRS, None, "must not be missing"),
        (PAIRS, [[1, 2, 3]], "must be lists of shape 2 x 3: at depth 0 the length is 1"),
        (PAIRS, [[1, 2, 3], [1, 2]], "must be lists of shape 2 x 3: at depth 1 the length is 2 or 3"),
        (PAIRS, [[1, 2, 3], 4], "must be lists of shape 2 x 3: it is not a list everywhere at depth 1"),
        (PAIRS, [[1, 2, 3], [1, 2, "3"]], "must have numbers in 2 x 3 lists, not a string"),
        (PAIRS, [[1, 2, 3], [1, 2, [3]]], "must have numbers in 2 x 3 lists, not a list"),
        (PAIRS, [[1, 2, 3], [1, 2, True]], "must have numbers in 2 x 3 lists, not a boolean"),
        (PAIRS, [[1, 2, 3], [1, 2, None]], "must have numbers in 2 x 3 lists, not null"),
        (PAIRS, [[1, 2, 3], [1, 2, float("nan")]], "must have finite numbers"),
        (PAIRS, [[1, 2, 3], [1, 2, 1e39]], "must have numbers from -3.40282e+38 to 3.40282e+38"),
        (PAIRS, [[1, 2, 3], [1, 2, 10**400]], "must have numbers that float32 can hold"),
        (HOLES, [1, 101], "must have numbers from -100 to 100"),
        (HOLES, [1, float("inf")], "must have finite numbers or null"),
        (COUNTS, [1, 2.5], "must have integers, without a fraction"),
        (COUNTS, [1, float("inf")], "must have integers, without a fraction"),
        (COUNTS, [1, float("nan")], "must have integers, without a fraction"),
        (COUNTS, [1, 256], "must have numbers that uint8 can hold"),
        (FLAGS, [1, 0], "must have true or false in 2 lists, not a number"),
        (PAIRS, {}, 'must have "b64" (with "dtype" and "shape") or "npy"'),
        (PAIRS, {"b64": b64(b"\0" * 24), "more": 1}, 'must have "b64" (with "dtype" and "shape") or "npy"'),
        (PAIRS, {"b64": 1}, 'must have "b64" (with "dtype" and "shape") or "npy"'),
        (PAIRS, {"b64": "ä"}, "must be base64 (RFC 4648)"),
        (PAIRS, {"b64": "AA="}, "must be base64 (RFC 4648)"),
        (PAIRS, {"b64": b64(b"\0" * 23)}, "must have 24 bytes, 2 x 3 of float32, not 23"),
        (PAIRS, {"b64": b64(b"\0" * 24), "shape": [3, 2]}, "must be of shape 2 x 3, not [3, 2]"),
        (PAIRS, {"b64": b64(b"\0" * 24), "shape": "2x3"}, "must be of shape 2 x 3, not 2x3"),
        (PAIRS, {"b64": b64(b"\0" * 24), "dtype": ">f4"}, "must be little-endian; >f4 is not"),
        (
            PAIRS,
            {"b64": b64(b"\0" * 48), "dtype": "float64"},
            "must be of a dtype that float32 holds (bool, int8, int16",
        ),
        (PAIRS, {"b64": b64(b"\0" * 24), "dtype": "(10000000000,)f4"}, "must be of a dtype that float32 holds"),
        (PAIRS, {"b64": b64(b"\0" * 24), "dtype": ["f4"]}, "must be of a dtype that float32 holds"),
        (PAIRS, {"b64": b64(np.full(6, np.inf, "f4").tobytes())}, "must have finite numbers"),
        (PAIRS, {"npy": b64(b"\0" * 24)}, "must be an npy file of plain numbers"),
        (PAIRS, {"npy": b64(npy(NUMBERS.astype(">f4")))}, "must be little-endian; >f4 is not"),
        (PAIRS, {"npy": b64(npy(NUMBERS.astype("f4"))[:-1])}, "must have 24 bytes, 2 x 3 of float32, not 23"),
        (PAIRS, {"npy": b64(npy(NUMBERS.astype("f4")) + b"\0")}, "must have 24 bytes, 2 x 3 of float32, not 25"),
        (PAIRS, {"npy": b64(npy(NUMBERS.T.astype("f4")))}, "must be of shape 2 x 3, not [3, 2]"),
        (PAIRS, {"npy": b64(npy(NUMBERS.astype(object), allow_pickle=True))}, "must be of a dtype that float32 holds"),
        (PAIRS, {"npy": b64(npy(np.zeros((2, 3), "i4,i4")))}, "must be an npy file of plain numbers"),
        (PAIRS, lying("(100000000000, 3)"), "must be of shape 2 x 3, not [100000000000, 3]"),
        (PAIRS, lying("(2, 3)", "'O'"), "must be of a dtype that float32 holds"),
        (PAIRS, lying("(2, 3)", "("), "must be an npy file of plain numbers"),
        (PAIRS, lying("2"), "must be an npy file of plain numbers"),
        (PAIRS, b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535, "must be an npy file of plain numbers"),
        (PAIRS, b"\x93NUMPY\x09\x00", "must be an npy file of plain numbers"),
        (PAIRS, b"", "must have 24 bytes, 2 x 3 of float32, not 0"),
        (PAIRS, b"\x01\x00\x80\x7f" * 6, "must have finite numbers"),  # signaling NaN
    ],
    ids=lambda value: repr(value)[:50] if not isinstance(value, Input) else value.dtype,
)
def test_other_values_are_refused_with_a_reason(spec: Input, value: object, problem: str) -> None:
    assert (rule_of(spec)(value) or "").startswith(problem)
    assert Array().column([value], spec) is None


@given(st.binary(max_size=100), st.integers(0, 140))
def test_damaged_npy_files_are_refused(noise: bytes, at: int) -> None:
    whole = npy(NUMBERS.astype("f4"))
    rule_of(PAIRS)(whole[:at] + noise + whole[at + len(noise) :])


def test_a_wrong_size_in_a_header_allocates_no_memory() -> None:
    tracemalloc.start()
    try:
        assert rule_of(PAIRS)(lying("(100000000000, 3)")) is not None
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "spec",
    [
        Input("x", "array", "float64"),
        Input("x", "array", "float64", shape=(2, 0)),
        Input("x", "array", "float64", shape=(10**5, 10**5)),
        Input("x", "array", "object", shape=(2,)),
        Input("x", "image", "float64"),
    ],
)
def test_impossible_shapes_and_dtypes_are_refused(spec: Input) -> None:
    with pytest.raises(InvalidRepository):
        schema_of(signature(spec))


@pytest.mark.parametrize("value", [[1.0, None], [1.0, 2.0]])
def test_a_limit_applies_to_the_elements(value: object) -> None:
    """A second field is refused too, because only then the schema checks the array."""
    schema = schema_of(signature(HOLES, Input("y", "number", "float64", largest=1.0)))
    assert [*schema.validate({"x": value, "y": 0.5})] == []
    assert [*schema.validate({"x": value, "y": 2.0})] == ["y"]
