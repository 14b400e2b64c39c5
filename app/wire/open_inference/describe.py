"""What the Open Inference Protocol tells of models: their tensors, their configuration, the index of the repository.

Sources: inference_rest.md, "Model Metadata"; Triton's extension_model_repository.md and
extension_model_configuration.md (protocols.md 2.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from app.runtime.policy import State
from app.runtime.registry import Entry
from app.signature import Input, Signature
from app.signature.batch import json_values
from app.storage.manifest import Manifest

NAME_OF_DTYPE = {
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bool": "BOOL",
    **{f"int{bits}": f"INT{bits}" for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": f"UINT{bits}" for bits in (8, 16, 32, 64)},
}
DATATYPE_OF_KIND = {"boolean": "BOOL", "unused": "FP64", "text": "BYTES", "timestamp": "BYTES", "image": "BYTES"}
TYPE_IN_CONFIG = {"BYTES": "TYPE_STRING"}
STATE_IN_INDEX = {State.AVAILABLE: "READY", State.LOADED: "LOADING", State.VERIFIED: "LOADING", State.FOUND: "LOADING"}


def input_datatype(spec: Input) -> str:
    """The datatype of an input's tensor: that of the column that the estimator sees, BYTES where it holds text."""
    if spec.kind in DATATYPE_OF_KIND:
        return DATATYPE_OF_KIND[spec.kind]
    if spec.kind == "category" and any(isinstance(category, str) for category in spec.categories or ()):
        return "BYTES"
    return NAME_OF_DTYPE.get(spec.dtype.lower(), "BYTES")


def inputs(signature: Signature) -> list[dict[str, Any]]:
    """The inputs, each a column of its own; any number of rows."""
    return [
        {"name": spec.name, "datatype": input_datatype(spec), "shape": [-1, *(getattr(spec, "shape", None) or (1,))]}
        for spec in signature.inputs
    ]


def output(name: str, manifest: Manifest) -> tuple[str, list[int]]:
    """The datatype of an output, and its shape with -1 for the rows: as the recorded examples have it."""
    seen = [example.outputs[name] for example in manifest.examples if name in example.outputs]
    signature = manifest.signature
    if not seen and signature.classes and not signature.multioutput:
        count = len(signature.classes)
        if name == "probabilities" or (name == "decision_scores" and count > 2):
            return "FP64", [-1, count]
        seen = list(signature.classes) if name == "prediction" else []
    array = regular(seen)
    return datatype_of(array), [-1, *array.shape[1:]]


def regular(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Values as an array of bool, int64, float64 or, where they are none of these, objects; ragged ones as texts."""
    try:
        array = np.array(values)
    except ValueError:  # ragged
        array = np.empty(0, dtype=object)
    if len(values) and array.dtype.kind in "biuf" and array.size:
        return normal(array)
    objects = np.array(_with_nan(values), dtype=object) if len(values) else np.empty(0)
    leaves = set(map(type, objects.ravel().tolist()))
    if leaves <= {int, float}:
        return objects.astype(np.float64)
    texts = np.empty(len(values) if list in leaves else objects.size, dtype=object)
    texts[:] = [_text(value) for value in (values if list in leaves else objects.ravel().tolist())]
    return texts if list in leaves else texts.reshape(objects.shape)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None if value != value else str(value)


def array_of(given: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """An output of a model as it goes out: bool, int64, uint64 or float64; objects, which are strings, for BYTES."""
    return normal(given) if given.dtype.kind in "biuf" else regular(json_values(given))


def normal(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Numbers in the widest form of their family, so that an output has one datatype whatever computed it."""
    wide = {"i": np.int64, "f": np.float64}.get(array.dtype.kind)
    if array.dtype.kind == "u":
        wide = np.uint64 if array.size and array.max() > np.iinfo(np.int64).max else np.int64
    return array if wide is None else array.astype(wide, copy=False)


def _with_nan(values: Any) -> Any:
    """A missing number is recorded as null."""
    if isinstance(values, list | tuple):
        return [_with_nan(value) for value in values]
    return float("nan") if values is None else values


def datatype_of(array: np.ndarray[Any, Any]) -> str:
    """The datatype of an output's array."""
    return NAME_OF_DTYPE.get(array.dtype.name, "BYTES")


def metadata(manifest: Manifest, runtime: str, versions: Sequence[str]) -> dict[str, Any]:
    """The model metadata object."""
    described = [(name, *output(name, manifest)) for name in manifest.signature.outputs]
    return {
        "name": manifest.model,
        "versions": list(versions),
        "platform": "onnx_onnxv1" if runtime == "graph" else f"sklearn_{manifest.format}",
        "inputs": inputs(manifest.signature),
        "outputs": [{"name": name, "datatype": datatype, "shape": shape} for name, datatype, shape in described],
    }


def config(manifest: Manifest, runtime: str, max_rows: int) -> dict[str, Any]:
    """The model configuration, as far as there is one: the dimensions are those of one row."""
    described = metadata(manifest, runtime, ())

    def tensors(listed: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
        return [
            {
                "name": each["name"],
                "data_type": TYPE_IN_CONFIG.get(each["datatype"], f"TYPE_{each['datatype']}"),
                "dims": each["shape"][1:] or [1],
            }
            for each in listed
        ]

    return {
        "name": manifest.model,
        "platform": described["platform"],
        "backend": "onnxruntime" if runtime == "graph" else "sklearn",
        "version_policy": {"all": {}},
        "max_batch_size": max_rows,
        "input": tensors(described["inputs"]),
        "output": tensors(described["outputs"]),
    }


def index(entries: Mapping[str, Sequence[Entry]], ready_only: bool) -> list[dict[str, Any]]:
    """The repository's index: every version with its state, and why it is not ready.

    The state is one of Triton's; the reason begins with the one that every other address and command gives.
    """
    return [
        {
            "name": model,
            "version": str(entry.version),
            "state": STATE_IN_INDEX.get(entry.state, "UNAVAILABLE"),
            "reason": ""
            if entry.state is State.AVAILABLE
            else ": ".join(filter(None, (entry.state.value, entry.reason))),
        }
        for model, versions in entries.items()
        for entry in versions
        if entry.state is State.AVAILABLE or not ready_only
    ]
