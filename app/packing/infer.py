"""The signature of a model: what is known of its inputs, completed by asking the model itself.

Names, categories and ranges are read off the estimator and the sample. Whether a missing or an unseen value is
accepted is tried: the model is the only one that knows for sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

import msgspec
import numpy as np
import pandas as pd

from app.errors import PackingRefused
from app.packing import inspect, sample, trained
from app.packing.assume import Notes, settled
from app.packing.declared import NOTHING, Declared
from app.packing.ends import with_ends
from app.packing.inspect import Facts
from app.packing.seen import inputs_of, learned_marker, records_of
from app.packing.trial import Record, attempt, edited, permissive, with_largest, with_nulls, with_unseen
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
    told: Set[str] = frozenset(),
    labels: pd.Series[Any] | None = None,
    notes: Notes | None = None,
) -> tuple[Signature, list[Record]]:
    """The signature, and records that the model accepts: the sample's, or made up from what the estimator knows.

    Args:
        estimator: The fitted model.
        frame: The sample.
        declared: What whoever packs says of the inputs; it goes before what is found out.
        told: The columns whose dtype in training the sample's file tells.
        labels: The sample's target.
        notes: Takes what had to be assumed.

    Raises:
        PackingRefused: the sample does not fit, or nothing tells what the model takes.
    """
    if inspect.takes_records(estimator):
        return _of_records(estimator, frame)
    declared.require_fit(estimator)
    if frame is not None:
        width = 1 if inspect.takes_text(estimator) else inspect.width_of(estimator)
        frame = sample.fitted_to(frame, inspect.names_of(estimator) or declared.columns or None, width)
        frame = declared.cast(frame)
    inputs, layout = inputs_of(estimator, frame, declared.text_name, declared.columns)
    declared.require_inputs([spec.name for spec in inputs])
    notes = notes or Notes()
    facts = dict(zip((spec.name for spec in inputs), inspect.facts_of(estimator, len(inputs)), strict=True))
    if frame is not None:
        inputs = _as_written(inputs, facts, frame, told, layout)
    inputs = declared.with_kinds(inputs)
    draft = Signature(inputs, ("prediction",), ("prediction",), layout)
    if frame is None:
        draft, records = _made_up(estimator, draft)
    else:
        # First those that miss nothing: they make the better examples.
        records = records_of(frame, draft.names)
        order = sorted(range(len(records)), key=lambda row: None in records[row].values())
        records = [records[row] for row in order]
        labels = None if labels is None else labels.iloc[order]
    known = {spec.name for spec in inputs if spec.name in told or _is_known(spec, facts[spec.name])}
    draft = settled(estimator, draft, records, labels, known | declared.typed, notes)
    if frame is not None:
        error = attempt(estimator, permissive(draft), records[:1])
        if error is not None:
            raise PackingRefused(f"the model fails on the sample's rows ({_said(error)}){_times_hint(draft, frame)}")
    learned = {name: declared.marker_of(name) or learned_marker(fact) for name, fact in facts.items()}
    draft, telling = with_nulls(estimator, draft, records[0], learned)
    notes.telling.extend(records[0] | {name: None} for name in telling)
    notes.assumptions.extend(_marker_assumptions(draft, telling, facts, declared))
    draft = declared.applied(with_unseen(estimator, draft, records[0]))
    draft = with_largest(estimator, draft, records[0])
    if not declared.fills:  # of an array each element has one and the same limit
        draft = with_ends(estimator, draft, records)
    records = _accepted(estimator, draft, records)
    draft = edited(draft, lambda spec: replace(spec, example=_example(records, spec.name)))
    return _with_outputs(estimator, draft, records), records


def _as_written(
    inputs: tuple[Input, ...], facts: Mapping[str, Facts], frame: pd.DataFrame, told: Set[str], layout: Layout
) -> tuple[Input, ...]:
    """The numbers as wide as they were when they were written as text, where the estimator does not tell.

    Short numbers do not tell. They are float32 if other columns were and none was float64: an array has one dtype, so
    that this is sure; of a frame it is a guess.
    """
    asked = {
        spec.name: trained.was_narrow(frame.iloc[:, at])
        for at, spec in enumerate(inputs)
        if spec.name not in told
        and (spec.kind, spec.dtype) == ("number", "float64")
        and spec.missing != "na"
        and facts[spec.name].narrow is None
    }
    told_widths = {narrow for narrow in asked.values() if narrow is not None}
    alike = told_widths == {True}
    for name, narrow in asked.items():
        facts[name].narrow = alike if told_widths and layout is Layout.MATRIX else narrow
    narrow_names = {name for name, narrow in asked.items() if alike or (narrow and layout is not Layout.MATRIX)}
    return tuple(replace(spec, dtype="float32") if spec.name in narrow_names else spec for spec in inputs)


def _is_known(spec: Input, facts: Facts) -> bool:
    """Whether the estimator has kept what the dtype of an input was, or that it does not matter."""
    if facts.dtype is not None or (spec.kind == "number" and facts.narrow is not None):
        return True
    return spec.dtype == "object" and learned_marker(facts) == "none"


def _marker_assumptions(
    draft: Signature, telling: Sequence[str], facts: Mapping[str, Facts], declared: Declared
) -> Iterator[Assumption]:
    """Yield the marker of missing values that was taken, where the model tells markers apart and nothing says which."""
    for spec in draft.inputs:
        fact = facts[spec.name]
        if spec.name not in telling or declared.marker_of(spec.name) is not None:
            continue
        taken, left = ("None", "NaN") if spec.missing == "none" else ("NaN", "None")
        if {"none", "nan"} <= fact.missing:
            why = "trained with None and with NaN, which JSON and CSV cannot tell apart"
        elif learned_marker(fact) is None:
            why = "the model tells None from NaN, and nothing says which one was missing in training"
        else:
            continue
        sentence = (
            f"input {spec.name}: {why}; assumed that a missing value is {taken}: declare "
            f'"missing": "{left.lower()}" with --inputs if it is {left}'
        )
        yield Assumption("inputs", sentence, (spec.name,))


def _times_hint(draft: Signature, frame: pd.DataFrame) -> str:
    """How to declare the columns of text that look like times: CSV and JSON cannot say that they are."""
    names = []
    for position, spec in enumerate(draft.inputs):
        values = frame.iloc[:, position].dropna()
        if spec.kind in ("text", "category") and len(values) and all(TIME.fullmatch(str(value)) for value in values):
            names.append(spec.name)
    wanted = msgspec.json.encode([{"name": name, "kind": "timestamp"} for name in names]).decode()
    looks = f"{' and '.join(map(repr, names))} {'looks' if len(names) == 1 else 'look'} like times"
    return f"; {looks}: declare that with --inputs and a file that holds {wanted}" if names else ""


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
    nullable = edited(draft, lambda spec: replace(spec, nullable=True))
    if known and attempt(estimator, nullable, [dict.fromkeys(known)]) is None:
        draft = nullable
    records = _accepted(estimator, draft, records)
    draft = edited(draft, lambda spec: replace(spec, example=records[0] if records else None))
    return _with_outputs(estimator, draft, records), records


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
        spec if sure else replace(spec, kind="text", dtype=trained.TEXT if draft.layout is Layout.FRAME else "object")
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


def outputs_lost(estimator: Any, signature: Signature, records: list[Record]) -> list[str]:
    """What the model has a method for that fails on its own rows, so that the version does not give it."""
    lost = []
    for name, method in METHOD_OF_OUTPUT.items():
        has = hasattr(estimator, "predict") and callable(getattr(estimator, method, None))
        if has and name not in signature.outputs:
            error = attempt(estimator, signature, records[:2], name)
            lost.append(f"no output {name}: {method} fails on the model's own rows ({_said(error)})")
    return lost


def _example(records: list[Record], name: str) -> Any:
    return next((record[name] for record in records if record[name] is not None), None)


def _said(error: Exception | None) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text[:300]}"
