"""The inputs that a user declares; declarations take precedence over inferred facts."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import msgspec
import numpy as np
import pandas as pd

from app.errors import PackingRefused, RetortError
from app.packing import inspect
from app.packing.facts import BEFORE_PANDAS_3, TEXT, TIMES
from app.packing.probe import Record
from app.runtime.servable import NULLABLE
from app.signature import Input, Layout, Picture, Scalar, Signature
from app.signature.images import encoded, shape_of
from app.signature.schema import field_of

FILLED = {"array": "an array", "image": "an image"}
"""The kinds of input that fill several columns of the matrix of the estimator."""

DTYPES = {
    "number": "float64",
    "integer": "int64",
    "boolean": "bool",
    "category": TEXT,
    "text": TEXT,
    "timestamp": TIMES,
}


class DeclaredInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One input of the JSON file; the `size` of an image is [width, height]."""

    name: str
    kind: Literal["number", "integer", "boolean", "category", "text", "timestamp", "array", "image"]
    dtype: str | None = None
    shape: tuple[int, ...] | None = None
    mode: Literal["L", "RGB"] | None = None
    size: tuple[int, int] | None = None
    divisor: float = 1.0
    offset: float = 0.0
    pixel_limit: int | None = None
    nullable: bool | None = None
    minimum: float | None = None
    maximum: float | None = None
    categories: tuple[Scalar, ...] | None = None
    unseen: Literal["reject", "warn", "accept"] | None = None
    missing: Literal["nan", "none", "na"] | None = None
    ordered: bool = False

    @property
    def picture(self) -> Picture | None:
        """The conversion of an image into numbers; None for other kinds."""
        if self.kind != "image":
            return None
        if self.mode is None or self.size is None:
            raise PackingRefused(f"input {self.name!r} is an image: it needs a mode (L or RGB) and a size")
        return Picture(self.mode, *self.size, self.divisor, self.offset, self.pixel_limit)

    @property
    def filled_shape(self) -> tuple[int, ...] | None:
        """The shape of an array or an image; None for other kinds."""
        picture = self.picture
        if self.kind == "array" and self.shape is None:
            raise PackingRefused(f"input {self.name!r} is an array: it needs a shape")
        return self.shape if picture is None else shape_of(picture)

    @property
    def width(self) -> int:
        """The number of columns that the input fills in the matrix of the estimator."""
        return math.prod(self.filled_shape or ())


