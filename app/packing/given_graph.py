"""A graph that came as an `.onnx` file becomes a version: its signature, its examples, and the proof of its adaption.

There is no estimator: the file itself says what it takes and gives, and its own answers are what is to be served.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
from numpy.typing import NDArray

from app.errors import LoadingFailed, PackingRefused
from app.packing import sample
from app.packing.artifacts.onnx_file import Given, OnnxFile, adapted, feed_of
from app.packing.declared import FILLED, Declared, Wanted
from app.packing.graph import GRAPH, MAX_ONE_FILE_BYTES, WEIGHTS
from app.packing.sample.expected import Column, Expected
from app.packing.inputs import records_of
from app.packing.timing import timed_us
from app.packing.probe import MAX_SAMPLE_ROWS, Record
from app.runtime.graph import GraphServable, session_of
from app.runtime.loaders import LOADERS
from app.signature import Input, Layout, Signature
from app.signature.schema import Validator

MAX_CELLS = 2_000_000
MAX_COLUMNS_TRIED = 200
MADE_UP_ROWS = 3
BATCH_SIZES = (1, 2, 31)
NOT_PROBABLE = 1e-3
"""So far from 1 the sum of a row's probabilities may be."""


@dataclass(frozen=True, slots=True)
class GivenGraph:
    """What the manifest needs of it: the signature, rows, the proof, what it does, and remarks."""

    signature: Signature
    records: list[Record]
    proof: dict[str, object]
    task: str
    servable: GraphServable
    remarks: tuple[str, ...]


def expected_of(file: OnnxFile, said: Declared) -> Expected:
    """What the file and its user say of the columns of a sample."""
    texts = {_public(given.name): Column(text=True) for given in file.inputs if given.dtype == "string"}
    texts |= {each.name: Column(text=each.kind == "text", may_be_text=True) for each in said.inputs}
    names = {_public(given.name): Column() for given in file.inputs}
    widths = [given.width for given in file.inputs if None not in given.shape]
    return Expected(width=sum(widths) if len(widths) == len(file.inputs) else None, columns=names | texts)


def derive(file: OnnxFile, frame: pd.DataFrame | None, said: Declared, folder: Path) -> GivenGraph:
    """Leaves the graph, with the inputs of its signature, in the folder.

    Raises:
        PackingRefused: its inputs are not known well enough, or it fails on its rows.
    """
    fed = _fed(file, frame, said)
    specs = [spec for _, some in fed for spec in some]
    records = _records(fed, frame)
    shapes = {given.name: _shape_of(given, some) for given, some in fed}
    original = _Original(file, fed, shapes)
    one_by_one = original.takes_one_row(records)
    answers = original.run(records[: 1 if one_by_one else MADE_UP_ROWS])
    outputs, classes, lost = _outputs(file, answers)
    if not outputs:
        raise PackingRefused(f"none of its outputs has a value for each row; they are: {', '.join(file.outputs)}")
    flat = [name for name, of in outputs.items() if name != "probabilities" and answers[of].shape[1:] == (1,)]
    names = tuple(outputs)
    defaults = tuple(name for name in names if name in ("prediction", "probabilities"))
    signature = Signature(tuple(specs), names, defaults, Layout.MATRIX, classes if "probabilities" in outputs else None)
    model = adapted(file, fed, outputs, shapes, flat=flat, one_by_one=one_by_one)
    large = model.ByteSize() > MAX_ONE_FILE_BYTES
    onnx.save_model(model, str(folder / GRAPH), save_as_external_data=large, location=WEIGHTS)
    signature = replace(signature, out_of_range=said.out_of_range)
    signature = _with_nulls(folder, signature, records[0])
    servable = _loaded(folder, signature)
    rows = _compared(original, servable, signature, records, outputs, one_by_one=one_by_one)
    validator = Validator(signature, 10**6)
    batch = validator.validate(records[:1])
    proof: dict[str, object] = {
        "proven": True,
        "rows": rows,
        "largest_difference": 0.0,
        "graph_us": timed_us(lambda: servable.run(batch, signature.defaults)),
    }
    remarks = [f"ONNX model by {file.producer}, served as it is: the same to the last bit on {rows} rows"]
    remarks += ["it takes one row at once"] * one_by_one
    remarks += [f"output {name}: {of} of the file" for name, of in outputs.items() if name != of]
    remarks += [f"no output {name}: it has no value for each row" for name in lost]
    task = "classifier" if "probabilities" in outputs else "model"
    return GivenGraph(signature, records, proof, task, servable, tuple(remarks))


