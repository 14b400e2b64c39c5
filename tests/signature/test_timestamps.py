"""Timestamps: accepted forms, their instants, and refused values."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidRepository
from app.signature import Input
from app.signature.kinds import rule_of
from app.signature.schema import schema_of
from app.signature.timestamps import Timestamp
from tests.signature.specs import signature

NS = Input("x", "timestamp", "datetime64[ns]")
US = Input("x", "timestamp", "datetime64[us, Europe/Berlin]")


def instant(value: object, spec: Input = NS) -> str:
    column = Timestamp().column([value], spec)
    assert column is not None
    return str(column[0])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2024-01-31", "2024-01-31T00:00:00.000000000"),
        ("2024-01-31T12:30", "2024-01-31T12:30:00.000000000"),
        ("2024-01-31T12:30:15Z", "2024-01-31T12:30:15.000000000"),
        ("2024-01-31 12:30:15.5+02:00", "2024-01-31T10:30:15.500000000"),
        ("2024-01-31t12:30:15,123456789-0530", "2024-01-31T18:00:15.123456789"),
        ("1969-12-31T23:59:59.999999999z", "1969-12-31T23:59:59.999999999"),
        (0, "1970-01-01T00:00:00.000000000"),
        (1706704215, "2024-01-31T12:30:15.000000000"),
        (1706704215.25, "2024-01-31T12:30:15.250000000"),
        (-0.5, "1969-12-31T23:59:59.500000000"),
    ],
)
def test_timestamps_become_instants_in_utc(value: object, expected: str) -> None:
    assert instant(value) == expected


def test_coarser_units_hold_earlier_and_later_years() -> None:
    assert instant("0099-05-06T07:08:09.1234567", US) == "0099-05-06T07:08:09.123456"
    assert instant("9999-12-30", US) == "9999-12-30T00:00:00.000000"


@given(st.datetimes(pd.Timestamp(1678, 1, 2).to_pydatetime(), pd.Timestamp(2261, 12, 30).to_pydatetime()))
def test_instants_equal_those_of_pandas(time: object) -> None:
    assert instant(time.isoformat()) == str(np.datetime64(time, "ns"))  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("", "must be a timestamp in ISO 8601, as in"),
        ("yesterday", "must be a timestamp in ISO 8601, as in"),
        ("2024-02-30", "must be a timestamp in ISO 8601, as in 2024-01-31T12:30:00Z, or seconds since"),
        ("2024-13-01T00:00:00Z", "must be a timestamp in ISO 8601"),
        ("2024-01-31T24:00:00", "must be a timestamp in ISO 8601"),
        ("2024-01-31T12:30:60Z", "must be a timestamp in ISO 8601"),
        ("2024-01-31T12:30:15+24:00", "must be a timestamp in ISO 8601"),
        ("٢٠٢٤-01-31", "must be a timestamp in ISO 8601"),
        ("2024-01-31T12:30:15." + "1" * 100, "must be a timestamp in ISO 8601"),
        ("1677-12-31", "must be from 1678-01-01 to 2261-12-31"),
        ("2262-01-01", "must be from 1678-01-01 to 2261-12-31"),
        (1e18, "must be from 1678-01-01 to 2261-12-31"),
        (1704067200000, "must be from 1678-01-01 to 2261-12-31, in seconds, not milliseconds"),
        (1e300, "must be from 1678-01-01 to 2261-12-31"),
        (-(10**400), "must be from 1678-01-01 to 2261-12-31"),
        (float("inf"), "must be a finite number"),
        (True, "must be a timestamp in ISO 8601 or a number of seconds, not a boolean"),
        ([2024], "must be a timestamp in ISO 8601 or a number of seconds, not a list"),
        (None, "must not be missing"),
        ("NaT", "must not be missing (NaT)"),
    ],
)
def test_other_values_are_refused_with_a_reason(value: object, problem: str) -> None:
    assert (rule_of(NS)(value) or "").startswith(problem)
    assert Timestamp().column([0, value], NS) is None


@pytest.mark.parametrize("dtype", ["datetime64", "datetime64[D]", "object", "datetime64[ns"])
def test_other_dtypes_are_refused(dtype: str) -> None:
    with pytest.raises(InvalidRepository):
        schema_of(signature(Input("x", "timestamp", dtype)))


def test_timestamps_are_described() -> None:
    assert Timestamp().describe(US).endswith("without a zone it is UTC; the model sees it in Europe/Berlin")
    assert "the model sees" not in Timestamp().describe(NS)


def test_nat_in_text_is_a_missing_time() -> None:
    """MLflow's client sends it."""
    spec = Input("when", "timestamp", "datetime64[s]", nullable=True)
    assert rule_of(spec)("NaT") is None
    column = Timestamp().column(["NaT", None, 0], spec)
    assert column is not None
    assert np.isnat(column).tolist() == [True, True, False]
