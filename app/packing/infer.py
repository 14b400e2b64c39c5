"""The signature of a model: what is known of its inputs, completed by asking the model itself.

Names, categories and ranges are read off the estimator and the sample. Whether a missing or an unseen value is
accepted is tried: the model is the only one that knows for sure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from app.errors import PackingRefused
from app.packing import inspect, sample
from app.packing.declared import NOTHING, Declared
from app.packing.inspect import Facts
from app.runtime.servable import METHOD_OF_OUTPUT, call, frame_of
from app.signature import Input, Layout, Scalar, Signature
from app.signature.batch import json_values
from app.signature.schema import Validator

MAX_GUESSED_CATEGORIES = 30
MAX_SAMPLE_ROWS = 1000
MAX_ROWS_TRIED_ALONE = 100
MADE_UP_RECORDS = 3
FLOAT64_NEARLY_MAX = 1.7e308
LARGEST_TRIED = (1e300, 1e200, 1e150, 1e100, 1e38, 1e36, 1e30, 1e25, 1e20, 1e15)
UNSEEN_TEXT = "\x00never seen"
MADE_UP_TEXT = "some text"
MADE_UP: dict[str, Any] = {"timestamp": "2024-01-31T12:30:00", "boolean": True, "integer": 1, "category": MADE_UP_TEXT}

Record = dict[str, Any]


def infer(estimator: Any, frame: pd.DataFrame | None, declared: Declared = NOTHING) -> tuple[Signature, list[Record]]:
    """The signature, and records that the model accepts: the sample's, or made up from what the estimator knows.

    What is `declared` of the inputs goes before what is found out.

    Raises:
        PackingRefused: the sample does not fit, or nothing tells what the model takes.
    """
    if inspect.takes_records(estimator):
        return _of_records(estimator, frame)
    declared.require_fit(estimator)
    if frame is not None:
        width = 1 if inspect.takes_text(estimator) else inspect.width_of(estimator)
        frame = sample.fitted_to(frame, inspect.names_of(estimator), width)
        frame = declared.cast(frame)
    inputs, layout = _inputs(estimator, frame)
    inputs = declared.with_kinds(inputs)
    draft = Signature(inputs, ("prediction",), ("prediction",), layout)
    if frame is None:
        draft, records = _made_up(estimator, draft)
    else:
        # First those that miss nothing: they make the better examples.
        records = sorted(records_of(frame, draft.names), key=lambda record: None in record.values())
        error = attempt(estimator, _permissive(draft), records[:1])
        if error is not None:
            raise PackingRefused(f"the model fails on the sample's rows ({_said(error)})")
    draft = _with_nulls(estimator, draft, records[0])
    draft = declared.applied(_with_unseen(estimator, draft, records[0]))
    draft = _with_largest(estimator, draft, records[0])
    records = _accepted(estimator, draft, records)
    draft = _edited(draft, lambda spec: replace(spec, example=_example(records, spec.name)))
    return _with_outputs(estimator, draft, records), records


def _of_records(estimator: Any, frame: pd.DataFrame | None) -> tuple[Signature, list[Record]]:
    """The signature of a model that is given records whole; what a row of the sample lacks is not in its record."""
    draft = Signature((Input("record", "record", "object"),), ("prediction",), ("prediction",), Layout.RECORDS)
    known = inspect.record_known_to(estimator)
    records = [known]
    if frame is not None:
        rows = records_of(frame, [str(name) for name in frame.columns])
        records = [{name: value for name, value in row.items() if value is not None} for row in rows]
    error = attempt(estimator, draft, records[:1])
    if error is not None:
        raise PackingRefused(
            f"the model fails on {'made up' if frame is None else 'the sample'} records ({_said(error)})"
        )
    nullable = _edited(draft, lambda spec: replace(spec, nullable=True))
    if known and attempt(estimator, nullable, [dict.fromkeys(known)]) is None:
        draft = nullable
    records = _accepted(estimator, draft, records)
    draft = _edited(draft, lambda spec: replace(spec, example=records[0] if records else None))
    return _with_outputs(estimator, draft, records), records


def _inputs(estimator: Any, frame: pd.DataFrame | None) -> tuple[tuple[Input, ...], Layout]:
    names, width = inspect.names_of(estimator), inspect.width_of(estimator)
    if inspect.takes_text(estimator):
        return (Input("feature1", "text", "object"),), Layout.SEQUENCE
    if frame is not None and names is None and width is None:
        names = [str(name) for name in frame.columns]  # only the sample knows
    layout = Layout.MATRIX if names is None else Layout.FRAME
    if names is None:
        # A model that does not say how wide it is (isotonic regression) may take one column: it is asked.
        names = [f"feature{position + 1}" for position in range(width or 1)]
    facts = inspect.facts_of(estimator, len(names))
    columns = [None] * len(names) if frame is None else [frame.iloc[:, position] for position in range(len(names))]
    inputs = tuple(map(_input, names, facts, columns))
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


def _made_up(estimator: Any, draft: Signature) -> tuple[Signature, list[Record]]:
    """Records that the model accepts, from typical values; where strings seem to be wanted, inputs become text."""
    facts = (
        inspect.facts_of(estimator, len(draft.inputs)) if draft.layout is not Layout.SEQUENCE else [Facts(text=True)]
    )
    known = [
        fact.typical is not None or fact.categories or fact.text or not fact.used or spec.kind != "number"
        for fact, spec in zip(facts, draft.inputs, strict=True)
    ]
    texts = [
        spec if sure else replace(spec, kind="text", dtype="str" if draft.layout is Layout.FRAME else "object")
        for spec, sure in zip(draft.inputs, known, strict=True)
    ]
    first_error: Exception | None = None
    for inputs in (draft.inputs, tuple(texts)):
        for fallback in (1.0, 0.0, 0.5, 2.0):
            signature = replace(draft, inputs=inputs)
            records = [
                {spec.name: _typical(spec, fact, fallback, turn) for spec, fact in zip(inputs, facts, strict=True)}
                for turn in range(MADE_UP_RECORDS)
            ]
            error = attempt(estimator, signature, records[:1])
            if error is None:
                return signature, records
            first_error = first_error or error
    raise PackingRefused(
        "nothing tells what its inputs are, and it fails on values made up for them "
        f"({_said(first_error)}); give rows that it was trained on with --sample"
    )


def _typical(spec: Input, fact: Facts, fallback: float, turn: int) -> Any:
    """A plausible value of an input; each `turn` gives another one."""
    if spec.kind == "unused":
        return None
    if spec.categories:
        return spec.categories[turn % len(spec.categories)]
    if spec.kind == "text":
        return MADE_UP_TEXT
    if spec.kind in MADE_UP:
        return MADE_UP[spec.kind]
    if fact.typical is None and fact.minimum is not None and fact.maximum is not None:
        return fact.minimum + (fact.maximum - fact.minimum) * (0.5, 0.25, 0.75)[turn % 3]
    return round((fallback if fact.typical is None else fact.typical) * (1.0, 0.9, 1.1)[turn % 3], 6)


def _with_nulls(estimator: Any, draft: Signature, record: Record) -> Signature:
    """Marks the inputs that may be missing: those for which the model still answers when they are."""

    def answers(names: Sequence[str], missing: str) -> bool:
        dtype_of_none = {"str": "object"} if missing == "none" else {}
        tried = _edited(
            draft,
            lambda s: (
                replace(s, nullable=True, missing=_marker(s, missing), dtype=dtype_of_none.get(s.dtype, s.dtype))
                if s.name in names
                else s
            ),
        )
        return attempt(estimator, tried, [record | dict.fromkeys(names)]) is None

    present = [name for name in draft.names if record[name] is not None]
    nullable = dict.fromkeys(_passing(present, lambda names: answers(names, "nan")), "nan")
    objects = [
        s.name for s in draft.inputs if s.name in present and s.name not in nullable and s.dtype in ("str", "object")
    ]
    nullable |= dict.fromkeys(_passing(objects, lambda names: answers(names, "none")), "none")
    nullable |= {name: "nan" for name in draft.names if record[name] is None}
    return _edited(
        draft,
        lambda s: (
            replace(
                s,
                nullable=True,
                missing=_marker(s, nullable[s.name]),
                dtype="object" if nullable[s.name] == "none" else s.dtype,
            )
            if s.name in nullable
            else s
        ),
    )


def _marker(spec: Input, missing: str) -> str:
    return spec.missing if spec.missing == "na" else missing


def _passing(names: Sequence[str], passes: Callable[[Sequence[str]], bool]) -> list[str]:
    """The names that pass; all at once where that works, else by halves, so that many need few tries."""
    if not names:
        return []
    if passes(names):
        return list(names)
    if len(names) == 1:
        return []
    middle = len(names) // 2
    return _passing(names[:middle], passes) + _passing(names[middle:], passes)


def _with_unseen(estimator: Any, draft: Signature, record: Record) -> Signature:
    """Marks the categories for which the model refuses a value that it has never seen."""

    def refuses(spec: Input) -> bool:
        known = spec.categories or ()
        unseen = UNSEEN_TEXT if str in map(type, known) else max(map(float, known), default=0.0) + 1.0
        return attempt(estimator, _permissive(draft), [record | {spec.name: unseen}]) is not None

    return _edited(
        draft, lambda s: replace(s, unseen="reject" if refuses(s) else "accept") if s.categories is not None else s
    )


def _with_largest(estimator: Any, draft: Signature, record: Record) -> Signature:
    """Marks how large a number may be, where the model fails on larger ones: trees compute in float32."""
    numbers = [spec.name for spec in draft.inputs if spec.kind == "number" and spec.dtype == "float64"]
    for largest in (FLOAT64_NEARLY_MAX, *LARGEST_TRIED):
        tried = [record | dict.fromkeys(numbers, sign * largest) for sign in (1.0, -1.0)]
        if all(attempt(estimator, draft, [row]) is None for row in tried):
            if largest == FLOAT64_NEARLY_MAX:
                return draft
            return _edited(draft, lambda s: replace(s, largest=largest) if s.name in numbers else s)  # noqa: B023
    return draft


def _accepted(estimator: Any, signature: Signature, records: list[Record]) -> list[Record]:
    """The records that the model accepts as the signature has it: all of them, nearly always."""
    if attempt(estimator, signature, records) is None:
        return records
    return [record for record in records[:MAX_ROWS_TRIED_ALONE] if attempt(estimator, signature, [record]) is None]


def _with_outputs(estimator: Any, draft: Signature, records: list[Record]) -> Signature:
    """Adds what the model gives beside its prediction: what it has a method for that works on its own rows."""
    outputs = ["prediction"]
    for name, method in METHOD_OF_OUTPUT.items():
        more = name != "prediction" and hasattr(estimator, "predict") and callable(getattr(estimator, method, None))
        if more and attempt(estimator, draft, records[:2], name) is None:
            outputs.append(name)
    defaults = tuple(name for name in outputs if name in ("prediction", "probabilities"))
    classes = getattr(estimator, "classes_", None) if inspect.task_of(estimator) == "classifier" else None
    several = isinstance(classes, list) and all(isinstance(part, np.ndarray) for part in classes)
    labels = [json_values(part) for part in classes] if several and classes else classes
    if labels is not None and not several:
        labels = json_values(np.asarray(labels))
    return replace(
        draft,
        outputs=tuple(outputs),
        defaults=defaults,
        classes=None if labels is None else tuple(labels),
        multioutput=several,
    )


def attempt(
    estimator: Any, signature: Signature, records: list[Record], output: str = "prediction"
) -> Exception | None:
    """What the model raises on these records as the signature hands them over; None where it answers each of them."""
    try:
        batch = Validator(signature, MAX_SAMPLE_ROWS).validate(records)
        result = call(estimator, output, frame_of(batch, signature))
        rows = len(result[0]) if isinstance(result, list) else result.shape[0]
        return None if rows == len(records) else ValueError(f"it gave {rows} answers for {len(records)} rows")
    except Exception as error:  # noqa: BLE001 (around run: whatever a model may raise)
        return error


def _permissive(signature: Signature) -> Signature:
    return _edited(signature, lambda s: replace(s, nullable=True, unseen="accept"))


def _edited(signature: Signature, edit: Callable[[Input], Input]) -> Signature:
    return replace(signature, inputs=tuple(map(edit, signature.inputs)))


def _example(records: list[Record], name: str) -> Any:
    return next((record[name] for record in records if record[name] is not None), None)


def _said(error: Exception | None) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
