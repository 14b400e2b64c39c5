"""Tests that the same rows give the same response, or the same 422, in every media type."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from tests.wire.codecs import bodies
from tests.wire.exchange import Answer, check, post

RECORD: dict[str, Any] = {
    "island": "Torgersen",
    "bill_length_mm": 39.1,
    "bill_depth_mm": 18.7,
    "flipper_length_mm": 181.0,
    "body_mass_g": 3750.0,
    "sex": "male",
    "year": 2007,
}
MISSING: dict[str, Any] = dict.fromkeys(RECORD)

GOOD: dict[str, list[dict[str, Any]]] = {
    "one": [RECORD],
    "many": [RECORD | {"year": year, "bill_length_mm": year / 50} for year in (2007, 2008, 2009, 2008, 2007)],
    "integers for numbers": [RECORD | {"bill_length_mm": 39, "body_mass_g": 3750}],
    "keys in another order": [dict(reversed(RECORD.items()))],
    "negative zero and small": [RECORD | {"bill_length_mm": -0.0, "bill_depth_mm": 5e-324, "body_mass_g": 0.1 + 0.2}],
    "a float for an integer": [RECORD | {"year": 2007.0}],
}
BAD: dict[str, list[dict[str, Any]]] = {
    "unknown category": [RECORD, RECORD | {"island": "Mars"}, RECORD],
    "fraction": [RECORD | {"year": 2007.5}],
    "infinite": [RECORD, RECORD | {"bill_depth_mm": float("inf")}],
    "beyond what the model computes with": [RECORD | {"bill_depth_mm": 1e300}],
    "text for a number": [RECORD | {"bill_length_mm": "long"}, RECORD | {"bill_length_mm": "short"}],
    "an unknown feature": [RECORD | {"colour": "red"}],
    "a feature too few": [{name: value for name, value in RECORD.items() if name != "sex"}],
    "all at once": [RECORD | {"island": "Mars", "year": 1.5}, RECORD | {"sex": "?", "year": 2.5}],
    "more than a hundred": [RECORD | {"island": "Mars"}] * 130,
}
TYPES: dict[str, list[dict[str, Any]]] = {
    "boolean for a number": [RECORD | {"bill_length_mm": True}],
    "boolean for an integer": [RECORD | {"year": False}],
    "number for a category": [RECORD | {"island": 1}],
    "digits in text for a number": [RECORD | {"bill_length_mm": "39.1"}],
    "an integer of more than 64 bits": [RECORD | {"bill_length_mm": 2**63 + 1}],
}


def sent(app: Flask, body: bodies.Body) -> Answer:
    answer = post(app, "/predict", body[1], {"Content-Type": body[0], "Accept": "application/json"})
    check(answer)
    return answer


def same_as_json(app: Flask, records: list[dict[str, Any]], body: bodies.Body, status: int) -> None:
    answer, expected = sent(app, body), sent(app, bodies.as_json(records))
    assert answer.status == expected.status == status, answer.content
    document, known = answer.document, expected.document
    if status != 200:
        document.pop("request_id"), known.pop("request_id")
    assert document == known


@pytest.mark.parametrize("media_type", [*bodies.ALL, *bodies.NUMPY])
@pytest.mark.parametrize("rows", GOOD)
@pytest.mark.fault("B10")
def test_the_same_answer(app: Flask, rows: str, media_type: str) -> None:
    same_as_json(app, GOOD[rows], (bodies.ALL | bodies.NUMPY)[media_type](GOOD[rows]), 200)


@pytest.mark.parametrize("media_type", bodies.ALL)
def test_the_same_answer_where_values_are_missing(app: Flask, media_type: str) -> None:
    rows = [RECORD, MISSING, RECORD | {"bill_length_mm": None, "sex": None}]
    same_as_json(app, rows, bodies.ALL[media_type](rows), 200)


@pytest.mark.parametrize("media_type", [*bodies.ALL, *bodies.NUMPY])
@pytest.mark.parametrize("rows", BAD)
def test_the_same_422(app: Flask, rows: str, media_type: str) -> None:
    same_as_json(app, BAD[rows], (bodies.ALL | bodies.NUMPY)[media_type](BAD[rows]), 422)


@pytest.mark.parametrize("media_type", [*bodies.TYPED, *bodies.NUMPY])
@pytest.mark.parametrize("rows", TYPES)
def test_the_same_422_of_types(app: Flask, rows: str, media_type: str) -> None:
    same_as_json(app, TYPES[rows], (bodies.TYPED | bodies.NUMPY)[media_type](TYPES[rows]), 422)


@pytest.mark.parametrize("media_type", bodies.ALL)
def test_the_same_422_for_missing_values(app: Flask, media_type: str) -> None:
    rows = [{"feature1": 5.1, "feature2": 3.5}, {"feature1": None, "feature2": 3.5}]
    media, content = bodies.ALL[media_type](rows)
    answers = [
        post(app, "/models/iris-two/predict", body, {"Content-Type": kind, "Accept": "application/json"})
        for kind, body in ((media, content), bodies.as_json(rows))
    ]
    assert [answer.status for answer in answers] == [422, 422]
    assert answers[0].document["errors"] == answers[1].document["errors"]


def test_one_record_as_fields_is_one_record_in_json(app: Flask) -> None:
    for record in (RECORD, RECORD | {"island": "Mars", "year": 1.5}):
        fields = [(name, str(value).encode(), None) for name, value in record.items()]
        media_type, content = bodies.form(fields)
        answer = post(app, "/predict", content, {"Content-Type": media_type})
        expected = post(app, "/predict", bodies.json.dumps(record))
        assert answer.status == expected.status
        assert answer.document.get("errors") == expected.document.get("errors")
        assert answer.document.get("probabilities") == expected.document.get("probabilities")
