"""TensorFlow Serving's REST API, also of KServe v1: `POST /v1/models/<model>:predict`, status and metadata.

Sources: tensorflow/serving api_rest.md and http_rest_api_util.cc, kserve v1_endpoints.py (docs/protocols.md).
Labels are aliases. Content-Type is ignored. `signature_name` selects the outputs, because this API has no other field
for that.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from flask import Response
from flask_smorest import Blueprint
from werkzeug.routing import BaseConverter

from app.core.answer import Answer
from app.core.catalogue import Catalogue
from app.errors import ModelUnavailable
from app.gateway.context import RequestContext
from app.gateway.errors import ErrorFormat
from app.server.contract import Environ
from app.signature import EXPLANATION, Signature
from app.signature.batch import Decode, PredictRequest
from app.signature.field_errors import refused
from app.wire import body
from app.wire.backend import OBJECT, UNKNOWN_MODEL, Adapter, Backend, Segment, answers, json_response
from app.wire.codecs import JSON_TYPE, BodyLimits
from app.wire.instances import (
    decode_instances,
    instance_list,
    json_object,
    outputs_by_name,
    predictions,
    rows_from_columns,
    transpose_pointers,
)
from app.wire.problems import ErrorSchema, error_sentence

MODEL = "/v1/models/<segment:model>"
VERSION, LABEL = f"{MODEL}/versions/<segment:version>", f"{MODEL}/labels/<segment:version>"
DEFAULT_SIGNATURE = "serving_default"
STATES = {
    "FOUND": "START",
    "VERIFIED": "LOADING",
    "LOADED": "LOADING",
    "AVAILABLE": "AVAILABLE",
    "UNLOADING": "UNLOADING",
}
"""TensorFlow Serving's name of each state. All other states are END."""
TYPES = {"number": "DT_DOUBLE", "integer": "DT_INT64", "boolean": "DT_BOOL"}


class ServingErrorSchema(ErrorSchema):
    """The error document of this protocol."""


ERRORS = ErrorFormat(re.compile(r"/v1/models(?![^/:])"), error_sentence, ServingErrorSchema, statuses={422: 400})


class Verb(BaseConverter):
    """The method at the end of a URL, in upper or lower case."""

    regex = "(?i:predict|classify|regress)"

    def to_python(self, value: str) -> str:
        """Return the verb in lower case."""
        return value.lower()


class PredictAdapter(Adapter):
    """Adapter of `:predict`: takes rows in `instances` or columns in `inputs`, and responds in the same form."""

    def __init__(self, environ: Environ, limits: BodyLimits, kserve_v1: bool) -> None:
        super().__init__(environ, limits)
        self._kserve_v1 = kserve_v1
        self._columnar = False

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """Return the instances, for the outputs in `signature_name`."""
        raw = body.read(self._environ, self._limits.body_bytes)
        if (predict_request := decode_instances(raw, decode, signature)) is not None:
            return predict_request
        document = json_object(raw, self._limits)
        outputs = _outputs(document, signature)
        keys = [key for key in ("instances", "inputs") if key in document]
        if len(keys) != 1:
            raise refused("#", "must have either instances (rows) or inputs (columns)")
        (key,) = keys
        self._columnar = key == "inputs" and not self._kserve_v1
        values, pointer = document[key], f"#/{key}"
        if key == "inputs" and isinstance(values, dict):
            self._place = lambda error: transpose_pointers(error, signature.names, pointer)
            instances: list[Any] = rows_from_columns(values, signature, pointer)
        else:
            instances = instance_list(values, signature, pointer)
        return PredictRequest(instances, pointer, outputs=outputs, outputs_pointer="#/signature_name")

    def encode(self, answer: Answer) -> bytes:
        """Return `predictions`, one for each instance, or `outputs`, a column for each. A single output has no name."""
        if not self._columnar:
            return msgspec.json.encode({"predictions": predictions(answer)})
        values = answer.values()
        return msgspec.json.encode({"outputs": next(iter(values.values())) if len(values) == 1 else values})


