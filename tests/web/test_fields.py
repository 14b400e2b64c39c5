"""The form of the playground: the field of each kind of input, and the record of a filled form."""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.datastructures import MultiDict

from app.web.fields import fields, heights_of, own_key
from app.web.playground import record_of

NUMBER = {"name": "x", "kind": "number", "minimum": 32.1, "maximum": 59.6}
COLOURS = {"name": "x", "kind": "category", "categories": ["red", "blue"], "unseen": "reject"}
SIZES = {"name": "x", "kind": "category", "categories": [1, 2, 3], "unseen": "reject"}
ARRAY = {"name": "x", "kind": "array", "shape": [2, 2], "dtype": "float64"}
TEXT = {"name": "x", "kind": "text", "nullable": True}


def model(*inputs: dict[str, Any], instance: Any = None) -> dict[str, Any]:
    examples = [] if instance is None else [{"instance": instance, "prediction": 1}]
    return {"inputs": list(inputs), "examples": examples}


def only(described: dict[str, Any], value: Any = None, filled: dict[str, str] | None = None) -> Any:
    (field,) = fields(model(described, instance={"x": value}), MultiDict(filled) if filled else None)
    return field


@pytest.mark.parametrize(
    ("described", "value", "control", "text"),
    [
        (NUMBER, 39.1, "number", "39.1"),
        (NUMBER, 3750.0, "number", "3750"),
        (NUMBER, None, "number", ""),
        (COLOURS, "red", "pills", "red"),
        (SIZES, 2, "pills", "2"),
        ({**COLOURS, "categories": [str(number) for number in range(9)]}, "3", "select", "3"),
        ({**COLOURS, "unseen": "warn"}, "red", "open", "red"),
        ({"name": "x", "kind": "boolean"}, True, "pills", "true"),
        (TEXT, "a\nb", "text", "a\nb"),
        ({"name": "x", "kind": "timestamp"}, "2024-01-31T12:30:00+02:00", "timestamp", "2024-01-31T10:30"),
        ({"name": "x", "kind": "timestamp"}, "2024-01-31", "timestamp", "2024-01-31T00:00"),
        ({"name": "x", "kind": "timestamp"}, "2024-01-31T12:30:05.250", "timestamp", "2024-01-31T12:30:05.250"),
        ({"name": "x", "kind": "timestamp"}, 86400, "timestamp", "1970-01-02T00:00"),
        ({"name": "x", "kind": "timestamp"}, "2024-01-31T12:30:00.123456789", "line", "2024-01-31T12:30:00.123456789"),
        (ARRAY, [[1.0, 2.5], [3, 4]], "json", "1, 2.5\n3, 4"),
        ({**ARRAY, "shape": [1, 1, 1]}, [[[1.0]]], "json", "[[[1.0]]]"),
        ({"name": "x", "kind": "image"}, "iVBORw0KGgo=", "image", "iVBORw0KGgo="),
        ({"name": "x", "kind": "unused"}, "any", "line", "any"),
    ],
)
def test_each_kind_has_a_field_that_fits_it(described: dict[str, Any], value: Any, control: str, text: str) -> None:
    field = only(described, value)
    assert (field.control, field.text) == (control, text)


@pytest.mark.parametrize(
    ("described", "text", "value"),
    [
        (NUMBER, "39.1", 39.1),
        (NUMBER, " 1e3 ", 1000.0),
        (NUMBER, "abc", "abc"),
        (NUMBER, "NaN", "NaN"),
        ({**NUMBER, "nullable": True}, "", None),
        ({"name": "x", "kind": "integer"}, "5", 5),
        ({"name": "x", "kind": "boolean"}, "false", False),
        (COLOURS, "red", "red"),
        (SIZES, "2", 2),
        (TEXT, "5", "5"),
        (TEXT, "a\r\nb", "a\nb"),
        (TEXT, "", ""),
        (ARRAY, "1, 2\n3, 4", [[1, 2], [3, 4]]),
        (ARRAY, "1\t2;3 4", [[1, 2], [3, 4]]),
        (ARRAY, "[[1, 2], [3, 4]]", [[1, 2], [3, 4]]),
        (ARRAY, "1, 2, x", [1, 2, "x"]),
        ({"name": "x", "kind": "timestamp"}, "2024-01-31T10:30", "2024-01-31T10:30"),
    ],
)
def test_a_text_is_read_as_its_kind_or_sent_as_it_is(described: dict[str, Any], text: str, value: Any) -> None:
    assert record_of(model(described), MultiDict({"x": text}), {}) == {"x": value}


def test_an_empty_field_that_the_model_needs_is_left_out() -> None:
    assert record_of(model(NUMBER), MultiDict({"x": " "}), {}) == {}


def test_a_file_is_sent_in_base64_in_place_of_the_image_that_stood_there() -> None:
    described = model({"name": "x", "kind": "image"})
    assert record_of(described, MultiDict({"x": "old"}), {"x": b"\x89PNG"}) == {"x": "iVBORw=="}


def test_a_text_may_be_missing_whatever_the_inputs_are_called() -> None:
    described = model(TEXT, {"name": ".missing", "kind": "text"})
    key = own_key(described, "missing")
    assert key == "..missing"
    assert record_of(described, MultiDict([("x", ""), (".missing", "a"), (key, "x")]), {}) == {
        "x": None,
        ".missing": "a",
    }


def test_a_record_of_any_names_is_one_field() -> None:
    described = model({"name": "record", "kind": "record"}, instance={"a": 1, "b": "c"})
    (field,) = fields(described)
    assert (field.control, field.text) == ("json", '{"a": 1, "b": "c"}')
    assert record_of(described, MultiDict({"record": '{"a": 2}'}), {}) == {"a": 2}


def test_a_very_wide_model_has_one_field_for_its_record() -> None:
    inputs = [{"name": f"x{number}", "kind": "number"} for number in range(500)]
    (field,) = fields(model(*inputs, instance={each["name"]: 1.0 for each in inputs}))
    assert field.name == "record"


def test_a_query_chooses_an_example_and_changes_it() -> None:
    described = model(NUMBER, {"name": "y", "kind": "number"}, instance={"x": 1, "y": 2})
    described["examples"].append({"instance": {"x": 3, "y": 4}})
    filled = MultiDict({own_key(described, "example"): "2", "y": "5"})
    assert [field.text for field in fields(described, filled)] == ["3", "5"]
    assert [field.text for field in fields(described, MultiDict({".example": "99"}))] == ["1", "2"]


@pytest.mark.parametrize(
    ("least", "most", "kind", "step"),
    [
        (32.1, 59.6, "number", "0.1"),
        (0, 16, "number", "0.01"),
        (2700.0, 6300.0, "number", "10"),
        (2007, 2009, "integer", "1"),
        (0.0, 1e-12, "number", "1e-15"),
        (5, 5, "number", ""),
        (None, 5, "number", ""),
    ],
)
def test_a_slider_covers_the_range_seen(least: Any, most: Any, kind: str, step: str) -> None:
    assert only({"name": "x", "kind": kind, "minimum": least, "maximum": most}).step == step


def test_the_values_of_the_training_sample_are_bars_above_the_slider() -> None:
    described = model(NUMBER, instance={"x": 39.1})
    described["profile"] = {"rows": 4000, "inputs": {"x": {"from": 32.1, "to": 59.6, "counts": [0, 1, 4000]}}}
    (field,) = fields(described)
    assert field.heights == (0, 0.4, 10)


def test_without_a_distribution_there_are_no_bars() -> None:
    assert heights_of(None) == heights_of({"values": [["a", 4]]}) == ()
