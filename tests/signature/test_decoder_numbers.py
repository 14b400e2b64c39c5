"""Rows of numbers read with simdjson equal those of the decoder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import TooManyInstances
from app.signature.decoder import WORTH_BYTES, NumberRows

pytest.importorskip("simdjson", reason="it has no wheel for this machine")

READER = NumberRows([(-1e300, 1e300), (-100.0, 100.0)], ("prediction", "probabilities"), 2000)
BLANK = " " * WORTH_BYTES
"""Spaces that make a short document long enough for this reader."""


@pytest.mark.parametrize(
    ("body", "rows", "outputs"),
    [
        ("[[1, 2]]", [[1, 2]], None),
        ('{"instances": [[1.5, -2], [-0.0, 1e-320]]}', [[1.5, -2], [-0.0, 1e-320]], None),
        ('{"instances": [[1, 2]], "outputs": null}', [[1, 2]], None),
        ('{"instances": [[1, 2]], "outputs": []}', [[1, 2]], None),
        ('{"outputs": ["prediction", "prediction"], "instances": [[1, 2]]}', [[1, 2]], ("prediction",)),
        ("[[9007199254740993, 100]]", [[9007199254740992, 100]], None),
    ],
)
def test_rows_of_numbers_are_read(body: str, rows: list[list[float]], outputs: tuple[str, ...] | None) -> None:
    found = READER.read((BLANK + body).encode())
    assert found is not None
    assert np.array_equal(found[0], rows)
    assert np.array_equal(np.signbit(found[0]), np.signbit(rows))
    assert found[1] == outputs


@pytest.mark.parametrize(
    "body",
    [
        "",
        "[]",
        "{}",
        "1",
        "null",
        '{"instances": []}',
        '{"instances": 1}',
        '{"instances": [[1, 2]], "instances": [[3, 4]]}',
        '{"instances": [[1, 2]], "more": 1}',
        '{"instances": [[1, 2]], "outputs": ["nothing"]}',
        '{"instances": [[1, 2]], "outputs": "prediction"}',
        '{"instances": [[1, 2]], "outputs": [1]}',
        '{"instances": [[1, 2]], "outputs": [["prediction"]]}',
        "[[1, 2], [1]]",
        "[[1, 2], [1, 2, 3]]",
        "[[1], [1, 2, 3]]",
        "[[[], [1, 2]]]",
        "[[[1, 2], []]]",
        "[[[1], 2]]",
        "[1, 2]",
        "[[1, null]]",
        "[[1, true]]",
        '[["1", 2]]',
        '[{"a": 1, "b": 2}]',
        "[[1, NaN]]",
        "[[1, 1e400]]",
        "[[1, 18446744073709551616]]",
        "[[1, 101]]",
        "[[-1.1e300, 1]]",
        "[[1, 2]] x",
        "[[1, 2]",
        "[[1, 02]]",
        "[[1, 2]]\x00",
        "[" * 100_000,
    ],
)
def test_other_documents_are_left_to_other_decoders(body: str) -> None:
    assert READER.read((BLANK + body).encode()) is None


def test_documents_of_too_many_rows_are_refused_before_their_numbers_are_copied() -> None:
    with pytest.raises(TooManyInstances, match="2001 instances"):
        READER.read((BLANK + str([[1, 2]] * 2001)).encode())


def test_short_documents_are_left_to_other_decoders() -> None:
    assert READER.read(b"[[1, 2]]") is None
    assert READER.read(b"\xff" + BLANK.encode() + b"[[1, 2]]") is None


@given(st.lists(st.tuples(st.floats(-1e300, 1e300), st.floats(-100, 100) | st.integers(-100, 100)), min_size=1))
def test_every_number_is_read_to_the_last_bit(rows: list[tuple[float, float]]) -> None:
    found = READER.read((BLANK + json.dumps(rows)).encode())
    assert found is not None
    assert found[0].tobytes() == np.array(rows, dtype=np.float64).tobytes()
