"""Tests of models with other inputs than numbers and text: packed, served, refused and documented end to end."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pytest
from flask import Flask
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from app.signature.images import RAISED_BY
from tests.wire.conftest import MakeApp
from tests.wire.exchange import check, get, post

pytestmark = pytest.mark.slow


def predicted(app: Flask, body: Any) -> Any:
    answer = post(app, "/predict", json.dumps(body))
    check(answer)
    assert answer.status == 200, answer.content
    return answer.document["prediction"]


def refused(app: Flask, body: Any) -> dict[str, str]:
    """Return the details of the errors by pointer."""
    answer = post(app, "/predict", json.dumps(body))
    check(answer)
    assert answer.status == 422, answer.content
    return {each["pointer"]: each["detail"] for each in answer.document["errors"]}


def documented(app: Flask) -> Any:
    """Return the schema of a record, after checking that each example is true and fits its schema."""
    document = get(app, "/openapi.json").document
    content = document["paths"]["/models/model/predict"]["post"]["requestBody"]["content"]["application/json"]
    whole = {**content["schema"], "components": document["components"]}
    assert content["examples"]
    for example in content["examples"].values():
        jsonschema.Draft202012Validator(whole).validate(example["value"])
        assert predicted(app, example["value"]) is not None
    assert get(app, "/", {"Accept": "text/html"}).status == 200
    return document["components"]["schemas"]["model.record"]


def hours(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the model's view of a time."""
    return pd.DataFrame({"hour": frame["when"].dt.hour.fillna(-1), "year": frame["when"].dt.year.fillna(-1)})


