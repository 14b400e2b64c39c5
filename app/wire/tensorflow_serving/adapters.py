"""Requests of `:predict`, `:classify` and `:regress`, and their answers."""

from __future__ import annotations

from typing import Any

import msgspec

from app.core.answer import Answer
from app.core.service import Decode, PredictRequest
from app.errors import InvalidInstances
from app.server.contract import Environ, Headers
from app.settings import Settings
from app.signature import Signature
from app.wire import body
from app.wire.instances import asked_alone, listed, object_in, of_columns, outputs_called, predictions
from app.wire.pointers import refused, transposed
from app.wire.tensorflow_serving.describe import DEFAULT_SIGNATURE


class _JsonAdapter:
    """What both kinds of request have in common."""

    def headers(self) -> Headers:
        """Return the header fields of the answer."""
        return [("Content-Type", "application/json")]

    def located(self, error: InvalidInstances) -> InvalidInstances:
        """Return an error with its pointers into the request."""
        return error


class PredictAdapter(_JsonAdapter):
    """One `:predict`: rows in `instances` or columns in `inputs`, and the answer in the same form."""

    def __init__(self, environ: Environ, settings: Settings) -> None:
        self._environ = environ
        self._settings = settings
        self._columnar = False
        self._names: tuple[str, ...] = ()

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """The instances, and the outputs that `signature_name` names."""
        raw = body.read(self._environ, self._settings.body_limit_bytes)
        if (asked := asked_alone(raw, decode, signature)) is not None:
            return asked
        document = object_in(raw)
        outputs = _outputs(document, signature)
        given = [key for key in ("instances", "inputs") if key in document]
        if len(given) != 1:
            raise refused("#", "must have either instances (rows) or inputs (columns)")
        (key,) = given
        self._columnar = key == "inputs" and not self._settings.kserve_v1
        values, pointer = document[key], f"#/{key}"
        if key == "inputs" and isinstance(values, dict):
            self._names = signature.names
            instances: list[Any] = of_columns(values, signature, pointer)
        else:
            instances = listed(values, signature, pointer)
        return PredictRequest(instances, pointer, outputs=outputs, outputs_pointer="#/signature_name")

    def located(self, error: InvalidInstances) -> InvalidInstances:
        """An error where it stands in the request."""
        return transposed(error, self._names, "#/inputs") if self._names else error

    def encode(self, answer: Answer) -> bytes:
        """`predictions`, one for each instance, or `outputs`, a column of each; a lone output loses its name."""
        if not self._columnar:
            return msgspec.json.encode({"predictions": predictions(answer)})
        values = answer.values()
        return msgspec.json.encode({"outputs": next(iter(values.values())) if len(values) == 1 else values})


class ExamplesAdapter(_JsonAdapter):
    """One `:classify` or `:regress`: `examples`, and in `results` labels with their scores, or numbers."""

    def __init__(self, environ: Environ, settings: Settings, verb: str) -> None:
        self._environ = environ
        self._limit_bytes = settings.body_limit_bytes
        self._verb = verb

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """The examples, each with the features of `context`, which all have in common."""
        raw = body.read(self._environ, self._limit_bytes)
        document = object_in(raw)
        output = self._output(signature)
        context = document.get("context", {})
        if not isinstance(context, dict):
            raise refused("#/context", "must be an object of features", context)
        examples = listed(document.get("examples"), signature, "#/examples")
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
        """Numbers as they are; of classes each label, which is text in this protocol, with its score."""
        results = predictions(answer)
        if self._verb == "classify":
            labels = [str(label) for label in answer.classes or ()]
            results = [list(zip(labels, scores, strict=True)) for scores in results]
        return msgspec.json.encode({"results": results})


def _outputs(document: dict[str, Any], signature: Signature) -> list[Any]:
    wanted = document.get("signature_name")
    if wanted is not None and not isinstance(wanted, str):
        raise refused("#/signature_name", "must be text: names of outputs, separated by commas", wanted)
    if not wanted or wanted == DEFAULT_SIGNATURE:
        return [*signature.defaults[:1]]
    return outputs_called([name.strip() for name in wanted.split(",")])
