"""Describe models in the Open Inference Protocol: tensors, configuration, statistics, repository index.

Sources: inference_rest.md, "Model Metadata"; Triton's extension_model_repository.md, extension_model_configuration.md
and extension_statistics.md (docs/protocols.md).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from app.core.inference_statistics import Counts, InferenceStatistics, Span
from app.runtime.entry import Entry
from app.runtime.policy import State
from app.signature import EXPLANATION, Input
from app.signature.batch import json_text, json_values
from app.storage.manifest import Manifest
from app.wire.open_inference.tensors import DTYPES

NAME_OF_DTYPE = {np.dtype(dtype).name: datatype for datatype, dtype in DTYPES.items()}
DATATYPE_OF_KIND = {"boolean": "BOOL", "unused": "FP64", "text": "BYTES", "timestamp": "BYTES", "image": "BYTES"}
STATE_IN_INDEX = {State.AVAILABLE: "READY", State.LOADED: "LOADING", State.VERIFIED: "LOADING", State.FOUND: "LOADING"}


def input_datatype(spec: Input) -> str:
    """Return the datatype of an input's tensor: that of the estimator's column, or BYTES for text."""
    if spec.kind in DATATYPE_OF_KIND:
        return DATATYPE_OF_KIND[spec.kind]
    if spec.kind == "category" and any(isinstance(category, str) for category in spec.categories or ()):
        return "BYTES"
    return NAME_OF_DTYPE.get(spec.dtype.lower(), "BYTES")


def output(name: str, manifest: Manifest) -> tuple[str, list[int]]:
    """Return the datatype and shape of an output, from the recorded examples. -1 stands for the rows."""
    if name == EXPLANATION:
        return "BYTES", [-1]
    recorded = [example.outputs[name] for example in manifest.examples if name in example.outputs]
    signature = manifest.signature
    if not recorded and signature.classes and not signature.multioutput:
        count = len(signature.classes)
        if name == "probabilities" or (name == "decision_scores" and count > 2):
            return "FP64", [-1, count]
        recorded = list(signature.classes) if name == "prediction" else []
    array = regular_array(recorded)
    return datatype_of(array), [-1, *array.shape[1:]]


def regular_array(values: Sequence[Any]) -> np.ndarray[Any, Any]:
    """Return values as an array of bool, int64, float64 or objects. Ragged values become text."""
    try:
        array = np.array(values)
    except ValueError:  # ragged
        array = np.empty(0, dtype=object)
    if array.dtype.kind in "biuf" and array.size:
        return widen(array)
    objects = np.array(values, dtype=object)
    objects[np.equal(objects, np.array(None))] = np.nan  # manifests record missing numbers as null
    leaves = set(map(type, objects.flat))
    if leaves <= {int, float}:
        return objects.astype(np.float64)
    if list in leaves:
        return np.array([_text(value) for value in values], dtype=object)
    return np.array([_text(value) for value in objects.flat], dtype=object).reshape(objects.shape)


def _text(value: Any) -> str | None:
    if isinstance(value, dict):
        return json_text(value)
    return value if isinstance(value, str) else None if value != value else str(value)


def array_of(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return a model's output as an array of bool, int64, uint64, float64 or, for BYTES, objects (strings)."""
    return widen(array) if array.dtype.kind in "biuf" else regular_array(json_values(array))


def widen(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return numbers in the widest dtype of their family, so that an output has one datatype in every runtime."""
    wide = {"i": np.int64, "f": np.float64}.get(array.dtype.kind)
    if array.dtype.kind == "u":
        wide = np.uint64 if array.size and array.max() > np.iinfo(np.int64).max else np.int64
    return array if wide is None else array.astype(wide, copy=False)


def datatype_of(array: np.ndarray[Any, Any]) -> str:
    """Return the datatype of an output's array."""
    return NAME_OF_DTYPE.get(array.dtype.name, "BYTES")


def metadata(manifest: Manifest, runtime: str, versions: Sequence[str]) -> dict[str, Any]:
    """Return the model metadata object. Each input is one column, and -1 stands for any number of rows."""
    inputs = [(spec.name, input_datatype(spec), [-1, *(spec.shape or (1,))]) for spec in manifest.signature.inputs]
    outputs = [(name, *output(name, manifest)) for name in manifest.signature.outputs]
    return {
        "name": manifest.model,
        "versions": list(versions),
        "platform": "onnx_onnxv1" if runtime == "graph" else f"sklearn_{manifest.format}",
        "inputs": [dict(zip(("name", "datatype", "shape"), each, strict=True)) for each in inputs],
        "outputs": [dict(zip(("name", "datatype", "shape"), each, strict=True)) for each in outputs],
    }


def config(manifest: Manifest, runtime: str, max_rows: int) -> dict[str, Any]:
    """Return the model configuration, with the dimensions of one row."""
    described = metadata(manifest, runtime, ())
    tensors = {
        kind: [
            {
                "name": each["name"],
                "data_type": "TYPE_STRING" if each["datatype"] == "BYTES" else f"TYPE_{each['datatype']}",
                "dims": each["shape"][1:] or [1],
            }
            for each in described[f"{kind}s"]
        ]
        for kind in ("input", "output")
    }
    return {
        "name": manifest.model,
        "platform": described["platform"],
        "backend": "onnxruntime" if runtime == "graph" else "sklearn",
        "version_policy": {"all": {}},
        "max_batch_size": max_rows,
        **tensors,
    }


def index(entries: Mapping[str, Sequence[Entry]], ready_only: bool) -> list[dict[str, Any]]:
    """Return the repository index: every version with its state, and the reason if it is not ready.

    The state is Triton's name. The reason begins with Retort's name, which all other URLs and commands show.
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


def statistics(versions: Iterable[tuple[str, int]], statistics: InferenceStatistics) -> dict[str, Any]:
    """Return the statistics object of these versions. It counts a run for each successful request."""
    return {"model_stats": [_of_version(model, version, statistics.of(model, version)) for model, version in versions]}


def _of_version(model: str, version: int, counts: Counts) -> dict[str, Any]:
    phases = ("compute_input", "compute_infer", "compute_output")
    return {
        "name": model,
        "version": str(version),
        "last_inference": counts.last_ms,
        "inference_count": counts.rows,
        "execution_count": counts.success.count,
        "inference_stats": {
            **{name: getattr(counts, name) for name in ("success", "fail", "queue", *phases)},
            "cache_hit": Span(),
            "cache_miss": Span(),
        },
        "batch_stats": [
            {"batch_size": rows, **dict(zip(phases, spans, strict=True))}
            for rows, spans in sorted(counts.by_rows.items())
        ],
    }
