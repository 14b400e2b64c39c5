"""Draft the inputs of a signature from the estimator and the sample, before the model is probed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.errors import PackingRefused
from app.packing import inspect
from app.packing.facts import TEXT, Facts, facts_of, name_of
from app.packing.probe import MAX_SAMPLE_ROWS, Record
from app.runtime.servable import NULLABLE
from app.signature import Input, Layout, Scalar, Signature
from app.signature.batch import json_values

MAX_GUESSED_CATEGORIES = 30
STRINGS = ("string[python]", "string[pyarrow]")


def inputs_of(
    estimator: Any, frame: pd.DataFrame | None, text_name: str | None = None, columns: Sequence[str] = ()
) -> tuple[tuple[Input, ...], Layout]:
    """Draft the inputs, and the layout in which the estimator takes them.

    A model of texts does not know the name of its input: it is `text_name`, or else the name of the sample's column.
    `columns` are the names of the inputs of a model that was fitted without names.
    """
    names, width = inspect.names_of(estimator), inspect.width_of(estimator)
    if inspect.takes_text(estimator):
        column = "feature1" if frame is None else str(frame.columns[0])
        return (Input(text_name or column, "text", "object"),), Layout.SEQUENCE
    if frame is not None and names is None and width is None:
        names = [str(name) for name in frame.columns]  # only the sample has names
    layout = Layout.MATRIX if names is None else Layout.FRAME
    if names is None:
        # A model without a width (isotonic regression) may take one column; probing will show.
        names = list(columns) or [f"feature{position + 1}" for position in range(width or 1)]
    facts = facts_of(estimator, len(names))
    found = [None] * len(names) if frame is None else [frame.iloc[:, position] for position in range(len(names))]
    inputs = tuple(map(_input, names, facts, found))
    times = [spec.name for spec in inputs if spec.kind == "timestamp"]
    if layout is Layout.MATRIX and times:
        raise PackingRefused(
            f"column {times[0]!r} of the sample holds times; only a model fitted on a frame takes them"
        )
    return inputs, layout


def _input(name: str, facts: Facts, column: pd.Series[Any] | None) -> Input:
    """Draft one input from the facts of the estimator and from its column in the sample."""
    sample = _SampleColumn(name, column)
    low = sample.minimum if sample.minimum is not None else facts.minimum
    high = sample.maximum if sample.maximum is not None else facts.maximum
    if facts.dtype == "object" and sample.dtype != "category":  # encoders turn no other dtype into objects
        sample.dtype, sample.missing = "object", "nan"
    missing = sample.missing if sample.missing == "na" else learned_marker(facts) or sample.missing
    if sample.kind == "timestamp" or (sample.kind is None and (facts.dtype or "").startswith("datetime64")):
        return Input(name, "timestamp", sample.dtype or facts.dtype or "")
    if facts.text:
        return Input(name, "text", sample.dtype or "object", missing=missing)
    if facts.categories is not None:
        categories, kinds = facts.categories, {type(value) for value in facts.categories}
        numbers = "bool" if kinds == {bool} else "int64" if kinds <= {int} else "float64"
        dtype = TEXT if str in kinds else numbers
        if sample.dtype == "category" and set(sample.categories or ()) == set(categories):
            categories = sample.categories or ()  # the same categories, in the order of their codes
        dtype = _training_dtype(facts, sample.dtype or dtype)
        return Input(name, "category", dtype, False, low, high, categories, missing=missing, ordered=sample.ordered)
    if sample.kind is None and not facts.used:
        return Input(name, "unused", "float64", nullable=True)
    kind = sample.kind or "number"
    dtype = _training_dtype(facts, sample.dtype or "float64")
    if kind in ("number", "integer") and facts.narrow and dtype in ("float64", "int64"):
        kind, dtype = "number", "float32"
    return Input(
        name,
        kind,
        dtype,
        minimum=low,
        maximum=high,
        categories=sample.categories,
        missing=missing,
        ordered=sample.ordered,
    )


def learned_marker(facts: Facts) -> str | None:
    """Return the marker of missing values that the estimator has learned; prefer "none", because JSON has null."""
    learned: set[str | None] = {*facts.missing} or {facts.fills}
    return next((marker for marker in ("none", "na", "nan") if marker in learned), None)


def _training_dtype(facts: Facts, dtype: str) -> str:
    """Return the dtype in training, if the dtype of the sample only follows from its file format."""
    if learned_marker(facts) == "none" and dtype == TEXT:
        return "object"  # no other column of strings holds None
    wide = dtype in (TEXT, "object", "int64", "float64")
    return facts.dtype if facts.dtype is not None and wide else dtype


class _SampleColumn:
    """The kind, dtype, range and categories of a column of the sample; empty without a sample."""

    def __init__(self, name: str, column: pd.Series[Any] | None) -> None:
        self.kind: str | None = None
        self.dtype: str | None = None
        self.missing = "nan"
        self.ordered = False
        self.minimum: float | None = None
        self.maximum: float | None = None
        self.categories: tuple[Scalar, ...] | None = None
        if column is None:
            return
        self.dtype = dtype = name_of(column.dtype)
        if isinstance(column.dtype, pd.ArrowDtype):
            raise PackingRefused(
                f"column {name!r} of the sample is {dtype}: frames are made of NumPy's and pandas' own dtypes, not "
                'of pyarrow\'s (fit and save it after convert_dtypes(dtype_backend="numpy_nullable"))'
            )
        present = column.dropna()
        if isinstance(column.dtype, pd.CategoricalDtype):
            self.kind, self.dtype = "category", "category"
            self.categories = tuple(column.dtype.categories.tolist())
            self.ordered = bool(column.dtype.ordered)
        elif pd.api.types.is_bool_dtype(column.dtype) or (len(present) and set(map(type, present)) == {bool}):
            self.kind = "boolean"
            if dtype == "boolean":
                self.dtype, self.missing = "bool", "na"
        elif pd.api.types.is_numeric_dtype(column.dtype) and not pd.api.types.is_complex_dtype(column.dtype):
            self.kind = "integer" if column.dtype.kind in "iu" else "number"
            self.missing = "na" if dtype[0] in "IUF" else "nan"
            self.dtype = dtype.lower()
            if len(present):
                self.minimum, self.maximum = float(present.min()), float(present.max())
        elif isinstance(column.dtype, pd.DatetimeTZDtype) or column.dtype.kind == "M":
            self.kind = "timestamp"
        elif set(map(type, present)) <= {str} and dtype in ("object", "str", *STRINGS):
            values = sorted(present.unique().tolist())
            repeated = 0 < len(values) <= MAX_GUESSED_CATEGORIES and len(present) >= 2 * len(values)
            self.kind = "category" if repeated else "text"
            self.categories = tuple(values) if repeated else None
        else:
            raise PackingRefused(
                f"column {name!r} of the sample holds {self.dtype} values, which no kind of input fits"
            )


def records_of(frame: pd.DataFrame, names: Sequence[str]) -> list[Record]:
    """Return the first rows of a sample as JSON records with these names."""
    columns = []
    for position in range(len(names)):
        column = frame.iloc[:MAX_SAMPLE_ROWS, position]
        plain = isinstance(column.dtype, np.dtype) and column.dtype.kind in "iufb"
        # An array of objects keeps integers beside a missing value.
        objects = column if plain else column.astype(object).where(column.notna(), None)
        if column.dtype.kind == "M":
            objects = objects.map(lambda time: None if time is None or time != time else time.isoformat())
            objects = objects.astype(object).where(objects.notna(), None)
        columns.append(json_values(objects.to_numpy()))
    return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]


def with_saved_dtypes(path: Path | None, frame: pd.DataFrame) -> tuple[pd.DataFrame, set[str]]:
    """Restore the dtypes of the frame that a file was written from.

    Parquet keeps the dtypes of a pandas frame, including object, which pandas 3 reads as strings. Text may have had
    any dtype in Parquet of other programs, in Feather and Arrow, and in a frame without a file. Other files keep no
    dtypes.

    Returns:
        The frame, and the columns whose dtype in training is known from the file.
    """
    if path is None or path.suffix.lower() in (".feather", ".arrow"):
        return frame, {name for name in frame.columns if frame[name].dtype not in ("str", "object")}
    if path.suffix.lower() != ".parquet":
        return frame.astype({name: TEXT for name in frame.columns if frame[name].dtype == "str"}), set()
    from pyarrow import parquet  # pandas has read the file with it

    saved = {column["name"]: column for column in (parquet.read_schema(path).pandas_metadata or {}).get("columns", ())}
    known = {name for name in frame.columns if name in saved or frame[name].dtype not in ("str", "object")}
    dtypes: dict[str, Any] = {}
    for name in [name for name in known if name in saved]:
        was, now = saved[name]["numpy_type"], name_of(frame[name].dtype)
        if was == "object" and now == "str":
            dtypes[name] = object
        elif was.startswith("datetime64["):  # Parquet has no unit of seconds and stores milliseconds
            zone = now.partition(", ")[2].removesuffix("]")
            dtypes[name] = f"{was.removesuffix(']')}, {zone}]" if zone else was
    return frame.astype(dtypes), known


def as_trained(frame: pd.DataFrame, signature: Signature) -> pd.DataFrame:
    """Return the sample with the dtypes and the markers of missing values of the signature."""
    return pd.DataFrame({spec.name: _as_trained(frame.iloc[:, at], spec) for at, spec in enumerate(signature.inputs)})


def _as_trained(column: Any, spec: Input) -> Any:
    if spec.dtype == "category":
        return column.astype(pd.CategoricalDtype(list(spec.categories or ()), ordered=spec.ordered))
    if spec.missing == "na" and spec.dtype in NULLABLE:
        return column.astype(NULLABLE[spec.dtype])
    if spec.dtype == "object":
        marker = {"none": None, "na": pd.NA}.get(spec.missing, np.nan)
        values = [marker if missing else value for value, missing in zip(column, column.isna(), strict=True)]
        return pd.Series(values, dtype=object, index=column.index)
    kept = spec.kind == "unused" or (column.isna().any() and spec.dtype.startswith(("int", "uint", "bool")))
    return column if kept else column.astype(spec.dtype)
