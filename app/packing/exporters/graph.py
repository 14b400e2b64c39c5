"""Dispatch to the exporters of estimators, and join, select and label the columns that they pass on."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike
from onnx import numpy_helper

from app.packing.exporters.builder import GraphBuilder
from app.packing.exporters.tensor import Tensor

__all__ = [
    "PREDICTORS", "TRANSFORMERS", "Features", "Graph", "NotExportable", "Outputs", "Tensor", "predictor", "transformer",
]  # fmt: skip

E = TypeVar("E")


class NotExportable(Exception):
    """An estimator or an option has no exact graph; the text is the reason, as the end of a sentence."""


Features = tuple[Tensor, ...]
"""Blocks of columns side by side, each of shape (rows, width): what transformers take and return."""

Outputs = dict[str, Tensor]
"""The outputs of a predictor by name: `prediction`, of shape (rows,) or (rows, targets), and, if the estimator has
them, `probabilities`, `decision_scores` and `transformed`, in the shapes of its methods."""

Transform = Callable[["Graph", Any, Features], Features]
Predict = Callable[["Graph", Any, Features], Outputs]

TRANSFORMERS: dict[str, Transform] = {}
PREDICTORS: dict[str, Predict] = {}
"""The exporters by the library and the name of the class, such as `sklearn.PCA`."""


def transformer(*classes: str) -> Callable[[Transform], Transform]:
    """Register the exporter of these classes; a class of another library is named like `lightgbm.LGBMClassifier`."""
    return functools.partial(_register, TRANSFORMERS, classes)


def predictor(*classes: str) -> Callable[[Predict], Predict]:
    """Register the exporter of these classes, as `transformer` does."""
    return functools.partial(_register, PREDICTORS, classes)


def _register(exporters: dict[str, E], classes: Sequence[str], export: E) -> E:
    exporters.update({name if "." in name else f"sklearn.{name}": export for name in classes})
    return export


class Graph(GraphBuilder):
    """The graph of an estimator, to which the exporters of its parts append nodes."""

    def __init__(self) -> None:
        super().__init__()
        self._sparse: dict[str, tuple[Tensor, Tensor]] = {}
        self._filled: dict[str, tuple[Tensor, list[str]]] = {}
        self._pieces: dict[str, Sequence[Tensor]] = {}

    def transform(self, estimator: Any, features: Features) -> Features:
        """Export a fitted transformer: return the columns that it computes from `features`.

        A predictor that also transforms has these columns as its output `transformed`.
        """
        name = _name_of(estimator)
        if name in TRANSFORMERS or name not in PREDICTORS:
            return _exporter_for(estimator, TRANSFORMERS)(self, estimator, features)
        return (self.predict(estimator, features)["transformed"],)

    def predict(self, estimator: Any, features: Features) -> Outputs:
        """Export a fitted predictor: return its outputs; reading one that it lacks raises `NotExportable`."""
        outputs = _exporter_for(estimator, PREDICTORS)(self, estimator, features)
        return _ExportedOutputs(type(estimator).__name__, outputs)

    def labels(self, classes: ArrayLike, index: Tensor) -> Tensor:
        """Return the labels at these indices, with the type of `predict`: (rows,) in, (rows,) out."""
        array = np.asarray(classes)
        types = {"i": "int64", "u": "int64", "b": "bool", "f": "float64", "U": "string", "O": "string"}
        type_ = types.get(array.dtype.kind, "")
        if not type_ or (type_ == "string" and not all(isinstance(label, str) for label in array.tolist())):
            raise NotExportable(f"its labels are of type {array.dtype}")
        if type_ == "int64" and np.array_equal(array, np.arange(len(array))):
            return index
        return self.node("Gather", [self.constant(array, type_), index], type_, None, axis=0)

    def pick(self, block: Tensor, position: int) -> Tensor:
        """Return one column of a block: (rows, columns) in, (rows,) out."""
        return self.take(block, position, axis=1)

    def scatter(self, columns: Tensor, values: Tensor, width: int) -> Tensor:
        """Scatter the values of each row into their columns, with zeros elsewhere: shape (rows, width).

        `columns` and `values` have shape (rows, most); values with the column `width` are left out. If the exporters
        that follow call `sparse` and do not read the result, the graph contains none of these nodes.
        """
        rows = self.node("Shape", [columns], "int64", None, start=0, end=1)
        shape = self.node("Concat", [rows, self.constant([width + 1], "int64")], "int64", None, axis=0)
        zero = numpy_helper.from_array(np.zeros(1))
        zeros = self.node("ConstantOfShape", [shape], "float64", width + 1, value=zero)
        filled = self.node("ScatterElements", [zeros, columns, values], "float64", width + 1, axis=1, reduction="add")
        limits = [self.constant([limit], "int64") for limit in (0, width, 1)]
        dense = self.node("Slice", [filled, *limits], "float64", width)
        self._sparse[dense.name] = (columns, values)
        return dense

    def sparse(self, block: Tensor) -> tuple[Tensor, Tensor] | None:
        """Return the columns and values that a block was scattered from; None for other blocks."""
        return self._sparse.get(block.name)

    def concat(self, tensors: Sequence[Tensor]) -> Tensor:
        """Join blocks of one element type side by side, shape (rows, sum of widths)."""
        if len(tensors) == 1:
            return tensors[0]
        width = sum(tensor.width or 0 for tensor in tensors)
        joined = self.node("Concat", tensors, tensors[0].type, width, axis=1)
        self._pieces[joined.name] = tensors
        return joined

    def note_filled(self, filled: Tensor, before: Tensor, fill: list[str]) -> None:
        """Note that `filled` is `before` with missing values replaced by these texts, one for each column."""
        self._filled[filled.name] = (before, fill)

    def before_filling(self, filled: Tensor) -> list[tuple[Tensor, str]] | None:
        """Return each column of a filled tensor before filling, shape (rows, 1), with its text; None if not known.

        An encoder can look up missing values like other strings, which saves copying all strings for the filling.
        """
        before, fill = self._filled.get(filled.name, (filled, []))
        columns = self._pieces.get(before.name, [before])
        if len(columns) != len(fill) or any(column.width != 1 for column in columns):
            return None
        return list(zip(columns, fill, strict=True))

    def matrix(self, features: Features, type_: str = "float64") -> Tensor:
        """Join all blocks into one tensor of shape (rows, columns) and this element type."""
        if type_ != "string" and any(tensor.type == "string" for tensor in features):
            raise NotExportable("it computes with a column of strings")
        if not features:
            raise NotExportable("it takes no columns")
        return self.concat([self.cast(tensor, type_) for tensor in features])

    def select(self, features: Features, positions: Sequence[int]) -> Features:
        """Return the columns at these positions, in this order; neighbours in one block stay one block."""
        places = [(block, column) for block in features for column in range(block.width or 0)]
        runs: list[tuple[Tensor, list[int]]] = []
        for block, column in (places[position] for position in positions):
            if runs and runs[-1][0] is block:
                runs[-1][1].append(column)
            else:
                runs.append((block, [column]))
        return tuple(
            block if columns == list(range(block.width or 0)) else self.take(block, columns, axis=1)
            for block, columns in runs
        )

    def split(self, features: Features) -> list[Tensor]:
        """Return each column as a tensor of shape (rows, 1)."""
        return [self.select((block,), [column])[0] for block in features for column in range(block.width or 0)]


class _ExportedOutputs(Outputs):
    """The outputs of an exported estimator; reading one that it lacks raises `NotExportable`."""

    def __init__(self, kind: str, outputs: Outputs) -> None:
        super().__init__(outputs)
        self._kind = kind

    def __missing__(self, name: str) -> Tensor:
        raise NotExportable(f"the graph of the {self._kind} in it does not give {name}")


def _name_of(estimator: Any) -> str:
    """Return the name under which the exporter for exactly this class is registered."""
    return f"{type(estimator).__module__.partition('.')[0]}.{type(estimator).__name__}"


def _exporter_for(estimator: Any, exporters: Mapping[str, E]) -> E:
    """Return the exporter for exactly this class; a derived class may compute something else."""
    if _name_of(estimator) not in exporters:
        raise NotExportable(f"there is no exporter for {type(estimator).__name__}")
    return exporters[_name_of(estimator)]
