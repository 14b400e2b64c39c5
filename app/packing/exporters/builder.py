"""Build an ONNX graph node by node.

All numbers are float64, as in scikit-learn, unless an exporter uses another type. Operators are those of the ONNX
specification (`ai.onnx` opset 21, `ai.onnx.ml` opset 5) that ONNX Runtime implements for float64 on a CPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import helper, numpy_helper

from app.packing.exporters.tensor import ELEMENT_TYPES, Operand, Tensor
from app.runtime.terms import PARTS, TERMS, TermCounter

OPSET, ML_OPSET, IR_VERSION = 21, 5, 10
ML = "ai.onnx.ml"


class GraphBuilder:
    """A graph under construction. It names all tensors, so that names of different exporters cannot collide."""

    def __init__(self) -> None:
        self.inputs: dict[str, Any] = {}
        self._counters: dict[str, TermCounter] = {}
        self._nodes: list[Any] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], Tensor] = {}
        self._initializers: list[Any] = []
        self._numbers = itertools.count(1)

    def input(self, name: str, type_: str, width: int | str) -> Tensor:
        """Add an input of shape (rows, width); a width that differs between batches has a name instead of a number."""
        self.inputs[name] = helper.make_tensor_value_info(name, ELEMENT_TYPES[type_], ["rows", width])
        return Tensor(name, type_, width if isinstance(width, int) else None, self)

    def terms(self, column: Tensor, counter: TermCounter) -> tuple[Tensor, Tensor]:
        """Replace a text input by two inputs: the columns of its terms, and their counts.

        Both have shape (rows, most terms), padded as `TermCounter.counts` says.
        """
        name = f"terms_{len(self._counters)}_of_{column.name}"
        self._counters[name] = counter
        columns, counts = (self.input(name + part, type_, f"{name}_most") for part, type_ in PARTS.items())
        return columns, counts

    def node(
        self,
        operator: str,
        inputs: Sequence[Tensor],
        type_: str,
        width: int | None,
        domain: str = "",
        **attributes: Any,
    ) -> Tensor:
        """Append a node with one output of this element type and width; `attributes` are those of the operator."""
        return self.node_outputs(operator, inputs, [(type_, width)], domain, **attributes)[0]

    def node_outputs(
        self,
        operator: str,
        inputs: Sequence[Tensor],
        outputs: Sequence[tuple[str, int | None]],
        domain: str = "",
        **attributes: Any,
    ) -> list[Tensor]:
        """Append a node with several outputs, each with its element type and width."""
        name = f"{operator}_{next(self._numbers)}"
        tensors = [Tensor(f"{name}_{k}" if k else name, type_, width, self) for k, (type_, width) in enumerate(outputs)]
        read, written = ([tensor.name for tensor in some] for some in (inputs, tensors))
        self._nodes.append(helper.make_node(operator, read, written, name=name, domain=domain, **attributes))
        return tensors

    def elementwise(self, operator: str, operands: Sequence[Operand], type_: str | None = None) -> Tensor:
        """Apply an operator to tensors, and to numbers and arrays, which become constants of the tensors' type.

        The result has the element type `type_`, or by default the type of the tensors. Operands are broadcast, so its
        width is the width of the widest operand; for a matrix product it is the width of the second factor.
        """
        of_operands = next((operand.type for operand in operands if isinstance(operand, Tensor)), "float64")
        inputs = [each if isinstance(each, Tensor) else self.constant(each, of_operands) for each in operands]
        factors = inputs[1:] if operator == "MatMul" else inputs
        width = max((tensor.width for tensor in factors if tensor.width is not None), default=None)
        return self.node(operator, inputs, type_ or of_operands, width)

    def where(self, condition: Tensor, values: Operand, others: Operand) -> Tensor:
        """Return the values where the condition is true, and the others elsewhere, as `numpy.where`."""
        type_ = next((each.type for each in (values, others) if isinstance(each, Tensor)), "float64")
        tensors = [each if isinstance(each, Tensor) else self.constant(each, type_) for each in (values, others)]
        return self.elementwise("Where", [condition, *tensors], type_)

    def take(self, values: Operand, indices: Operand, axis: int = 0) -> Tensor:
        """Return the elements of an axis at these indices, as `numpy.take`.

        The width of the result is the width of the table if rows of a matrix are taken, else that of the indices.
        """
        table = values if isinstance(values, Tensor) else self.constant(values)
        places = indices if isinstance(indices, Tensor) else self.constant(indices, "int64")
        rows = axis == 0 and (isinstance(values, Tensor) or np.ndim(values) > 1)
        return self.node("Gather", [table, places], table.type, table.width if rows else places.width, axis=axis)

    def argmax(self, scores: Tensor, *, last: bool = False) -> Tensor:
        """Return the column of the greatest value of each row: (rows, k) in, (rows,) out.

        Among equal values, it is the first column, as in NumPy, or the last column with `last`.
        """
        return self.node("ArgMax", [scores], "int64", None, axis=1, keepdims=0, select_last_index=int(last))

    def argmin(self, scores: Tensor) -> Tensor:
        """Return the first column with the least value of each row: (rows, k) in, (rows,) out."""
        return self.node("ArgMin", [scores], "int64", None, axis=1, keepdims=0, select_last_index=0)

    def any(self, values: Tensor) -> Tensor:
        """Return whether any element is true: a scalar."""
        return self.cast(self.node("ReduceMax", [self.cast(values, "int64")], "int64", None, keepdims=0), "bool")

    def loop(self, limit: int, state: Sequence[Tensor], body: Callable[[list[Tensor]], list[Tensor]]) -> list[Tensor]:
        """Apply `body` to the state in a loop, at most `limit` times, and return the last state.

        `body` returns a boolean scalar, whether to continue, followed by the next state.
        """
        number = next(self._numbers)
        before = [Tensor(f"state_{number}_{k}", tensor.type, tensor.width, self) for k, tensor in enumerate(state)]
        scalars = [Tensor(f"turn_{number}", "int64", None, self), Tensor(f"going_{number}", "bool", None, self)]
        graph = self._body(scalars, before, lambda: body(before))
        inputs = [self.constant(limit, "int64"), self.constant(True, "bool"), *state]
        return self.node_outputs("Loop", inputs, [(tensor.type, tensor.width) for tensor in state], body=graph)

    def branch(
        self, condition: Tensor, then: Callable[[], list[Tensor]], otherwise: Callable[[], list[Tensor]]
    ) -> list[Tensor]:
        """Return the tensors of `then` if the condition (one boolean) is true, else those of `otherwise`."""
        tensors: list[Tensor] = []

        def write_then() -> list[Tensor]:
            tensors.extend(then())
            return tensors

        branches = {"then_branch": self._body([], [], write_then), "else_branch": self._body([], [], otherwise)}
        return self.node_outputs("If", [condition], [(tensor.type, tensor.width) for tensor in tensors], **branches)

    def _body(self, scalars: Sequence[Tensor], inputs: Sequence[Tensor], write: Callable[[], list[Tensor]]) -> Any:
        """Return a subgraph of the nodes that `write` appends; they may read all tensors of the outer graph."""
        outside, self._nodes = self._nodes, []
        outputs = [self.node("Identity", [tensor], tensor.type, tensor.width) for tensor in write()]
        inside, self._nodes = self._nodes, outside
        infos = [
            [helper.make_tensor_value_info(tensor.name, ELEMENT_TYPES[tensor.type], shape) for tensor in tensors]
            for tensors, shape in ((scalars, []), (inputs, None), (outputs, None))
        ]
        return helper.make_graph(inside, f"body_{next(self._numbers)}", infos[0] + infos[1], infos[2])

    def constant(self, values: ArrayLike, type_: str = "float64") -> Tensor:
        """Return a constant of any shape; its width is the size of the last axis. Equal constants are stored once."""
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

    def sources(self, tensor: Tensor) -> set[str]:
        """Return the names of the inputs that a tensor is computed from."""
        needed = self._needed({tensor.name}, self._nodes)[1]
        columns = {name + part: counter.column for name, counter in self._counters.items() for part in PARTS}
        return {columns.get(name, name) for name in self.inputs.keys() & needed}

    def model(self, outputs: dict[str, Tensor]) -> onnx.ModelProto:
        """Return the finished model with these outputs by name, without the nodes that no output needs."""
        renamed = [
            helper.make_node("Identity", [tensor.name], [name], name=f"output_{name}")
            for name, tensor in outputs.items()
        ]
        nodes, needed = self._needed(set(outputs), [*self._nodes, *renamed])
        infos = [
            helper.make_tensor_value_info(
                name, ELEMENT_TYPES[tensor.type], ["rows"] if tensor.width is None else ["rows", tensor.width]
            )
            for name, tensor in outputs.items()
        ]
        counted = {counter.column for counter in self._counters.values()}
        inputs = [info for name, info in self.inputs.items() if name in needed or name not in counted]
        constants = [initializer for initializer in self._initializers if initializer.name in needed]
        graph = helper.make_graph(nodes, "retort", inputs, infos, constants)
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(ML, ML_OPSET)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="retort")
        if self._counters:
            helper.set_model_props(model, {TERMS: msgspec.json.encode(self._counters).decode()})
        return model

    @staticmethod
    def _needed(names: set[str], nodes: Sequence[Any]) -> tuple[list[Any], set[str]]:
        """Return the nodes that tensors of these names are computed by, in order, and the names of all they read."""
        kept = []
        for node in reversed(nodes):
            if names & set(node.output):
                names |= _read_by(node)
                kept.append(node)
        return kept[::-1], names


def _read_by(node: Any) -> set[str]:
    """Return the names of all tensors that a node reads, including those that its subgraphs read."""
    inner_nodes = (inner for attribute in node.attribute for inner in attribute.g.node)
    return set(node.input).union(*map(_read_by, inner_nodes))
