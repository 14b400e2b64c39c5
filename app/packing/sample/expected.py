"""Facts about the columns of a sample, known from the estimator and from its user before the sample is read."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from app.packing import inspect
from app.packing.declared import DeclaredInput
from app.packing.facts import Facts, facts_of

TEXTS = ("text", "category")
INDEX_NAMES = re.compile(r"Unnamed: \d+(\.\d+)*|__index_level_\d+__|level_\d+|index|row\.names|")
"""The names that programs give to the column of an index without a name."""


@dataclass(frozen=True, slots=True)
class Column:
    """The known facts of one column: the categories that the model has learned, and a typical number.

    `may_be_text` says that its user declares a text or a category, so that codes keep their leading zeros.
    """

    categories: tuple[Any, ...] | None = None
    text: bool = False
    may_be_text: bool = False
    typical: float | None = None

    @property
    def strings(self) -> bool:
        """Whether the model has learned strings in this column."""
        return self.text or any(isinstance(value, str) for value in self.categories or ())


UNKNOWN = Column()


@dataclass(frozen=True, slots=True)
class Expected:
    """The known facts of all columns: the names and the number of the inputs, and columns by name.

    `positions` has the facts of the inputs of a model without names. `targets` are not inputs.
    """

    names: tuple[str, ...] | None = None
    width: int | None = None
    columns: Mapping[str, Column] = field(default_factory=dict)
    positions: tuple[Column, ...] = ()
    targets: tuple[str, ...] = ()

    def beside(self, targets: tuple[str, ...]) -> Expected:
        """Return a copy with the names of the target columns."""
        return replace(self, targets=targets)

    def named(self, name: str) -> bool:
        """Return whether the model or its user names this column."""
        return name in self.targets or name in self.columns or name in (self.names or ())

    def of(self, names: Sequence[str]) -> list[Column]:
        """Return the known facts of each of these columns of the sample."""
        if self.names is None and self.positions:
            inputs = [name for name in names if name not in self.targets]
            if self.width is not None and len(inputs) > self.width:
                inputs = [name for name in inputs if not INDEX_NAMES.fullmatch(name)]
            by_position = dict(zip(inputs, self.positions, strict=False)) if len(inputs) == self.width else {}
            return [self.columns.get(name) or by_position.get(name, UNKNOWN) for name in names]
        return [self.columns.get(name, UNKNOWN) for name in names]


NOTHING = Expected()


def expected_of(estimator: Any, wanted: Sequence[DeclaredInput] = (), columns: Sequence[str] | None = None) -> Expected:
    """Return the facts that the estimator has learned about its inputs, and those that its user declares.

    `columns` are the names of the inputs of a model that was fitted without names.
    """
    declared = {w.name: Column(w.categories, w.kind == "text", w.kind in TEXTS) for w in wanted}
    if inspect.takes_records(estimator):
        return Expected(columns=declared)
    if inspect.takes_text(estimator):
        return Expected(width=1, columns=declared, positions=(Column(text=True),))
    names, width = inspect.names_of(estimator) or columns, inspect.width_of(estimator)
    if width is None:
        return Expected(None if names is None else tuple(names), columns=declared)
    learned = [Column(fact.categories, fact.text, typical=_typical(fact)) for fact in facts_of(estimator, width)]
    known = {} if names is None else dict(zip(names, learned, strict=False))
    return Expected(
        None if names is None else tuple(names),
        width,
        known | {name: _joined(known.get(name, UNKNOWN), column) for name, column in declared.items()},
        tuple(learned),
    )


def _joined(learned: Column, declared: Column) -> Column:
    return replace(
        learned,
        categories=declared.categories or learned.categories,
        text=declared.text or learned.text,
        may_be_text=declared.may_be_text and learned.categories is None,
    )


def _typical(fact: Facts) -> float | None:
    if fact.typical is not None or fact.minimum is None or fact.maximum is None:
        return fact.typical
    return float(np.mean([fact.minimum, fact.maximum]))
