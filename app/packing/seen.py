"""The inputs of a model as far as its estimator and the columns of its sample tell, before the model is asked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from app.errors import PackingRefused
from app.packing import inspect
from app.packing.inspect import Facts
from app.packing.trial import MAX_SAMPLE_ROWS, Record
from app.signature import Input, Layout, Scalar
from app.signature.batch import json_values

MAX_GUESSED_CATEGORIES = 30


def inputs_of(
    estimator: Any, frame: pd.DataFrame | None, text_name: str | None = None, columns: Sequence[str] = ()
) -> tuple[tuple[Input, ...], Layout]:
    """The inputs, and how the estimator wants them handed over.

    A model of texts does not know the name of its input: it is `text_name`, or that of the sample's column. `columns`
    are the names of the inputs of a model that was fitted without names.

    Raises:
        PackingRefused: a column of the sample holds what no kind of input fits.
    """
    names, width = inspect.names_of(estimator), inspect.width_of(estimator)
    if inspect.takes_text(estimator):
        column = "feature1" if frame is None else str(frame.columns[0])
        return (Input(text_name or column, "text", "object"),), Layout.SEQUENCE
    if frame is not None and names is None and width is None:
        names = [str(name) for name in frame.columns]  # only the sample knows
    layout = Layout.MATRIX if names is None else Layout.FRAME
    if names is None:
        # A model that does not say how wide it is (isotonic regression) may take one column: it is asked.
        names = list(columns) or [f"feature{position + 1}" for position in range(width or 1)]
    facts = inspect.facts_of(estimator, len(names))
    seen = [None] * len(names) if frame is None else [frame.iloc[:, position] for position in range(len(names))]
    inputs = tuple(map(_input, names, facts, seen))
    times = [spec.name for spec in inputs if spec.kind == "timestamp"]
    if layout is Layout.MATRIX and times:
        raise PackingRefused(
            f"column {times[0]!r} of the sample holds times; only a model fitted on a frame takes them"
        )
    return inputs, layout


def _input(name: str, facts: Facts, column: pd.Series[Any] | None) -> Input:
    """One input from what the estimator knows of it and the sample's column, if there is one."""
    seen = _Seen(name, column)
    low = seen.minimum if seen.minimum is not None else facts.minimum
    high = seen.maximum if seen.maximum is not None else facts.maximum
    if seen.kind == "timestamp":
        return Input(name, "timestamp", seen.dtype or "")
    if facts.text:
        return Input(name, "text", seen.dtype or "object")
    if facts.categories is not None:
        kind_of_values = {type(value) for value in facts.categories}
        dtype = (
            "str" if str in kind_of_values else "bool" if kind_of_values == {bool} else _number_dtype(facts.categories)
        )
        return Input(name, "category", seen.dtype or dtype, categories=facts.categories, minimum=low, maximum=high)
    if seen.kind is None and not facts.used:
        return Input(name, "unused", "float64", nullable=True)
    if seen.kind is None:
        return Input(name, "number", "float64", minimum=low, maximum=high)
    return Input(
        name,
        seen.kind,
        seen.dtype or "float64",
        minimum=low,
        maximum=high,
        categories=seen.categories,
        missing=seen.missing,
    )


class _Seen:
    """What a column of the sample tells: kind, dtype, range, categories."""

    def __init__(self, name: str, column: pd.Series[Any] | None) -> None:
        self.kind: str | None = None
        self.dtype: str | None = None
        self.minimum: float | None = None
        self.maximum: float | None = None
        self.categories: tuple[Scalar, ...] | None = None
        self.missing = "nan"
        if column is None:
            return
        self.dtype = str(column.dtype)
        present = column.dropna()
        if isinstance(column.dtype, pd.CategoricalDtype):
            self.kind, self.dtype = "category", "category"
            self.categories = tuple(column.dtype.categories.tolist())
        elif pd.api.types.is_bool_dtype(column.dtype) or (len(present) and set(map(type, present)) == {bool}):
            self.kind = "boolean"
        elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype):
            self.kind = "integer" if column.dtype.kind in "iu" else "number"
            # Of pandas' nullable dtypes the integers stay what they are, floats are served as NumPy's.
            self.missing = "na" if self.dtype[0] in "IU" else "nan"
            self.dtype = self.dtype.lower()
            if len(present):
                self.minimum, self.maximum = float(present.min()), float(present.max())
        elif isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M":
            self.kind = "timestamp"
        elif set(map(type, present)) <= {str} and self.dtype in ("object", "str", "string"):
            values = sorted(present.unique().tolist())
            repeated = 0 < len(values) <= MAX_GUESSED_CATEGORIES and len(present) >= 2 * len(values)
            self.kind = "category" if repeated else "text"
            self.categories = tuple(values) if repeated else None
        else:
            raise PackingRefused(
                f"column {name!r} of the sample holds {self.dtype} values, which no kind of input fits"
            )


def _number_dtype(values: Sequence[Any]) -> str:
    return "int64" if all(type(value) is int for value in values) else "float64"


def records_of(frame: pd.DataFrame, names: Sequence[str]) -> list[Record]:
    """The first rows of a sample as JSON records, under the names of the signature."""
    columns = []
    for position in range(len(names)):
        column = frame.iloc[:MAX_SAMPLE_ROWS, position]
        plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufb"
        # An array of objects keeps whole numbers whole beside a missing value.
        objects = column if plain else column.astype(object).where(column.notna(), None)
        if column.dtype.kind == "M":
            objects = objects.map(lambda time: None if time is None or time != time else time.isoformat())
            objects = objects.astype(object).where(objects.notna(), None)
        columns.append(json_values(objects.to_numpy()))
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]
