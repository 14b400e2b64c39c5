"""Tests of the Open Inference Protocol with tritonclient and KServe's client, unmodified, and two workers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import joblib
import pytest
from sklearn.pipeline import Pipeline

from tests.clients.venvs import said_by
from tests.end_to_end.process import EXAMPLE_MODELS, Server, serving

pytestmark = [pytest.mark.server, pytest.mark.any_worker]

ROWS = [[5.1, 3.5], [6.0, 2.2], [7.0, 3.0]]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("clients"), WEB_CONCURRENCY=2) as started:
        started.all_workers(2)
        yield started


@pytest.fixture(scope="module")
def estimator() -> Pipeline:
    return joblib.load(EXAMPLE_MODELS / "iris-two" / "1" / "model.joblib")


@pytest.fixture(scope="module")
def triton(server: Server) -> Any:
    return said_by("tritonclient", "tritonclient_v2", f"127.0.0.1:{server.port}")


@pytest.fixture(scope="module")
def kserve(server: Server) -> Any:
    return said_by("kserve", "kserve_v2", server.root)


def test_triton_asks_whether_server_and_model_are_ready(triton: Any) -> None:
    assert (triton["live"], triton["ready"], triton["model_ready"]) == (True, True, [True, True])
    assert triton["no_model_ready"] == [False, False]
    assert triton["server"]["name"] == "retort"
    assert "binary_tensor_data" in triton["server"]["extensions"]


def test_triton_reads_the_metadata(triton: Any) -> None:
    assert triton["metadata"]["inputs"] == [
        {"name": f"feature{number}", "datatype": "FP64", "shape": [-1, 1]} for number in (1, 2)
    ]
    assert triton["metadata"]["outputs"][:2] == [
        {"name": "prediction", "datatype": "INT64", "shape": [-1]},
        {"name": "probabilities", "datatype": "FP64", "shape": [-1, 3]},
    ]
    assert triton["metadata"]["versions"] == ["1"]
    assert triton["config"]["output"][1] == {"name": "probabilities", "data_type": "TYPE_FP64", "dims": [3]}


@pytest.mark.parametrize("mode", ["json", "json_columns", "binary", "binary_columns"])
def test_triton_gets_the_predictions_of_the_estimator(triton: Any, estimator: Pipeline, mode: str) -> None:
    assert triton[mode]["prediction"] == estimator.predict(ROWS).tolist()
    for got, expected in zip(triton[mode]["probabilities"], estimator.predict_proba(ROWS), strict=True):
        assert got == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_triton_sends_every_datatype_and_no_rows(triton: Any, estimator: Pipeline) -> None:
    for dtype in ("float16", "float32", "int8", "int64", "uint8", "uint64"):
        assert triton[dtype] == estimator.predict([[5, 3]]).tolist()
    assert triton["empty"] == [[0], [0, 3]]
    assert (triton["id"], triton["model_version"]) == ("id-1", "1")
    assert triton["aliases"]["predict"] == estimator.predict(ROWS).tolist()
    assert triton["text True"] == triton["text False"] == ["Adelie", "Gentoo"]


def test_triton_compresses_both_ways(triton: Any) -> None:
    compressed = {name: shapes for name, shapes in triton.items() if name.startswith("compressed")}
    assert len(compressed) == 18
    assert all(shapes == [[600], [600, 3]] for shapes in compressed.values())


def test_triton_raises_its_own_error(triton: Any) -> None:
    assert [status for status, _ in triton["errors"]] == ["404", "400", "400", "400", "404", "404"]
    said = [message for _, message in triton["errors"]]
    assert said[0].startswith("there is no model 'nope'; there are: ")
    assert "#/inputs/0/shape is [3, 1]" in said[1]
    assert "#/inputs/0/data/0/1 must not be missing" in said[2]
    assert "#/outputs/0 must be one of" in said[3]


def test_triton_loads_and_unloads_in_every_worker(triton: Any, estimator: Pipeline) -> None:
    assert {each["state"] for each in triton["index"]} == {"READY"}
    assert set(triton["unloaded"]) == {False}
    unloaded = {each["name"]: each for each in triton["unloaded_index"]}
    assert unloaded["iris-two"]["state"] == "UNAVAILABLE"
    assert "out of service by hand" in unloaded["iris-two"]["reason"]
    assert unloaded["penguins"]["state"] == "READY"
    assert triton["unloaded_errors"] == ["503"] * 20
    assert triton["ready_without_it"] is True
    assert set(triton["loaded"]) == {True}
    assert triton["again"] == [estimator.predict(ROWS).tolist()] * 20
    assert triton["refused"][0] == "400"
    assert "flask models add" in triton["refused"][1]


def test_triton_reads_the_statistics(triton: Any) -> None:
    (counted,) = triton["statistics"]["model_stats"]
    assert (counted["name"], counted["version"]) == ("iris-two", "1")
    assert counted["inference_count"] >= counted["execution_count"] >= 1
    assert counted["inference_stats"]["success"]["count"] == counted["execution_count"]
    assert counted["inference_stats"]["success"]["ns"] > counted["inference_stats"]["compute_infer"]["ns"] > 0
    assert {"diabetes", "digits", "iris-two", "penguins"} <= set(triton["all_statistics"])


def test_kserve_asks_whether_server_and_model_are_ready(kserve: Any) -> None:
    assert (kserve["live"], kserve["ready"], kserve["model_ready"]) == (True, True, True)
    assert kserve["no_model_ready"] is False


def test_kserve_gets_the_predictions_of_the_estimator(kserve: Any, estimator: Pipeline) -> None:
    predicted = estimator.predict(ROWS).tolist()
    for binary in (False, True):
        for wanted in (None, "prediction", "output-0", "predict"):
            assert kserve[f"{binary} {wanted}"] == ["abc", "iris-two", wanted or "prediction", predicted]
    assert kserve["columns"] == predicted
    assert kserve["dict"]["model_name"] == "iris-two"
    assert kserve["dict"]["outputs"][0]["data"] == predicted[:1]


def test_kserve_raises_with_the_message_of_the_server(kserve: Any) -> None:
    assert [status for status, _ in kserve["errors"]] == [404, 400]
    assert kserve["errors"][0][1].startswith("there is no model 'nope'; there are: ")
    assert "#/inputs/0/shape is [3, 1]" in kserve["errors"][1][1]
