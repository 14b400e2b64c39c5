"""Tests of bare values, neither records nor rows, for a model of one input, in every protocol that has instances."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from flask import Flask
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline

from tests.wire.conftest import MakeApp
from tests.wire.exchange import check, post

pytestmark = pytest.mark.slow

TEXTS = ["love it", "hate it", "[a list]", '{"an": "object"}']


@pytest.fixture
def reviews(served: MakeApp) -> Flask:
    """Return a service of a model of one text."""
    words = make_pipeline(CountVectorizer(), LogisticRegression()).fit(["love it", "hate it"] * 4, ["yes", "no"] * 4)
    return served(words, "reviews")


def predicted(app: Flask, document: Any, path: str = "/models/reviews/predict", key: str = "prediction") -> Any:
    answer = post(app, path, json.dumps(document))
    assert answer.status == 200, answer.content
    return answer.document[key]


def test_bare_strings_are_answered_as_records_and_rows_are(reviews: Flask) -> None:
    wanted = predicted(reviews, [[text] for text in TEXTS])
    assert wanted[:2] == ["yes", "no"]
    assert predicted(reviews, TEXTS) == wanted
    assert predicted(reviews, {"instances": TEXTS}) == wanted
    assert predicted(reviews, {"outputs": ["prediction"], "instances": TEXTS}) == wanted
    assert predicted(reviews, {"instances": [TEXTS[0], *([text] for text in TEXTS[1:])]}) == wanted


@pytest.mark.parametrize(
    "path", ["/v1/models/reviews:predict", "/v1/endpoints/1/deployedModels/2:predict", "/invocations"]
)
def test_bare_strings_are_answered_in_the_other_protocols(reviews: Flask, path: str) -> None:
    assert predicted(reviews, {"instances": TEXTS[:2]}, path, "predictions") == ["yes", "no"]


@pytest.mark.parametrize("accept", ["application/json", "application/x-ndjson"])
def test_bare_strings_are_answered_line_by_line(reviews: Flask, accept: str) -> None:
    lines = "".join(json.dumps(text) + "\n" for text in TEXTS)
    headers = {"Content-Type": "application/x-ndjson", "Accept": accept}
    content = post(reviews, "/models/reviews/predict", lines, headers).content.decode()
    assert "error" not in content
    assert content.count("yes") >= 1


def test_a_value_that_is_not_a_string_is_refused_at_its_place(reviews: Flask) -> None:
    for document, pointer in (({"instances": ["a", 1]}, "#/instances/1"), ([True, "a"], "#/0"), ([None], "#/0")):
        answer = post(reviews, "/models/reviews/predict", json.dumps(document))
        check(answer)
        assert [error["pointer"] for error in answer.document["errors"]] == [pointer]


@pytest.mark.parametrize("path", ["/v1/models/reviews:predict", "/invocations"])
def test_other_protocols_refuse_it_at_its_place(reviews: Flask, path: str) -> None:
    content = post(reviews, path, json.dumps({"instances": ["a", 1]})).content.decode()
    assert "#/instances/1 must be a string" in content


def test_a_single_string_is_not_a_request(reviews: Flask) -> None:
    assert post(reviews, "/models/reviews/predict", '"love it"').status == 422
    assert post(reviews, "/models/reviews/predict", '{"instances": "love it"}').status == 422


def test_a_number_outside_the_range_gets_a_warning_at_its_place(served: MakeApp, tmp_path: Any) -> None:
    frame = pd.DataFrame({"area": [1.0, 2.0, 3.0], "price": [2.0, 4.0, 6.0]})
    frame.to_csv(tmp_path / "rows.csv", index=False)
    model = LinearRegression().fit(frame[["area"]], frame["price"])
    app = served(model, "houses", str(tmp_path / "rows.csv"), {"target": "price"}, out_of_range="warn")
    for body in ("[2, 9]", "[2, 9.0]", '{"instances": [2, 9]}'):
        answer = post(app, "/models/houses/predict", body).document
        assert np.allclose(answer["prediction"], [4.0, 18.0])
        (warning,) = answer["warnings"]
        assert warning["pointer"] == ("#/instances/1" if "instances" in body else "#/1")


def test_the_openapi_document_allows_bare_values(reviews: Flask) -> None:
    document = reviews.test_client().get("/openapi.json").get_json()
    body = document["paths"]["/models/reviews/predict"]["post"]["requestBody"]["content"]["application/json"]["schema"]
    schema = jsonschema.Draft202012Validator({**body, "components": document["components"]})
    for allowed in ({"instances": TEXTS}, {"instances": [[TEXTS[0]]]}, TEXTS):
        assert schema.is_valid(allowed)
    for refused in ({"instances": [1]}, {"instances": [[1]]}):
        assert not schema.is_valid(refused)
