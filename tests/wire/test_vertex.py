"""Tests of Vertex AI's contract: its corpus, and the routes that the platform may choose."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from flask import Flask

from app import create_app
from app.settings import Settings
from tests.wire.conftest import MODELS, MakeApp
from tests.wire.corpora import check_invalid, check_valid, names
from tests.wire.exchange import check, get, post

PROTOCOL = "vertex"
ROUTE = "/v1/endpoints/1/deployedModels/2"
ROWS = json.dumps({"instances": [[5.1, 3.5], [6.3, 2.9]]})
PREDICTIONS = {"predictions": [0, 2]}


@pytest.mark.filterwarnings("ignore:.*encountered in:RuntimeWarning")
@pytest.mark.parametrize("name", names(PROTOCOL, "valid"))
def test_a_valid_request_gets_the_expected_answer(app: Flask, name: str) -> None:
    check_valid(app, PROTOCOL, name)


@pytest.mark.parametrize("name", names(PROTOCOL, "invalid"))
def test_an_invalid_request_gets_the_expected_error(app: Flask, name: str) -> None:
    check(check_invalid(app, PROTOCOL, name))


@pytest.mark.slow
@pytest.mark.parametrize("health", ["/ping", "/health", "/readyz", "/livez", "/", "/vertex/health", f"{ROUTE}:health"])
def test_health_is_asked_at_any_route(tmp_path: Path, iris_two: MakeApp, health: str) -> None:
    app = iris_two(aip_health_route=health)
    assert get(app, health).document == {"status": "ready"}
    assert get(app, ROUTE).document == {"status": "ready"}
    shutil.rmtree(tmp_path / "models")
    shutil.copytree(MODELS / "iris-two", tmp_path / "models" / "iris-two")
    for artifact in (tmp_path / "models" / "iris-two" / "1").glob("model.*"):
        artifact.write_bytes(b"damaged")
    damaged = get(create_app(Settings(models_dir=tmp_path / "models", aip_health_route=health)), health)
    assert damaged.status == 503
    check(damaged)


@pytest.mark.slow
@pytest.mark.parametrize(
    "predict",
    ["/predict", "/models/iris-two/predict", "/invocations", f"{ROUTE}:predict", "/v1/models/iris-two:predict"],
)
def test_predictions_are_asked_at_any_route(iris_two: MakeApp, predict: str) -> None:
    app = iris_two(aip_predict_route=predict)
    assert post(app, predict, ROWS).document == PREDICTIONS
    assert post(app, f"{ROUTE}:predict", ROWS).document == PREDICTIONS
    refused = post(app, predict, json.dumps({"instances": [[5.1, "x"]]}))
    assert refused.status == (
        400 if predict.startswith(("/invocations", "/v1/models/")) else 422
    )  # errors have the format of the path


def test_predict_stays_if_the_platform_chooses_another_route(iris_two: MakeApp) -> None:
    app = iris_two(aip_predict_route=f"{ROUTE}:predict")
    assert post(app, "/predict", ROWS).document["prediction"] == [0, 2]


def test_the_port_is_the_platforms() -> None:
    assert Settings.from_environ({"AIP_HTTP_PORT": "8081", "PORT": "9000"}).bind == "0.0.0.0:8081"
    assert Settings.from_environ({"PORT": "9000"}).bind == "0.0.0.0:9000"


@pytest.mark.parametrize("route", ["predict", "/a b", "/<model>", "//", "/a/", "/a?b"])
def test_an_invalid_route_is_refused(route: str) -> None:
    from app.errors import InvalidSettings

    with pytest.raises(InvalidSettings, match="must be the path of a URL"):
        Settings.from_environ({"AIP_PREDICT_ROUTE": route})