@dataclass(frozen=True, slots=True)
class Declared:
    """All declarations of a user: the inputs, and how to treat numbers out of range and unknown categories.

    `columns` are the names of the inputs of a model that was fitted without names.
    """

    out_of_range: str | None = None
    unseen: str | None = None
    inputs: tuple[DeclaredInput, ...] = ()
    columns: tuple[str, ...] = ()

    @property
    def fills(self) -> bool:
        """Whether an input is an array or an image, which fills several columns of the matrix of the estimator."""
        return any(entry.kind in FILLED for entry in self.inputs)

    def require_fit(self, estimator: Any) -> None:
        """Refuse arrays and images if the model was fitted with names, or on another number of columns."""
        filled = next((entry for entry in self.inputs if entry.kind in FILLED), None)
        if filled is None:
            return
        if inspect.names_of(estimator) is not None:
            raise PackingRefused(
                f"input {filled.name!r} is {FILLED[filled.kind]}, and the model was fitted on named columns: "
                "fit it on an array (frame.to_numpy())"
            )
        declared, width = sum(entry.width for entry in self.inputs), inspect.width_of(estimator)
        if width is not None and declared != width:
            raise PackingRefused(f"the declared inputs are {declared} numbers in all; the model takes {width}")

    @property
    def text_name(self) -> str | None:
        """The name of the only declared input, because a model of texts has none; None for other numbers of inputs."""
        return self.inputs[0].name if len(self.inputs) == 1 else None

    def require_inputs(self, names: Sequence[str]) -> None:
        """Refuse a declared input that is not one of these."""
        unknown = [entry.name for entry in self.inputs if entry.name not in names]
        if unknown and not self.fills:
            raise PackingRefused(f"the declared input {unknown[0]!r} is no input of the model: {', '.join(names)}")

    def cast(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Convert the columns of a sample to the declared dtypes; those of arrays and images to floats."""
        if self.fills:
            return frame.astype(np.float64)
        for entry in self.inputs:
            if entry.name in frame.columns:
                try:
                    frame = frame.assign(**{entry.name: _cast(frame[entry.name], entry)})
                except (TypeError, ValueError) as error:
                    detail = f"column {entry.name!r} of the sample is no {entry.kind} ({error})"
                    raise PackingRefused(detail) from None
        return frame

    @property
    def typed(self) -> set[str]:
        """The inputs whose dtype is declared."""
        return {entry.name for entry in self.inputs if entry.dtype is not None}

    def marker_of(self, name: str) -> str | None:
        """Return the declared marker of missing values of an input: "nan", "none", "na", or None."""
        return next((entry.missing for entry in self.inputs if entry.name == name), None)

    def with_kinds(self, inputs: Sequence[Input]) -> tuple[Input, ...]:
        """Return the inputs with the declared kinds."""
        by_name = {} if self.fills else {entry.name: entry for entry in self.inputs}
        return tuple(_of_kind(spec, by_name[spec.name]) if spec.name in by_name else spec for spec in inputs)

    def applied(self, signature: Signature) -> Signature:
        """Apply all declarations to a signature; unknown categories that the model cannot handle stay refused."""
        by_name = {} if self.fills else {entry.name: entry for entry in self.inputs}
        inputs = tuple(_with_declaration(spec, by_name.get(spec.name), self.unseen) for spec in signature.inputs)
        return replace(signature, inputs=inputs, out_of_range=self.out_of_range)

    def ineffective_unseen(self, signature: Signature) -> dict[str, list[str]]:
        """Return the inputs whose declared `unseen` has no effect, because the model fails on unknown categories.

        The keys are the declared values.
        """
        by_name = {entry.name: entry.unseen for entry in self.inputs}
        names_by_value: dict[str, list[str]] = {}
        for spec in signature.inputs:
            choice = by_name.get(spec.name) or self.unseen
            if spec.closed and choice in ("warn", "accept"):
                names_by_value.setdefault(choice, []).append(spec.name)
        return names_by_value

    def folded(self, signature: Signature, records: Sequence[Record]) -> tuple[Signature, list[Record]]:
        """Replace the columns that arrays and images fill by these inputs, in the signature and in the records."""
        if not self.fills:
            return signature, list(records)
        if signature.layout is not Layout.MATRIX:
            raise PackingRefused("arrays and images need a model that was fitted on a matrix")
        ends = np.cumsum([entry.width for entry in self.inputs]).tolist()
        slices = [signature.inputs[end - entry.width : end] for entry, end in zip(self.inputs, ends, strict=True)]
        inputs = tuple(map(_folded_input, self.inputs, slices))
        folded = [
            {spec.name: _folded_value(record, specs, spec) for spec, specs in zip(inputs, slices, strict=True)}
            for record in records
        ]
        inputs = tuple(replace(spec, example=folded[0][spec.name] if folded else None) for spec in inputs)
        for spec in inputs:
            try:
                field_of(spec)
            except RetortError as error:
                raise PackingRefused(error.detail) from None
        return replace(signature, inputs=inputs), folded


NOTHING = Declared()


def read(path: Path) -> tuple[DeclaredInput, ...]:
    """Read the inputs that a JSON file declares."""
    try:
        inputs = msgspec.json.decode(path.read_bytes(), type=tuple[DeclaredInput, ...])
    except OSError as error:
        raise PackingRefused(f"{path} cannot be read: {error.strerror}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise PackingRefused(f"{path} is no JSON list of inputs: {error}{_allowed_values(str(error))}") from None
    names = [entry.name for entry in inputs]
    if not names or len(set(names)) < len(names):
        raise PackingRefused(f"{path} must declare at least one input, each once")
    return inputs


def _allowed_values(message: str) -> str:
    """Return the names of the fields, or the values of one field, that are allowed where msgspec reports an error."""
    if "unknown field" in message:
        return f"; the fields are: {', '.join(DeclaredInput.__struct_fields__)}"
    place = re.search(r"\$\[\d+\]\.(\w+)", message)
    if "Invalid enum value" in message and place:
        hint = get_type_hints(DeclaredInput)[place[1]]
        words = [word for part in (hint, *get_args(hint)) for word in get_args(part) if isinstance(word, str)]
        return f"; it must be one of: {', '.join(words)}"
    return ""


def _cast(column: Any, entry: DeclaredInput) -> Any:
    if entry.kind == "timestamp":
        zoned = entry.dtype is not None and "," in entry.dtype
        times = pd.to_datetime(column, utc=zoned, format="ISO8601")
        plain = entry.dtype is None and BEFORE_PANDAS_3 and isinstance(times.dtype, np.dtype)
        return times.astype(entry.dtype or TIMES) if plain or entry.dtype else times
    if entry.dtype == "category" and entry.categories is not None:
        return column.astype(pd.CategoricalDtype(list(entry.categories), ordered=entry.ordered))
    return column if entry.dtype is None else column.astype(entry.dtype)


def _of_kind(spec: Input, entry: DeclaredInput) -> Input:
    categories = entry.categories if entry.kind == "category" else None
    if spec.kind == entry.kind:
        if entry.dtype is None:
            return spec
        return replace(
            spec, **_dtype_and_marker(entry.dtype), categories=categories or spec.categories, ordered=entry.ordered
        )
    if {entry.kind, spec.kind} == {"text", "category"} and entry.dtype is None:
        return Input(spec.name, entry.kind, spec.dtype, categories=categories, missing=spec.missing)
    typed = _dtype_and_marker(entry.dtype or DTYPES[entry.kind])
    return Input(spec.name, entry.kind, categories=categories, ordered=entry.ordered, **typed)


def _dtype_and_marker(dtype: str) -> dict[str, Any]:
    """Return dtype and marker of an input: nullable dtypes of pandas become those of NumPy with the marker "na"."""
    plain = {nullable: name for name, nullable in NULLABLE.items()}
    return {"dtype": plain.get(dtype, dtype), "missing": "na" if dtype in plain else "nan"}


def _with_declaration(spec: Input, entry: DeclaredInput | None, unseen: str | None) -> Input:
    values: Mapping[str, Any] = {} if entry is None else msgspec.structs.asdict(entry)
    names = ("minimum", "maximum", "nullable", "categories")
    edited = replace(spec, **{name: values[name] for name in names if values.get(name) is not None})
    choice = values.get("unseen") or unseen
    keeps = choice is None or edited.categories is None or edited.closed
    return edited if keeps else replace(edited, unseen=str(choice))


def _folded_input(entry: DeclaredInput, specs: Sequence[Input]) -> Input:
    """Return a declared input from the columns that it fills."""
    if entry.kind not in FILLED:
        return _with_declaration(replace(specs[0], name=entry.name), entry, None)
    lows, highs = [s.minimum for s in specs], [s.maximum for s in specs]
    largest = [s.largest for s in specs if s.largest is not None]
    low = None if None in lows else min(value for value in lows if value is not None)
    high = None if None in highs else max(value for value in highs if value is not None)
    nullable = entry.kind == "array" and all(s.nullable for s in specs) and entry.nullable is not False
    return Input(
        entry.name,
        entry.kind,
        entry.dtype or "float64",
        nullable=nullable and (entry.dtype or "float64").startswith("float"),
        minimum=low if entry.minimum is None else entry.minimum,
        maximum=high if entry.maximum is None else entry.maximum,
        largest=min(largest, default=None),
        shape=entry.filled_shape,
        image=entry.picture,
    )


def _folded_value(record: Record, specs: Sequence[Input], spec: Input) -> Any:
    values = [record[each.name] for each in specs]
    if spec.shape is None:
        return values[0]
    if spec.image is not None:
        return encoded(np.array(values, dtype=np.float64).reshape(spec.shape), spec.image)
    if spec.dtype != "bool" and not spec.dtype.startswith("float"):
        values = [value if value is None else round(value) for value in values]
    array = np.array([bool(v) for v in values] if spec.dtype == "bool" else values, dtype=object)
    return array.reshape(spec.shape).tolist()