def _fed(file: OnnxFile, frame: pd.DataFrame | None, said: Declared) -> list[tuple[Given, list[Input]]]:
    """Each input of the file with the inputs of the signature that make it."""
    wanted = {each.name: each for each in said.inputs}
    for each in said.inputs:
        if each.kind == "image":
            raise PackingRefused(f"input {each.name!r}: an ONNX model takes arrays; declare an array of its shape")
    if len(file.inputs) == 1 and len(file.inputs[0].shape) == 1 and _public(file.inputs[0].name) not in wanted:
        given = file.inputs[0]
        names = [each.name for each in said.inputs if each.kind not in FILLED]
        columns = [] if frame is None else [str(name) for name in frame.columns]
        names = names or (columns if columns != [_public(given.name)] else [])
        if names and given.shape[0] not in (None, len(names)):
            raise PackingRefused(
                f"its input {given.name!r} takes {given.shape[0]} columns; "
                f"{'the declared inputs are' if said.inputs else 'the sample has'} {len(names)}"
                + ("" if said.inputs else "; name the target with --target")
            )
        if names:
            return [(given, [_seen(_input(name, given, ()), wanted.get(name), frame) for name in names])]
    unknown = [name for name in wanted if name not in map(_public, (given.name for given in file.inputs))]
    if unknown:
        there = ", ".join(_public(given.name) for given in file.inputs)
        raise PackingRefused(f"the declared input {unknown[0]!r} is no input of the model: {there}")
    fed = []
    for given in file.inputs:
        name = _public(given.name)
        shape = wanted[name].shape if name in wanted and wanted[name].shape else given.shape
        if None in (shape or ()):
            example = f'[{{"name": "{name}", "kind": "array", "dtype": "{given.dtype}", "shape": [...]}}]'
            raise PackingRefused(
                f"its input {name!r} has the shape {_written(given.shape)}, in which not every size is fixed: "
                f"declare it with --inputs and a file that holds {example}"
            )
        sizes = tuple(size or 0 for size in shape or ())
        column = frame if frame is not None and name in frame.columns else None
        fed.append((given, [_seen(_input(name, given, sizes), wanted.get(name), column)]))
    return fed


def _input(name: str, given: Given, shape: tuple[int, ...]) -> Input:
    dtype = "float32" if given.dtype == "float16" else given.dtype
    if shape not in ((), (1,)):
        if dtype == "string":
            raise PackingRefused(f"its input {name!r} takes an array of texts, which is not served")
        return Input(name, "array", dtype, shape=shape)
    if dtype == "string":
        return Input(name, "text", "object")
    kind = "number" if dtype.startswith("float") else "boolean" if dtype == "bool" else "integer"
    return Input(name, kind, dtype)


def _seen(spec: Input, wanted: Wanted | None, frame: pd.DataFrame | None) -> Input:
    """The input with the range that the sample has, and what is declared of it."""
    if frame is not None and spec.name in frame.columns and spec.kind in ("number", "integer"):
        column = pd.to_numeric(frame[spec.name], errors="coerce").dropna()
        if len(column):
            spec = replace(spec, minimum=float(column.min()), maximum=float(column.max()))
    if wanted is not None:
        spec = replace(
            spec,
            minimum=spec.minimum if wanted.minimum is None else wanted.minimum,
            maximum=spec.maximum if wanted.maximum is None else wanted.maximum,
        )
    return spec


