"""Derive the graph of a version: compile it, write it, load it as serving would, and prove it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import onnx

from app.errors import LoadingFailed
from app.packing.compile import compile_graph
from app.packing.exporters.graph import NotExportable
from app.packing.probe import Record
from app.packing.prove import NotProven, prove
from app.runtime.loaders import LOADERS
from app.runtime.servable import ArtifactServable, Servable
from app.signature import Signature

GRAPH = "model.onnx"
WEIGHTS = "model.onnx.data"
MAX_ONE_FILE_BYTES = 1_900_000_000
"""The weights of larger graphs are written to a file of their own: a protocol buffer has at most 2 GiB."""


def derive_graph(
    estimator: Any,
    served: Servable,
    signature: Signature,
    records: Sequence[Record],
    folder: Path,
    limit_bytes: int,
    *,
    matrix: bool = False,
) -> dict[str, object]:
    """Write a proven graph into the folder, or nothing.

    Args:
        estimator: The fitted model, with which the answers of the graph are compared.
        served: The servable that would be served otherwise, with which the time of the graph is compared.
        signature: The signature, in columns of the matrix of the estimator.
        records: Rows that the model accepts.
        folder: Where the version is put together.
        limit_bytes: The largest graph that is kept.
        matrix: Let the graph take one matrix, because arrays or images fill it.

    Returns:
        The proof for the manifest, or the reason why there is no graph.
    """
    try:
        graph = _loaded_graph(estimator, signature, folder, limit_bytes, matrix=matrix)
        proof = prove(estimator, ArtifactServable(estimator, signature), graph, served, signature, records)
    except (NotExportable, NotProven, LoadingFailed) as error:
        return _without(folder, " ".join(str(error).split()))
    except OSError:  # the disk is full: nothing can be packed
        raise
    except Exception as error:  # noqa: BLE001 (a model is served in spite of an error in an exporter)
        return _without(
            folder, f"its graph could not be made ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        )
    return proof.recorded()


def _loaded_graph(estimator: Any, signature: Signature, folder: Path, limit_bytes: int, *, matrix: bool) -> Servable:
    """Compile a graph, write it, and load it as serving would."""
    model = compile_graph(estimator, signature, matrix=matrix)
    size_bytes = model.ByteSize()
    if size_bytes > limit_bytes:
        raise NotExportable(f"its graph of {size_bytes} bytes is larger than RETORT_GRAPH_LIMIT_BYTES={limit_bytes}")
    outside = size_bytes > MAX_ONE_FILE_BYTES
    onnx.save_model(model, str(folder / GRAPH), save_as_external_data=outside, location=WEIGHTS)
    with (folder / GRAPH).open("rb") as stream:
        return LOADERS["onnx"](stream, signature)


def _without(folder: Path, reason: str) -> dict[str, object]:
    for name in (GRAPH, WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    return {"proven": False, "reason": reason}
