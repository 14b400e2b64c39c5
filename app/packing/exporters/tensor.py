"""Values in a graph under construction, with the operators of Python and functions named as in NumPy.

An operator appends a node to the graph of its tensor, so that an exporter reads like the formula of scikit-learn:
`(x - est.mean_) / est.scale_`. Numbers and arrays become constants of the tensor's type.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike
from onnx import TensorProto

if TYPE_CHECKING:
    from app.packing.exporters.builder import GraphBuilder

ELEMENT_TYPES = {
    "float64": TensorProto.DOUBLE,
    "float32": TensorProto.FLOAT,
    "int64": TensorProto.INT64,
    "bool": TensorProto.BOOL,
    "string": TensorProto.STRING,
}


def _unary(operator: str, type_: str | None = None) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.graph.elementwise(operator, [tensor], type_)


def _binary(operator: str, type_: str | None = None) -> Callable[[Tensor, Operand], Tensor]:
    return lambda tensor, other: tensor.graph.elementwise(operator, [tensor, other], type_)


def _reflected(operator: str) -> Callable[[Tensor, ArrayLike], Tensor]:
    return lambda tensor, other: tensor.graph.elementwise(operator, [other, tensor])


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value in the graph. `width` is the number of columns, the size of the last axis; None for shape (rows,)."""

    name: str
    type: str
    width: int | None
    graph: GraphBuilder = field(repr=False, compare=False)

    __array_ufunc__ = None  # so that `array * tensor` calls `Tensor.__rmul__`

    def __post_init__(self) -> None:
        if self.type not in ELEMENT_TYPES:
            raise AssertionError(f"{self.type} is not an element type")

    __add__, __radd__ = _binary("Add"), _reflected("Add")
    __sub__, __rsub__ = _binary("Sub"), _reflected("Sub")
    __mul__, __rmul__ = _binary("Mul"), _reflected("Mul")
    __truediv__, __rtruediv__ = _binary("Div"), _reflected("Div")
    __pow__, __rpow__ = _binary("Pow"), _reflected("Pow")
    __matmul__ = _binary("MatMul")
    __neg__, __abs__ = _unary("Neg"), _unary("Abs")
    __lt__, __le__ = _binary("Less", "bool"), _binary("LessOrEqual", "bool")
    __gt__, __ge__ = _binary("Greater", "bool"), _binary("GreaterOrEqual", "bool")
    __and__, __invert__ = _binary("And", "bool"), _unary("Not", "bool")
    equal = _binary("Equal", "bool")
    maximum, minimum = _binary("Max"), _binary("Min")
    exp, log, sqrt, reciprocal = _unary("Exp"), _unary("Log"), _unary("Sqrt"), _unary("Reciprocal")
    ceil, floor, round, sign = _unary("Ceil"), _unary("Floor"), _unary("Round"), _unary("Sign")
    cos, sin, sigmoid, tanh = _unary("Cos"), _unary("Sin"), _unary("Sigmoid"), _unary("Tanh")
    isnan, isinf = _unary("IsNaN", "bool"), _unary("IsInf", "bool")

    def clip(self, low: Operand, high: Operand) -> Tensor:
        """Limit the values to the range from `low` to `high`, as `numpy.clip`."""
        return self.graph.elementwise("Clip", [self, low, high])

    def unsqueeze(self, axis: int) -> Tensor:
        """Insert an axis of size 1."""
        width = 1 if axis == 2 or self.width is None else self.width
        return self.graph.node("Unsqueeze", [self, self.graph.constant([axis], "int64")], self.type, width)


Operand = Tensor | ArrayLike | Any
