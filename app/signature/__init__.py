"""What a model takes and gives: the `Signature`, kept in the manifest; plain facts, no behaviour.

`kinds` knows each kind of input, `schema` builds the marshmallow schema that decides what is accepted, `batch` is what
accepted instances become.
"""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass

Scalar = str | int | float | bool


class Layout(enum.Enum):
    """How the estimator wants a batch handed over."""

    FRAME = "frame"  # a pandas DataFrame: the estimator was fitted with column names
    MATRIX = "matrix"  # a 2-D array: it was fitted without
    RECORDS = "records"  # a sequence of dicts whose names differ from row to row: a DictVectorizer comes first
    SEQUENCE = "sequence"  # a 1-D array of texts: a text vectorizer comes first


@dataclass(frozen=True, slots=True)
class Picture:
    """What becomes of an image: it is converted to the mode ("L" or "RGB") and resized to width by height pixels.

    A value is then pixel / `divisor` + `offset`, where a pixel is 0 to 255. `pixel_limit` is the most pixels that an
    image may have when it comes; where it is None, the server's setting says.
    """

    mode: str
    width: int
    height: int
    divisor: float = 1.0
    offset: float = 0.0
    pixel_limit: int | None = None


@dataclass(frozen=True, slots=True)
class Input:
    """One input of a model, in the units that it was trained in.

    `dtype` is the NumPy or pandas dtype of the column that the estimator sees; where it is "category", `ordered` says
    whether the categories have an order. `minimum` and `maximum` are what was seen in training, not limits. Limits are
    `largest`, the absolute value beyond which the model fails (trees compute in float32), and `least` and `most`, the
    ends of the numbers that it answers (a logarithm). `categories` are the values seen; others are refused where
    `unseen` is "reject", and told of in the answer where it is "warn". `missing` says what stands for a missing value
    in a column of objects: "nan", "none" or "na"; with a number or a boolean "na" marks pandas' nullable dtype.
    An array, and an image as the model sees it, have a `shape`; `nullable` then speaks of the elements.
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
        """Whether null is accepted in its place; of arrays and records `nullable` speaks of what is in them."""
        return self.nullable and self.shape is None and self.kind != "record"

    @property
    def width(self) -> int:
        """How many columns of a matrix it is."""
        return math.prod(self.shape or ())

    @property
    def closed(self) -> bool:
        """Whether only the categories seen in training are accepted."""
        return self.categories is not None and self.unseen == "reject"


@dataclass(frozen=True, slots=True)
class Signature:
    """The inputs, in the order of a row, and the names of the outputs; `defaults` are those given when none are asked.

    `classes` are the labels in the order of the columns of `probabilities`; a list of them for each target where there
    is more than one target (`multioutput`). `out_of_range` says what becomes of numbers outside the range seen in
    training ("ignore", "warn", "reject"); where it is None, the server's setting does.
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
        """Whether an instance may be the value of the only input itself: neither a record nor a row, so no mistake."""
        return len(self.inputs) == 1 and self.inputs[0].kind not in ("array", "record")

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the inputs, in the order of a row."""
        return tuple(spec.name for spec in self.inputs)
