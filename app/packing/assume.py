"""Of training data some facts are neither in the artifact nor in the sample. The model is asked whether they matter.

Where every possible value of such a fact gives the same answers, nothing is assumed. Where it matters, the likeliest is
taken, and one sentence says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any

from app.packing import trained
from app.packing.trial import Record, answers, edited, permissive
from app.runtime.proving import same
from app.signature import Input, Layout, Signature

ROWS_ASKED = 50
MAX_COLUMNS_ASKED_ALONE = 30
MAX_NAMED = 10
UNITS = ("ns", "us", "ms", "s")


@dataclass(slots=True)
class Notes:
    """Sentences about what was assumed; and records that prove how the model takes a missing value."""

    assumptions: list[str] = field(default_factory=list)
    telling: list[Record] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Guess:
    """A fact of some inputs that may be otherwise: the inputs that it is about, and what else each may have been.

    `says` words the assumption, from the names of the inputs and from what was taken and what was left.
    """

    concerns: Callable[[Input], bool]
    others: Callable[[Input], Sequence[Input]]
    says: Callable[[str, Input, Input], str]


def settled(estimator: Any, draft: Signature, records: Sequence[Record], known: Set[str], notes: Notes) -> Signature:
    """The signature with the dtypes that the model was trained on, as far as its answers tell.

    Args:
        estimator: The fitted model.
        draft: The signature, with the likeliest dtypes.
        records: Rows to ask the model for.
        known: The inputs whose dtype is a fact.
        notes: Takes a sentence for each assumption that matters.
    """
    if draft.layout not in (Layout.FRAME, Layout.MATRIX):
        return draft
    for guess in _guesses(draft.layout, records):
        names = [spec.name for spec in draft.inputs if spec.name not in known and guess.concerns(spec)]
        if names:
            draft = _Asked(estimator, draft, list(records[:ROWS_ASKED]), guess, notes).settle(names)
    return draft


class _Asked:
    """The model, asked for the same rows with one guess made otherwise."""

    def __init__(self, estimator: Any, draft: Signature, records: list[Record], guess: Guess, notes: Notes) -> None:
        self._estimator = estimator
        self._draft = draft
        self._records = records
        self._guess = guess
        self._notes = notes
        self._answers = answers(estimator, permissive(draft), records)

    def settle(self, names: Sequence[str]) -> Signature:
        """The draft, or the first of the other guesses that the model answers where it fails on the draft's."""
        if self._answers is None:
            return self._first_answered(names) or self._draft
        for turn in self._turns(names):
            if self._differs(names, turn):
                alone = names if len(names) <= MAX_COLUMNS_ASKED_ALONE else []
                matters = [name for name in alone if self._differs([name], turn)] or list(names)
                self._note(matters, self._specs(matters)[0], turn)
                break
        return self._draft

    def _turns(self, names: Sequence[str]) -> range:
        return range(max(len(self._guess.others(spec)) for spec in self._specs(names)))

    def _specs(self, names: Sequence[str]) -> list[Input]:
        return [spec for spec in self._draft.inputs if spec.name in names]

    def _other(self, spec: Input, turn: int) -> Input:
        others = self._guess.others(spec)
        return others[turn] if turn < len(others) else spec

    def _otherwise(self, names: Sequence[str], turn: int) -> Signature:
        return edited(self._draft, lambda s: self._other(s, turn) if s.name in names else s)

    def _asked(self, names: Sequence[str], turn: int) -> list[Any] | None:
        return answers(self._estimator, permissive(self._otherwise(names, turn)), self._records)

    def _differs(self, names: Sequence[str], turn: int) -> bool:
        found = self._asked(names, turn)
        return found is not None and not same(self._answers, found)

    def _first_answered(self, names: Sequence[str]) -> Signature | None:
        alone = [[name] for name in names] if 1 < len(names) <= MAX_COLUMNS_ASKED_ALONE else []
        for chosen in [list(names), *alone]:
            for turn in self._turns(chosen):
                if self._asked(chosen, turn) is not None:
                    taken = self._otherwise(chosen, turn)
                    self._note(chosen, next(spec for spec in taken.inputs if spec.name in chosen), None)
                    return taken
        return None

    def _note(self, names: Sequence[str], taken: Input, turn: int | None) -> None:
        left = self._specs(names)[0] if turn is None else self._other(self._specs(names)[0], turn)
        self._notes.assumptions.append(self._guess.says(named(names), taken, left))


def named(names: Sequence[str]) -> str:
    """Inputs as the beginning of a sentence."""
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{'input' if len(names) == 1 else 'inputs'} {', '.join(names[:MAX_NAMED])}{more}"


def _guesses(layout: Layout, records: Sequence[Record]) -> Iterator[Guess]:
    if layout is Layout.FRAME:
        yield Guess(_is_text, lambda spec: _other_texts(spec, records), _says_dtype)
        yield Guess(
            lambda spec: spec.kind == "integer" and spec.dtype == "int64",
            lambda spec: [replace(spec, dtype="int32"), replace(spec, kind="number", dtype="float64")],
            _says_dtype,
        )
    yield Guess(
        lambda spec: spec.kind == "number" and spec.dtype == "float64" and spec.missing != "na",
        lambda spec: [replace(spec, dtype="float32")],
        _says_dtype,
    )
    yield Guess(lambda spec: spec.kind == "timestamp", _other_units, _says_dtype)


def _is_text(spec: Input) -> bool:
    return spec.kind in ("text", "category") and spec.dtype in ("str", "object") and _has_text(spec)


def _has_text(spec: Input) -> bool:
    return spec.categories is None or any(isinstance(value, str) for value in spec.categories)


def _other_texts(spec: Input, records: Sequence[Record]) -> list[Input]:
    values = {record[spec.name] for record in records if isinstance(record[spec.name], str)}
    categories = spec.categories or tuple(sorted(values))
    other = "object" if spec.dtype != "object" else trained.TEXT
    texts = [replace(spec, dtype=other)] if other != spec.dtype else []
    if not values <= set(categories):
        return texts
    return [*texts, replace(spec, kind="category", dtype="category", categories=categories, missing="nan")]


def _other_units(spec: Input) -> list[Input]:
    unit = spec.dtype.partition("[")[2][:2].rstrip("],")
    return [replace(spec, dtype=spec.dtype.replace(f"[{unit}", f"[{other}")) for other in UNITS if other != unit]


def _says_dtype(names: str, taken: Input, left: Input) -> str:
    if taken.dtype == "category":
        return (
            f"{names}: assumed to be pandas categories in the order {_some(taken)}, since the model fails on plain "
            'strings; if not, declare "categories" with --inputs'
        )
    was = "was" if names.startswith("input ") else "were"
    return (
        f"{names}: assumed that the dtype {was} {taken.dtype} in training, which neither the artifact nor the sample "
        f'says; the model answers otherwise to {left.dtype}: declare "dtype" with --inputs if that is right'
    )


def _some(spec: Input) -> str:
    shown = [str(value) for value in (spec.categories or ())[:MAX_NAMED]]
    return ", ".join(shown) + (", …" if len(spec.categories or ()) > MAX_NAMED else "")