class ExamplesAdapter(Adapter):
    """Adapter of `:classify` and `:regress`: takes `examples` and returns `results`, labels with scores or numbers."""

    def __init__(self, environ: Environ, limits: BodyLimits, verb: str) -> None:
        super().__init__(environ, limits)
        self._verb = verb

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """Return the examples, each with the features in `context`, which all share."""
        raw = body.read(self._environ, self._limits.body_bytes)
        document = json_object(raw, self._limits)
        output = self._output(signature)
        context = document.get("context", {})
        if not isinstance(context, dict):
            raise refused("#/context", "must be an object of features", context)
        examples = instance_list(document.get("examples"), signature, "#/examples")
        examples = [context | each if isinstance(each, dict) else each for each in examples]
        return PredictRequest(examples, "#/examples", outputs=[output])

    def _output(self, signature: Signature) -> str:
        classes = signature.classes
        if self._verb == "classify":
            if classes is None or signature.multioutput or "probabilities" not in signature.outputs:
                raise refused("#", "cannot be classified: the model gives no probabilities of classes; ask :predict")
            return "probabilities"
        if classes is not None or "prediction" not in signature.outputs:
            raise refused("#", "cannot be regressed: the model predicts no numbers; ask :predict or :classify")
        return "prediction"

    def encode(self, answer: Answer) -> bytes:
        """Return `results`: numbers, or pairs of label and score. Labels are text in this protocol."""
        results = predictions(answer)
        if self._verb == "classify":
            labels = [str(label) for label in answer.classes or ()]
            results = [list(zip(labels, scores, strict=True)) for scores in results]
        return msgspec.json.encode({"results": results})


def _outputs(document: dict[str, Any], signature: Signature) -> list[Any]:
    signature_name = document.get("signature_name")
    if signature_name is not None and not isinstance(signature_name, str):
        raise refused("#/signature_name", "must be text: names of outputs, separated by commas", signature_name)
    if not signature_name or signature_name == DEFAULT_SIGNATURE:
        return [*signature.defaults[:1]]
    return outputs_by_name([name.strip() for name in signature_name.split(",")])


def status(catalogue: Catalogue, model: str, version: str | None) -> dict[str, Any]:
    """Return the states of a model's versions, newest first, and for KServe v1 whether the model is ready."""
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
    """Return the signatures of a version, one for each output. `serving_default` is the prediction."""
    described = catalogue.model(model, version)
    if "inputs" not in described:
        raise ModelUnavailable(described["name"], described["version"], described.get("reason", ""))
    inputs = {each["name"]: _tensor(each["name"], TYPES.get(each["kind"], "DT_STRING")) for each in described["inputs"]}
    tensors = [name for name in described["signature"]["outputs"] if name != EXPLANATION]  # an explanation is an object
    first = tensors[0]
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
        for name, output in [(DEFAULT_SIGNATURE, first), *((each, each) for each in tensors)]
    }
    spec = {"name": described["name"], "signature_name": "", "version": str(described["version"])}
    return {"model_spec": spec, "metadata": {"signature_def": {"signature_def": signatures}}}


def _tensor(name: str, dtype: str, unknown_rank: bool = False) -> dict[str, Any]:
    shape = {"dim": [] if unknown_rank else [{"size": "-1", "name": ""}], "unknown_rank": unknown_rank}
    return {"dtype": dtype, "tensor_shape": shape, "name": name}


def blueprint(backend: Backend) -> Blueprint:
    """Return the endpoints of this protocol."""
    blp = Blueprint("tensorflow_serving", __name__, description="TensorFlow Serving and KServe v1.")
    catalogue, limits, kserve_v1 = backend.catalogue, backend.limits, backend.settings.kserve_v1

    blp.record_once(lambda state: state.app.url_map.converters.update(segment=Segment, verb=Verb))

    def adapter(context: RequestContext) -> PredictAdapter | ExamplesAdapter:
        verb = context.arguments["verb"]
        if verb == "predict":
            return PredictAdapter(context.environ, limits, kserve_v1)
        return ExamplesAdapter(context.environ, limits, verb)

    @blp.get("/v1/models")
    @answers(blp, "the names of the models")
    def v1_models() -> Response:
        """List the names of the models (KServe v1)"""
        return json_response({"models": [model["name"] for model in catalogue.models()["models"]]})

    @blp.get(MODEL)
    @blp.get(VERSION)
    @blp.get(LABEL)
    @answers(blp, "the state of each version, or of one", UNKNOWN_MODEL)
    def v1_status(model: str, version: str | None = None) -> Response:
        """Return the states of a model's versions"""
        return json_response(status(catalogue, model, version))

    @blp.get(f"{MODEL}/metadata")
    @blp.get(f"{VERSION}/metadata")
    @blp.get(f"{LABEL}/metadata")
    @answers(blp, "inputs and outputs, as signatures", {**UNKNOWN_MODEL, 503: "the model is not available"})
    def v1_metadata(model: str, version: str | None = None) -> Response:
        """Return the signatures of a model"""
        return json_response(metadata(catalogue, model, version))

    backend.add_predictions(
        blp,
        "v1_predict",
        [f"{LABEL}:<verb:verb>", f"{VERSION}:<verb:verb>", f"{MODEL}:<verb:verb>"],
        "Predict, classify or regress",
        adapter,
        description="a prediction for each instance, or a result for each example",
        errors={400: "the body is not JSON, or has values that the model does not accept"},
        body={"required": True, "content": {JSON_TYPE: {"schema": OBJECT}}},
    )
    return blp
