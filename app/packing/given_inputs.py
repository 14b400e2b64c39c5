"""Derive the inputs of a signature from an ONNX file, and the rows that packing runs on its graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from app.errors import PackingRefused
from app.packing import sample
from app.packing.artifacts.onnx_file import Feeds, FileInput, OnnxFile
from app.packing.declared import FILLED, Declared, DeclaredInput
from app.packing.inputs import records_of
from app.packing.probe import MAX_SAMPLE_ROWS, Record
from app.packing.sample.expected import Column, Expected
from app.signature import Input

MAX_VALUES = 2_000_000
MADE_UP_ROWS = 3


def expected_of(file: OnnxFile, declared: Declared) -> Expected:
    """Return the columns that a sample should have, according to the file and the declared inputs."""
    texts = {public_name(each.name): Column(text=True) for each in file.inputs if each.dtype == "string"}
    texts |= {each.name: Column(text=each.kind == "text", may_be_text=True) for each in declared.inputs}
    names = {public_name(file_input.name): Column() for file_input in file.inputs}
    widths = [file_input.width for file_input in file.inputs if None not in file_input.shape]
    return Expected(width=sum(widths) if len(widths) == len(file.inputs) else None, columns=names | texts)


def feeds_of(file: OnnxFile, frame: pd.DataFrame | None, declared: Declared) -> Feeds:
    """Return each input of the file with the inputs of the signature that provide its values.

    A single matrix gets one input of the signature for each column if the sample or the declaration names its columns.
    """
    wanted = {each.name: each for each in declared.inputs}
    for each in declared.inputs:
        if each.kind == "image":
            raise PackingRefused(f"input {each.name!r}: an ONNX model takes arrays; declare an array of its shape")
    if len(file.inputs) == 1 and len(file.inputs[0].shape) == 1 and public_name(file.inputs[0].name) not in wanted:
        matrix = file.inputs[0]
        names = _column_names(matrix, frame, declared)
        if names:
            return [(matrix, [_with_range(_input(name, matrix, ()), wanted.get(name), frame) for name in names])]
    known = [public_name(file_input.name) for file_input in file.inputs]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise PackingRefused(f"the declared input {unknown[0]!r} is no input of the model: {', '.join(known)}")
    feeds = []
    for file_input in file.inputs:
        name = public_name(file_input.name)
        shape = _fixed_shape(name, file_input, wanted.get(name))
        column = frame if frame is not None and name in frame.columns else None
        feeds.append((file_input, [_with_range(_input(name, file_input, shape), wanted.get(name), column)]))
    return feeds


def records_for(feeds: Feeds, frame: pd.DataFrame | None) -> list[Record]:
    """Return rows of the sample, or made-up rows without a sample.

    Columns of the sample are found by name, or by their order if they contain the values of arrays.
    """
    specs = [spec for _, some in feeds for spec in some]
    names, width = [spec.name for spec in specs], sum(spec.width for spec in specs)
    if frame is None:
        return [{spec.name: _made_up_value(spec, row) for spec in specs} for row in range(MADE_UP_ROWS)]
    rows = frame[: max(1, min(MAX_SAMPLE_ROWS, MAX_VALUES // max(width, 1)))]
    if all(name in frame.columns for name in names):
        found = records_of(rows[names], names)
        return [record for record in found if None not in record.values()] or found
    if len(frame.columns) == width and all(spec.kind != "text" for spec in specs):
        ends = np.cumsum([spec.width for spec in specs]).tolist()
        values = rows.to_numpy(dtype=np.float64)
        return [
            {spec.name: _shaped(row[end - spec.width : end], spec) for spec, end in zip(specs, ends, strict=True)}
            for row in values
        ]
    sample.fitted_to(frame, names, None)
    return []


def row_shape(file_input: FileInput, specs: Sequence[Input]) -> tuple[int, ...]:
    """Return the shape of one row of an input of the file, from the inputs of the signature that provide its values."""
    if len(specs) == 1 and specs[0].shape is not None:
        return specs[0].shape
    return (len(specs),) if file_input.shape else ()


def public_name(name: str) -> str:
    """Return the name of an input without the prefix and the suffix that TensorFlow adds."""
    return name.removeprefix("serving_default_").removesuffix(":0")


def _column_names(file_input: FileInput, frame: pd.DataFrame | None, declared: Declared) -> list[str]:
    """Return the names of the columns of a matrix: those declared, else those of the sample, else none."""
    columns = [] if frame is None else [str(name) for name in frame.columns]
    names = [each.name for each in declared.inputs if each.kind not in FILLED]
    names = names or (columns if columns != [public_name(file_input.name)] else [])
    if names and file_input.shape[0] not in (None, len(names)):
        raise PackingRefused(
            f"its input {file_input.name!r} takes {file_input.shape[0]} columns; "
            f"{'the declared inputs are' if declared.inputs else 'the sample has'} {len(names)}"
            + ("" if declared.inputs else sample.TOO_MANY)
        )
    return names


def _fixed_shape(name: str, file_input: FileInput, wanted: DeclaredInput | None) -> tuple[int, ...]:
    """Return the declared shape of one row, or the shape in the file; refuse a size that is not fixed."""
    shape = wanted.shape if wanted is not None and wanted.shape else file_input.shape
    if None in shape:
        sizes = ", ".join("?" if size is None else str(size) for size in file_input.shape)
        example = f'[{{"name": "{name}", "kind": "array", "dtype": "{file_input.dtype}", "shape": [...]}}]'
        raise PackingRefused(
            f"its input {name!r} has the shape ({sizes}), in which not every size is fixed: "
            f"declare it with --inputs and a file that holds {example}"
        )
    return tuple(size or 0 for size in shape)


def _input(name: str, file_input: FileInput, shape: tuple[int, ...]) -> Input:
    dtype = "float32" if file_input.dtype == "float16" else file_input.dtype
    if shape not in ((), (1,)):
        if dtype == "string":
            raise PackingRefused(f"its input {name!r} takes an array of texts, which is not served")
        return Input(name, "array", dtype, shape=shape)
    if dtype == "string":
        return Input(name, "text", "object")
    kind = "number" if dtype.startswith("float") else "boolean" if dtype == "bool" else "integer"
    return Input(name, kind, dtype)


def _with_range(spec: Input, wanted: DeclaredInput | None, frame: pd.DataFrame | None) -> Input:
    """Return the input with its declared range, or with the range of its column in the sample."""
    if frame is not None and spec.name in frame.columns and spec.kind in ("number", "integer"):
        column = pd.to_numeric(frame[spec.name], errors="coerce").dropna()
        if len(column):
            spec = replace(spec, minimum=float(column.min()), maximum=float(column.max()))
    if wanted is None:
        return spec
    return replace(
        spec,
        minimum=spec.minimum if wanted.minimum is None else wanted.minimum,
        maximum=spec.maximum if wanted.maximum is None else wanted.maximum,
    )


def _shaped(values: NDArray[Any], spec: Input) -> Any:
    array = values.astype(spec.dtype)
    return array.reshape(spec.shape).tolist() if spec.shape else array[0].item()


def _made_up_value(spec: Input, row: int) -> Any:
    if spec.kind == "text":
        return "some text"
    values = np.random.default_rng(row).uniform(0, 1, spec.width).round(4)
    if not spec.dtype.startswith("float"):
        values = np.full(spec.width, row % 2)
    return _shaped(values, spec)
