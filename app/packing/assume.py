"""Find training dtypes that neither the artifact nor the sample states, by running the model with possible dtypes.

If the answers are the same with each dtype, packing assumes nothing. If they differ, packing compares them with the
target of the sample; without a target, it takes the most likely dtype and notes an assumption.
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
from app.signature.field_errors import some
from app.storage.manifest import Assumption

ROWS_RUN = 50
MAX_COLUMNS_TRIED_ALONE = 30
MAX_NAMED = 10
UNITS = ("ns", "us", "ms", "s")
MAX_ERROR_RATIO = 0.98
"""A dtype is taken if its error is at most this part of the error of every other dtype."""


@dataclass(slots=True)
class Notes:
    """Assumptions of packing, and records that show how the model treats a missing value."""

    assumptions: list[Assumption] = field(default_factory=list)
    missing_value_records: list[Record] = field(default_factory=list)

    def assume(self, names: Sequence[str], sentence: str) -> None:
        """Note an assumption about these inputs."""
        self.assumptions.append(Assumption("inputs", sentence, tuple(names)))


Guess = tuple[Callable[[Input], bool], Callable[[Input], Sequence[Input]]]
"""An uncertain dtype: a test whether an input has it, and the input with each other dtype that is possible."""


def settled(
    estimator: Any,
    draft: Signature,
    records: Sequence[Record],
    labels: pd.Series[Any] | None,
    known: Set[str],
    notes: Notes,
) -> Signature:
    """Return the signature with the dtypes of training, as far as the answers of the model show them.

    `records` are rows to run, complete ones first, and `labels` their targets. The dtypes of the inputs in `known` are
    certain. `notes` receives each assumption that changes an answer.
    """
    if draft.layout not in (Layout.FRAME, Layout.MATRIX):
        return draft
    for is_uncertain, others in _guesses(draft.layout, records):
        names = [spec.name for spec in draft.inputs if spec.name not in known and is_uncertain(spec)]
        if names:
            draft = _Trial(estimator, draft, records, labels, others, notes).settle(names)
    return draft


@dataclass(slots=True)
class _Trial:
    """Runs of the model on the same rows with other dtypes in place of an uncertain dtype."""

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
        """Return the draft with the dtype that the model accepts, or whose predictions agree best with the labels."""
        tried = [self._with_other_dtypes(names, choice) for choice in self._choices(names)]
        if self._answers is None:
            return self._first_accepted(names) or self.draft
        differing = [choice for choice, other in enumerate(tried) if self._differs(other)]
        if not differing:
            return self.draft
        alone = names if len(names) <= MAX_COLUMNS_TRIED_ALONE else []
        affected = [name for name in alone if self._differs(self._with_other_dtypes([name], differing[0]))]
        affected = affected or list(names)
        best, errors = self._by_labels([self.draft, *(tried[choice] for choice in differing)])
        if best is not None:
            self.notes.assume(
                affected,
                f"{named(affected)}: inferred to be {_dtype(best, affected)} in training, since the predictions then "
                f"agree best with the target (mean error {min(errors):.3g}, as {_dtype(self.draft, affected)} "
                f"{errors[0]:.3g})",
            )
            return best
        others = " or ".join(dict.fromkeys(_dtype(tried[choice], affected) for choice in differing))
        self.notes.assume(
            affected,
            f"{named(affected)}: assumed to be {_dtype(self.draft, affected)} as in training, because neither artifact "
            f'nor sample says it; the answers differ with {others}: declare "dtype" with --inputs if it was that',
        )
        return self.draft

    def _choices(self, names: Sequence[str]) -> range:
        return range(max(len(self.others(spec)) for spec in self.draft.inputs if spec.name in names))

    def _with_other_dtypes(self, names: Sequence[str], choice: int) -> Signature:
        def other(spec: Input) -> Input:
            others = self.others(spec) if spec.name in names else ()
            return others[choice] if choice < len(others) else spec

        return edited(self.draft, other)

    def _answers_with(self, signature: Signature, rows: int = ROWS_RUN) -> list[Any] | None:
        return answers(self.estimator, permissive(signature), list(self.records[:rows]))

    def _differs(self, signature: Signature) -> bool:
        found = self._answers_with(signature)
        return found is not None and not same(self._answers, found)

    def _by_labels(self, signatures: Sequence[Signature]) -> tuple[Signature | None, list[float]]:
        """Return the signature whose predictions agree best with the labels, or None, and the error of each."""
        if self.labels is None:
            return None, []
        errors = [self._error(signature) for signature in signatures]
        best = int(np.argmin(errors))
        rest = [error for position, error in enumerate(errors) if position != best]
        return (signatures[best] if errors[best] <= MAX_ERROR_RATIO * min(rest) and min(rest) > 0 else None), errors

    def _error(self, signature: Signature) -> float:
        """Return the mean absolute error of the predictions, or the fraction of wrong labels."""
        found = self._answers_with(signature, MAX_SAMPLE_ROWS)
        if found is None or self.labels is None:
            return np.inf
        predictions = pd.Series([row[0] for row in found])
        labels = self.labels[: len(predictions)].reset_index(drop=True)
        if all(pd.api.types.is_float_dtype(values) for values in (predictions, labels)):
            return float((predictions - labels).abs().mean())
        return float((predictions.astype(str) != labels.astype(str)).mean())

    def _first_accepted(self, names: Sequence[str]) -> Signature | None:
        alone = [[name] for name in names] if 1 < len(names) <= MAX_COLUMNS_TRIED_ALONE else []
        for chosen in [list(names), *alone]:
            for choice in self._choices(chosen):
                taken = self._with_other_dtypes(chosen, choice)
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
    """Return the names of inputs as the beginning of a sentence."""
    return f"{'input' if len(names) == 1 else 'inputs'} {some(names, MAX_NAMED)}"


def _dtype(signature: Signature, names: Sequence[str]) -> str:
    """Return the dtype of these inputs as pandas writes it."""
    spec = next(spec for spec in signature.inputs if spec.name in names)
    return str(NULLABLE.get(spec.dtype, spec.dtype)) if spec.missing == "na" else spec.dtype


def _guesses(layout: Layout, records: Sequence[Record]) -> Iterator[Guess]:
    """Yield the dtypes that are uncertain, the most important first."""

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
