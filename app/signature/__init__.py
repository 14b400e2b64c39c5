"""The inputs and outputs of a model: its `Signature`, as the manifest stores it.

`kinds` implements each kind of input, `schema` builds the marshmallow schema that decides which values are accepted,
and `batch` holds accepted instances.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1

Scalar = str | int | float | bool

Rule = Callable[[Any], str | None]
"""Returns the reason why a value is refused, as the end of a sentence; None if it is accepted."""

EXPLANATION = "explanation"
"""The output that says how much each input adds to another output."""


class Layout(enum.Enum):
    """The form of a batch that the estimator takes."""

    FRAME = "frame"  # a pandas DataFrame: the estimator was fitted with column names
    MATRIX = "matrix"  # a 2-D array: it was fitted without
    RECORDS = "records"  # a sequence of dicts whose names differ from row to row: a DictVectorizer comes first
    SEQUENCE = "sequence"  # a 1-D array of texts: a text vectorizer comes first


@dataclass(frozen=True, slots=True)
class Picture:
    """The conversion of an image: to the mode ("L" or "RGB"), then to width by height pixels.

    A value is then pixel / `divisor` + `offset`, where a pixel is 0 to 255. `pixel_limit` is the largest number of
    pixels before the conversion; None means the server's setting.
    """

    mode: str
    width: int
    height: int
    divisor: float = 1.0
    offset: float = 0.0
    pixel_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model, in the units of its training data.

    `dtype` is the NumPy or pandas dtype of the estimator's column; `ordered` applies to the dtype "category" only.
    `minimum` and `maximum` are the range seen in training, not limits. The limits are `largest`, an absolute value
    (trees compute in float32), and `least` and `most` (for example of a logarithm). `categories` are the values seen in
    training; others are refused if `unseen` is "reject", and reported as warnings if it is "warn". `missing` is the
    marker of a missing value in a column of objects: "nan", "none" or "na"; with a number or a boolean, "na" means
    pandas' nullable dtype. Arrays and images have a `shape`; `nullable` then applies to their elements.
    """

    name: str
    kind: str
    dtype: str
    nullable: bool = False
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Scalar, ...] | None = None
    unseen: str = "accept"
    largest: float | None = None
    missing: str = "nan"
    example: object = None
    shape: tuple[int, ...] | None = None
    image: Picture | None = None
    ordered: bool = False
    least: float | None = None
    most: float | None = None

    @property
    def may_be_missing(self) -> bool:
        """Whether null is accepted as its value. For arrays and records, `nullable` applies to their elements."""
        return self.nullable and self.shape is None and self.kind != "record"

    @property
    def width(self) -> int:
        """The number of columns in a matrix."""
        return math.prod(self.shape or ())

    @property
    def closed(self) -> bool:
        """Whether only the categories seen in training are accepted."""
        return self.categories is not None and self.unseen == "reject"


@dataclass(frozen=True)
class Signature:
    """The inputs in the order of a row, and the names of the outputs.

    `defaults` are the outputs of a request that names none. `classes` are the labels in the order of the columns of
    `probabilities`; with several targets (`multioutput`), a list of labels for each. `out_of_range` is "ignore", "warn"
    or "reject" for numbers outside the range seen in training; None means the server's setting.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    defaults: tuple[str, ...]
    layout: Layout
    classes: tuple[object, ...] | None = None
    multioutput: bool = False
    out_of_range: str | None = None

    @property
    def takes_bare(self) -> bool:
        """Whether an instance may be the bare value of the only input, instead of a record or a row."""
        return len(self.inputs) == 1 and self.inputs[0].kind not in ("array", "record")

    @property
    def is_plain(self) -> bool:
        """Whether every input is a number in float64, so that a batch is one matrix."""
        return all(spec.kind == "number" and spec.dtype == "float64" for spec in self.inputs)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs, in the order of a row."""
        return tuple(spec.name for spec in self.inputs)


def is_missing(value: object) -> bool:
    """Return whether a value stands for a missing one: null, or NaN."""
    return value is None or (type(value) is float and value != value)


def type_name(value: object) -> str:
    """Return the JSON name of a value's type, for error messages."""
    names = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}
    return "a file" if type(value) is bytes else names.get(type(value), "null")


def range_seen(spec: Input) -> str:
    """Return the range seen in training as text; empty if it is not known."""
    if spec.minimum is None or spec.maximum is None:
        return ""
    return f"seen in training: {spec.minimum:.6g} to {spec.maximum:.6g}"
