"""Compares an estimator with its graph on batches of several sizes, with one signature for all."""

import warnings
from typing import Any

import pandas as pd

from app.packing.infer import infer
from tests.packing.exporters.equal import compared


def differences_in_batches(estimator: Any, rows: Any, sizes: tuple[int, ...] = (1, 2, 31)) -> list[str]:
    """Where they differ on all these numeric rows, and on the last few of them; empty where they are equal.

    Raises:
        NotExportable: there is no graph.
    """
    frame = rows if isinstance(rows, pd.DataFrame) else pd.DataFrame(rows)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        signature, _ = infer(estimator, frame)
        batches = [frame, *(frame[-size:] for size in sizes)]
        return [found for batch in batches for found in compared(estimator, signature, batch, signature.outputs)]
