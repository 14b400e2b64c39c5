"""The answer of a model, independent of the protocol; and its flat columns, for tables in responses and in files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.signature.batch import Outputs, json_outputs, json_text, json_values, objects_of
from app.signature.watch import NO_WARNINGS, Warnings
from app.storage.manifest import Manifest

MAX_COLUMNS_OF_AN_OUTPUT = 10_000


@dataclass(frozen=True, slots=True)
class Answer:
    """Predictions of one model version.

    `outputs` holds one array by output name; axis 0 is the instance. `warnings` lists values that are new to the model.
    """

    outputs: Outputs
    classes: Sequence[object] | None
    model: str
    version: int
    warnings: Warnings = NO_WARNINGS

    @classmethod
    def of(cls, manifest: Manifest, outputs: Outputs, warnings: Warnings) -> Answer:
        """Return the answer of this version."""
        return cls(outputs, manifest.signature.classes, manifest.model, manifest.version, warnings)

    def values(self) -> dict[str, list[Any]]:
        """Return the outputs as JSON values, one for each instance."""
        return json_outputs(self.outputs)


def columns_of(answer: Answer) -> dict[str, NDArray[Any]]:
    """Return an answer as flat columns, each of shape (rows,).

    `prediction` keeps its name. Probabilities become `probability_<class>`; with several targets, they become
    `probability_<position of the target>_<class>`. Other outputs of several values become `<output>_<position>`. An
    output stays one column of JSON texts if its rows differ in length, or if two columns would have the same name.
    """
    columns: dict[str, NDArray[Any]] = {}
    for name, output in answer.outputs.items():
        labels = _labels(answer.classes or ()) if name == "probabilities" else []
        array = _to_matrix(output, len(labels))
        if array.ndim == 1:
            kinds = set(map(type, array)) if array.dtype == object else set[type]()
            nested = any(issubclass(kind, list | tuple | np.ndarray) for kind in kinds)
            columns[name] = _as_text(array) if nested else array
            continue
        flat = array.reshape(len(array), math.prod(array.shape[1:]))
        names = [f"probability_{label}" for label in labels]
        if flat.shape[1] != len(names):
            names = [f"{name}_{at}" for at in range(min(flat.shape[1], MAX_COLUMNS_OF_AN_OUTPUT + 1))]
        taken = {*columns, *answer.outputs}
        if len(names) > MAX_COLUMNS_OF_AN_OUTPUT or len({*names} - taken) < len(names):
            columns[name] = _as_text(array)
        else:
            columns |= {column: flat[:, at] for at, column in enumerate(names)}
    return columns


def column_names(manifest: Manifest) -> tuple[str, ...]:
    """Return the names of an answer's columns, taken from the first example of a version; none without an example."""
    outputs: dict[str, NDArray[Any]] = {}
    for example in manifest.examples[:1]:
        for name in (name for name in manifest.signature.defaults if name in example.outputs):
            outputs[name] = objects_of([example.outputs[name]])
    return tuple(columns_of(Answer.of(manifest, outputs, NO_WARNINGS)))


def _labels(classes: Sequence[object]) -> list[str]:
    """Return the classes as texts. With several targets, each text begins with the position of its target."""
    if classes and all(isinstance(labels, list) for labels in classes):
        targets: Sequence[Any] = classes
        return [f"{target}_{label}" for target, labels in enumerate(targets) for label in labels]
    return [str(label) for label in classes]


def _to_matrix(array: NDArray[Any], width: int) -> NDArray[Any]:
    """Return an array of lists of equal length, or of lists of lists with `width` numbers in all, as a matrix."""
    if not len(array) and width:
        return np.empty((0, width))  # without rows the array does not have the number of classes
    if array.dtype != object or array.ndim > 1 or not all(type(value) is list for value in array):
        return array
    rows = array.tolist()
    try:
        if width and all(type(row[0]) is list for row in rows):  # probabilities of several targets
            rows = [np.concatenate(row) for row in rows]
        matrix = np.array(rows)
    except (ValueError, IndexError):  # the rows differ in length
        return array
    return matrix if matrix.dtype.kind in "fiu" else array


def _as_text(array: NDArray[Any]) -> NDArray[Any]:
    return objects_of(list(map(json_text, json_values(array))))
