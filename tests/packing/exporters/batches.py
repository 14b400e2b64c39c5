"""Compare an estimator with its graph on batches of several sizes, compiled once."""

import warnings
from typing import Any

import pandas as pd

from app.packing.graph import compile_graph
from app.packing.infer import infer
from app.runtime.graph import GraphServable, session_of
from app.runtime.servable import ArtifactServable
from app.signature.batch import json_values
from app.signature.validator import Validator
from tests.packing.exporters import equal


def differences_in_batches(
    estimator: Any, rows: Any, sizes: tuple[int, ...] = (1, 31), cancels: bool = False
) -> list[str]:
    """Return the differences on all these rows, and on the last few of them; empty if they are equal.

    `cancels` says that sums cancel: see `equal.ROUNDING`.

    Raises: NotExportable: there is no graph.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signature, _ = infer(estimator, frame)
        graph = GraphServable(session_of(compile_graph(estimator, signature).SerializeToString()), signature)
        artifact = ArtifactServable(estimator, signature)
        validator = Validator(signature, len(frame))
        for part in (frame, *(frame[-size:] for size in sizes)):
            objects = part.astype(object).where(part.notna(), None).to_numpy()
            batch = validator.validate([json_values(row) for row in objects])
            wanted, got = artifact.run(batch, signature.outputs), graph.run(batch, signature.outputs)
            for name in signature.outputs:
                found += equal._unequal(name, wanted[name], got[name], cancels)
    return found
