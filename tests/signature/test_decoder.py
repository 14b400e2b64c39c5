"""The fast path accepts a subset of the slow path, with the same values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidInstances, RetortError, TooManyInstances
from app.signature import Input, Layout, Signature
from app.signature.batch import Batch
from app.signature.decoder import WORTH_BYTES, decoder_of
from app.signature.json_values import FEW_SLOW_NUMBERS
from app.signature.validator import Validator

from .specs import values_for
from .test_schema import signatures

NUMBERS = Signature(
    tuple(Input(name, "number", "float64", nullable=name == "b") for name in "ab"),
    ("prediction", "probabilities"),
    ("prediction",),
    Layout.MATRIX,
)


def equal(one: Batch, other: Batch) -> bool:
    """Return whether two batches have the same columns with the same dtypes."""
    return one.rows == other.rows and all(
        one.columns[name].dtype == other.columns[name].dtype
        and all(
            a is b or a == b or (a != a and b != b)
            for a, b in zip(one.columns[name].tolist(), other.columns[name].tolist(), strict=True)
        )
        for name in other.columns
    )


@pytest.mark.slow
@given(st.data())
def test_both_paths_accept_the_same_with_the_same_values(data: st.DataObject) -> None:
    signature = data.draw(signatures())
    decoder = decoder_of(signature, 100)
    if decoder is None:
        return
    rows = data.draw(st.lists(st.tuples(*(values_for(spec) for spec in signature.inputs)), min_size=1, max_size=3))
    form = data.draw(st.sampled_from(["record", "records", "rows", "bare", "values", "bare values"]))
    records = [dict(zip(signature.names, row, strict=True)) for row in rows]
    document: Any = {
        "record": records[0],
        "records": {"instances": records},
        "rows": {"instances": [list(row) for row in rows]},
        "bare": records,
        "values": {"instances": [row[0] for row in rows]},
        "bare values": [row[0] for row in rows],
    }[form]
    instances = {"record": records[:1], "values": document, "bare values": document}.get(form, records)
    instances = instances["instances"] if isinstance(instances, dict) else instances
    try:
        slow: Batch | None = Validator(signature, 100).validate(instances)
    except RetortError:
        slow = None
    fast = decoder.decode(json.dumps(document).encode())
    if fast is not None:
        assert slow is not None
        assert equal(fast.batch, slow)


@pytest.mark.parametrize(
    ("body", "rows", "outputs"),
    [
        ('{"a": 1, "b": 2.5}', [[1, 2.5]], None),
        (' {"b": null, "a": 1}\n', [[1, np.nan]], None),
        ('{"a": 0, "a": 1, "b": 2}', [[1, 2]], None),
        ('{"instances": [{"a": 1, "b": 2}]}', [[1, 2]], None),
        ('{"instances": [[1, 2], [3, null]]}', [[1, 2], [3, np.nan]], None),
        ('{"instances":[[1,2]],"outputs":["probabilities","probabilities"]}', [[1, 2]], ("probabilities",)),
        ('{"instances":[[1,2]],"outputs":[]}', [[1, 2]], None),
        ("[[1, 2]]", [[1, 2]], None),
        ('[{"a": 1, "b": 2}]', [[1, 2]], None),
        (f"[{','.join(['[1, 2]'] * 40)}]", [[1, 2]] * 40, None),
        (f"[{','.join(['[1, 2]'] * 39)}, [3, null]]", [*[[1, 2]] * 39, [3, np.nan]], None),
    ],
)
def test_common_documents_are_decoded(body: str, rows: list[list[float]], outputs: tuple[str, ...] | None) -> None:
    decoder = decoder_of(NUMBERS, 40)
    assert decoder is not None
    decoded = decoder.decode(body.encode())
    assert decoded is not None
    assert np.array_equal(decoded.batch.matrix(), rows, equal_nan=True)
    assert decoded.outputs == outputs


@pytest.mark.parametrize("blanks", [0, WORTH_BYTES])
@pytest.mark.parametrize(("form", "pointer"), [("{}", "#"), ('{{"instances": {}}}', "#/instances")])
def test_the_position_of_short_and_long_rows_of_numbers_is_reported(blanks: int, form: str, pointer: str) -> None:
    decoder = decoder_of(NUMBERS, 10)
    assert decoder is not None
    decoded = decoder.decode((" " * blanks + form.format("[[1, 2]]")).encode())
    assert decoded is not None
    assert (decoded.in_rows, decoded.pointer) == (True, pointer)


@pytest.mark.parametrize("instances", [[[1, 2.5], [3, None]], [{"a": 1, "b": 2.5}, {"b": None, "a": 3}]])
def test_values_that_are_decoded_already_take_the_fast_path_too(instances: list[Any]) -> None:
    decoder = decoder_of(NUMBERS, 10)
    assert decoder is not None
    batch = decoder.batch_of(instances)
    assert batch is not None
    assert batch.columns["a"].tolist() == [1.0, 3.0]


BARE = {
    "text": ["love it", "", "[1]"],
    "category": ["red", "green"],
    "number": [1, 2.5],
    "integer": [1, 2],
    "boolean": [True, False],
    "unused": ["x", None, 1],
}


@pytest.mark.parametrize("kind", BARE)
@pytest.mark.parametrize("form", ['{{"instances": {}}}', ' {{"instances":\n[ {}', "{}"])
def test_bare_values_of_a_model_with_one_input_are_decoded(kind: str, form: str) -> None:
    dtypes = {"number": "float64", "integer": "int64", "boolean": "bool"}
    spec = Input("x", kind, dtypes.get(kind, "str"), categories=("red", "green") if kind == "category" else None)
    values = json.dumps(BARE[kind])
    body = form.format(values[1:] + "}" if "[ {" in form else values)
    decoder = decoder_of(Signature((spec,), ("prediction",), ("prediction",), Layout.FRAME), 10)
    assert decoder is not None
    decoded = decoder.decode(body.encode())
    assert decoded is not None
    assert (decoded.in_rows, decoded.pointer) == (None, "#/instances" if "instances" in body else "#")
    if kind != "unused":
        assert decoded.batch.columns["x"].tolist() == BARE[kind]


@pytest.mark.parametrize("form", ["{}", ' {{"instances": {}, "outputs": ["prediction"]}}'])
@pytest.mark.parametrize("one", ["1e-308", "[1e-308, 1e-308]"])
def test_too_many_slow_numbers_are_counted_before_they_are_read(form: str, one: str) -> None:
    decoder = decoder_of(NUMBERS, FEW_SLOW_NUMBERS + 1)
    assert decoder is not None
    most = ", ".join([one] * (FEW_SLOW_NUMBERS + 1))
    assert decoder.decode(form.format(f"[{most}]").encode()) is None
    with pytest.raises(TooManyInstances, match=f"{FEW_SLOW_NUMBERS + 2} instances"):
        decoder.decode(form.format(f"[{most}, {one}]").encode())


@pytest.mark.parametrize(
    "body",
    [
        "",
        "null",
        "[]",
        '{"instances": []}',
        '{"a": 1}',
        '{"a": 1, "b": 2, "c": 3}',
        '{"a": "1", "b": 2}',
        '{"a": true, "b": 2}',
        '{"a": null, "b": 2}',
        '{"a": NaN, "b": 2}',
        '{"a": 1e400, "b": 2}',
        f'{{"a": {2**63}, "b": 2}}',
        '{"a": 1e19, "b": 2}',
        '{"instances": [[1, 2], [1]]}',
        '{"instances": [[1, 2], {"a": 1, "b": 2}]}',
        '{"instances": [[1, 2]], "outputs": ["nothing"]}',
        '{"instances": [[1, 2]], "more": 1}',
        '{"outputs": ["prediction"], "instances": [[1, 2]]}',
        '\ufeff{"a": 1, "b": 2}',
        "[" * 100_000,
        "[1, 2]",
        '{"instances": [1, 2]}',
    ],
)
def test_other_documents_are_left_to_the_slow_path(body: str) -> None:
    decoder = decoder_of(NUMBERS, 10)
    assert decoder is not None
    assert decoder.decode(body.encode()) is None


@pytest.mark.parametrize("one", ["[1, 2]", '{"a": 1, "b": 2}'])
def test_documents_of_too_many_instances_are_decoded_once(one: str) -> None:
    decoder = decoder_of(NUMBERS, 10)
    assert decoder is not None
    for document in ("[" + ",".join([one] * 11) + "]", '{"instances": [' + ",".join([one] * 11) + "]}"):
        with pytest.raises(TooManyInstances, match="11 instances"):
            decoder.decode(document.encode())


@pytest.mark.parametrize(
    "spec",
    [
        Input("instances", "number", "float64"),
        Input('a "quoted" name', "number", "float64"),
        Input("x", "category", "int64", categories=(1, 2), unseen="reject"),
    ],
)
def test_inputs_without_an_exact_type_have_no_decoder(spec: Input) -> None:
    signature = Signature((spec,), ("prediction",), ("prediction",), Layout.FRAME)
    assert decoder_of(signature, 10) is None
    assert Validator(signature, 10).decode(b"{}") is None


def test_documents_left_by_the_decoder_are_refused_by_the_validator() -> None:
    validator = Validator(NUMBERS, 2)
    with pytest.raises(InvalidInstances):
        validator.validate([{"a": True, "b": 2}])
    with pytest.raises(TooManyInstances):
        validator.validate([[1, 2]] * 3)