def big(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the last digit, which requires exact integers."""
    if str(frame["number"].dtype) != "Int64":
        raise TypeError("it was Int64 in training")
    return (frame[["number"]] % 10).fillna(-1).astype(float)


@pytest.mark.parametrize("zone", [None, "Europe/Berlin"])
def test_a_model_that_takes_a_timestamp(served: MakeApp, tmp_path: Path, zone: str | None) -> None:
    frame = pd.DataFrame({"when": pd.date_range("2024-03-30T20:30", periods=48, freq="h", tz=zone)})
    model = make_pipeline(FunctionTransformer(hours), LinearRegression()).fit(frame, frame["when"].dt.hour)
    frame.to_parquet(tmp_path / "sample.parquet")
    app = served(model, sample=str(tmp_path / "sample.parquet"))
    hour = 12 if zone is None else 14
    for sent in ("2024-07-01T12:00:00Z", "2024-07-01T14:00:00+02:00", "2024-07-01 12:00", 1719835200, 1719835200.0):
        assert predicted(app, {"when": sent}) == pytest.approx([hour])
    errors = refused(app, {"instances": [{"when": "noon"}, {"when": 1e30}, ["2024-07-01"], [True]]})
    assert list(errors) == ["#/instances/0/when", "#/instances/1/when", "#/instances/3/0"]
    schema = documented(app)
    assert types_of(schema["properties"]["when"]) - {"null"} == {"string", "number"}
    assert schema["properties"]["when"]["example"].startswith("2024-03-30T20:30:00")


def test_nullable_integers_stay_integers(served: MakeApp, tmp_path: Path) -> None:
    frame = pd.DataFrame({"number": pd.array([1, 2, 3, None, 5, 6, 7, 8], dtype="Int64")})
    model = make_pipeline(FunctionTransformer(big), LinearRegression()).fit(frame, big(frame)["number"])
    frame.to_parquet(tmp_path / "sample.parquet")
    app = served(model, sample=str(tmp_path / "sample.parquet"))
    large = 2**53 + 1
    assert predicted(app, {"number": large}) == pytest.approx([large % 10])
    assert predicted(app, {"instances": [[large], [None], [4.0]]}) == pytest.approx([large % 10, -1, 4])
    assert predicted(app, [{"number": large}, {"number": None}]) == pytest.approx([large % 10, -1])
    documented(app)


DIGITS = load_digits()


def fitted() -> Any:
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
    return model.fit(DIGITS.data[:500], DIGITS.target[:500])


@pytest.fixture
def digits(served: MakeApp, tmp_path: Path) -> Any:
    """Make a service of the digits, fitted on an unnamed matrix, with declared inputs."""

    def make(*inputs: dict[str, Any], sample: bool = True, **settings: Any) -> Flask:
        model = fitted()
        (tmp_path / "inputs.json").write_text(json.dumps(inputs))
        pd.DataFrame(DIGITS.data[:500]).to_csv(tmp_path / "sample.csv", index=False)
        options = {"inputs": str(tmp_path / "inputs.json")}
        rows = str(tmp_path / "sample.csv") if sample else None
        return served(model, sample=rows, options=options, **settings)

    return make


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def npy(array: Any) -> str:
    stream = io.BytesIO()
    np.save(stream, array)
    return b64(stream.getvalue())


def png(array: Any, form: str = "PNG") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(array).save(stream, form, **({"lossless": True} if form == "WEBP" else {}))
    return stream.getvalue()


@pytest.mark.parametrize("runtime", ["auto", "artifact"])
@pytest.mark.parametrize("sample", [True, False])
def test_a_model_that_takes_an_array(digits: Any, runtime: str, sample: bool) -> None:
    spec = {"name": "pixels", "kind": "array", "shape": [8, 8], "dtype": "float64"}
    app = digits(spec, sample=sample, runtime=runtime)
    described = get(app, "/models/model").document
    assert described["runtime"] == ("graph" if runtime == "auto" else "artifact")
    image = DIGITS.images[3]
    small = image.astype("float32")
    forms: list[Any] = [
        image.tolist(),
        {"b64": b64(image.tobytes())},
        {"b64": b64(small.tobytes()), "dtype": "float32", "shape": [8, 8]},
        {"b64": b64(image.astype("uint8").tobytes()), "dtype": "|u1"},
        {"npy": npy(image)},
        {"npy": npy(np.asfortranarray(small))},
    ]
    answers = predicted(app, {"instances": [{"pixels": form} for form in forms]})
    assert answers == [int(DIGITS.target[3])] * len(forms)
    errors = refused(
        app,
        {
            "instances": [
                {"pixels": image[:7].tolist()},
                [[*image.tolist()[:7], [1.0]]],
                [{"b64": b64(image.tobytes()), "shape": [4, 16]}],
                [{"b64": b64(image.tobytes()[:-1])}],
                [{"b64": b64(image.astype(">f8").tobytes()), "dtype": ">f8"}],
                [{"npy": npy(image.astype(complex))}],
                [{"npy": "%%%"}],
                [[[None] * 8] * 8],
                "pixels",
            ]
        },
    )
    expected = [f"#/instances/{row}/{'pixels' if row == 0 else 0}" for row in range(8)]
    assert list(errors) == [*expected, "#/instances/8"]
    documented(app)


def test_a_model_that_takes_an_image(digits: Any) -> None:
    spec = {"name": "image", "kind": "image", "mode": "L", "size": [8, 8], "divisor": 15.9375}
    app = digits(spec)
    assert get(app, "/models/model").document["runtime"] == "graph"
    pixels = np.rint(DIGITS.images[:20] * 15.9375).astype(np.uint8)
    wanted = fitted().predict(pixels.reshape(20, 64) / 15.9375).tolist()
    assert predicted(app, {"instances": [{"image": b64(png(each))} for each in pixels]}) == wanted
    url = "data:image/png;base64," + b64(png(pixels[4]))
    assert predicted(app, {"image": url}) == predicted(app, {"image": {"b64": b64(png(pixels[4], "WEBP"))}}) == [4]
    large = np.kron(pixels[4], np.ones((10, 10), dtype=np.uint8))
    assert predicted(app, {"image": b64(png(large))}) == [4]
    errors = refused(app, {"instances": [{"image": b64(png(pixels[4])[:-30])}, ["hello"], [4], [None]]})
    assert list(errors) == ["#/instances/0/image", *(f"#/instances/{row}/0" for row in (1, 2, 3))]
    schema = documented(app)
    assert types_of(schema["properties"]["image"]) == {"string", "object"}


def test_no_image_takes_more_than_its_share(digits: Any) -> None:
    spec = {"name": "image", "kind": "image", "mode": "L", "size": [8, 8]}
    app = digits(spec, image_pixel_limit=1000)
    bomb = png(np.zeros((40, 26), dtype=np.uint8))
    assert refused(app, {"image": b64(bomb)}) == {"#/image": f"must have at most 1000 pixels{RAISED_BY}, not 26 by 40"}
    large = b64(png(np.kron(np.uint8(DIGITS.images[3]), np.ones((4, 3), dtype=np.uint8))))  # 768 pixels
    detail = f"is one too many: the images of a request must have at most 4000 pixels together{RAISED_BY}"
    assert refused(app, {"instances": [[large]] * 8}) == {"#/instances/5/0": detail}
    stream = "\n".join([json.dumps([large]), "[null]", *[json.dumps({"image": large})] * 8]).encode()
    answer = post(app, "/predict", stream, {"Content-Type": "application/x-ndjson"})
    answers = [json.loads(line).get("prediction", "error") for line in answer.content.splitlines()]
    assert answers == [answers[0], "error", *[answers[0]] * 8] == [3, "error", *[3] * 8]


def test_numbers_beside_an_array(digits: Any) -> None:
    app = digits(
        {"name": "top", "kind": "array", "shape": [63]},
        {"name": "last", "kind": "number"},
        out_of_range="warn",
    )
    row = DIGITS.data[5].tolist()
    answer = post(app, "/predict", json.dumps({"top": [*row[:62], 99.0], "last": row[63]}))
    assert [w["pointer"] for w in answer.document["warnings"]] == ["#/top"]
    documented(app)


WEATHER = [{"city": "Rome", "sun": 9.0}, {"city": "Oslo"}, {"city": "Rome", "wind": 3.0}, {"sun": 2.0, "wind": 1.0}]


@pytest.mark.parametrize("sample", [True, False])
def test_a_model_that_takes_records_whole(served: MakeApp, tmp_path: Path, sample: bool) -> None:
    model = make_pipeline(DictVectorizer(), LinearRegression()).fit(WEATHER, [1.0, 2.0, 3.0, 4.0])
    (tmp_path / "sample.json").write_text(json.dumps(WEATHER))
    app = served(model, sample=str(tmp_path / "sample.json") if sample else None)
    assert get(app, "/models/model").document["runtime"] == "artifact"
    assert predicted(app, WEATHER[1]) == pytest.approx([2.0])
    assert predicted(app, {"instances": WEATHER}) == pytest.approx([1.0, 2.0, 3.0, 4.0])
    assert predicted(app, [[WEATHER[2]], {"city": "Rome", "wind": 3, "never seen": "x"}]) == pytest.approx([3.0, 3.0])
    assert list(refused(app, {"instances": [{"city": [1]}, "Rome"]})) == ["#/instances/0/city", "#/instances/1"]
    documented(app)


def test_dotted_names_may_be_sent_as_objects(served: MakeApp, tmp_path: Path) -> None:
    frame = pd.DataFrame({"size.width": [1.0, 2, 3, 4], "size.height": [1.0, 3, 2, 4], "age": [1.0, 1, 2, 2]})
    frame.to_csv(tmp_path / "sample.csv", index=False)
    app = served(LinearRegression().fit(frame, frame["age"]), sample=str(tmp_path / "sample.csv"))
    nested = {"size": {"width": 1, "height": 3}, "age": 1}
    assert predicted(app, nested) == predicted(app, {"size.width": 1, "size.height": 3, "age": 1})
    assert list(refused(app, {"size": {"width": "1"}, "age": 1})) == ["#/size/width", "#/size/height"]
    schema = documented(app)
    document = get(app, "/openapi.json").document
    jsonschema.Draft202012Validator({**schema, "components": document["components"]}).validate(nested)


def types_of(schema: dict[str, Any]) -> set[str]:
    """Return the JSON types of the values that a schema allows."""
    return {each["type"] for each in schema.get("anyOf", schema.get("oneOf", [schema]))}
