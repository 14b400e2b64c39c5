"""Tests of warnings beside the predictions, in every way to answer a request."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from tests.wire.conftest import MakeApp
from tests.wire.exchange import check, get, post

pytestmark = pytest.mark.slow

FRAME = pd.DataFrame({"colour": ["red", "green"] * 4, "size": [1.0, 2, 3, 4, 5, 6, 7, 8]})
GOOD, NEW = {"colour": "red", "size": 3}, {"colour": "blue", "size": 9}
COLOUR = {"detail": "was not seen in training; seen: green, red", "value": "blue"}
SIZE = {"detail": "is outside the range seen in training: 1 to 8", "value": 9.0}


def model() -> Any:
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((encoder, ["colour"]), remainder="passthrough")
    return make_pipeline(columns, LinearRegression()).fit(FRAME, FRAME["size"])


@pytest.fixture
def colours(served: MakeApp, tmp_path: Any) -> MakeApp:
    def make(**settings: Any) -> Any:
        FRAME.to_csv(tmp_path / "sample.csv", index=False)
        asked = {key: settings.pop(key) for key in ("unseen", "pack_out_of_range") if key in settings}
        options = {"unseen": asked.get("unseen"), "out_of_range": asked.get("pack_out_of_range")}
        return served(model(), sample=str(tmp_path / "sample.csv"), options=options, **settings)

    return make


def test_warnings_stand_beside_the_predictions(colours: MakeApp) -> None:
    app = colours(unseen="warn", out_of_range="warn")
    expected = {
        "one": (NEW, ["#/colour", "#/size"]),
        "many": ({"instances": [GOOD, NEW]}, ["#/instances/1/colour", "#/instances/1/size"]),
        "rows": ({"instances": [["red", 3], ["blue", 9]]}, ["#/instances/1/0", "#/instances/1/1"]),
        "mixed": ({"instances": [GOOD, ["blue", 9], NEW]}, ["#/instances/1/0", "#/instances/1/1"]),
        "bare": ([["blue", 9]], ["#/0/0", "#/0/1"]),
    }
    for body, pointers in expected.values():
        for path in ("/predict", "/models/model/versions/1/predict"):
            answer = post(app, path, json.dumps(body))
            check(answer)
            document = answer.document
            listed = [{"pointer": p, **said} for p, said in zip(pointers, (COLOUR, SIZE), strict=True)]
            assert document["warnings"][:2] == listed
            assert document["warnings_more"] == 0


def test_without_new_values_there_are_no_warnings(colours: MakeApp) -> None:
    app = colours(unseen="warn", out_of_range="warn")
    assert "warnings" not in post(app, "/predict", json.dumps(GOOD)).document
    assert "warnings_more" not in post(app, "/predict", json.dumps(GOOD)).document


def test_the_setting_ignores_new_values_by_default(colours: MakeApp) -> None:
    assert "warnings" not in post(colours(), "/predict", json.dumps(NEW)).document


def test_refused_ranges_are_documented_and_answered_with_422(colours: MakeApp) -> None:
    app = colours(pack_out_of_range="reject", out_of_range="ignore")
    answer = post(app, "/predict", json.dumps({"instances": [GOOD, NEW]}))
    check(answer)
    assert answer.status == 422
    assert answer.document["errors"] == [
        {
            "pointer": "#/instances/1/size",
            "detail": "must be within the range seen in training: 1 to 8",
            "value": 9.0,
        }
    ]
    record = get(app, "/openapi.json").document["components"]["schemas"]["model.record"]
    assert (record["properties"]["size"]["minimum"], record["properties"]["size"]["maximum"]) == (1.0, 8.0)
    assert get(app, "/models/model").document["out_of_range"] == "reject"


def test_unseen_categories_may_be_refused(colours: MakeApp) -> None:
    answer = post(colours(unseen="reject"), "/predict", json.dumps(NEW))
    assert answer.status == 422
    assert [e["pointer"] for e in answer.document["errors"]] == ["#/colour"]


def test_each_line_of_a_stream_has_its_own_warnings(colours: MakeApp) -> None:
    app = colours(unseen="warn", out_of_range="warn")
    lines = [GOOD, NEW, ["blue", 3], {"colour": 1}, {"colour": "red", "size": 0}]
    body = "\n".join(map(json.dumps, lines))
    answer = post(app, "/predict", body, {"Content-Type": "application/x-ndjson"})
    answers = [json.loads(line) for line in answer.content.splitlines()]
    expected = [
        [],
        [{"pointer": "#/colour", **COLOUR}, {"pointer": "#/size", **SIZE}],
        [{"pointer": "#/0", **COLOUR}],
        None,
        [{"pointer": "#/size", "detail": SIZE["detail"], "value": 0.0}],
    ]
    assert ["error" in line for line in answers] == [new is None for new in expected]
    assert [line.get("warnings", []) for line in answers if "error" not in line] == [
        new for new in expected if new is not None
    ]
    alone = [post(app, "/predict", json.dumps(line)).document for line in (GOOD, NEW)]
    assert [line.get("warnings") for line in answers[:2]] == [document.get("warnings") for document in alone]
    assert answers[1]["warnings_more"] == 0


def test_a_stream_refuses_the_lines_that_are_outside_the_range(colours: MakeApp) -> None:
    app = colours(unseen="warn", pack_out_of_range="reject")
    body = "\n".join(map(json.dumps, [NEW, GOOD, NEW | {"size": 2}]))
    answer = post(app, "/predict", body, {"Content-Type": "application/x-ndjson"})
    answers = [json.loads(line) for line in answer.content.splitlines()]
    assert [error["pointer"] for error in answers[0]["error"]["errors"]] == ["#/size"]
    assert [line.get("warnings") for line in answers[1:]] == [None, [{"pointer": "#/colour", **COLOUR}]]


def test_more_new_values_in_a_block_than_one_answer_lists(colours: MakeApp) -> None:
    app = colours(unseen="warn", out_of_range="warn")
    body = "\n".join([json.dumps(NEW)] * 300)
    answer = post(app, "/predict", body, {"Content-Type": "application/x-ndjson"})
    assert [len(json.loads(line)["warnings"]) for line in answer.content.splitlines()] == [2] * 300


NUMBERS = pd.DataFrame({"bmi": [20.0, 30.0, 40.0], "age": [30.0, 50.0, 40.0]})
ROWS, RECORDS = [[20.0, 30.0], [20.0, 99.0]], [{"bmi": 20.0, "age": 30.0}, {"bmi": 20.0, "age": 99.0}]


@pytest.mark.parametrize(
    "path",
    ["/predict", "/v1/models/model:predict", "/v1/endpoints/1/deployedModels/2:predict", "/invocations"],
)
def test_a_number_out_of_range_is_pointed_at(served: MakeApp, tmp_path: Any, path: str) -> None:
    NUMBERS.to_csv(tmp_path / "sample.csv", index=False)
    fitted = LinearRegression().fit(NUMBERS, NUMBERS["bmi"])
    app = served(fitted, sample=str(tmp_path / "sample.csv"), out_of_range="reject")
    expected = [({"instances": ROWS}, "#/instances/1/1"), ({"instances": RECORDS}, "#/instances/1/age")]
    if path in ("/predict", "/invocations"):
        expected += [(ROWS, "#/1/1"), (RECORDS, "#/1/age")]
    for body, pointer in expected:
        answer = post(app, path, json.dumps(body))
        assert answer.status in {400, 422}
        assert re.findall(r"#[^\s\"]*", answer.content.decode()) == [pointer]
    content = io.BytesIO()
    np.save(content, np.array(ROWS))
    if path == "/invocations":
        answer = post(
            app, path, content.getvalue(), {"Content-Type": "application/x-npy", "Accept": "application/json"}
        )
        assert "#/instances/1/1 must be" in answer.document["message"]
