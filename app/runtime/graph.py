"""Run the graph of a model in ONNX Runtime, with one thread and without spinning."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import onnxruntime as ort

from app.errors import LoadingFailed
from app.runtime.servable import rows_of
from app.runtime.terms import PARTS, TERMS, TermCounter
from app.signature import Input, Signature
from app.signature.batch import Batch, Column, Outputs

FEATURES = "features"
"""The single input of a graph whose inputs are all numbers, shape (rows, inputs)."""

MAX_NAMED_INPUTS = 16
MAX_ROWS_AT_ONCE = 128
"""Longer batches run in parts. Up to 128 rows, ONNX Runtime's trees take three fifths of the time per row, and the
memory for each row, tree and class stays small."""

ROWS_AT_ONCE = "rows_at_once"
"""The metadata key of a graph's own, smaller limit of rows per run."""

MISSING_TEXT = "\x00\x00missing"
"""Stands for a missing value in a column of strings, because strings in a graph cannot be null."""


def element_type(spec: Input) -> str:
    """Return the element type of an input in the graph. A nullable number is a float64, whatever its dtype."""
    if spec.kind in ("number", "unused") or spec.shape is not None:
        return "float64"
    if spec.kind == "text" or (spec.kind == "category" and any(isinstance(c, str) for c in spec.categories or ())):
        return "string"
    return "float64" if spec.nullable or spec.dtype.startswith("float") else "int64"


def session_of(model: bytes | BinaryIO) -> ort.InferenceSession:
    """Return a single-threaded session for the bytes or the open file of a graph. Workers already use all cores.

    Raises:
        LoadingFailed: ONNX Runtime rejects the model.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    if not isinstance(model, bytes):
        # The graph is read into memory, so ONNX Runtime needs the folder of its external weights.
        folder = str(Path(model.name).parent)
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        model = model.read()
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no other common base class
        raise LoadingFailed(f"ONNX Runtime does not take the graph ({error})") from error


class GraphServable:
    """A servable that runs a graph. Thread-safe: many threads may run one session at once."""

    def __init__(self, session: ort.InferenceSession, signature: Signature) -> None:
        self._session = session
        names = [output.name for output in session.get_outputs()]
        # A model of many targets has `probabilities_0`, `probabilities_1` and so on instead of `probabilities`.
        self._parts = {
            output: [output] if output in names else [name for name in names if name.startswith(f"{output}_")]
            for output in signature.outputs
        }
        input_names = [graph_input.name for graph_input in session.get_inputs()]
        self._matrix = input_names == [FEATURES]
        properties = session.get_modelmeta().custom_metadata_map
        self._rows_at_once = int(properties.get(ROWS_AT_ONCE, MAX_ROWS_AT_ONCE))
        self._counters = msgspec.json.decode(properties.get(TERMS, "{}"), type=dict[str, TermCounter])
        specs = [spec for spec in signature.inputs if self._matrix or spec.name in input_names]
        self._feeds = [(spec.name, *_feed_of(spec)) for spec in specs]

    def run(self, batch: Batch, outputs: Sequence[str]) -> Outputs:
        """Return the requested outputs, arrays of shape (rows,) or (rows, columns) as the estimator returns them."""
        feed = self.feed(batch)
        texts = {counter.column: batch.columns[counter.column] for counter in self._counters.values()}
        names = [name for output in outputs for name in self._parts[output]]
        if batch.rows <= self._rows_at_once:
            arrays = self._session.run(names, feed | self._count_terms(texts))
        else:
            rows = self._rows_at_once
            parts = [
                self._session.run(names, _part(feed, start, rows) | self._count_terms(_part(texts, start, rows)))
                for start in range(0, batch.rows, rows)
            ]
            arrays = [np.concatenate(part) for part in zip(*parts, strict=True)]
        values = dict(zip(names, arrays, strict=True))
        return {
            output: values[output] if output in values else rows_of([values[name] for name in self._parts[output]])
            for output in outputs
        }

    def feed(self, batch: Batch) -> dict[str, Column]:
        """Return the batch as the inputs of the graph, by name: one matrix of float64, or columns."""
        # Missing values beside integers or booleans become NaN.
        return {FEATURES: batch.matrix().astype(np.float64, copy=False)} if self._matrix else self._columns(batch)

    def _count_terms(self, texts: dict[str, Column]) -> dict[str, Column]:
        """Return the graph inputs with the term counts of these columns of texts."""
        return {
            name + part: counts
            for name, counter in self._counters.items()
            for part, counts in zip(PARTS, counter.counts(texts[counter.column].tolist()), strict=True)
        }

    def _columns(self, batch: Batch) -> dict[str, Column]:
        columns = batch.columns
        shape = (batch.rows, 1)
        feed = {}
        for name, dtype, nullable_text in self._feeds:
            column = columns[name]
            if nullable_text:
                column = _fill_missing(column)
            elif column.dtype != dtype:
                column = column.astype(dtype)
            feed[name] = column.reshape(shape)
        return feed


def _part(columns: dict[str, Column], start: int, rows: int) -> dict[str, Column]:
    return {name: column[start : start + rows] for name, column in columns.items()}


def _feed_of(spec: Input) -> tuple[np.dtype[Any], bool]:
    """Return the dtype of an input's column, and whether it is a column of strings with missing values."""
    text = element_type(spec) == "string"
    return np.dtype(object if text else element_type(spec)), text and spec.nullable


def _fill_missing(column: Column) -> Column:
    """Return a column of strings with `MISSING_TEXT` for missing values."""
    values = column.tolist()
    if set(map(type, values)) == {str}:
        return column
    return np.array([value if isinstance(value, str) else MISSING_TEXT for value in values], dtype=object)
