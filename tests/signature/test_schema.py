"""The validator: accepted instances, the errors of others, and the time that takes."""

from __future__ import annotations

import gc
import json
import time
import timeit
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import jsonschema
import pytest
from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from hypothesis import assume, given
from hypothesis import strategies as st

from app.errors import ABSENT, FieldError, InvalidInstances, TooManyInstances
from app.signature import Input, Signature
from app.signature.field_errors import MOST_ERRORS, escaped, hint_for_row, shown
from app.signature.schema import schema_of
from app.signature.validator import Validator
from tests.signature.specs import AWKWARD, NAMES, VALUES, inputs, signature, values_for

NUMBER = Input("x", "number", "float64")
COLOUR = Input("colour", "category", "str", True, categories=("red", "green"), unseen="reject")
PAIR = signature(NUMBER, COLOUR)
MANY_ROWS = 100_000
# The limit of refusing, as a multiple of the time of `json.loads` for the same body. Three to twelve are usual; with
# marshmallow for every row it would be over a hundred.
BOUND = 25.0


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    """Draw up to three inputs with awkward names."""
    names = draw(st.lists(NAMES, min_size=1, max_size=3, unique=True))
    kinds = ["number", "integer", "boolean", "category", "text", "unused", "timestamp", "array", "image"]
    return signature(*(draw(inputs(draw(st.sampled_from(kinds)), name)) for name in names))


def instances_for(sig: Signature) -> st.SearchStrategy[Any]:
    """Draw records and rows, most of them complete, and other values."""
    record = st.tuples(*map(values_for, sig.inputs)).map(lambda values: dict(zip(sig.names, values, strict=True)))
    ragged = st.dictionaries(st.one_of(NAMES, st.sampled_from(sig.names)), VALUES, max_size=4)
    row = st.tuples(*map(values_for, sig.inputs)).map(list)
    return st.one_of(record, record, row, row, ragged, st.lists(VALUES, max_size=4), VALUES)


def by_marshmallow(sig: Signature, instances: list[Any]) -> list[tuple[int, str | None, str | None]]:
    """Return (row, name, message) of every error of marshmallow, with names in the order of the row, unknown ones
    last."""
    schema = schema_of(sig)
    found: list[tuple[int, str | None, str | None]] = []
    for position, instance in enumerate(instances):
        a_row = isinstance(instance, list) and len(instance) == len(sig.inputs)
        record = dict(zip(sig.names, instance, strict=True)) if a_row else instance
        if sig.takes_bare and not isinstance(instance, dict | list):
            record = {sig.names[0]: instance}
        if not isinstance(record, dict):
            found.append((position, None, None))
            continue
        errors = schema.validate(record)
        unknown = [name for name in record if name not in sig.names]
        assert set(errors) <= {*sig.names, *unknown}
        found.extend((position, name, errors[name][0]) for name in [*sig.names, *unknown] if name in errors)
    return found


def refused(sig: Signature, instances: list[Any], **where: Any) -> InvalidInstances:
    with pytest.raises(InvalidInstances) as caught:
        Validator(sig, 10**6).validate(instances, **where)
    return caught.value


