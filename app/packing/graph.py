"""The graph of a version: compiled, written, loaded as serving would, and proven; or one sentence that says why not."""

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
"""Beyond this the weights lie beside the graph: a protocol buffer ends at 2 GiB."""


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
    """Leaves a proven graph in the folder, or nothing; returns the proof or the reason, for the manifest.

    The graph is compared with the estimator; how long it takes, with what would be served in its stead. With `matrix`
    it takes one matrix, however few inputs there are: what serves it fills that with arrays, and the proof tries it
    column by column.
    """
    try:
        model = compile_graph(estimator, signature, matrix=matrix)
        size_bytes = model.ByteSize()
        if size_bytes > limit_bytes:
            raise NotExportable(
                f"its graph of {size_bytes} bytes is larger than RETORT_GRAPH_LIMIT_BYTES={limit_bytes}"
            )
        outside = size_bytes > MAX_ONE_FILE_BYTES
        onnx.save_model(model, str(folder / GRAPH), save_as_external_data=outside, location=WEIGHTS)
        with (folder / GRAPH).open("rb") as stream:
            graph = LOADERS["onnx"](stream, signature)
        proof = prove(estimator, ArtifactServable(estimator, signature), graph, served, signature, records)
    except (NotExportable, NotProven, LoadingFailed) as error:
        return _without(folder, " ".join(str(error).split()))
    except OSError:  # the disk is full: nothing can be packed
        raise
    except Exception as error:  # noqa: BLE001 (no mistake of an exporter keeps a model from being served)
        return _without(
            folder, f"its graph could not be made ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
        )
    return proof.recorded()


def _without(folder: Path, reason: str) -> dict[str, object]:
    for name in (GRAPH, WEIGHTS):
        (folder / name).unlink(missing_ok=True)
    return {"proven": False, "reason": reason}
