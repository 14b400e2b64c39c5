"""Read the body of an inference request: its JSON, the raw bytes after it, and the requested outputs.

Sources: inference_rest.md, "Inference Request JSON Object"; Triton's extension_binary_data.md (docs/protocols.md).
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import Any

import numpy as np

from app.errors import MalformedRequest, TooManyInstances, TooManyValues
from app.signature import Signature
from app.wire import codecs
from app.wire.open_inference.describe import input_datatype
from app.wire.open_inference.tensors import BYTES, DATATYPES, DTYPES, Tensor, from_binary, from_json, printable, text_of

HEADER_LENGTH = "Inference-Header-Content-Length"
MAX_DIMENSIONS = 16
MAX_SHAPE = 2**59
"""Limit of the product of a shape, without its zeros. NumPy counts an array's bytes in 63 bits."""
MAX_STRAY_TENSORS = 100
"""Number of tensors that a request may have beyond the inputs, so that an error can name each unknown one."""
ENVELOPE = "must be an object with a list of inputs, each with name, shape, datatype and data"
REFUSED = {
    "classification": "is not offered: ask for the output probabilities",
    "shared_memory_region": "is not offered: send data, or binary data",
}
"""Parameters that request unsupported features. Unknown parameters are ignored."""


@dataclass(frozen=True, slots=True)
class InferRequest:
    """One request.

    `outputs` are the requested names, each with whether it is sent as binary; None stands for the defaults. `binary` is
    the choice for these defaults. `pandas` is true if the client says that its tensors are columns of a DataFrame.
    """

    tensors: Sequence[Tensor]
    outputs: Sequence[tuple[str, bool]] | None = None
    id: str | None = None
    binary: bool = False
    pandas: bool = False


def parse_request(
    content: bytes, header_length: str | None, signature: Signature, limits: codecs.BodyLimits
) -> InferRequest:
    """Return the request in a body.

    Raises:
        InvalidJson: its JSON is invalid.
        MalformedRequest: its parts contradict each other.
        TooManyInstances, TooManyValues: it has more rows or values than the limit.
    """
    if header_length is None:
        return _request(content, None, signature, limits)
    length = int(header_length) if re.fullmatch("[0-9]{1,11}", header_length) else -1
    if not 0 <= length <= len(content):
        detail = f"is {header_length[:20]!r}; allowed: a whole number up to {len(content)}, the length of the body"
        raise MalformedRequest(HEADER_LENGTH, detail)
    if length == 0:
        return InferRequest([_raw(content, signature)], binary=True)
    return _request(content[:length], memoryview(content)[length:], signature, limits)


