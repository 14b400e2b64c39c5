"""Build an ONNX graph node by node.

All numbers are float64, as in scikit-learn, unless an exporter uses another type. Operators are those of the ONNX
specification (`ai.onnx` opset 21, `ai.onnx.ml` opset 5) that ONNX Runtime implements for float64 on a CPU.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

from app.packing.exporters.tensor import ELEMENT_TYPES, Operand, Tensor
from app.runtime.terms import PARTS, TERMS, TermCounter

__all__ = [
    "ML", "PREDICTORS", "TRANSFORMERS", "Features", "Graph", "NotExportable", "Outputs", "Tensor", "predictor",
    "transformer",
]  # fmt: skip

OPSET, ML_OPSET, IR_VERSION = 21, 5, 10
ML = "ai.onnx.ml"

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
    """Register the exporter of these classes, those of other libraries as in `lightgbm.LGBMClassifier`."""
    return functools.partial(_registered, TRANSFORMERS, classes)


def predictor(*classes: str) -> Callable[[Predict], Predict]:
    """Register the exporter of these classes, as `transformer` does."""
    return functools.partial(_registered, PREDICTORS, classes)


def _registered(exporters: dict[str, E], classes: Sequence[str], export: E) -> E:
    exporters.update({name if "." in name else f"sklearn.{name}": export for name in classes})
    return export


class Graph:
    """A graph under construction. It names all tensors, so that names of different exporters cannot collide."""

    def __init__(self) -> None:
        self._inputs: list[Any] = []
        self._counters: dict[str, TermCounter] = {}
        self._sparse: dict[str, tuple[Tensor, Tensor]] = {}
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Tensor] = {}
        self._initializers: list[Any] = []
        self._numbers = itertools.count(1)
        self._filled: dict[str, tuple[Tensor, list[str]]] = {}
        self._pieces: dict[str, Sequence[Tensor]] = {}

    def transform(self, estimator: Any, features: Features) -> Features:
        """Export a fitted transformer: return the columns that it makes of these.

        Of a predictor that transforms as well, they are the output `transformed`.
        """
        if _name_of(estimator) in TRANSFORMERS or _name_of(estimator) not in PREDICTORS:
            return _exporter_for(estimator, TRANSFORMERS)(self, estimator, features)
        return (self.predict(estimator, features)["transformed"],)

    def predict(self, estimator: Any, features: Features) -> Outputs:
        """Export a fitted predictor: return its outputs for these columns; reading another one is refused."""
        return _ExportedOutputs(
            type(estimator).__name__, _exporter_for(estimator, PREDICTORS)(self, estimator, features)
        )

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

    def argmax(self, scores: Tensor, *, last: bool = False) -> Tensor:
        """Return the column of the greatest value of each row: (rows, k) in, (rows,) out.

        Of equal values it is the first, as in NumPy, or with `last` the last.
        """
        return self.node("ArgMax", [scores], "int64", None, axis=1, keepdims=0, select_last_index=int(last))

    def argmin(self, scores: Tensor) -> Tensor:
        """Return the first column with the least value of each row: (rows, k) in, (rows,) out."""
        return self.node("ArgMin", [scores], "int64", None, axis=1, keepdims=0, select_last_index=0)

    def any(self, values: Tensor) -> Tensor:
        """Whether any element is true: a scalar."""
        return self.cast(self.node("ReduceMax", [self.cast(values, "int64")], "int64", None, keepdims=0), "bool")

    def column(self, values: Tensor) -> Tensor:
        """Return one value for each row as a block: (rows,) in, (rows, 1) out."""
        return values.unsqueeze(1)

    def pick(self, block: Tensor, position: int) -> Tensor:
        """Return one column as one value for each row: (rows, columns) in, (rows,) out."""
        return self.take(block, position, axis=1)

    def input(self, name: str, type_: str, width: int) -> Tensor:
        """Add an input to the graph, shape (rows, width)."""
        self._inputs.append(helper.make_tensor_value_info(name, ELEMENT_TYPES[type_], ["rows", width]))
        return Tensor(name, type_, width, self)

    def terms(self, column: Tensor, counter: TermCounter) -> tuple[Tensor, Tensor]:
        """Replace a text input of the graph by the columns of its terms and their counts.

        Both have shape (rows, most): see `TermCounter.counts` and `scattered`.
        """
        if column.name not in {known.name for known in self._inputs}:
            raise NotExportable("its texts are changed before it counts their words")
        name = f"terms_{len(self._counters)}_of_{column.name}"
        self._counters[name] = counter
        columns, values = (Tensor(name + part, type_, None, self) for part, type_ in PARTS.items())
        self._inputs += [
            helper.make_tensor_value_info(part.name, ELEMENT_TYPES[part.type], ["rows", f"{name}_most"])
            for part in (columns, values)
        ]
        return columns, values

    def scattered(self, columns: Tensor, values: Tensor, width: int) -> Tensor:
        """Scatter the values of each row into their columns, with zeros elsewhere: shape (rows, width).

        Columns and values have shape (rows, most); the column `width` means no column. An exporter that uses `sparse`
        instead of the result spares the graph the zeros, and these nodes.
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

    def node(
        self,
        operator: str,
        inputs: Sequence[Tensor],
        type_: str,
        width: int | None,
        domain: str = "",
        **attributes: Any,
    ) -> Tensor:
        """Append a node with one output of this element type and width; attributes are those of the operator."""
        return self.several(operator, inputs, [(type_, width)], domain, **attributes)[0]

    def several(
        self,
        operator: str,
        inputs: Sequence[Tensor],
        outputs: Sequence[tuple[str, int | None]],
        domain: str = "",
        **attributes: Any,
    ) -> list[Tensor]:
        """Append a node with several outputs, each with its element type and width."""
        name = f"{operator}_{next(self._numbers)}"
        names = [tensor.name for tensor in inputs]
        given = [Tensor(f"{name}_{k}" if k else name, type_, width, self) for k, (type_, width) in enumerate(outputs)]
        made = helper.make_node(operator, names, [t.name for t in given], name=name, domain=domain, **attributes)
        self._nodes.append(made)
        return given

    def elementwise(self, operator: str, operands: Sequence[Operand], type_: str | None = None) -> Tensor:
        """Apply an operator to tensors, and to numbers and arrays, which become constants of the tensors' type.

        The result has the element type `type_` or that of the tensors. Its width is that of the widest operand, as
        operands are broadcast; that of a matrix product is the width of the second factor.
        """
        of_operands = next((operand.type for operand in operands if isinstance(operand, Tensor)), "float64")
        inputs = [each if isinstance(each, Tensor) else self.constant(each, of_operands) for each in operands]
        factors = inputs[1:] if operator == "MatMul" else inputs
        width = max((tensor.width for tensor in factors if tensor.width is not None), default=None)
        return self.node(operator, inputs, type_ or of_operands, width)

    def where(self, condition: Tensor, values: Operand, others: Operand) -> Tensor:
        """Return the values where the condition holds, and the others elsewhere."""
        type_ = next((each.type for each in (values, others) if isinstance(each, Tensor)), "float64")
        tensors = [each if isinstance(each, Tensor) else self.constant(each, type_) for each in (values, others)]
        return self.elementwise("Where", [condition, *tensors], type_)

    def take(self, values: Operand, indices: Operand, axis: int = 0) -> Tensor:
        """Return the elements of an axis at these indices, as `numpy.take`.

        Of a table without columns, and of columns, the width is that of the indices; of rows it is that of the table.
        """
        table = values if isinstance(values, Tensor) else self.constant(values)
        places = indices if isinstance(indices, Tensor) else self.constant(indices, "int64")
        rows = axis == 0 and (isinstance(values, Tensor) or np.ndim(values) > 1)
        return self.node("Gather", [table, places], table.type, table.width if rows else places.width, axis=axis)

    def loop(self, limit: int, state: Sequence[Tensor], body: Callable[[list[Tensor]], list[Tensor]]) -> list[Tensor]:
        """Apply `body` to the state in a loop, at most `limit` times, and return the last state.

        The body returns a boolean scalar, whether to go on, and then the next state.
        """
        number = next(self._numbers)
        before = [Tensor(f"state_{number}_{k}", tensor.type, tensor.width, self) for k, tensor in enumerate(state)]
        counters = [Tensor(f"turn_{number}", "int64", None, self), Tensor(f"going_{number}", "bool", None, self)]
        graph = self._body(counters, before, lambda: body(before))
        going = [self.constant(limit, "int64"), self.constant(True, "bool")]
        return self.several("Loop", [*going, *state], [(t.type, t.width) for t in state], body=graph)

    def branch(
        self, condition: Tensor, then: Callable[[], list[Tensor]], otherwise: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        """Return the tensors of `then` if the condition (one boolean) holds, else those of `otherwise`."""
        given: list[Tensor] = []

        def noted() -> list[Tensor]:
            given.extend(then())
            return given

        branches = {"then_branch": self._body([], [], noted), "else_branch": self._body([], [], otherwise)}
        return self.several("If", [condition], [(t.type, t.width) for t in given], **branches)

    def _body(self, scalars: Sequence[Tensor], inputs: Sequence[Tensor], write: Callable[[], list[Tensor]]) -> Any:
        """Return a graph inside this one, of the nodes that `write` appends. It can use all tensors of this one."""
        outside, self._nodes = self._nodes, []
        outputs = [self.node("Identity", [tensor], tensor.type, tensor.width) for tensor in write()]
        inside, self._nodes = self._nodes, outside
        infos = [
            [helper.make_tensor_value_info(tensor.name, ELEMENT_TYPES[tensor.type], shape) for tensor in tensors]
            for tensors, shape in ((scalars, []), (inputs, None), (outputs, None))
        ]
        return helper.make_graph(inside, f"body_{next(self._numbers)}", infos[0] + infos[1], infos[2])

    def constant(self, values: ArrayLike, type_: str = "float64") -> Tensor:
        """Return a constant of any shape; its `width` is the size of the last axis. Equal constants are stored once."""
        if type_ == "string":
            array: NDArray[Any] = np.asarray(values, dtype=object)
            key = (type_, array.shape, repr(array.tolist()).encode())
        else:
            array = np.ascontiguousarray(np.asarray(values, dtype=type_)).reshape(np.shape(values))
            key = (type_, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._initializers.append(numpy_helper.from_array(array, name))
            self._constants[key] = Tensor(name, type_, array.shape[-1] if array.ndim else None, self)
        return self._constants[key]

    def cast(self, tensor: Tensor, type_: str) -> Tensor:
        """Convert a tensor to an element type, rounding like `astype`."""
        if tensor.type == type_:
            return tensor
        return self.node("Cast", [tensor], type_, tensor.width, to=ELEMENT_TYPES[type_])

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
        found: list[Tensor] = []
        for block, columns in self._located(features, positions):
            if columns == list(range(block.width or 0)):
                found.append(block)
            else:
                found.append(self.take(block, columns, axis=1))
        return tuple(found)

    def split(self, features: Features) -> list[Tensor]:
        """Return each column as a tensor of shape (rows, 1)."""
        total = sum(block.width or 0 for block in features)
        return [column for position in range(total) for column in self.select(features, [position])]

    def sources(self, tensor: Tensor) -> set[str]:
        """Return the names of the inputs that a tensor is computed from."""
        needed = {tensor.name}
        for node in reversed(self._nodes):
            if needed & set(node.output):
                needed |= _read_by(node)
        texts = {name + part: counter.column for name, counter in self._counters.items() for part in PARTS}
        return {texts.get(known.name, known.name) for known in self._inputs if known.name in needed}

    def model(self, outputs: dict[str, Tensor]) -> onnx.ModelProto:
        """Return the finished model with these outputs by name; nodes that no output needs are left out."""
        nodes = list(self._nodes)
        for name, tensor in outputs.items():
            nodes.append(helper.make_node("Identity", [tensor.name], [name], name=f"output_{name}"))
        needed = {tensor.name for tensor in outputs.values()} | set(outputs)
        kept = []
        for node in reversed(nodes):
            if needed & set(node.output):
                needed |= _read_by(node)
                kept.append(node)
        infos = [
            helper.make_tensor_value_info(
                name, ELEMENT_TYPES[tensor.type], ["rows"] if tensor.width is None else ["rows", tensor.width]
            )
            for name, tensor in outputs.items()
        ]
        counted = {counter.column for counter in self._counters.values()}
        inputs = [known for known in self._inputs if known.name in needed or known.name not in counted]
        constants = [initializer for initializer in self._initializers if initializer.name in needed]
        graph = helper.make_graph(kept[::-1], "retort", inputs, infos, constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        made = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="retort")
        if self._counters:
            helper.set_model_props(made, {TERMS: msgspec.json.encode(self._counters).decode()})
        return made

    @staticmethod
    def _located(features: Features, positions: Sequence[int]) -> list[tuple[Tensor, list[int]]]:
        """Group positions into runs of columns of one block."""
        place = [(block, column) for block in features for column in range(block.width or 0)]
        runs: list[tuple[Tensor, list[int]]] = []
        for position in positions:
            block, column = place[position]
            if runs and runs[-1][0] is block:
                runs[-1][1].append(column)
            else:
                runs.append((block, [column]))
        return runs


class _ExportedOutputs(Outputs):
    """The outputs of an exported estimator; reading one that it lacks raises `NotExportable`."""

    def __init__(self, kind: str, outputs: Outputs) -> None:
        super().__init__(outputs)
        self._kind = kind

    def __missing__(self, name: str) -> Tensor:
        raise NotExportable(f"the graph of the {self._kind} in it does not give {name}")


def _read_by(node: Any) -> set[str]:
    """Return the names of all tensors that a node reads, including those read by graphs inside it."""
    inside = (inner for attribute in node.attribute for inner in attribute.g.node)
    return set(node.input).union(*map(_read_by, inside))


def _name_of(estimator: Any) -> str:
    """Return the name under which the exporter for exactly this class is registered."""
    return f"{type(estimator).__module__.partition('.')[0]}.{type(estimator).__name__}"


def _exporter_for(estimator: Any, exporters: Mapping[str, E]) -> E:
    """Return the exporter for exactly this class; a derived class may compute something else."""
    if _name_of(estimator) not in exporters:
        raise NotExportable(f"there is no exporter for {type(estimator).__name__}")
    return exporters[_name_of(estimator)]
