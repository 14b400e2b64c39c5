"""Test rows for models of sums and distances: far away, tiny, halfway, near each other, zeros of both signs."""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.packing.graph import compile_graph
from app.packing.infer import infer
from app.runtime.graph import GraphServable, session_of
from app.signature.batch import Batch


def around(training: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the training rows, and others made from them."""
    some, others = training[:20], training[20:40]
    made = [some * 10, some * 1e6, some * 1e-9, some * 1e12, np.nextafter(some, np.inf), (some + others) / 2]
    zeros = np.zeros((2, training.shape[1])) * [[1.0], [-1.0]]
    return np.vstack([training, *made, np.round(training[:60]), training.mean(axis=0), zeros])


def answered(estimator: Any, training: NDArray[np.float64], rows: NDArray[np.float64]) -> Any:
    """Return the predictions of the graph alone, for rows that the estimator may refuse."""
    signature, _ = infer(estimator, pd.DataFrame(training))
    graph = GraphServable(session_of(compile_graph(estimator, signature).SerializeToString()), signature)
    columns = {name: rows[:, position] for position, name in enumerate(signature.names)}
    return graph.run(Batch(columns, len(rows)), ["prediction"])["prediction"]
