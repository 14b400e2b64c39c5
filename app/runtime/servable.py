"""Servables: loaded models with one method, `run(batch, outputs)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from app.signature import Input, Layout, Signature
from app.signature.batch import Batch, Outputs, objects_of
from app.storage.manifest import Manifest

PLAIN = (str, bytes, int, float, type(None), np.generic)

METHOD_OF_OUTPUT = {
    "prediction": "predict",
    "probabilities": "predict_proba",
    "decision_scores": "decision_function",
    "transformed": "transform",
}

NULLABLE: dict[str, Any] = {
    **{f"{sign}int{bits}": f"{'UI' if sign else 'I'}nt{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "float32": "Float32",
    "float64": "Float64",
    "bool": "boolean",
}
"""The pandas dtype of a column with missing values, by the NumPy dtype of the others."""


class Servable(Protocol):
    """A loaded model that answers batches. Safe to call from many threads; lives until its last lease is released."""

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the requested outputs by name. Axis 0 of each is the row, as in the batch."""


Compose = Callable[[Servable, str, Manifest], Servable]
"""Wraps a servable that runs as a "graph" or an "artifact" in another one."""


class ArtifactServable:
    """A servable that calls the estimator as in a notebook. Thread-safe as far as scikit-learn's `predict` is.

    It runs in the calling thread, because every `n_jobs` in it is set to 1.
    """

    def __init__(self, estimator: Any, signature: Signature) -> None:
        single_threaded(estimator)
        self.estimator = estimator
        self._signature = signature

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the requested outputs, arrays of shape (rows,) or (rows, columns).

        A model of several targets returns a list of probability arrays. They become one object array of shape (rows,)
        that holds a list of the targets' probabilities for each row.
        """
        features = frame_of(batch, self._signature)
        return {name: by_row(call(self.estimator, name, features)) for name in outputs}


def call(estimator: Any, output: str, features: Any) -> Any:
    """Return the unchanged result of the estimator's method for an output. Without `predict`, call `transform`."""
    if output == "prediction" and not hasattr(estimator, "predict"):
        output = "transformed"
    return getattr(estimator, METHOD_OF_OUTPUT[output])(features)


def by_row(result: Any) -> NDArray[Any]:
    """Return the result of a method as an array whose axis 0 is the row."""
    if isinstance(result, list) and result and all(getattr(part, "ndim", 0) == 2 for part in result):
        return rows_of(result)
    return np.asarray(result.toarray() if hasattr(result, "toarray") else result)


def rows_of(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Return the outputs of several targets as an array of objects, shape (rows,), with a list for each row."""
    return objects_of([[part[row].tolist() for part in parts] for row in range(len(parts[0]))])


def frame_of(batch: Batch, signature: Signature) -> Any:
    """Return the batch in the form that the estimator was fitted on: a pandas DataFrame, a 2-D or a 1-D array."""
    if signature.layout is Layout.MATRIX:
        narrow = all(spec.dtype == "float32" for spec in signature.inputs)
        matrix = batch.matrix().astype(np.float32) if narrow else batch.matrix()
        return _with_na(matrix) if any(spec.missing == "na" for spec in signature.inputs) else matrix
    if signature.layout in (Layout.SEQUENCE, Layout.RECORDS):
        return batch.columns[signature.names[0]]
    import pandas as pd  # only models that were trained on frames need it, and it takes half a second

    # The index keeps the number of rows if there are no columns. copy=False is safe: a batch is never modified.
    columns = {spec.name: _series(batch.columns[spec.name], spec) for spec in signature.inputs}
    return pd.DataFrame(columns, index=pd.RangeIndex(batch.rows), copy=False)


def _series(column: NDArray[Any], spec: Input) -> Any:
    import pandas as pd

    if spec.dtype == "category":
        return pd.Categorical(column, categories=list(spec.categories or ()), ordered=spec.ordered)
    if spec.missing == "na" and spec.dtype in NULLABLE:
        return pd.array(column, dtype=NULLABLE[spec.dtype])
    if column.dtype.kind == "M":
        times = pd.Series(column)
        zone = spec.dtype.partition(", ")[2].removesuffix("]")
        return times.dt.tz_localize("UTC").dt.tz_convert(zone) if zone else times
    if spec.dtype.startswith("str"):
        strings: Any = spec.dtype
        return pd.array(column, dtype=strings)
    if spec.missing == "na" and column.dtype == object:
        column = _with_na(column)
    # Without dtype=object, pandas turns objects into strings and None into NaN.
    return pd.Series(column, dtype=object) if column.dtype == object or spec.dtype == "object" else column


def _with_na(objects: NDArray[Any]) -> NDArray[Any]:
    """Return objects with pandas' NA for missing values. A batch has None for them, because pandas is optional."""
    import pandas as pd

    if objects.dtype != object:
        return objects
    marked = objects.copy()
    marked[pd.isna(marked)] = pd.NA
    return marked


# --- Change a fitted estimator, which nothing else uses


def parts_of(estimator: Any) -> Iterator[Any]:
    """Yield the estimator and every estimator inside it once: steps, ensemble members, results of a search."""
    visited: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in visited:
            continue
        visited.add(id(part))
        # Some classes of scikit-learn contain an estimator but are not one, such as members of a calibrated classifier.
        has_parts = hasattr(type(part), "get_params") or type(part).__module__.startswith("sklearn.")
        if has_parts and hasattr(part, "__dict__") and not isinstance(part, type):
            yield part
            waiting.extend(vars(part).values())
        else:
            waiting.extend(_members_of(part))


def single_threaded(estimator: Any) -> None:
    """Set every `n_jobs` to 1: the server decides about threads and starts no processes.

    Results do not depend on it, except for the order in which a forest's threads add up. None already means 1.
    """
    for part in parts_of(estimator):
        if vars(part).get("n_jobs") is not None:
            part.n_jobs = 1


def without_names(estimator: Any) -> None:
    """Change an estimator that was fitted on a frame so that it takes the values of the frame.

    It selects columns by position then, instead of by name.
    """
    for part in list(parts_of(estimator)):
        names = vars(part).get("feature_names_in_")
        if names is None:
            continue
        if "transformers_" in vars(part):
            position = {name: place for place, name in enumerate(names)}
            part.transformers_ = [
                (label, inner, _positions_of(columns, position)) for label, inner, columns in part.transformers_
            ]
        del part.feature_names_in_


def _positions_of(columns: Any, position: dict[str, int]) -> Any:
    """Return the positions of columns that were selected by name; other selections unchanged."""
    if isinstance(columns, str):
        return position[columns]
    names = list(columns) if isinstance(columns, list | tuple | np.ndarray) or hasattr(columns, "tolist") else []
    return [position[name] for name in names] if names and all(isinstance(name, str) for name in names) else columns


def _members_of(container: Any) -> list[Any]:
    """Return the members of a container of estimators. Large vocabularies are not searched."""
    if isinstance(container, tuple):
        return list(container)
    if isinstance(container, dict):
        container = list(container.values()) if not isinstance(next(iter(container.values()), None), PLAIN) else []
    if isinstance(container, np.ndarray):
        container = container.ravel().tolist() if container.dtype == object else []
    return container if isinstance(container, list) and not isinstance(next(iter(container), None), PLAIN) else []
