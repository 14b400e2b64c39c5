"""Decide dtypes of training that are in neither the artifact nor the sample, by running the model.

If the model gives the same answers with each dtype, nothing is assumed. If the answers differ, the target of the sample
decides; without a target, packing takes the likeliest dtype and notes an assumption.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from app.packing.facts import TEXT
from app.packing.probe import MAX_SAMPLE_ROWS, Record, answers, edited, permissive
from app.runtime.proving import same
from app.runtime.servable import NULLABLE
from app.signature import Input, Layout, Signature
from app.storage.manifest import Assumption

ROWS_ASKED = 50
MAX_COLUMNS_ASKED_ALONE = 30
MAX_NAMED = 10
UNITS = ("ns", "us", "ms", "s")
CLEARLY = 0.98
"""A guess is right if its error is at most this share of the other guess's error."""


@dataclass(slots=True)
class Notes:
    """Assumptions, and records that prove how the model treats a missing value."""

    assumptions: list[Assumption] = field(default_factory=list)
    missing_value_records: list[Record] = field(default_factory=list)

    def assume(self, names: Sequence[str], sentence: str) -> None:
        """Note an assumption about these inputs."""
        self.assumptions.append(Assumption("inputs", sentence, tuple(names)))


Guess = tuple[Callable[[Input], bool], Callable[[Input], Sequence[Input]]]
"""A dtype that may have been another one in training: whether an input has it, and the input with each other one."""


def settled(
    estimator: Any,
    draft: Signature,
    records: Sequence[Record],
    labels: pd.Series[Any] | None,
    known: Set[str],
    notes: Notes,
) -> Signature:
    """Return the signature with the dtypes that the model was trained on, as far as its answers show them.

    `records` are rows to run, complete ones first, and `labels` their targets. The dtypes of the inputs in `known` are
    facts. `notes` receives each assumption that changes an answer.
    """
    if draft.layout not in (Layout.FRAME, Layout.MATRIX):
        return draft
    for concerns, others in _guesses(draft.layout, records):
        names = [spec.name for spec in draft.inputs if spec.name not in known and concerns(spec)]
        if names:
            draft = _Trial(estimator, draft, records, labels, others, notes).settle(names)
    return draft


@dataclass(slots=True)
class _Trial:
    """Run the model on the same rows with another dtype in place of a guessed one."""

    estimator: Any
    draft: Signature
    records: Sequence[Record]
    labels: pd.Series[Any] | None
    others: Callable[[Input], Sequence[Input]]
    notes: Notes
    _answers: list[Any] | None = field(init=False)

    def __post_init__(self) -> None:
        rows = self.records[:MAX_SAMPLE_ROWS]
        self.records = [record for record in rows if None not in record.values()] or rows
        self._answers = self._answers_with(self.draft)

    def settle(self, names: Sequence[str]) -> Signature:
        """Return the draft with the dtype that the model accepts, or whose answers agree with the labels."""
        tried = [self._with_other_dtypes(names, turn) for turn in self._turns(names)]
        if self._answers is None:
            return self._first_accepted(names) or self.draft
        differing = [turn for turn, other in enumerate(tried) if self._differs(other)]
        if not differing:
            return self.draft
        turn = differing[0]
        alone = names if len(names) <= MAX_COLUMNS_ASKED_ALONE else []
        matters = [name for name in alone if self._differs(self._with_other_dtypes([name], turn))] or list(names)
        best, errors = self._by_labels([self.draft, *(tried[turn] for turn in differing)])
        if best is not None:
            taken, least, was = best, min(errors), "was" if len(matters) == 1 else "were"
            self.notes.assume(
                matters,
                f"{named(matters)}: {was} {_dtype(taken, matters)} in training, since the predictions agree "
                f"with the target best then (mean error {least:.3g}, as {_dtype(self.draft, matters)} "
                f"{errors[0]:.3g})",
            )
            return taken
        others = " or ".join(dict.fromkeys(_dtype(tried[turn], matters) for turn in differing))
        self.notes.assume(
            matters,
            f"{named(matters)}: assumed to be {_dtype(self.draft, matters)} as in training, which neither artifact "
            f'nor sample says; the model answers otherwise to {others}: declare "dtype" with --inputs if it was that',
        )
        return self.draft

    def _turns(self, names: Sequence[str]) -> range:
        return range(max(len(self.others(spec)) for spec in self.draft.inputs if spec.name in names))

    def _with_other_dtypes(self, names: Sequence[str], turn: int) -> Signature:
        def other(spec: Input) -> Input:
            others = self.others(spec) if spec.name in names else ()
            return others[turn] if turn < len(others) else spec

        return edited(self.draft, other)

    def _answers_with(self, signature: Signature, rows: int = ROWS_ASKED) -> list[Any] | None:
        return answers(self.estimator, permissive(signature), list(self.records[:rows]))

    def _differs(self, signature: Signature) -> bool:
        found = self._answers_with(signature)
        return found is not None and not same(self._answers, found)

    def _by_labels(self, signatures: Sequence[Signature]) -> tuple[Signature | None, list[float]]:
        """Return the signature whose predictions agree clearly best with the labels, or None, and the error of each."""
        if self.labels is None:
            return None, []
        errors = [self._error(signature) for signature in signatures]
        at = int(np.argmin(errors))
        rest = [error for place, error in enumerate(errors) if place != at]
        return (signatures[at] if errors[at] <= CLEARLY * min(rest) and min(rest) > 0 else None), errors

    def _error(self, signature: Signature) -> float:
        """Return the mean absolute error of the predictions, or the share of wrong labels."""
        found = self._answers_with(signature, MAX_SAMPLE_ROWS)
        if found is None or self.labels is None:
            return np.inf
        predictions = pd.Series([row[0] for row in found])
        labels = self.labels[: len(predictions)].reset_index(drop=True)
        if all(pd.api.types.is_float_dtype(values) for values in (predictions, labels)):
            return float((predictions - labels).abs().mean())
        return float((predictions.astype(str) != labels.astype(str)).mean())

    def _first_accepted(self, names: Sequence[str]) -> Signature | None:
        alone = [[name] for name in names] if 1 < len(names) <= MAX_COLUMNS_ASKED_ALONE else []
        for chosen in [list(names), *alone]:
            for turn in self._turns(chosen):
                taken = self._with_other_dtypes(chosen, turn)
                if self._answers_with(taken) is None:
                    continue
                categories = next(spec.categories or () for spec in taken.inputs if spec.name in chosen)
                shown = ", ".join([*map(str, categories[:MAX_NAMED]), *["…"] * (len(categories) > MAX_NAMED)])
                dtype = _dtype(taken, chosen)
                self.notes.assume(
                    chosen,
                    f"{named(chosen)}: assumed to be {dtype} as in training"
                    f"{f', in the order {shown}' if dtype == 'category' else ''}, since the model fails on "
                    f'{_dtype(self.draft, chosen)}: declare "dtype" with --inputs if it was another',
                )
                return taken
        return None