def _raw(content: bytes, signature: Signature) -> Tensor:
    """Return the tensor of a body that has only its bytes (Triton's "raw binary request")."""
    if len(signature.inputs) != 1:
        detail = f"is 0, which only models with one input take; this one has {len(signature.inputs)}: send JSON first"
        raise MalformedRequest(HEADER_LENGTH, detail)
    spec = signature.inputs[0]
    datatype = input_datatype(spec)
    if datatype == BYTES:
        return Tensor(spec.name, np.array([text_of(content)], dtype=object), 0)
    element_bytes = np.dtype(DTYPES[datatype]).itemsize
    if len(content) % element_bytes:
        detail = f"has {len(content)} bytes; {datatype}, of which the input is, has {element_bytes} each"
        raise MalformedRequest("the body", detail)
    array = from_binary(memoryview(content), datatype, [len(content) // element_bytes], "the body")
    return Tensor(spec.name, array, 0)


def _request(json: bytes, raw: memoryview | None, signature: Signature, limits: codecs.BodyLimits) -> InferRequest:
    document = codecs.JSON.document(json, limits.max_values)
    if not isinstance(document, dict) or not isinstance(document.get("inputs"), list):
        raise MalformedRequest("#", ENVELOPE)
    tensor_count, input_count = len(document["inputs"]), len(signature.inputs)
    if tensor_count > input_count + MAX_STRAY_TENSORS:
        raise MalformedRequest(
            "#/inputs", f"has {tensor_count} tensors; the model takes one for each of its {input_count} inputs"
        )
    parameters = _parameters(document, "#")
    request_id = _typed(document, "id", "#", str | None, "a string")
    tensors, used, texts = [], 0, 0
    for position, entry in enumerate(document["inputs"]):
        tensor, size = _tensor(entry, position, raw, used, limits, texts)
        texts += tensor.array.size if tensor.array.dtype == object else 0
        tensors.append(tensor)
        used += size
    if raw is not None and used < len(raw):
        detail = f"has {len(raw)} bytes after its JSON; the inputs' binary_data_size say {used}"
        raise MalformedRequest("the body", detail)
    duplicates = [name for name, times in Counter(tensor.name for tensor in tensors).items() if times > 1]
    if duplicates:
        raise MalformedRequest("#/inputs", f"has two tensors of the name {printable(duplicates[0])}")
    binary = _flag(parameters, "binary_data_output", "#", False)
    return InferRequest(tensors, _outputs(document, binary), request_id, binary, parameters.get("content_type") == "pd")


def _tensor(
    entry: Any, position: int, raw: memoryview | None, used: int, limits: codecs.BodyLimits, texts: int
) -> tuple[Tensor, int]:
    """Return one tensor, and the number of its raw bytes. `used` and `texts` count those of the tensors before it."""
    pointer = f"#/inputs/{position}"
    if not isinstance(entry, dict):
        raise MalformedRequest(
            pointer, f"must be an object with name, shape, datatype and data, not {printable(entry)}"
        )
    name, datatype, shape = _typed(entry, "name", pointer, str, "a string"), entry.get("datatype"), entry.get("shape")
    if datatype not in DATATYPES:
        raise MalformedRequest(f"{pointer}/datatype", f"is {printable(datatype)}; allowed: {', '.join(DATATYPES)}")
    if not isinstance(shape, list) or not all(type(length) is int and 0 <= length < 2**63 for length in shape):
        written = str(shape)[:100] if isinstance(shape, list) else printable(shape)
        raise MalformedRequest(f"{pointer}/shape", f"must be a list of whole numbers from 0, not {written}")
    if not 1 <= len(shape) <= MAX_DIMENSIONS:
        detail = f"has {len(shape)} dimensions; allowed: 1 to {MAX_DIMENSIONS}, the first of which is the row"
        raise MalformedRequest(f"{pointer}/shape", detail)
    if math.prod(length or 1 for length in shape) >= MAX_SHAPE:
        raise MalformedRequest(f"{pointer}/shape", f"is of too many elements: {shape}")
    size = _binary_size(entry, pointer)
    if size is None:
        if "data" not in entry:
            raise MalformedRequest(pointer, "has neither data nor the parameter binary_data_size")
        array, flat = from_json(entry["data"], datatype, shape, pointer)
        return Tensor(name, array, position, flat), 0
    if "data" in entry:
        raise MalformedRequest(pointer, "has both data and the parameter binary_data_size; allowed: one of them")
    if raw is None:
        detail = f"says that {size} bytes of binary data follow the JSON, so the header {HEADER_LENGTH} is needed"
        raise MalformedRequest(pointer, detail)
    if size > len(raw) - used:
        detail = f"says that it has {size} bytes of binary data; there are {len(raw) - used} left in the body"
        raise MalformedRequest(pointer, detail)
    if shape[0] > limits.max_instances:
        raise TooManyInstances(shape[0], limits.max_instances)
    if datatype == BYTES and (values := texts + math.prod(shape)) > limits.max_values:
        raise TooManyValues(values, limits.max_values)
    return Tensor(name, from_binary(raw[used : used + size], datatype, shape, pointer), position), size


def _binary_size(entry: Mapping[str, Any], pointer: str) -> int | None:
    size = _parameters(entry, pointer).get("binary_data_size")
    if size is not None and not (type(size) is int and size >= 0):
        detail = f"must be a whole number from 0, not {printable(size)}"
        raise MalformedRequest(f"{pointer}/parameters/binary_data_size", detail)
    return size


def _outputs(document: Mapping[str, Any], binary: bool) -> list[tuple[str, bool]] | None:
    outputs: dict[str, bool] = {}
    for position, entry in enumerate(
        _typed(document, "outputs", "#", list | None, "a list of objects with a name") or []
    ):
        pointer = f"#/outputs/{position}"
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise MalformedRequest(pointer, "must be an object with a name, which is a string")
        if entry["name"] in outputs:
            raise MalformedRequest(f"{pointer}/name", f"is {printable(entry['name'])}, which is asked for twice")
        outputs[entry["name"]] = _flag(_parameters(entry, pointer), "binary_data", pointer, binary)
    return list(outputs.items()) or None


def _parameters(holder: Mapping[str, Any], pointer: str) -> Mapping[str, Any]:
    parameters: Mapping[str, Any] = _typed(holder, "parameters", pointer, dict | None, "an object") or {}
    if refused := next((name for name in parameters if name in REFUSED), None):
        raise MalformedRequest(f"{pointer}/parameters/{refused}", REFUSED[refused])
    return parameters


def _flag(parameters: Mapping[str, Any], name: str, pointer: str, default: bool) -> bool:
    flag = _typed(parameters, name, f"{pointer}/parameters", bool | None, "true or false")
    return default if flag is None else bool(flag)


def _typed(holder: Mapping[str, Any], name: str, pointer: str, allowed: type | UnionType, must_be: str) -> Any:
    """Return a member of an object, and refuse other types than the allowed."""
    value = holder.get(name)
    if not isinstance(value, allowed):
        raise MalformedRequest(f"{pointer}/{name}", f"must be {must_be}, not {printable(value)}")
    return value
