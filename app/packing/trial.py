"""What only the model knows of its inputs, because it is asked: what may be missing, unseen, or how large."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from app.runtime.servable import call, frame_of
from app.signature import Input, Signature
from app.signature.schema import Validator

MAX_SAMPLE_ROWS = 1000
FLOAT64_NEARLY_MAX = 1.7e308
LARGEST_TRIED = (1e300, 1e200, 1e150, 1e100, 1e38, 1e36, 1e30, 1e25, 1e20, 1e15)
UNSEEN_TEXT = "\x00never seen"

Record = dict[str, Any]


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


def answered(estimator: Any, signature: Signature, records: list[Record]) -> list[int]:
    """The positions of the records that the model answers as the signature hands them over: all, nearly always."""

    def among(positions: list[int]) -> list[int]:
        if not positions or attempt(estimator, signature, [records[position] for position in positions]) is None:
            return positions
        middle = len(positions) // 2
        return among(positions[:middle]) + among(positions[middle:]) if middle else []

    return among(list(range(len(records))))


def with_nulls(estimator: Any, draft: Signature, record: Record) -> Signature:
    """Marks the inputs that may be missing: those for which the model still answers when they are."""

    def answers(names: Sequence[str], missing: str) -> bool:
        dtype_of_none = {"str": "object"} if missing == "none" else {}
        tried = edited(
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
    return edited(
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


def with_unseen(estimator: Any, draft: Signature, record: Record) -> Signature:
    """Marks the categories for which the model refuses a value that it has never seen."""

    def refuses(spec: Input) -> bool:
        known = spec.categories or ()
        unseen = UNSEEN_TEXT if str in map(type, known) else max(map(float, known), default=0.0) + 1.0
        return attempt(estimator, permissive(draft), [record | {spec.name: unseen}]) is not None

    return edited(
        draft, lambda s: replace(s, unseen="reject" if refuses(s) else "accept") if s.categories is not None else s
    )


def with_largest(estimator: Any, draft: Signature, record: Record) -> Signature:
    """Marks how large a number may be, where the model fails on larger ones: trees compute in float32."""
    numbers = [spec.name for spec in draft.inputs if spec.kind == "number" and spec.dtype == "float64"]
    for largest in (FLOAT64_NEARLY_MAX, *LARGEST_TRIED):
        tried = [record | dict.fromkeys(numbers, sign * largest) for sign in (1.0, -1.0)]
        if all(attempt(estimator, draft, [row]) is None for row in tried):
            if largest == FLOAT64_NEARLY_MAX:
                return draft
            return edited(draft, lambda s: replace(s, largest=largest) if s.name in numbers else s)  # noqa: B023
    return draft


def permissive(signature: Signature) -> Signature:
    """The signature that lets the model itself refuse what is missing or unseen."""
    return edited(signature, lambda s: replace(s, nullable=True, unseen="accept"))


def edited(signature: Signature, edit: Callable[[Input], Input]) -> Signature:
    """The signature with each input as the edit has it."""
    return replace(signature, inputs=tuple(map(edit, signature.inputs)))
