"""Every kind of input: its rule, its column and its schema accept the same values."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.signature import Input, Picture, is_missing
from app.signature.field_errors import hint_for_value
from app.signature.kinds import KINDS, rule_of
from app.signature.schema import schema_of
from tests.signature.specs import DTYPES, inputs, signature, values_for

NAN = float("nan")
NOT_MISSING = "must not be missing (null or NaN): the model has no way to fill it in"
COLOURS = Input("x", "category", "str", categories=("red", "green"), unseen="reject")
SEEN_COLOURS = Input("x", "category", "str", categories=("red", "green"))
GRADES = Input("x", "category", "int64", categories=(1, 2, 3), unseen="reject")
SEEN_GRADES = Input("x", "category", "int64", categories=(1, 2, 3))
NUMBER = Input("x", "number", "float64")
INTEGER = Input("x", "integer", "int64")
BOOLEAN = Input("x", "boolean", "bool")
TEXT = Input("x", "text", "object")
UNUSED = Input("x", "unused", "float64", nullable=True)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_the_column_takes_a_list_exactly_when_the_rule_and_the_schema_take_every_value(
    kind: str, data: st.DataObject
) -> None:
    spec = data.draw(inputs(kind))
    values = data.draw(st.lists(values_for(spec), max_size=10))
    by_rule = [rule_of(spec)(value) is None for value in values]
    schema = schema_of(signature(spec))
    by_schema = [not schema.validate({"x": value}) for value in values]
    assert by_schema == by_rule
    assert (KINDS[kind].column(values, spec) is not None) == all(by_rule)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_the_schema_has_the_message_of_the_rule(kind: str, data: st.DataObject) -> None:
    spec = data.draw(inputs(kind))
    value = data.draw(values_for(spec))
    problem = rule_of(spec)(value)
    said = schema_of(signature(spec)).validate({"x": value})
    assert said == ({} if problem is None else {"x": [problem + hint_for_value(value, spec)]})


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@given(st.data())
def test_an_accepted_column_holds_the_values_that_were_sent(kind: str, data: st.DataObject) -> None:
    spec = data.draw(inputs(kind))
    sent = [v for v in data.draw(st.lists(values_for(spec), max_size=6)) if rule_of(spec)(v) is None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        column = KINDS[kind].column(sent, spec)
    assert column is not None
    assert column.shape == (len(sent), *(spec.shape or ()))
    if spec.shape is not None:
        assert column.dtype == spec.dtype
        assert spec.nullable or np.isfinite(column).all()
        return
    if kind == "unused":
        assert np.isnan(column).all()
        return
    if kind == "record":
        assert all(type(kept) is dict for kept in column)
        return
    if kind == "timestamp":
        assert [is_missing(value) for value in sent] == np.isnat(column).tolist()
        assert column.dtype == spec.dtype.split(",")[0].rstrip("]") + "]"
        return
    for value, kept in zip(sent, column.tolist(), strict=True):
        if is_missing(value):
            assert (kept is None) if spec.missing in ("none", "na") and column.dtype == object else math.isnan(kept)
        elif column.dtype.kind == "f":
            assert kept == float(np.float32(value) if column.dtype == np.float32 else value)
            assert math.isfinite(kept)
        else:
            assert kept == value
            assert isinstance(kept, str) == isinstance(value, str)


@pytest.mark.parametrize(
    ("spec", "value", "problem"),
    [
        (NUMBER, 1.5, None),
        (NUMBER, -0.0, None),
        (NUMBER, 7, None),
        (NUMBER, 2**63 - 1, None),
        (NUMBER, -(2**63), None),
        (NUMBER, 2**63, "must fit in 64 bits as an integer"),
        (NUMBER, -(2**63) - 1, "must fit in 64 bits as an integer"),
        (NUMBER, 2**70, "must fit in 64 bits as an integer"),
        (NUMBER, 10**400, "must fit in 64 bits as an integer"),
        (NUMBER, 1e300, None),
        (NUMBER, float("inf"), "must be a finite number"),
        (NUMBER, float("-inf"), "must be a finite number"),
        (NUMBER, NAN, NOT_MISSING),
        (NUMBER, None, NOT_MISSING),
        (NUMBER, True, "must be a number, not a boolean"),
        (NUMBER, "1.5", "must be a number, not a string"),
        (NUMBER, [1.5], "must be a number, not a list"),
        (NUMBER, {"x": 1}, "must be a number, not an object"),
        (INTEGER, 5, None),
        (INTEGER, 5.0, None),
        (INTEGER, -0.0, None),
        (INTEGER, 2**63 - 1, None),
        (INTEGER, 1.5, "must be an integer, without a fraction"),
        (INTEGER, 2**63, f"must be an integer from {-(2**63)} to {2**63 - 1}"),
        (INTEGER, 1e300, f"must be an integer from {-(2**63)} to {2**63 - 1}"),
        (INTEGER, float("inf"), "must be a finite number"),
        (INTEGER, False, "must be an integer, not a boolean"),
        (INTEGER, "5", "must be an integer, not a string"),
        (INTEGER, None, NOT_MISSING),
        (Input("x", "integer", "int8"), 128, "must be an integer from -128 to 127"),
        (Input("x", "integer", "uint8"), -1, "must be an integer from 0 to 255"),
        (Input("x", "integer", "uint64"), 2**64 - 1, None),
        (BOOLEAN, True, None),
        (BOOLEAN, 1, "must be true or false, not a number"),
        (BOOLEAN, "true", "must be true or false, not a string"),
        (BOOLEAN, None, NOT_MISSING),
        (TEXT, "", None),
        (TEXT, "x" * 100_000, None),
        (TEXT, 1, "must be a string, not a number"),
        (TEXT, NAN, NOT_MISSING),
        (UNUSED, "anything", None),
        (UNUSED, 10**400, None),
        (UNUSED, None, None),
        (UNUSED, [1], "must be a single value, not a list"),
        (COLOURS, "red", None),
        (COLOURS, "Red", "must be one of: red, green"),
        (COLOURS, 1, "must be one of: red, green"),
        (COLOURS, ["red"], "must be one of: red, green"),
        (COLOURS, None, NOT_MISSING),
        (SEEN_COLOURS, "blue", None),
        (SEEN_COLOURS, 1, "must be a string, not a number"),
        (SEEN_COLOURS, {}, "must be a string, not an object"),
        (GRADES, 1, None),
        (GRADES, 1.0, None),
        (GRADES, True, "must be one of: 1, 2, 3"),
        (GRADES, "1", "must be one of: 1, 2, 3"),
        (GRADES, 2**70, "must be one of: 1, 2, 3"),
        (SEEN_GRADES, 99, None),
        (SEEN_GRADES, "1", "must be an integer, not a string"),
    ],
    ids=lambda value: (
        repr(value)[:40] if not isinstance(value, Input) else f"{value.kind}-{value.dtype}-{value.unseen}"
    ),
)
def test_values_are_accepted_or_refused_with_a_reason(spec: Input, value: object, problem: str | None) -> None:
    found = rule_of(spec)(value)
    assert found is None if problem is None else (found or "").startswith(problem)


@pytest.mark.parametrize("value", [1.5, 2**63, 2**70, 10**400, 1e300, float("inf")])
def test_a_category_of_whole_numbers_takes_no_number_that_its_column_cannot_hold(value: object) -> None:
    # As int64, 1.5 would become 1.
    assert rule_of(SEEN_GRADES)(value) is not None
    assert KINDS["category"].column([value], SEEN_GRADES) is None


def test_a_category_of_numbers_takes_no_integer_beyond_64_bits() -> None:
    spec = Input("x", "category", "float64", categories=(1.0, 2.5))
    assert rule_of(spec)(10**400) is not None
    assert KINDS["category"].column([10**400], spec) is None


def test_a_number_that_its_width_cannot_hold_is_refused() -> None:
    spec = Input("x", "number", "float32")
    assert rule_of(spec)(1e39) is not None
    assert KINDS["number"].column([1e39], spec) is None
    assert KINDS["number"].column([1e38], spec) is not None


@pytest.mark.parametrize("value", [None, NAN])
@pytest.mark.parametrize(
    "spec",
    [
        *(Input("x", kind, dtypes[0], nullable=True) for kind, dtypes in DTYPES.items()),
        Input("x", "category", "str", True, categories=("red",), unseen="reject"),
    ],
    ids=lambda spec: getattr(spec, "kind", repr(spec)),
)
def test_null_and_nan_are_one_missing_value(spec: Input, value: object) -> None:
    assert rule_of(spec)(value) is None
    assert schema_of(signature(spec)).validate({"x": value}) == {}
    column = KINDS[spec.kind].column([value], spec)
    assert column is not None
    assert np.isnat(column[0]) if spec.kind == "timestamp" else math.isnan(column[0])


@pytest.mark.parametrize(
    ("spec", "values", "dtype"),
    [
        (Input("x", "number", "float32"), [1, 2.5], "float32"),
        (Input("x", "number", "float64", True), [1, None], "float64"),
        (Input("x", "integer", "int8"), [1, 2.0], "int8"),
        (Input("x", "integer", "int8", True), [1, None], "float64"),
        (Input("x", "boolean", "bool"), [True, False], "bool"),
        (Input("x", "boolean", "bool", True), [True, None], "object"),
        (Input("x", "text", "object"), ["a"], "object"),
        (COLOURS, ["red"], "object"),
        (GRADES, [1, 2.0], "int64"),
        (Input("x", "category", "int64", True, categories=(1, 2)), [1, None], "float64"),
    ],
)
def test_the_dtype_of_the_column(spec: Input, values: list[object], dtype: str) -> None:
    column = KINDS[spec.kind].column(values, spec)
    assert column is not None
    assert column.dtype == dtype


def test_integers_are_exact_to_the_last_digit() -> None:
    column = KINDS["integer"].column([2**53 + 1, 3.0], INTEGER)
    assert column is not None
    assert column.tolist() == [2**53 + 1, 3]


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_list_becomes_an_empty_column(kind: str) -> None:
    spec = Input("x", kind, DTYPES.get(kind, ["str"])[0], categories=("a",) if kind == "category" else None)
    if kind in ("array", "image"):
        picture = Picture("L", 2, 2) if kind == "image" else None
        spec = Input("x", kind, "float64", shape=(2, 2), image=picture)
    column = KINDS[kind].column([], spec)
    assert column is not None
    assert column.shape == (0, *(spec.shape or ()))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (Input("x", "number", "float64", minimum=0.5, maximum=1234567.0), "seen in training: 0.5 to 1.23457e+06"),
        (Input("x", "integer", "int64", minimum=1, maximum=9), "seen in training: 1 to 9"),
        (Input("x", "number", "float64", minimum=0.5), ""),
        (BOOLEAN, ""),
        (TEXT, ""),
        (UNUSED, "not used by the model: any value is accepted"),
        (COLOURS, ""),
        (SEEN_COLOURS, "seen in training: red, green; others are accepted"),
    ],
)
def test_inputs_are_described(spec: Input, message: str) -> None:
    assert KINDS[spec.kind].describe(spec) == message


def test_a_message_names_at_most_a_hundred_categories() -> None:
    many = tuple(f"c{position}" for position in range(101))
    closed = rule_of(Input("x", "category", "str", categories=many, unseen="reject"))("?")
    assert closed is not None
    assert closed.endswith("c99, …")
    assert "c100" not in KINDS["category"].describe(Input("x", "category", "str", categories=many))