def _records(fed: Sequence[tuple[Given, Sequence[Input]]], frame: pd.DataFrame | None) -> list[Record]:
    """The rows of the sample, by name or, where its columns are the values of the arrays, in order; else made up."""
    specs = [spec for _, some in fed for spec in some]
    names, width = [spec.name for spec in specs], sum(spec.width for spec in specs)
    if frame is None:
        return [{spec.name: _made_up(spec, turn) for spec in specs} for turn in range(MADE_UP_ROWS)]
    rows = frame[: max(1, min(MAX_SAMPLE_ROWS, MAX_CELLS // max(width, 1)))]
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


def _shaped(values: NDArray[Any], spec: Input) -> Any:
    array = values.astype(spec.dtype)
    return array.reshape(spec.shape).tolist() if spec.shape else array[0].item()


def _made_up(spec: Input, turn: int) -> Any:
    if spec.kind == "text":
        return "some text"
    values = np.random.default_rng(turn).uniform(0, 1, spec.width).round(4)
    if not spec.dtype.startswith("float"):
        values = np.full(spec.width, turn % 2)
    return _shaped(values, spec)


def _shape_of(given: Given, specs: Sequence[Input]) -> tuple[int, ...]:
    """The shape of one row of an input of the file."""
    if len(specs) == 1 and specs[0].shape is not None:
        return specs[0].shape
    return (len(specs),) if given.shape else ()


class _Original:
    """The graph as it was given."""

    def __init__(
        self, file: OnnxFile, fed: Sequence[tuple[Given, Sequence[Input]]], shapes: dict[str, tuple[int, ...]]
    ) -> None:
        self._fed, self._shapes, self._names = fed, shapes, file.outputs
        try:
            self._session = session_of(file.model.SerializeToString())
        except LoadingFailed as error:
            raise PackingRefused(" ".join(error.detail.split())[:400]) from None

    def run(self, records: Sequence[Record]) -> dict[str, NDArray[Any]]:
        """Its outputs by name, those that are tensors.

        Raises:
            PackingRefused: it fails on these rows.
        """
        feed = {}
        for given, specs in self._fed:
            flat = [np.concatenate([np.ravel(np.array(row[s.name], dtype=object)) for s in specs]) for row in records]
            feed[given.name] = feed_of(given, np.array(flat, dtype=object), self._shapes[given.name])
        try:
            found = self._session.run(list(self._names), feed)
        except Exception as error:  # the runtime's own exceptions have no common root but this
            raise PackingRefused(f"it fails on its rows ({' '.join(str(error).split())[:300]})") from error
        return {name: value for name, value in zip(self._names, found, strict=True) if isinstance(value, np.ndarray)}

    def takes_one_row(self, records: Sequence[Record]) -> bool:
        """Whether it answers one row at once, and fails on several.

        Raises:
            PackingRefused: it takes another fixed number of rows.
        """
        rows = {given.rows for given, _ in self._fed} - {None}
        if rows - {1}:
            raise PackingRefused(
                f"it takes {max(filter(None, rows))} rows at once: export it with a dynamic first axis"
            )
        if rows:
            return True
        self.run(records[:1])
        try:
            several = self.run([records[0]] * 2)
        except PackingRefused:
            return True
        return any(value.shape[:1] != (2,) for value in several.values() if value.shape[:1] != (1,))


def _outputs(
    file: OnnxFile, answers: dict[str, NDArray[Any]]
) -> tuple[dict[str, str], tuple[object, ...] | None, list[str]]:
    """The outputs of the file by the names that they get, the labels, and the outputs that cannot be served."""
    rows = max((len(value) for value in answers.values() if value.ndim), default=0)
    by_row = {name: value for name, value in answers.items() if value.ndim and len(value) == rows}
    lost = [name for name in file.outputs if name not in by_row]
    labels = [n for n, v in by_row.items() if v.dtype.kind in "iuOUS" and v.shape[1:] in ((), (1,))]
    scores = [n for n, v in by_row.items() if v.dtype.kind == "f" and v.ndim == 2 and v.shape[1] > 1 and _sums_to_1(v)]
    if len(labels) == 1 and len(scores) == 1:
        (label,), (score,) = labels, scores
        width = by_row[score].shape[1]
        classes = file.classes if file.classes is not None and len(file.classes) == width else None
        if classes is None and by_row[label].dtype.kind in "iu":
            classes = tuple(range(width))
        if classes is not None:
            others = [name for name in by_row if name not in (label, score)]
            return {"prediction": label, "probabilities": score} | _named(others), classes, lost
    names = list(by_row)
    return ({"prediction": names[0]} | _named(names[1:]) if names else {}), None, lost


def _named(names: Sequence[str]) -> dict[str, str]:
    """Further outputs by their own names, as far as these can stand in an answer."""
    taken: dict[str, str] = {}
    for name in names:
        public = re.sub(r"\W+", "_", _public(name)).strip("_") or "output"
        while public in (*taken, "prediction", "probabilities", "model", "version", "classes"):
            public += "_"
        taken[public] = name
    return taken


def _sums_to_1(values: NDArray[Any]) -> bool:
    return bool((np.abs(values.sum(axis=1) - 1) < NOT_PROBABLE).all() and (values >= 0).all())


def _public(name: str) -> str:
    """The name of an input without what TensorFlow adds to it."""
    return name.removeprefix("serving_default_").removesuffix(":0")


def _with_nulls(folder: Path, signature: Signature, record: Record) -> Signature:
    """Marks the numbers that may be missing: those for which the graph still gives numbers when they are NaN."""
    floats = [s.name for s in signature.inputs if s.kind == "number"]
    if not floats or len(floats) > MAX_COLUMNS_TRIED:
        return signature
    nullable = replace(signature, inputs=tuple(replace(s, nullable=s.name in floats) for s in signature.inputs))
    servable, validator = _loaded(folder, nullable), Validator(nullable, 1)

    def answers(name: str) -> bool:
        try:
            found = servable.run(validator.validate([record | {name: None}]), signature.outputs)
        except Exception:  # noqa: BLE001 (around run: whatever a model may raise)
            return False
        return all(value.dtype.kind != "f" or bool(np.isfinite(value).all()) for value in found.values())

    passing = {name for name in floats if answers(name)}
    return replace(signature, inputs=tuple(replace(s, nullable=s.name in passing) for s in signature.inputs))


def _loaded(folder: Path, signature: Signature) -> GraphServable:
    try:
        with (folder / GRAPH).open("rb") as stream:
            servable = LOADERS["onnx"](stream, signature)
    except LoadingFailed as error:
        raise PackingRefused(" ".join(error.detail.split())[:400]) from None
    if not isinstance(servable, GraphServable):
        raise AssertionError("the loader of graphs gives graphs")
    return servable


def _compared(
    original: _Original,
    servable: GraphServable,
    signature: Signature,
    records: Sequence[Record],
    outputs: dict[str, str],
    *,
    one_by_one: bool,
) -> int:
    """How many rows the adapted graph answers as the given one does.

    Raises:
        PackingRefused: it answers one of them otherwise.
    """
    rows = 0
    validator = Validator(signature, 10**6)
    for size in (1,) if one_by_one else BATCH_SIZES:
        for start in range(0, min(len(records), 4 * size), size):
            some = list(records[start : start + size])
            if any(None in record.values() for record in some):
                continue
            wanted = original.run(some)
            got = servable.run(validator.validate(some), signature.outputs)
            for name, of in outputs.items():
                same = np.array_equal(np.ravel(wanted[of]), np.ravel(got[name]), equal_nan=wanted[of].dtype.kind == "f")
                if not same:
                    raise PackingRefused(f"with the inputs of its signature it gives another {name}")
            rows += len(some)
    return rows


def _written(shape: tuple[int | None, ...]) -> str:
    return f"({', '.join('?' if size is None else str(size) for size in shape)})"
