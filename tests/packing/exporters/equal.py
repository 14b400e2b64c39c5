"""Compare an estimator with its graph on given rows, with the tolerance that serving promises."""

import warnings
from typing import Any

import numpy as np
import pandas as pd
import threadpoolctl

from app.packing.graph import compile_graph
from app.packing.infer import infer
from app.runtime.graph import GraphServable, session_of
from app.runtime.servable import ArtifactServable
from app.signature import Signature
from app.signature.batch import json_values
from app.signature.validator import Validator

RELATIVE, ABSOLUTE = 1e-9, 1e-12
FOLLOWED = frozenset({"SkylakeX", "Cooperlake", "SapphireRapids"})
"""Kernels of OpenBLAS (for AVX-512) that add in the same order as the graphs."""
ROUNDING, TIES = 1e-6, 0.01
"""Tolerance with other kernels for sums that cancel, such as the distance of a row to itself. Their last digits are
noise, and of equally near rows another may be chosen. Packing compares in its own environment, and serves the artifact
if the graph differs there."""


def differences(estimator: Any, rows: Any, outputs: tuple[str, ...] | None = None) -> list[str]:
    """Return the differences between graph and estimator on these rows (a DataFrame or an array); empty if they are
    equal.

    Raises: NotExportable: there is no graph.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
        signature, _ = infer(estimator, frame.astype(object).where(frame.notna(), None).infer_objects())
        return compared(estimator, signature, frame, outputs or signature.outputs)


def compared(estimator: Any, signature: Signature, frame: pd.DataFrame, outputs: tuple[str, ...]) -> list[str]:
    graph = GraphServable(session_of(compile_graph(estimator, signature).SerializeToString()), signature)
    artifact = ArtifactServable(estimator, signature)
    objects = frame.astype(object).where(frame.notna(), None).to_numpy()
    batch = Validator(signature, 10**6).validate([json_values(row) for row in objects])
    wanted, got = artifact.run(batch, outputs), graph.run(batch, outputs)
    return [difference for name in outputs for difference in _unequal(name, wanted[name], got[name])]


def follows_blas() -> bool:
    """Tell whether the BLAS of this process adds in the order that the graphs follow."""
    kernels = {each["architecture"] for each in threadpoolctl.threadpool_info() if each["internal_api"] == "openblas"}
    return kernels <= FOLLOWED


def _unequal(name: str, wanted: Any, got: Any, cancels: bool = False) -> list[str]:
    if wanted.dtype == object and wanted.ndim == 1 and isinstance(wanted[0], list):
        wanted, got = (np.array([np.concatenate(row) for row in side]) for side in (wanted, got))
    if wanted.shape != got.shape:
        return [f"{name}: shape {got.shape} instead of {wanted.shape}"]
    loosely = cancels and not follows_blas()
    if wanted.dtype.kind == "f":
        relative, absolute = (ROUNDING, ROUNDING) if loosely else (RELATIVE, ABSOLUTE)
        equal = np.isclose(got.astype(float), wanted, rtol=relative, atol=absolute, equal_nan=True)
    else:
        equal = got == wanted
    bad = np.argwhere(~np.atleast_1d(equal))
    if len(bad) <= (TIES * wanted.size if loosely else 0):
        return []
    first = tuple(bad[0])
    return [f"{name}{bad[0].tolist()}: {got[first]!r} instead of {wanted[first]!r}, {len(bad)} in all"]
