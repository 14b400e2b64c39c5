"""Tests of /openapi.json: a valid document in which each model is an operation with its fields and true examples."""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import joblib
import jsonschema
import numpy as np
import pandas as pd
import pytest
from flask import Flask
from flask.views import MethodView
from flask_smorest import Api, Blueprint
from openapi_spec_validator import validate
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.multioutput import MultiOutputClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from app import create_app
from app.runtime.proving import same
from app.settings import Settings
from app.signature import Signature
from app.wire.openapi.operation_ids import name_operations
from app.wire.openapi.schemas import model_schemas
from tests.storage.versions import edit
from tests.wire.codecs.estimators import served as every_kind_in
from tests.wire.conftest import MODELS, MakeApp
from tests.wire.exchange import check, get, post

NAMES = ["diabetes", "digits", "digits-image", "iris-two", "penguins"]
PREDICTING = ["/predict", "/models/{model}/predict", *(f"/models/{name}/predict" for name in NAMES)]


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    answer = get(app, "/openapi.json")
    check(answer)
    found: dict[str, Any] = answer.document
    return found


def body_of(document: dict[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    return found


def accepts(document: dict[str, Any], name: str, instance: object) -> bool:
    """Return whether the schema of one record of a model allows this."""
    schema = {**record_schema(document, name), "components": document["components"]}
    return bool(jsonschema.Draft202012Validator(schema).is_valid(instance))


def record_schema(document: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the schema of one record of a model."""
    found: dict[str, Any] = follow(document, body_of(document, f"/models/{name}/predict")["schema"]["oneOf"][0])
    return found


def follow(document: dict[str, Any], schema: dict[str, Any]) -> Any:
    if "$ref" not in schema:
        return schema
    found: Any = document
    for step in schema["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return found


@pytest.mark.slow
def test_the_document_is_valid_openapi(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_each_model_is_an_operation(document: dict[str, Any]) -> None:
    operations = [document["paths"][f"/models/{name}/predict"]["post"] for name in NAMES]
    assert [operation["summary"] for operation in operations] == [f"Predict with {name}" for name in NAMES]
    ids = [operation["operationId"] for operation in operations]
    assert len(set(ids)) == len(ids)
    for operation in operations:
        assert {"200", "400", "404", "406", "413", "415", "422", "503"} <= set(operation["responses"])


OTHER_PROTOCOLS = (
    "/v1/",
    "/v2",
    "/ping",
    "/health",
    "/version",
    "/invocations",
    "/endpoints/",
    "/execution-parameters",
)
"""Paths of other protocols, which docs/protocols.md lists. A test compares them with the served paths."""


def test_a_model_that_cannot_be_documented_does_not_take_the_documentation_of_others(
    app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def schemas(key: str, signature: Signature) -> Any:
        if "diabetes" in key.lower():
            raise ValueError("nobody expects this")
        return model_schemas(key, signature)

    monkeypatch.setattr("app.wire.openapi.model_schemas", schemas)
    answer = get(app, "/openapi.json")
    check(answer)
    assert "/models/penguins/predict" in answer.document["paths"]
    assert "/models/diabetes/predict" not in answer.document["paths"]
    assert "model diabetes cannot be documented" in caplog.text


def test_every_served_path_is_documented(document: dict[str, Any]) -> None:
    assert {path for path in document["paths"] if not path.startswith(OTHER_PROTOCOLS)} == {
        *(f"/models/{name}/predict" for name in NAMES),
        "/predict",
        "/models/{model}/predict",
        "/models/{model}/versions/{version}/predict",
        "/models",
        "/models/{model}",
        "/models/{model}/versions/{version}",
        "/livez",
        "/readyz",
        "/metrics",
        "/jobs",
        "/jobs/{job}",
        "/jobs/{job}/result",
        "/jobs/{job}/rejects",
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_fields_are_those_of_the_model(document: dict[str, Any], manifests: dict[str, Any], name: str) -> None:
    schema, inputs = record_schema(document, name), manifests[name]["signature"]["inputs"]
    assert list(schema["properties"]) == [each["name"] for each in inputs]
    assert schema["required"] == [each["name"] for each in inputs]
    assert schema["additionalProperties"] is False
    for each in inputs:
        field = schema["properties"][each["name"]]
        types = [choice["type"] for choice in field.get("oneOf", [field])]
        assert ("null" in types or "null" in types[0]) is each["nullable"]
        assert field["example"] == each["example"]
        if each["minimum"] is not None:
            assert f"seen in training: {each['minimum']:g} to {each['maximum']:g}" in field["description"]


def test_types_categories_and_nulls(document: dict[str, Any]) -> None:
    fields = record_schema(document, "penguins")["properties"]
    assert set(fields["year"]["type"]) == {"integer", "null"}
    assert set(fields["bill_length_mm"]["type"]) == {"number", "null"}
    assert set(fields["island"]["type"]) == {"string", "null"}
    assert [each for each in fields["island"]["enum"] if each is not None] == ["Biscoe", "Dream", "Torgersen"]
    assert record_schema(document, "iris-two")["properties"]["feature1"]["type"] == "number"


@pytest.mark.parametrize("changed", ["island", "sex", "year", "bill_length_mm"])
@pytest.mark.parametrize("value", [None, "Mars", "Dream", "male", 2008, 2008.5, True, [], 41.1])
def test_the_schema_allows_what_the_server_accepts(
    app: Flask, document: dict[str, Any], manifests: dict[str, Any], changed: str, value: object
) -> None:
    record = manifests["penguins"]["examples"][0]["instance"] | {changed: value}
    status = post(app, "/predict", json.dumps(record)).status
    assert (status == 200) is accepts(document, "penguins", record)


@pytest.mark.parametrize("name", NAMES)
def test_the_schema_refuses_what_lacks_or_adds_a_field(
    document: dict[str, Any], manifests: dict[str, Any], name: str
) -> None:
    record = manifests[name]["examples"][0]["instance"]
    assert accepts(document, name, record)
    assert not accepts(document, name, record | {"another": 1})
    assert not accepts(document, name, dict(list(record.items())[1:]))


@pytest.mark.parametrize("path", ["/predict", *(f"/models/{name}/predict" for name in NAMES)])
def test_every_example_is_true(app: Flask, document: dict[str, Any], manifests: dict[str, Any], path: str) -> None:
    name = path.split("/")[2] if path != "/predict" else "penguins"
    recorded = manifests[name]["examples"]
    body = body_of(document, path)
    whole = {**body["schema"], "components": document["components"]}
    assert set(body["examples"]) == {"record", "records", "rows"}
    for example in body["examples"].values():
        jsonschema.Draft202012Validator(whole).validate(example["value"])
        answer = post(app, path, json.dumps(example["value"]))
        assert answer.status == 200, answer.content
        got = answer.document
        for output in recorded[0]["outputs"]:
            assert same([each["outputs"][output] for each in recorded[: len(got[output])]], got[output])


@pytest.mark.parametrize("path", ["/invocations", "/v1/endpoints/{endpoint}/deployedModels/{deployed}:predict"])
def test_examples_of_other_protocols_are_true(app: Flask, document: dict[str, Any], path: str) -> None:
    body = body_of(document, path)
    whole = {**body["schema"], "components": document["components"]}
    assert list(body["examples"]) == ["records"]
    for example in body["examples"].values():
        jsonschema.Draft202012Validator(whole).validate(example["value"])
        answer = post(app, path.format(endpoint="1", deployed="2"), json.dumps(example["value"]))
        assert answer.document == {"predictions": ["Adelie", "Adelie", "Gentoo"]}


@pytest.mark.parametrize("path", PREDICTING)
def test_every_example_of_another_media_type_is_true(
    app: Flask, document: dict[str, Any], manifests: dict[str, Any], path: str
) -> None:
    name = path.split("/")[2] if path.endswith(tuple(f"/{each}/predict" for each in NAMES)) else "penguins"
    content = document["paths"][path]["post"]["requestBody"]["content"]
    recorded = [each["outputs"]["prediction"] for each in manifests[name]["examples"]]
    for media_type in ("text/csv", "application/x-ndjson"):
        headers = {"Content-Type": media_type, "Accept": "application/json"}
        asked = post(app, path.format(model="penguins"), content[media_type]["example"], headers)
        assert same(recorded[:3], asked.document["prediction"])


@pytest.mark.parametrize("name", NAMES)
def test_the_example_of_a_form_is_true(
    app: Flask, document: dict[str, Any], manifests: dict[str, Any], name: str
) -> None:
    form = document["paths"][f"/models/{name}/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]
    inputs, fields = manifests[name]["signature"]["inputs"], form["schema"]["properties"]
    assert [*fields] == form["schema"]["required"] == [each["name"] for each in inputs]
    first = manifests[name]["examples"][0]
    if name == "digits-image":  # a file has no example
        assert fields["image"].keys() == {"type", "format", "description"}
        assert (fields["image"]["type"], fields["image"]["format"]) == ("string", "binary")
        sent: dict[str, Any] = {"image": (io.BytesIO(base64.b64decode(first["instance"]["image"])), "digit.png")}
    else:
        sent = {name: str(field["example"]) for name, field in fields.items()}
        for field in fields.values():
            jsonschema.Draft202012Validator(field).validate(field["example"])
    answer = app.test_client().post(f"/models/{name}/predict", data=sent, content_type="multipart/form-data")
    assert same([first["outputs"]["prediction"]], answer.get_json()["prediction"])


@pytest.mark.parametrize("path", PREDICTING)
def test_the_example_of_an_answer_is_the_answer(app: Flask, document: dict[str, Any], path: str) -> None:
    asked = body_of(document, path)["examples"]
    content = document["paths"][path]["post"]["responses"]["200"]["content"]
    schema = follow(document, content["application/json"]["schema"])
    assert asked.keys() > content["application/json"]["examples"].keys() == {"record", "records"}
    for name, example in content["application/json"]["examples"].items():
        answer = post(app, path.format(model="penguins"), json.dumps(asked[name]["value"])).document
        jsonschema.Draft202012Validator(schema).validate(example["value"])
        assert [*example["value"]] == [*answer]
        assert all(same(value, answer[member]) for member, value in example["value"].items())
    for media_type in ("text/csv", "application/x-ndjson"):
        headers = {"Content-Type": "application/json", "Accept": media_type}
        told = post(app, path.format(model="penguins"), json.dumps(asked["records"]["value"]), headers).content
        lines, shown = told.decode().splitlines(), content[media_type]["example"].splitlines()
        assert len(lines) == len(shown)
        assert lines[0] == shown[0] or media_type != "text/csv"


@pytest.mark.parametrize("name", NAMES)
def test_an_answer_has_the_outputs_of_the_model(
    app: Flask, document: dict[str, Any], manifests: dict[str, Any], name: str
) -> None:
    content = document["paths"][f"/models/{name}/predict"]["post"]["responses"]["200"]["content"]
    schema = follow(document, content["application/json"]["schema"])
    signature = manifests[name]["signature"]
    beside = {"model", "version", "warnings", "warnings_more"} | ({"classes"} if signature["classes"] else set())
    outputs = [*signature["outputs"], "explanation"]
    assert schema["properties"].keys() == {*outputs, *beside}
    first = manifests[name]["examples"][0]["instance"]
    body = {"instances": [first], "outputs": outputs}
    answer = post(app, f"/models/{name}/predict", json.dumps(body)).document
    jsonschema.Draft202012Validator(schema).validate(answer)


def test_each_error_has_its_own_example(app: Flask, document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for operation in (each for each in operations.values() if isinstance(each, dict)):
            for status, response in operation["responses"].items():
                for media_type, told in response["content"].items() if status >= "400" else ():
                    if media_type != "application/problem+json":
                        continue
                    example = told["example"]
                    jsonschema.Draft202012Validator(follow(document, told["schema"])).validate(example)
                    assert str(example["status"]) == status.replace("default", "500"), path
                    assert example["type"] != "/problems/"
    shown = document["paths"]["/predict"]["post"]["responses"]
    answer = post(app, "/predict", json.dumps({"instances": [PENGUIN | {"island": "n/a"}]}))
    told = shown["422"]["content"]["application/problem+json"]["example"]
    assert answer.document | {"request_id": ""} == told | {"request_id": ""}
    absent = get(app, "/models/penguins-2").document
    told = shown["404"]["content"]["application/problem+json"]["example"]
    assert (absent["type"], absent["title"]) == (told["type"], told["title"])


def test_rows_name_their_values(document: dict[str, Any]) -> None:
    record, row = follow(document, follow(document, body_of(document, "/predict")["schema"]["oneOf"][2])["items"])[
        "anyOf"
    ]
    assert [*follow(document, record)["properties"]] == IN_ORDER
    assert [each["description"] for each in follow(document, row)["prefixItems"]] == IN_ORDER


def test_the_default_model_comes_first_and_other_protocols_last(document: dict[str, Any]) -> None:
    assert next(iter(document["paths"])) == "/models/penguins/predict"
    tags = [each["name"] for each in document["tags"]]
    assert tags[:5] == ["penguins", "diabetes", "digits", "digits-image", "iris-two"]
    assert tags[5:10] == ["predict", "models", "health", "metrics", "jobs"]
    assert {"vertex", "open_inference", "tensorflow_serving", "invocations"} == set(tags[10:])
    assert [each["name"] for each in document["x-tagGroups"]] == ["Models", "Retort", "Protocols of other servers"]
    assert [tag for each in document["x-tagGroups"] for tag in each["tags"]] == tags
    assert document["tags"][0]["externalDocs"]["url"] == "./models/penguins"
    assert document["paths"]["/models/penguins/predict"]["post"]["tags"] == ["penguins"]
    variants = body_of(document, "/predict")["schema"]["oneOf"]
    assert [each["title"] for each in variants] == ["one record", "instances", "a list of instances"]


def test_a_64_bit_width_is_a_format(document: dict[str, Any]) -> None:
    year = record_schema(document, "penguins")["properties"]["year"]
    assert year["format"] == "int64"
    assert not {"minimum", "maximum"} & year.keys()


PENGUIN = {"island": "Dream", "sex": None, "year": 2008} | dict.fromkeys(
    ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"), 40.0
)
IN_ORDER = ["island", "bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g", "sex", "year"]
A_ROW = [PENGUIN[name] for name in IN_ORDER]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        ([A_ROW, PENGUIN], 200),
        ({"instances": [PENGUIN], "params": {"outputs": ["probabilities"]}}, 200),
        ({"inputs": PENGUIN}, 200),
        ({"inputs": {name: [value] for name, value in PENGUIN.items()}, "of": "no concern"}, 200),
        ({"dataframe_records": [PENGUIN], "params": None}, 200),
        ({"dataframe_split": {"columns": IN_ORDER, "index": [7], "data": [A_ROW]}}, 200),
        ({"dataframe_split": {"data": [A_ROW]}}, 200),
        ([A_ROW[:-1]], 400),
        ([[*A_ROW[:-1], 2008.5]], 400),
        ({"instances": [PENGUIN], "inputs": [PENGUIN]}, 400),
        ({"instances": [PENGUIN], "signature_name": "a"}, 400),
        ({"instances": [PENGUIN], "params": {"outputs": ["nothing"]}}, 400),
        ({"dataframe_split": {"data": [A_ROW], "rows": 1}}, 400),
        ({"inputs": {"island": ["Dream"]}}, 400),
        (PENGUIN, 400),
    ],
)
def test_the_schema_of_invocations_allows_what_the_server_accepts(
    app: Flask, document: dict[str, Any], sent: object, status: int
) -> None:
    schema = {**body_of(document, "/invocations")["schema"], "components": document["components"]}
    assert post(app, "/invocations", json.dumps(sent)).status == status
    assert jsonschema.Draft202012Validator(schema).is_valid(sent) is (status == 200)


@pytest.mark.parametrize(
    "path",
    [
        "/models/{model}",
        "/models/{model}/predict",
        "/v1/models/{model}",
        "/v2/models/{model}",
        "/v2/models/{model}/infer",
        "/endpoints/{model}/invocations",
        "/v1/endpoints/{endpoint}/deployedModels/{deployed}:predict",
    ],
)
def test_an_error_is_documented_in_the_form_that_it_has(app: Flask, document: dict[str, Any], path: str) -> None:
    (operation,) = [each for each in document["paths"][path].values() if isinstance(each, dict)]
    asked = path.format(model="nope", endpoint="1", deployed="2")
    answer = post(app, asked, "[1") if "post" in document["paths"][path] else get(app, asked)
    media_type = answer.headers["Content-Type"]
    for told in (operation["responses"][str(answer.status)], operation["responses"]["default"]):
        assert list(told["content"]) == [media_type]
        schema = follow(document, told["content"][media_type]["schema"])
        jsonschema.Draft202012Validator(schema).validate(answer.document)


@pytest.mark.parametrize("name", NAMES)
def test_the_estimator_itself_gives_what_the_first_example_shows(document: dict[str, Any], name: str) -> None:
    """Compare the estimator in the data scientist's file with the document, without the server."""
    estimator = joblib.load(MODELS / name / "1" / "model.joblib")
    record = body_of(document, f"/models/{name}/predict")["examples"]["record"]["value"]
    named = hasattr(estimator, "feature_names_in_")
    frame = pd.DataFrame([record]) if named else np.array([list(record.values())])
    if name == "digits-image":
        png = Image.open(io.BytesIO(base64.b64decode(record["image"])))
        frame = np.asarray(png, dtype=float).reshape(1, 64) / 15.9375
    manifest = json.loads((MODELS / name / "1" / "manifest.json").read_text("utf-8"))
    assert estimator.predict(frame).tolist() == [pytest.approx(manifest["examples"][0]["outputs"]["prediction"])]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["Prediction", "Problem", "Error", "PaginationMetadata", "a.b-c_d", "predict", "livez"]
)
def test_a_model_may_have_the_name_of_a_view_or_schema(served: MakeApp, name: str) -> None:
    app = served(LogisticRegression().fit(np.array([[0.0, 1.0], [1.0, 0.0]]), [0, 1]), name)
    document = get(app, "/openapi.json").document
    validate(document)
    body = body_of(document, f"/models/{name}/predict")
    schema = {**body["schema"], "components": document["components"]}
    assert jsonschema.Draft202012Validator(schema).is_valid({"feature1": 1.0, "feature2": 2.0})
    assert not jsonschema.Draft202012Validator(schema).is_valid({"model": "x", "version": 1})
    answered = document["paths"][f"/models/{name}/predict"]["post"]["responses"]["200"]
    assert "prediction" in json.dumps(follow(document, answered["content"]["application/json"]["schema"]))


@pytest.mark.slow
def test_awkward_names_and_categories(served: MakeApp, tmp_path: Path) -> None:
    sample = tmp_path / "sample.csv"
    rows = pd.DataFrame({"größe / m": [1.5, 2.5, 1.0, 2.0], "a~b": ["x", "y", "x", "y"], "input_0": [1, 2, 3, 4]})
    rows.to_csv(sample, index=False)
    encoder = OneHotEncoder(handle_unknown="error")
    app = served(make_pipeline(encoder, LogisticRegression()).fit(rows, [0, 1, 0, 1]), sample=str(sample))
    document = get(app, "/openapi.json").document
    validate(document)
    assert list(record_schema(document, "model")["properties"]) == list(rows.columns)
    for example in body_of(document, "/models/model/predict")["examples"].values():
        assert post(app, "/models/model/predict", json.dumps(example["value"])).status == 200


@pytest.mark.slow
def test_targets_may_differ_in_their_number_of_classes(served: MakeApp) -> None:
    targets = [["a", "x"], ["b", "y"], ["c", "x"], ["a", "y"]]
    app = served(MultiOutputClassifier(LogisticRegression()).fit([[1.0], [2.0], [3.0], [4.0]], targets))
    document = get(app, "/openapi.json").document
    validate(document)
    for example in body_of(document, "/models/model/predict")["examples"].values():
        answer = post(app, "/models/model/predict", json.dumps(example["value"]), {"Accept": "text/csv"})
        assert answer.status == 200
        assert answer.content.startswith(
            b"prediction_0,prediction_1,probability_0_a,probability_0_b,probability_0_c,probability_1_x,"
        )


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Flask:
    """Models that together take every kind of input."""
    return every_kind_in(tmp_path_factory.mktemp("kinds"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["frame", "grid", "weather", "drops"])
def test_the_examples_of_every_kind_are_true(every_kind: Flask, name: str) -> None:
    document, path = get(every_kind, "/openapi.json").document, f"/models/{name}/predict"
    validate(document)
    operation = document["paths"][path]["post"]
    content, answered = operation["requestBody"]["content"], operation["responses"]["200"]["content"]
    for example in content["application/json"]["examples"].values():
        assert post(every_kind, path, json.dumps(example["value"])).status == 200
    schema = {**answered["application/json"]["schema"], "components": document["components"]}
    for key, example in answered["application/json"]["examples"].items():
        body = json.dumps(content["application/json"]["examples"][key]["value"])
        answer = post(every_kind, path, body).document
        assert answer.keys() == example["value"].keys()
        assert all(same(value, answer[member]) for member, value in example["value"].items())
        jsonschema.Draft202012Validator(schema).validate(example["value"])
    assert ("example" in content["text/csv"]) is (name in ("frame", "drops"))  # others have more than single values
    for media_type in ("text/csv", "application/x-ndjson"):
        if "example" in content[media_type]:
            answer = post(every_kind, path, content[media_type]["example"], {"Content-Type": media_type})
            assert answer.status == 200, answer.content


@pytest.mark.slow
@pytest.mark.parametrize("as_files", [False, True])
@pytest.mark.parametrize("name", ["frame", "grid", "weather", "drops"])
def test_a_form_of_every_kind_is_true(every_kind: Flask, name: str, as_files: bool) -> None:
    """With `as_files`, JSON is sent in a file, as browsers do."""
    document, path = get(every_kind, "/openapi.json").document, f"/models/{name}/predict"
    content = document["paths"][path]["post"]["requestBody"]["content"]
    first = content["application/json"]["examples"]["record"]["value"]
    form = content["multipart/form-data"]
    in_json = {"grid": ["array"], "weather": ["record"]}.get(name, [])
    assert form.get("encoding", {}) == {field: {"contentType": "application/json"} for field in in_json}
    sent: dict[str, Any] = {}
    for field, schema in form["schema"]["properties"].items():
        if schema.get("format") == "binary":
            sent[field] = (io.BytesIO(base64.b64decode(first[field])), "image.png")
        elif field not in in_json and first[field] is None:
            sent[field] = ""
        else:
            told = schema["example"]
            assert isinstance(told, str) or schema.get("type") != "string"
            sent[field] = told if isinstance(told, str) else json.dumps(told)
    if as_files:
        sent |= {field: (io.BytesIO(sent[field].encode()), "blob", "application/json") for field in in_json}
    answer = every_kind.test_client().post(path, data=sent, content_type="multipart/form-data")
    alone = post(every_kind, path, json.dumps(first)).document
    assert (answer.status_code, answer.get_json()) == (200, alone)


@pytest.mark.slow
def test_a_model_with_steps_has_no_example_answers(tmp_path: Path) -> None:
    shutil.copytree(MODELS / "iris-two", tmp_path / "iris")
    edit(tmp_path / "iris" / "1", model="iris", before=["enrich"], after=["score"])
    app = create_app(Settings(models_dir=tmp_path, steps="tests.wire.steps_module", database_url="sqlite://"))
    try:
        document = get(app, "/openapi.json").document
        validate(document)
        answered = document["paths"]["/models/iris/predict"]["post"]["responses"]["200"]["content"]["application/json"]
        assert "examples" not in answered
        schema = follow(document, answered["schema"])
        properties = schema["properties"]
        assert properties["prediction"]["items"] == {}  # a step may have made anything of it
        assert (properties["model"]["example"], properties["version"]["example"]) == ("iris", 1)
        answer = post(app, "/predict", '{"customer_id": 2, "feature2": 3.0}').document
        jsonschema.Draft202012Validator(schema).validate(answer)
        assert answer.keys() <= properties.keys()
    finally:
        app.extensions["retort_services"].close()


def operations(document: dict[str, Any]) -> list[dict[str, Any]]:
    return [each for path in document["paths"].values() for each in path.values() if isinstance(each, dict)]


def ids(document: dict[str, Any]) -> list[str]:
    return [operation["operationId"] for operation in operations(document)]


def test_every_operation_has_an_id_that_stays(app: Flask, document: dict[str, Any]) -> None:
    found = ids(document)
    assert all(re.fullmatch(r"[a-z][a-z0-9_]*", each) for each in found)
    assert len({each.replace("_", "") for each in found}) == len(found)  # generators write them in other cases
    assert found == ids(get(app, "/openapi.json").document)
    assert {"predict", "predict_with_model", "predict_penguins", "predict_digits_image", "list_models"} < {*found}
    assert {"invocations_ping", "invocations_ping_health", "open_inference_infer_versions"} < {*found}


def test_views_of_users_have_operation_ids() -> None:
    app = Flask("own")
    app.config.update(API_TITLE="Own", API_VERSION="1", OPENAPI_VERSION="3.1.0")
    blp = Blueprint("own", "orders")

    @blp.route("/orders")
    class Orders(MethodView):
        def get(self) -> str:
            return ""

        @blp.doc(operationId="place_order")
        def post(self) -> str:
            return ""

        def delete(self) -> str:
            return ""

    api = Api(app)
    api.register_blueprint(blp)
    found = name_operations(api.spec.to_dict()["paths"], app.url_map)
    assert found == ["own_Orders_get", "place_order", "own_Orders_delete"]


@pytest.mark.slow
def test_models_and_views_with_similar_names_have_distinct_ids(tmp_path: Path) -> None:
    for name in ("iris-two", "iris_two", "with-model", "9lives"):
        shutil.copytree(MODELS / "iris-two", tmp_path / name)
        edit(tmp_path / name / "1", model=name)
    document = get(create_app(Settings(models_dir=tmp_path)), "/openapi.json").document
    validate(document)
    assert ids(document)[:4] == ["predict_9lives", "predict_iris_two", "predict_iris_two_2", "predict_with_model_2"]
    assert {"iris-two.record", "iris_two-2.record"} < document["components"]["schemas"].keys()


def schemas_in(place: Any) -> Iterator[dict[str, Any]]:
    if isinstance(place, dict):
        yield place
        for name, below in place.items():
            if name not in ("example", "examples"):
                yield from schemas_in(below)
    elif isinstance(place, list):
        for below in place:
            yield from schemas_in(below)


@pytest.mark.slow
def test_schemas_are_readable_for_client_generators(every_kind: Flask, document: dict[str, Any]) -> None:
    for found in (document, get(every_kind, "/openapi.json").document):
        for schema in schemas_in(found):
            types = schema.get("type")
            if isinstance(types, list):
                assert len({*types} - {"null"}) == 1, schema
            if types == "array" or (isinstance(types, list) and "array" in types):
                assert "items" in schema
            assert "type" in schema or not isinstance(schema.get("enum"), list), schema


def media_types(operation: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the media types of an operation's body and of its response."""
    return [*operation["requestBody"]["content"]], [*operation["responses"]["200"]["content"]]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("query", "body", "answer"),
    [
        ("media=application/json", ["application/json"], ["application/json"]),
        ("media=Text/CSV", ["text/csv"], ["text/csv"]),
        ("media=application/jsonl", ["application/x-ndjson"], ["application/x-ndjson"]),
        (
            "media=multipart/form-data&media=application/json",
            ["application/json", "multipart/form-data"],
            ["application/json"],
        ),
    ],
)
def test_a_document_may_have_some_media_types_alone(
    app: Flask, document: dict[str, Any], query: str, body: list[str], answer: list[str]
) -> None:
    found = get(app, f"/openapi.json?{query}").document
    validate(found)
    assert ids(found) == ids(document)
    assert found["components"] == document["components"]
    for path in PREDICTING:
        operation, whole = found["paths"][path]["post"], document["paths"][path]["post"]
        assert media_types(operation) == (body, answer)
        for media_type in body:
            assert operation["requestBody"]["content"][media_type] == whole["requestBody"]["content"][media_type]
        assert operation["responses"]["422"] == whole["responses"]["422"]
    assert found["paths"]["/metrics"] == document["paths"]["/metrics"]  # it has only another media type


def test_a_form_alone_leaves_the_answers_as_they_are(app: Flask, document: dict[str, Any]) -> None:
    operation = get(app, "/openapi.json?media=multipart/form-data").document["paths"]["/predict"]["post"]
    whole = document["paths"]["/predict"]["post"]
    assert media_types(operation) == (["multipart/form-data"], media_types(whole)[1])


@pytest.mark.parametrize("media", ["text/html", "", "application/json; q=1"])
def test_an_unknown_media_type_is_refused_with_the_known_ones(app: Flask, media: str) -> None:
    answer = get(app, f"/openapi.json?media=application/json&media={quote(media)}")
    check(answer)
    assert answer.status == 400
    assert answer.document["detail"].startswith(f"the query parameter media is {media!r}; allowed: application/")
    assert "text/csv" in answer.document["detail"]


@pytest.mark.slow
def test_a_server_without_models_has_a_document_too(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    document = get(create_app(Settings(models_dir=tmp_path / "models")), "/openapi.json").document
    validate(document)
    assert "/predict" in document["paths"]
