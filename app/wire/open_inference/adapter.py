"""One inference request of the Open Inference Protocol and its answer, over the same core as every other protocol."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.core.answer import Answer
from app.core.service import Decode, PredictRequest
from app.errors import InvalidInstances
from app.runtime.registry import Entry
from app.server.contract import Environ, Headers
from app.signature import Signature
from app.wire import body, codecs, coding
from app.wire.open_inference.columns import Table
from app.wire.open_inference.describe import array_of, datatype_of, output
from app.wire.open_inference.reading import HEADER_LENGTH, InferRequest, WantedOutput, parsed
from app.wire.open_inference.tensors import DTYPES, to_binary, to_json

ALIASES = {
    "predict": ("prediction",),
    "output-0": ("prediction",),
    "predict_proba": ("probabilities",),
    "decision_function": ("decision_scores",),
    "transform": ("transformed",),
}
"""What MLServer and KServe call outputs."""


EntryOf = Callable[[str, str], Entry]


class InferAdapter:
    """Reads one request and writes its answer. Belongs to one request."""

    def __init__(self, environ: Environ, limits: codecs.Limits, entry_of: EntryOf) -> None:
        self._environ = environ
        self._limits = limits
        self._entry_of = entry_of
        self._request = InferRequest(())
        self._table: Table | None = None
        self._wanted: Sequence[tuple[WantedOutput, str]] = ()
        self._headers: Headers = []

    def headers(self) -> Headers:
        """Return the header fields of the answer."""
        return self._headers

    def parse(self, signature: Signature, decode: Decode) -> PredictRequest:
        """The tensors as a batch, or as rows for the validator."""
        content = body.read(self._environ, self._limits.body_bytes)
        self._request = parsed(content, self._environ.get("HTTP_INFERENCE_HEADER_CONTENT_LENGTH"), signature)
        self._table = Table(self._request, signature, self._limits.max_instances)
        named = self._request.outputs
        outputs = signature.defaults if named is None else [_canonical(each.name, signature) for each in named]
        self._wanted = list(zip(named or [WantedOutput(name, None) for name in outputs], outputs, strict=True))
        return self._table.asked(None if named is None else outputs)

    def located(self, error: InvalidInstances) -> InvalidInstances:
        """The error with its pointers into the tensors that were sent."""
        return error if self._table is None else self._table.located(error)

    def encode(self, answer: Answer) -> bytes:
        """The inference response object, and the raw bytes of the outputs that were wanted so after it."""
        outputs, raw = [], []
        for wanted, name in self._wanted:
            array = self._array(answer, name)
            tensor: dict[str, Any] = {"name": wanted.name, "datatype": datatype_of(array), "shape": list(array.shape)}
            if self._request.binary if wanted.binary is None else wanted.binary:
                raw.append(to_binary(array))
                tensor["parameters"] = {"binary_data_size": len(raw[-1])}
            else:
                tensor["data"] = to_json(array)
            outputs.append(tensor)
        named = {} if self._request.id is None else {"id": self._request.id}
        document = {"model_name": answer.model, "model_version": str(answer.version), **named, "outputs": outputs}
        return self._whole(msgspec.json.encode(document), raw)

    def _array(self, answer: Answer, name: str) -> NDArray[Any]:
        manifest = (
            self._entry_of(answer.model, str(answer.version)).manifest
            if self._table is not None and not self._table.rows
            else None
        )
        if manifest is None:
            return array_of(answer.outputs[name])
        datatype, shape = output(name, manifest)
        return np.empty([0, *shape[1:]], dtype=DTYPES.get(datatype, object))

    def _whole(self, head: bytes, raw: Sequence[bytes]) -> bytes:
        """Return the body as it is sent, and keep the header fields. Lengths count bytes before compression."""
        content, coded = coding.compressed(b"".join([head, *raw]), self._environ.get("HTTP_ACCEPT_ENCODING", ""))
        self._headers = [("Content-Type", "application/octet-stream" if raw else "application/json")]
        if raw:
            self._headers.append((HEADER_LENGTH, str(len(head))))
        self._headers += coded
        return content


def _canonical(name: str, signature: Signature) -> str:
    """This service's own name of an output."""
    if name in signature.outputs:
        return name
    if name == "transform" and signature.outputs == ("prediction",):  # a transformer's prediction is its transform
        return "prediction"
    return next((own for own in ALIASES.get(name, ()) if own in signature.outputs), name)
