"""A column is accepted or refused like its single values over HTTP."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.errors import InvalidInstances
from app.jobs.columns import check
from app.jobs.parts import Part
from app.jobs.reading import read_table
from app.signature import Input, Layout, Signature
from app.signature.arrow_values import plain_values
from app.signature.batch import Coded
from app.signature.cells import reader_of
from app.signature.validator import Validator

SPECS = [
    Input("x", "number", "float64"),
    Input("x", "number", "float64", nullable=True),
    Input("x", "number", "float32", nullable=True, largest=1e30),
    Input("x", "number", "float64", least=0.0, most=10.0),
    Input("x", "integer", "int64"),
    Input("x", "integer", "int8", nullable=True),
    Input("x", "integer", "int64", nullable=True, missing="na"),
    Input("x", "boolean", "bool", nullable=True),
    Input("x", "category", "str", categories=("a", "b"), unseen="reject"),
    Input("x", "category", "str", nullable=True, categories=("a", "b"), unseen="reject"),
    Input("x", "category", "int64", nullable=True, categories=(1, 2, 3), unseen="reject"),
    Input("x", "category", "float64", categories=(1.5, 2.0)),
    Input("x", "text", "str"),
    Input("x", "text", "object", nullable=True, missing="none"),
    Input("x", "timestamp", "datetime64[ns]", nullable=True),
    Input("x", "unused", "object", nullable=True),
    Input("x", "array", "float64", shape=(2,)),
]
FLOATS = st.one_of(st.none(), st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0, 127.0, 1e39, -1e39, 2.0**53, np.nan, np.inf]))
INTEGERS = st.one_of(st.none(), st.sampled_from([0, 1, 2, 3, 127, 128, -129, 2**53 + 1, 2**63 - 1]))
TEXTS = st.one_of(st.none(), st.sampled_from(["a", "b", "c", "", "2024-01-31", "2024-13-31", "1", "true"]))
ARRAYS = st.one_of(
    st.lists(FLOATS, max_size=6).map(lambda values: pa.array(values, pa.float64())),
    st.lists(FLOATS, max_size=6).map(lambda values: pa.array(values, pa.float32())),
    st.lists(INTEGERS, max_size=6).map(lambda values: pa.array(values, pa.int64())),
    st.lists(st.sampled_from([0, 1, 200]), max_size=6).map(lambda values: pa.array(values, pa.uint8())),
    st.lists(st.sampled_from([0, 2**64 - 1]), max_size=6).map(lambda values: pa.array(values, pa.uint64())),
    st.lists(st.sampled_from([None, True, False]), max_size=6).map(lambda values: pa.array(values, pa.bool_())),
    st.lists(TEXTS, max_size=6).map(lambda values: pa.array(values, pa.string())),
    st.lists(TEXTS, max_size=6).map(lambda values: pa.array(values, pa.string()).dictionary_encode()),
    st.lists(st.sampled_from([[1.0, 2.0], [1.0], None]), max_size=6).map(
        lambda values: pa.array(values, pa.list_(pa.float64()))
    ),
)
CELLS = ["", " ", "1", " 1 ", "+1", "1.5", "nan", "-nan", "inf", "1e400", "0x1F", "a", "true", "True", "[1, 2]"]
CELLS += ["2024-01-31"]
LARGE = ["9007199254740993", "-9007199254740993", "9223372036854775807", "9223372036854775808"]


def judged(spec: Input, values: list[Any]) -> tuple[list[bool], Any]:
    """Return whether the validator of HTTP accepts each value, and its column of the accepted ones."""
    validator = Validator(Signature((spec,), ("prediction",), ("prediction",), Layout.FRAME), 10**6)
    good = []
    for value in values:
        try:
            validator.validate([{"x": value}])
            good.append(True)
        except InvalidInstances:
            good.append(False)
    kept = [{"x": value} for value, is_good in zip(values, good, strict=True) if is_good]
    return good, validator.validate(kept).columns["x"]


def compare(spec: Input, array: pa.Array, values: list[Any], is_text: bool) -> None:
    good, column = judged(spec, values)
    checked = check(array, spec, is_text)
    found = [True] * len(values) if checked.good is None else checked.good.tolist()
    assert found == good
    if any(good):
        chosen = checked.select(None if all(good) else np.array(good))
        if isinstance(chosen, Coded):
            chosen = chosen.column()
        assert chosen.dtype == column.dtype
        assert repr(chosen.tolist()) == repr(column.tolist())


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.dtype}-{spec.nullable}")
@settings(max_examples=10)
@given(array=ARRAYS)
def test_typed_columns(spec: Input, array: pa.Array) -> None:
    compare(spec, array, plain_values(array, 10**6), is_text=False)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.dtype}-{spec.nullable}")
@settings(max_examples=10)
@given(cells=st.lists(st.sampled_from(CELLS), max_size=8))
def test_cells_of_text(spec: Input, cells: list[str]) -> None:
    compare(spec, pa.array(cells, pa.string()), list(map(reader_of(spec), cells)), is_text=True)


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: f"{spec.kind}-{spec.dtype}-{spec.nullable}")
@settings(max_examples=20)
@given(cells=st.lists(st.sampled_from([*CELLS, *LARGE]), max_size=8))
def test_cells_of_csv(spec: Input, cells: list[str]) -> None:
    part = Part(0, "csv", "".join(f'"{cell}"\n' for cell in cells).encode(), ("x",))
    table = read_table(part, Signature((spec,), ("prediction",), ("prediction",), Layout.FRAME), ())
    compare(spec, table.columns["x"], list(map(reader_of(spec), cells)), is_text="x" in table.texts)
