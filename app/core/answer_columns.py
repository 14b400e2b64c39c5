"""Turn an answer into flat columns, for tables in responses and in files."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from app.core.answer import Answer
from app.signature.batch import json_values

MAX_COLUMNS_OF_AN_OUTPUT = 10_000


def columns_of(answer: Answer) -> dict[str, NDArray[Any]]:
    """Return an answer as flat columns, each of shape (rows,).

    `prediction` keeps its name. Probabilities become `probability_<class>`, and other outputs of several values
    `<output>_<position>`. Irregular outputs (probabilities of several targets) become JSON in text.
    """
    columns: dict[str, NDArray[Any]] = {}
    classes = list(answer.classes or ())
    for name, output in answer.outputs.items():
        array = _to_matrix(output)
        if name == "probabilities" and not len(array) and not any(isinstance(label, list) for label in classes):
            array = np.empty((0, len(classes)))  # without rows the array does not have the number of classes
        if array.ndim == 1:
            kinds = set(map(type, array)) if array.dtype == object else set[type]()
            nested = any(issubclass(kind, list | tuple | np.ndarray) for kind in kinds)
            columns[name] = _as_text(array) if nested else array
            continue
        flat = array.reshape(len(array), math.prod(array.shape[1:]))
        if flat.shape[1] > MAX_COLUMNS_OF_AN_OUTPUT:
            columns[name] = _as_text(array)
        elif name == "probabilities" and flat.shape[1] == len(classes):
            columns |= {f"probability_{label}": flat[:, at] for at, label in enumerate(classes)}
        else:
            columns |= {f"{name}_{at}": flat[:, at] for at in range(flat.shape[1])}
    return columns


def _to_matrix(array: NDArray[Any]) -> NDArray[Any]:
    """Return an array of lists of equal length, which a step has made, as numbers of shape (rows, values)."""
    if array.dtype != object or array.ndim > 1 or not all(type(value) is list for value in array):
        return array
    if len({len(value) for value in array}) != 1:
        return array
    made = np.array(array.tolist())
    return made if made.dtype.kind in "fiu" else array


def _as_text(array: NDArray[Any]) -> NDArray[Any]:
    texts = np.empty(len(array), dtype=object)
    texts[:] = [msgspec.json.encode(value).decode() for value in json_values(array)]
    return texts
