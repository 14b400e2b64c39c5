"""What TensorFlow Serving and KServe v1 tell of a model: the states of its versions, and its signatures."""

from __future__ import annotations

from typing import Any

from app.core.catalogue import Catalogue
from app.errors import ModelUnavailable

DEFAULT_SIGNATURE = "serving_default"
STATES = {"FOUND": "START", "VERIFIED": "LOADING", "LOADED": "LOADING", "AVAILABLE": "AVAILABLE"}
"""Its words for ours; every other state is END."""
TYPES = {"number": "DT_DOUBLE", "integer": "DT_INT64", "boolean": "DT_BOOL"}


def status(catalogue: Catalogue, model: str, version: str | None) -> dict[str, Any]:
    """What TensorFlow Serving says of a model's versions, the newest first, and what KServe says of the model."""
    described = catalogue.model(model, version)
    versions = [each for each in described["versions"] if version is None or each["version"] == described["version"]]
    return {
        "name": described["name"],
        "ready": any(each["state"] == "AVAILABLE" for each in versions),
        "model_version_status": [
            {
                "version": str(each["version"]),
                "state": STATES.get(each["state"], "END"),
                "status": {
                    "error_code": "FAILED_PRECONDITION" if "reason" in each else "OK",
                    "error_message": each.get("reason", ""),
                },
            }
            for each in reversed(versions)
        ],
    }


def metadata(catalogue: Catalogue, model: str, version: str | None) -> dict[str, Any]:
    """The signatures of a version, one for each output; `serving_default` is the prediction."""
    described = catalogue.model(model, version)
    if "inputs" not in described:
        raise ModelUnavailable(described["name"], described["version"], described.get("reason", ""))
    inputs = {each["name"]: _tensor(each["name"], TYPES.get(each["kind"], "DT_STRING")) for each in described["inputs"]}
    first = described["signature"]["outputs"][0]
    labels = described.get("classes") or [0.0]
    label = "DT_STRING" if isinstance(labels[0], str) else "DT_INT64" if isinstance(labels[0], int) else "DT_DOUBLE"
    signatures = {
        name: {
            "inputs": inputs,
            "outputs": {
                output: _tensor(output, label if output == "prediction" else "DT_DOUBLE", output != "prediction")
            },
            "method_name": "tensorflow/serving/predict",
        }
        for name, output in [(DEFAULT_SIGNATURE, first), *((each, each) for each in described["outputs"])]
    }
    spec = {"name": described["name"], "signature_name": "", "version": str(described["version"])}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}


def _tensor(name: str, dtype: str, unknown_rank: bool = False) -> dict[str, Any]:
    shape = {"dim": [] if unknown_rank else [{"size": "-1", "name": ""}], "unknown_rank": unknown_rank}
    return {"dtype": dtype, "tensor_shape": shape, "name": name}