def named(names: Sequence[str]) -> str:
    """Write inputs as the beginning of a sentence."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{'input' if len(names) == 1 else 'inputs'} {', '.join(names[:MAX_NAMED])}{more}"


def _dtype(signature: Signature, names: Sequence[str]) -> str:
    """Return the dtype of these inputs as pandas writes it."""
    spec = next(spec for spec in signature.inputs if spec.name in names)
    return str(NULLABLE.get(spec.dtype, spec.dtype)) if spec.missing == "na" else spec.dtype


def _guesses(layout: Layout, records: Sequence[Record]) -> Iterator[Guess]:
    """Yield the possible guesses, the most important first."""

    def nullable(spec: Input) -> Input:
        return replace(spec, missing="na")

    if layout is Layout.FRAME:
        yield _is_text, lambda spec: _other_texts(spec, records)
        yield lambda spec: spec.kind == "timestamp", _other_units
        yield (
            lambda spec: spec.kind == "integer" and spec.dtype == "int64" and spec.missing != "na",
            lambda spec: [nullable(spec), replace(spec, dtype="int32"), replace(spec, kind="number", dtype="float64")],
        )
        yield (
            lambda spec: spec.kind == "boolean" and spec.dtype == "bool" and spec.missing != "na",
            lambda spec: [nullable(spec), replace(spec, dtype="object")],
        )
        yield (
            lambda spec: spec.kind == "number" and spec.dtype == "float32" and spec.missing != "na",
            lambda spec: [replace(spec, dtype="float64")],
        )
    yield (
        lambda spec: spec.kind == "number" and spec.dtype == "float64" and spec.missing != "na",
        lambda spec: [replace(spec, dtype="float32"), *([nullable(spec)] if layout is Layout.FRAME else [])],
    )


def _is_text(spec: Input) -> bool:
    words = spec.categories is None or any(isinstance(value, str) for value in spec.categories)
    return spec.kind in ("text", "category") and spec.dtype in ("str", "object") and words


def _other_texts(spec: Input, records: Sequence[Record]) -> list[Input]:
    values = {record[spec.name] for record in records if isinstance(record[spec.name], str)}
    categories = spec.categories or tuple(sorted(values))
    other = TEXT if spec.dtype == "object" else "object"
    others = [replace(spec, dtype=dtype) for dtype in dict.fromkeys((other, "string[python]")) if dtype != spec.dtype]
    if values <= set(categories):
        others.append(replace(spec, kind="category", dtype="category", categories=categories, missing="nan"))
    return others


def _other_units(spec: Input) -> list[Input]:
    unit = spec.dtype.partition("[")[2][:2].rstrip("],")
    return [replace(spec, dtype=spec.dtype.replace(f"[{unit}", f"[{other}")) for other in UNITS if other != unit]