def steps(pointer: str) -> list[str]:
    """Return the segments of a JSON pointer in a URI fragment, RFC 6901 sections 4 and 6."""
    root, *parts = pointer.split("/")
    assert root == "#"
    return [unquote(part, errors="strict").replace("~1", "/").replace("~0", "~") for part in parts]


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU time of the fastest of five runs."""
    # The collector would search the garbage of all earlier tests.
    gc.disable()
    try:
        return min(timeit.repeat(work, timer=time.process_time, number=1, repeat=5))
    finally:
        gc.enable()


def refusal_per_parse(sig: Signature, bad: list[Any], good: list[Any] | None = None) -> float:
    """Return the time to refuse bad instances, divided by the time to parse good ones (or these)."""
    body = json.dumps(bad if good is None else good)
    return seconds(lambda: refused(sig, bad)) / seconds(lambda: json.loads(body))


@pytest.mark.slow
@given(st.data())
def test_the_validator_counts_and_words_what_marshmallow_finds(data: st.DataObject) -> None:
    sig = data.draw(signatures())
    instances = data.draw(st.lists(instances_for(sig), max_size=5))
    assume(hint_for_row(instances, sig, "#") is None)
    expected = by_marshmallow(sig, instances)
    if not expected:
        assert Validator(sig, 100).validate(instances).rows == len(instances)
        return
    error = refused(sig, instances, pointer="#/instances")
    assert (error.total, error.more, len(error.errors)) == (len(expected), 0, len(expected))
    for told, (position, name, message) in zip(error.errors, expected, strict=True):
        _, row, *place = steps(told.pointer)
        assert int(row) == position
        instance = instances[position]
        if name is None:
            assert place == []
            continue
        assert told.detail == message
        if isinstance(instance, list):
            assert place == [str(sig.names.index(name))]
        elif not isinstance(instance, dict):
            assert place == []  # the value of the only input
        else:
            assert place == [name]
            assert (told.value is ABSENT) == (name not in instance)


@pytest.mark.slow
@given(st.data())
def test_records_and_rows_make_the_same_batch(data: st.DataObject) -> None:
    sig = signature(NUMBER, COLOUR)
    row = st.tuples(st.floats(allow_nan=False, allow_infinity=False), st.sampled_from(["red", None])).map(list)
    rows = data.draw(st.lists(row, min_size=1, max_size=4))
    records = [dict(zip(sig.names, each, strict=True)) for each in rows]
    mixed = [row if data.draw(st.booleans()) else each for row, each in zip(rows, records, strict=True)]
    validator = Validator(sig, 100)
    batches = [validator.validate(instances) for instances in (records, rows, mixed)]
    assert {batch.rows for batch in batches} == {len(records)}
    for batch in batches:
        assert list(batch.columns) == ["x", "colour"]
        assert batch.columns["x"].tolist() == [each["x"] for each in records]
        assert [v == "red" for v in batch.columns["colour"]] == [each["colour"] == "red" for each in records]


def test_keys_in_another_order_land_in_their_columns() -> None:
    batch = Validator(PAIR, 2).validate([{"colour": "red", "x": 1}, {"x": 2, "colour": "green"}])
    assert batch.columns["x"].tolist() == [1.0, 2.0]
    assert batch.columns["colour"].tolist() == ["red", "green"]


def test_no_instances_are_an_empty_batch() -> None:
    batch = Validator(PAIR, 2).validate([])
    assert batch.rows == 0
    assert [column.shape for column in batch.columns.values()] == [(0,), (0,)]


def test_more_rows_than_the_limit_are_refused() -> None:
    validator = Validator(PAIR, 2)
    assert validator.validate([[1, "red"]] * 2).rows == 2
    with pytest.raises(TooManyInstances) as caught:
        validator.validate(["not even a row"] * 3)
    assert (caught.value.rows, caught.value.limit_rows) == (3, 2)


@pytest.mark.fault("I09")
def test_every_bad_field_of_every_bad_instance_is_listed_in_order() -> None:
    error = refused(
        PAIR,
        [
            {"x": 1.0, "colour": "red"},
            {"colour": "blue", "x": "a"},
            [None, "red"],
            {"colour": None, "size": 3, "Colour": "red"},
            [1.0],
            7,
        ],
        pointer="#/instances",
    )
    features = "x, colour"
    unknown = f"is not a feature of this model; the features are: {features}"
    assert error.errors == (
        FieldError("#/instances/1/x", "must be a number, not a string", "a"),
        FieldError("#/instances/1/colour", "must be one of: red, green", "blue"),
        FieldError("#/instances/2/0", "must not be missing (null or NaN): the model has no way to fill it in", None),
        FieldError("#/instances/3/x", "is missing: every feature of the model is needed"),
        FieldError("#/instances/3/size", unknown, 3),
        FieldError("#/instances/3/Colour", unknown, "red"),
        FieldError("#/instances/4", f"has 1 values; a row has 2, in this order: {features}"),
        FieldError(
            "#/instances/5", f"must be an object (a record) or a list (a row) with these features: {features}", 7
        ),
    )
    assert error.total == 8


def test_the_error_of_a_missing_nullable_feature_mentions_null() -> None:
    [error] = refused(PAIR, [{"x": 1}]).errors
    assert error.detail == "is missing: every feature of the model is needed, null if not known"


@pytest.mark.parametrize(
    ("where", "pointer"),
    [
        ({}, "#/0/x"),
        ({"pointer": "#/instances"}, "#/instances/0/x"),
        ({"single": True}, "#/x"),
        ({"pointer": "#/inputs", "single": True}, "#/inputs/x"),
    ],
)
def test_pointers_begin_where_the_instances_stand(where: dict[str, Any], pointer: str) -> None:
    assert refused(signature(NUMBER), [{"x": "a"}], **where).errors[0].pointer == pointer


def test_an_error_of_a_single_instance_points_to_the_root() -> None:
    assert refused(signature(NUMBER), [[1, 2]], single=True).errors[0].pointer == "#"


@pytest.mark.parametrize("bad_fields_of_a_row", [1, 3])
def test_the_first_hundred_errors_are_listed_and_all_are_counted(bad_fields_of_a_row: int) -> None:
    sig = signature(*(Input(f"f{position}", "number", "float64") for position in range(bad_fields_of_a_row)))
    rows = [[str(row)] * bad_fields_of_a_row if row % 2 else [1.0] * bad_fields_of_a_row for row in range(500)]
    error = refused(sig, rows)
    assert (error.total, error.more) == (250 * bad_fields_of_a_row, 250 * bad_fields_of_a_row - MOST_ERRORS)
    expected = [f"#/{row}/{field}" for row in range(1, 500, 2) for field in range(bad_fields_of_a_row)]
    assert [told.pointer for told in error.errors] == expected[:MOST_ERRORS]


@pytest.mark.parametrize("key", ["__proto__", "constructor", "", "instances", "data_key", "input_0", "x "])
@pytest.mark.fault("I07")
def test_an_unknown_key_is_refused_whatever_its_name(key: str) -> None:
    [error] = refused(signature(NUMBER), [{"x": 1, key: 1}]).errors
    assert error.pointer == f"#/0/{escaped(key)}"


@given(NAMES)
def test_any_name_can_be_a_feature(name: str) -> None:
    sig = signature(Input(name, "number", "float64"))
    assert Validator(sig, 1).validate([{name: 1.5}]).columns[name].tolist() == [1.5]
    assert steps(refused(sig, [{name: "a"}]).errors[0].pointer) == ["0", name]


@given(NAMES)
def test_a_pointer_is_a_uri_fragment_that_names_the_field(name: str) -> None:
    assert steps(f"#/{escaped(name)}") == [name]
    assert escaped(name).isascii()
    assert not set(escaped(name)) & set(' "<>\\^`{|}#[]%') - {"%"}


def test_a_very_long_name_is_shortened() -> None:
    assert len(escaped("a" * 10**6)) < 120
    assert "…" in unquote(escaped("a" * 10**6))


@given(VALUES)
def test_a_value_is_shown_short_and_as_json(value: Any) -> None:
    text = json.dumps(shown(value), allow_nan=False)
    assert len(text) < 1000


@pytest.mark.parametrize(
    ("value", "as_shown"),
    [
        (None, None),
        (True, True),
        (1.5, 1.5),
        (2**64 - 1, 2**64 - 1),
        (2**64, "an integer of more than 64 bits"),
        (-(2**63) - 1, "an integer of more than 64 bits"),
        (float("nan"), "nan"),
        (float("-inf"), "-inf"),
        ("x" * 100, "x" * 100),
        ("x" * 101, "x" * 100 + "…"),
        ([1, 2], "a list of 2"),
        ({"a": 1}, "an object of 1"),
    ],
)
def test_values_are_shown_short_and_readable(value: object, as_shown: object) -> None:
    assert shown(value) == as_shown
    assert type(shown(value)) is type(as_shown)


def test_a_message_names_at_most_twenty_features() -> None:
    sig = signature(*(Input(f"f{position}", "number", "float64") for position in range(64)))
    assert refused(sig, [[]]).errors[0].detail.endswith("f18, f19 and 44 more")


@pytest.mark.parametrize(
    ("spec", "instance"),
    [
        (NUMBER, {"x": "a"}),
        (NUMBER, {"x": float("inf")}),
        (NUMBER, {"x": 2**70}),
        (NUMBER, {}),
        (NUMBER, {"y": 1.0}),
        (NUMBER, ["a"]),
        (NUMBER, []),
        (NUMBER, True),
        (Input("x", "integer", "int64"), {"x": 1.5}),
        (Input("x", "boolean", "bool"), {"x": 1}),
        (Input("x", "text", "str"), {"x": 1}),
        (
            Input("x", "category", "str", categories=tuple(f"category {n}" for n in range(100)), unseen="reject"),
            {"x": "another"},
        ),
    ],
    ids=lambda value: value.kind if isinstance(value, Input) else str(value),
)
@pytest.mark.alone
def test_bad_rows_are_refused_in_about_the_time_that_parsing_good_ones_takes(spec: Input, instance: Any) -> None:
    assert refusal_per_parse(signature(spec), [instance] * 20_000, [{"x": 1.5}] * 20_000) < BOUND


@pytest.mark.alone
def test_100000_bad_rows_are_refused_in_about_the_time_that_parsing_them_takes() -> None:
    assert refusal_per_parse(PAIR, [{"x": "a", "colour": "blue"}] * MANY_ROWS) < BOUND


def test_a_record_of_thousands_of_unknown_keys_is_refused_as_fast() -> None:
    record = {f"key {position}": 1.5 for position in range(10_000)}
    assert refusal_per_parse(PAIR, [record]) < BOUND
    assert refused(PAIR, [record]).total == 10_002


def documented(sig: Signature) -> dict[str, Any]:
    """Return the JSON schema that OpenAPI shows for one record."""
    spec = APISpec("", "", "3.1.0", plugins=[MarshmallowPlugin()])
    spec.components.schema("Record", schema=schema_of(sig, "Record"))
    document: dict[str, Any] = spec.to_dict()["components"]["schemas"]["Record"]
    return document


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["number", "integer", "boolean", "category", "text", "unused", "timestamp", "array", "image"]
)
@given(st.data())
def test_accepted_values_match_the_documented_schema(kind: str, data: st.DataObject) -> None:
    sig = signature(data.draw(inputs(kind)))
    record = {"x": data.draw(values_for(sig.inputs[0]))}
    record = {} if record["x"] != record["x"] else record  # JSON has no NaN, and no schema allows it
    schema = documented(sig)
    jsonschema.Draft202012Validator.check_schema(schema)
    # The content of a file comes in other media types, which have their own description.
    if not isinstance(record.get("x"), bytes) and not schema_of(sig).validate(record):
        jsonschema.validate(record, schema)


@pytest.mark.parametrize(
    ("spec", "record"),
    [
        (NUMBER, {}),
        (NUMBER, {"x": 1.0, "y": 1.0}),
        (NUMBER, {"x": "a"}),
        (NUMBER, {"x": None}),
        (NUMBER, {"x": True}),
        (Input("x", "integer", "int64"), {"x": 1.5}),
        (Input("x", "boolean", "bool"), {"x": 1}),
        (Input("x", "text", "str"), {"x": 1}),
        (Input("x", "category", "str", categories=("red",)), {"x": 1}),
        (Input("x", "category", "int64", categories=(1, 2), unseen="reject"), {"x": 3}),
        (COLOUR, {"colour": "blue"}),
    ],
)
def test_refused_values_do_not_match_the_documented_schema(spec: Input, record: dict[str, Any]) -> None:
    assert not jsonschema.Draft202012Validator(documented(signature(spec))).is_valid(record)
    assert refused(signature(spec), [record]).total == 1


def test_ranges_and_examples_of_inputs_are_documented() -> None:
    seen = Input("x", "number", "float64", True, minimum=1.0, maximum=2.0, example=1.5)
    field = documented(signature(seen))["properties"]["x"]
    assert field["description"] == "seen in training: 1 to 2; may be null (missing)"
    assert field["example"] == 1.5
    assert set(field["type"]) == {"number", "null"}
    closed = documented(signature(COLOUR))["properties"]["colour"]
    assert set(closed["enum"]) == {"red", "green", None}


def test_the_limit_of_elements_is_not_documented_as_a_limit_of_their_array() -> None:
    error = refused(signature(Input("x", "array", "float64", largest=3e38, shape=(1,))), [{"x": [1.0], "y": 1}])
    assert [each.pointer for each in error.errors] == ["#/0/y"]


def test_every_awkward_value_is_accepted_or_refused() -> None:
    sig = signature(NUMBER)
    for value in AWKWARD:
        for instance in ({"x": value}, [value], value):
            error = None
            try:
                Validator(sig, 1).validate([instance])
            except InvalidInstances as caught:
                error = caught
            assert error is None or error.total >= len(error.errors) >= 1
