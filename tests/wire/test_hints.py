"""Tests that errors of nearly valid requests say how to correct them, in every protocol that reads JSON."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import pytest
from flask import Flask

from tests.wire.exchange import check, get, post

FRAME = pd.DataFrame({"feature1": [5.1, 6.2], "feature2": [3.5, 2.9]})
PREDICT = "/models/iris-two/predict"
JSON_PATHS = [
    (PREDICT, 422),
    ("/v2/models/iris-two/infer", 400),
    ("/v1/models/iris-two:predict", 400),
    ("/v1/endpoints/1/deployedModels/2:predict", 422),
    ("/invocations", 422),
]


def only_error(app: Flask, document: Any, path: str = PREDICT) -> tuple[str, str]:
    answer = post(app, path, document if isinstance(document, str) else json.dumps(document))
    assert answer.status == 422, answer.content
    check(answer)
    (error,) = answer.document["errors"]
    return error["pointer"], error["detail"]


@pytest.mark.parametrize("payload", [{"instances": [[5.1, 3.5]]}, [[5.1, 3.5]]])
@pytest.mark.parametrize(("path", "status"), JSON_PATHS)
def test_a_body_that_was_encoded_twice_gets_a_hint(app: Flask, path: str, status: int, payload: Any) -> None:
    answer = post(app, path, json.dumps(json.dumps(payload)))
    text = answer.content.decode()
    assert answer.status in (400, status)
    assert text.count("encoded twice") == 1
    assert "json=payload, not json=json.dumps(payload)" in text


@pytest.mark.parametrize("path", [PREDICT, "/v1/models/iris-two:predict", "/invocations"])
def test_instances_that_were_encoded_twice_get_a_hint(app: Flask, path: str) -> None:
    text = post(app, path, json.dumps({"instances": FRAME.to_json(orient="records")})).content.decode()
    assert "#/instances" in text
    assert "encoded twice" in text


def test_each_instance_that_was_encoded_twice_gets_a_hint(app: Flask) -> None:
    pointer, detail = only_error(app, {"instances": [json.dumps({"feature1": 5.1, "feature2": 3.5})]})
    assert pointer == "#/instances/0"
    assert "encoded twice" in detail


@pytest.mark.parametrize(
    ("orient", "looks"),
    [
        ("split", 'orient="split"'),
        ("index", 'orient="index"'),
        ("columns", 'orient="columns"'),
        ("table", 'orient="table"'),
    ],
)
def test_each_orientation_of_pandas_gets_a_hint_with_its_name(app: Flask, orient: Any, looks: str) -> None:
    for place, document in (("#", FRAME.to_json(orient=orient)), ("#/instances", None)):
        sent = document or json.dumps({"instances": json.loads(FRAME.to_json(orient=orient))})
        pointer, detail = only_error(app, sent)
        assert pointer == place
        assert looks in detail
        assert 'to_json(orient="records")' in detail


@pytest.mark.parametrize("orient", ["records", "values"])
def test_the_orientations_that_are_lists_of_records_or_rows_are_answered(app: Flask, orient: Any) -> None:
    answer = post(app, PREDICT, FRAME.to_json(orient=orient))
    assert (answer.status, len(answer.document["prediction"])) == (200, 2)


def test_columns_of_lists_get_a_hint(app: Flask) -> None:
    pointer, detail = only_error(app, FRAME.to_dict(orient="list"))
    assert pointer == "#"
    assert "columns of a table" in detail


@pytest.mark.parametrize("key", ["inputs", "input", "data", "features", "Instances", "X", "rows"])
@pytest.mark.parametrize("value", [[[5.1, 3.5]], {"feature1": 5.1, "feature2": 3.5}])
def test_instances_under_another_name_get_a_hint(app: Flask, key: str, value: Any) -> None:
    pointer, detail = only_error(app, {key: value})
    assert pointer == f"#/{key}"
    assert 'send {"instances": [...]}' in detail


def test_envelopes_of_other_protocols_get_a_hint_with_their_url(app: Flask) -> None:
    tensor = {"name": "x", "shape": [1, 2], "datatype": "FP64", "data": [5.1, 3.5]}
    assert "/v2/models/<name>/infer" in only_error(app, {"inputs": [tensor]})[1]
    assert "/invocations" in only_error(app, {"dataframe_split": {"columns": [], "data": []}})[1]


@pytest.mark.parametrize(
    ("document", "pointer", "text"),
    [
        ({"instances": {"feature1": 5.1, "feature2": 3.5}}, "#/instances", "put the record in a list"),
        ([5.1, 3.5], "#", "send [[5.1, 3.5]]"),
        ({"instances": [5.1, None]}, "#/instances", "send [[5.1, null]]"),
        ([[{"feature1": 5.1, "feature2": 3.5}]], "#/0", "it holds a record"),
        ([[[5.1, 3.5], [5.1, 3.5], [5.1, 3.5]]], "#/0", "it holds rows"),
        ({"feature1": " 5.1", "feature2": 3.5}, "#/feature1", "send 5.1 without quotes"),
    ],
)
def test_other_common_mistakes_get_a_hint(app: Flask, document: Any, pointer: str, text: str) -> None:
    place, detail = only_error(app, document)
    assert place == pointer
    assert text in detail


def test_a_category_in_another_case_gets_a_hint(app: Flask) -> None:
    example = get(app, "/models/penguins").document["examples"][0]["instance"]
    pointer, detail = only_error(app, example | {"island": " torgersen"}, "/models/penguins/predict")
    assert pointer == "#/island"
    assert 'did you mean "Torgersen"?' in detail


def test_quoted_words_are_not_numbers(app: Flask) -> None:
    for word in ("five", "", "NaN", "1e999", "true"):
        assert only_error(app, {"feature1": word, "feature2": 3.5}) == (
            "#/feature1",
            "must be a number, not a string",
        )


def test_other_documents_have_an_error_for_each_field(app: Flask) -> None:
    for document in ({"a": 1}, {"data": 1}, {"a": {"b": {}}}, {}, {"feature1": {"0": 5.1}, "x": 1}):
        text = post(app, PREDICT, json.dumps(document)).document
        assert text["errors_total"] >= 2, text
