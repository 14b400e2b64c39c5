"""Infer the signature of a model from its estimator and its sample, and by probing the model.

Names, categories and ranges come from the estimator and the sample. Packing tries whether the model accepts missing
values and unknown categories, because only the model knows for certain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from app.errors import PackingRefused, one_line
from app.packing import inspect, sample
from app.packing.assume import Notes, settled
from app.packing.declared import NOTHING, Declared
from app.packing.facts import TEXT, Facts, facts_of, was_narrow
from app.packing.inputs import inputs_of, learned_marker, records_of
from app.packing.probe import (
    Record,
    attempt,
    edited,
    permissive,
    with_largest,
    with_nulls,
    with_number_limits,
    with_unseen,
)
from app.runtime.servable import METHOD_OF_OUTPUT
from app.signature import Input, Layout, Signature
from app.signature.batch import json_values
from app.storage.manifest import Assumption

MAX_ROWS_TRIED_ALONE = 100
MADE_UP_RECORDS = 3
MADE_UP_TEXT = "some text"
TIME = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}.*)?")
MADE_UP: dict[str, Any] = {"timestamp": "2024-01-31T12:30:00", "boolean": True, "integer": 1, "category": MADE_UP_TEXT}


def infer(
    estimator: Any,
    frame: pd.DataFrame | None,
    declared: Declared = NOTHING,
    typed_columns: Set[str] = frozenset(),
    labels: pd.Series[Any] | None = None,
    notes: Notes | None = None,
) -> tuple[Signature, list[Record]]:
    """Infer the signature of a model.

    Declarations of the user take precedence. The dtypes of `typed_columns` in training are known from the file of the
    sample. `labels` are the target of the sample. `notes` receives the assumptions.

    Returns:
        The signature, and records that the model accepts: those of the sample, or records made up from the facts
        of the estimator.
    """
    if inspect.takes_records(estimator):
        return _infer_records(estimator, frame)
    declared.require_fit(estimator)
    notes = notes or Notes()
    frame = None if frame is None else _with_model_columns(estimator, frame, declared)
    draft, facts = _draft(estimator, frame, declared, typed_columns)
    known = {
        s.name for s in draft.inputs if s.name in typed_columns or _has_known_dtype(s, facts[s.name])
    } | declared.typed
    if frame is None:
        draft, records = _make_up_records(estimator, draft)
    else:
        records, labels = _complete_first(records_of(frame, draft.names), labels)
    draft = settled(estimator, draft, records, labels, known, notes)
    if frame is not None:
        error = attempt(estimator, permissive(draft), records[:1])
        if error is not None:
            raise PackingRefused(f"the model fails on the sample's rows ({_text_of(error)}){_times_hint(draft, frame)}")
    draft = _complete_by_probing(estimator, draft, records, facts, declared, notes)
    records = _accepted_records(estimator, draft, records)
    examples = {name: value for record in records[::-1] for name, value in record.items() if value is not None}
    draft = edited(draft, lambda spec: replace(spec, example=examples.get(spec.name)))
    return _with_outputs(estimator, draft, records), records


def _with_model_columns(estimator: Any, frame: pd.DataFrame, declared: Declared) -> pd.DataFrame:
    width = 1 if inspect.takes_text(estimator) else inspect.width_of(estimator)
    frame = sample.fitted_to(frame, inspect.names_of(estimator) or declared.columns or None, width)
    return declared.cast(frame)


def _draft(
    estimator: Any, frame: pd.DataFrame | None, declared: Declared, typed_columns: Set[str]
) -> tuple[Signature, dict[str, Facts]]:
    """Draft a signature without probing the model; return it with the facts of each input."""
    inputs, layout = inputs_of(estimator, frame, declared.text_name, declared.columns)
    declared.require_inputs([spec.name for spec in inputs])
    facts = dict(zip((spec.name for spec in inputs), facts_of(estimator, len(inputs)), strict=True))
    if frame is not None:
        inputs = _restore_float32(inputs, facts, frame, typed_columns, layout)
    return Signature(declared.with_kinds(inputs), ("prediction",), ("prediction",), layout), facts


def _complete_first(records: list[Record], labels: pd.Series[Any] | None) -> tuple[list[Record], pd.Series[Any] | None]:
    """Sort complete records before others, because they are better examples; sort the labels alike."""
    order = sorted(range(len(records)), key=lambda row: None in records[row].values())
    return [records[row] for row in order], None if labels is None else labels.iloc[order]


def _complete_by_probing(
    estimator: Any,
    draft: Signature,
    records: list[Record],
    facts: Mapping[str, Facts],
    declared: Declared,
    notes: Notes,
) -> Signature:
    """Complete a draft by probing the model: missing values, unknown categories, limits of numbers."""
    learned = {name: declared.marker_of(name) or learned_marker(fact) for name, fact in facts.items()}
    draft, distinguished = with_nulls(estimator, draft, records[0], learned)
    notes.missing_value_records.extend(records[0] | {name: None} for name in distinguished)
    notes.assumptions.extend(_marker_assumptions(draft, distinguished, facts, declared))
    draft = declared.applied(with_unseen(estimator, draft, records[0]))
    draft = with_largest(estimator, draft, records[0])
    # All elements of an array have the same limits.
    return draft if declared.fills else with_number_limits(estimator, draft, records)


def _restore_float32(
    inputs: tuple[Input, ...], facts: Mapping[str, Facts], frame: pd.DataFrame, typed_columns: Set[str], layout: Layout
) -> tuple[Input, ...]:
    """Give float32 to numbers that were written as text from float32, unless the estimator has kept their dtype.

    Short numbers may be of either dtype. They become float32 if other columns were written from float32 and none from
    float64. That is certain for an array, which has one dtype, and a guess for a frame.
    """
    narrow_by_name = {
        spec.name: was_narrow(frame.iloc[:, at])
        for at, spec in enumerate(inputs)
        if spec.name not in typed_columns
        and (spec.kind, spec.dtype) == ("number", "float64")
        and spec.missing != "na"
        and facts[spec.name].narrow is None
    }
    known_widths = {narrow for narrow in narrow_by_name.values() if narrow is not None}
    alike = known_widths == {True}
    for name, narrow in narrow_by_name.items():
        facts[name].narrow = alike if known_widths and layout is Layout.MATRIX else narrow
    chosen = {name for name, narrow in narrow_by_name.items() if alike or (narrow and layout is not Layout.MATRIX)}
    return tuple(replace(spec, dtype="float32") if spec.name in chosen else spec for spec in inputs)


def _has_known_dtype(spec: Input, facts: Facts) -> bool:
    """Return whether the dtype of an input in training is known, or does not matter."""
    if facts.dtype is not None or (spec.kind == "number" and facts.narrow is not None):
        return True
    return spec.dtype == "object" and learned_marker(facts) == "none"


def _marker_assumptions(
    draft: Signature, distinguished: Sequence[str], facts: Mapping[str, Facts], declared: Declared
) -> Iterator[Assumption]:
    """Yield the marker of missing values that packing chose, where the choice matters and nothing decides it."""
    for spec in draft.inputs:
        fact = facts[spec.name]
        if spec.name not in distinguished or declared.marker_of(spec.name) is not None:
            continue
        chosen, other = ("None", "NaN") if spec.missing == "none" else ("NaN", "None")
        if {"none", "nan"} <= fact.missing:
            why = "trained with None and with NaN, which JSON and CSV cannot tell apart"
        elif learned_marker(fact) is None:
            why = "the model tells None from NaN, and nothing says which one was missing in training"
        else:
            continue
        sentence = (
            f"input {spec.name}: {why}; assumed that a missing value is {chosen}: declare "
            f'"missing": "{other.lower()}" with --inputs if it is {other}'
        )
        yield Assumption("inputs", sentence, (spec.name,))


def _times_hint(draft: Signature, frame: pd.DataFrame) -> str:
    """Return how to declare columns of text that look like times, because CSV and JSON have no times."""
    names = []
    for position, spec in enumerate(draft.inputs):
        values = frame.iloc[:, position].dropna()
        if spec.kind in ("text", "category") and len(values) and all(TIME.fullmatch(str(value)) for value in values):
            names.append(spec.name)
    declarations = msgspec.json.encode([{"name": name, "kind": "timestamp"} for name in names]).decode()
    observation = f"{' and '.join(map(repr, names))} {'looks' if len(names) == 1 else 'look'} like times"
    return f"; {observation}: declare that with --inputs and a file that holds {declarations}" if names else ""


def _infer_records(estimator: Any, frame: pd.DataFrame | None) -> tuple[Signature, list[Record]]:
    """Infer the signature of a model that takes whole records; leave out values that are missing in the sample."""
    draft = Signature((Input("record", "record", "object"),), ("prediction",), ("prediction",), Layout.RECORDS)
    known = inspect.typical_record(estimator)
    records = [known]
    if frame is not None:
        rows = records_of(frame, [str(name) for name in frame.columns])
        records = [{name: value for name, value in row.items() if value is not None} for row in rows]
    error = attempt(estimator, draft, records[:1])
    if error is not None:
        raise PackingRefused(
            f"the model fails on {'made up' if frame is None else 'the sample'} records ({_text_of(error)})"
        )
    nullable = edited(draft, lambda spec: replace(spec, nullable=True))
    if known and attempt(estimator, nullable, [dict.fromkeys(known)]) is None:
        draft = nullable
    records = _accepted_records(estimator, draft, records)
    draft = edited(draft, lambda spec: replace(spec, example=records[0] if records else None))
    return _with_outputs(estimator, draft, records), records


def _make_up_records(estimator: Any, draft: Signature) -> tuple[Signature, list[Record]]:
    """Make up records that the model accepts, from typical values; if numbers fail, try texts."""
    facts = facts_of(estimator, len(draft.inputs)) if draft.layout is not Layout.SEQUENCE else [Facts(text=True)]
    known = [
        fact.typical is not None or fact.categories or fact.text or not fact.used or spec.kind != "number"
        for fact, spec in zip(facts, draft.inputs, strict=True)
    ]
    texts = [
        spec if sure else replace(spec, kind="text", dtype=TEXT if draft.layout is Layout.FRAME else "object")
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
        f"({_text_of(first_error)}); give rows that it was trained on with --sample"
    )


def _typical(spec: Input, fact: Facts, fallback: float, turn: int) -> Any:
    """Return a plausible value of an input; each `turn` gives another one."""
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


def _accepted_records(estimator: Any, signature: Signature, records: list[Record]) -> list[Record]:
    """Return the records that the model accepts with this signature: nearly always all of them."""
    if attempt(estimator, signature, records) is None:
        return records
    return [record for record in records[:MAX_ROWS_TRIED_ALONE] if attempt(estimator, signature, [record]) is None]


def _with_outputs(estimator: Any, draft: Signature, records: list[Record]) -> Signature:
    """Add the outputs besides the prediction: the model has a method for each that works on its own rows."""
    tried = _try_outputs(estimator, draft, records)
    outputs = ["prediction", *(name for name, _, error in tried if error is None)]
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


def outputs_lost(estimator: Any, signature: Signature, records: list[Record]) -> list[str]:
    """Return a remark for each output whose method fails on the rows of the model, so that it is left out."""
    return [
        f"no output {name}: {method} fails on the model's own rows ({_text_of(error)})"
        for name, method, error in _try_outputs(estimator, signature, records)
        if name not in signature.outputs
    ]


def _try_outputs(
    estimator: Any, signature: Signature, records: list[Record]
) -> Iterator[tuple[str, str, Exception | None]]:
    """Yield the outputs besides the prediction that the model has a method for, with the method and its error."""
    for name, method in METHOD_OF_OUTPUT.items():
        if name != "prediction" and hasattr(estimator, "predict") and callable(getattr(estimator, method, None)):
            yield name, method, attempt(estimator, signature, records[:2], name)


def _text_of(error: Exception | None) -> str:
    return f"{type(error).__name__}: {one_line(error, 300)}"
