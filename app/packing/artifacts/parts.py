"""Put one model together from the parts in a dict, a tuple or several files: transformers, columns, labels."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from app.errors import PackingRefused
from app.packing import inspect

MAX_DEPTH = 3
MAX_LISTED = 20
ENCODERS_OF_LABELS = ("LabelEncoder", "LabelBinarizer")


@dataclass(frozen=True, slots=True)
class Choice:
    """The names of the parts that make a model: the model, the transformers before it, its columns, its labels."""

    use: str | None = None
    before: tuple[str, ...] = ()
    columns: str | None = None
    labels: str | None = None

    @property
    def made(self) -> bool:
        """Whether anything was chosen."""
        return self != Choice()


@dataclass(frozen=True, slots=True)
class Whole:
    """A model put together, and notes on it; `columns` are the names of its columns, if they are known.

    `steps` are the names in `before` that are not parts but steps of the user's module.
    """

    estimator: Any
    columns: tuple[str, ...] | None = None
    steps: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def parts_of(content: Any, name: str) -> dict[str, Any]:
    """Return the parts of a dict, a list or a tuple by name; any other object is its only part."""
    return dict(_flat(content, "", MAX_DEPTH)) if is_container(content) else {name: content}


def is_container(content: Any) -> bool:
    """Return whether an object holds parts instead of being one."""
    return isinstance(content, dict | list | tuple) and bool(content) and role_of(content) == "other"


def _flat(content: Any, prefix: str, depth: int) -> Iterator[tuple[str, Any]]:
    named = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in named:
        if depth > 1 and is_container(value) and any(role_of(part) != "other" for _, part in _flat(value, "", 1)):
            yield from _flat(value, f"{prefix}{key}.", depth - 1)
        else:
            yield f"{prefix}{key}", value


def role_of(part: Any) -> str:
    """Return the role of a part: model, transformer, labels, columns or other."""
    if isinstance(part, type):
        return "other"
    if type(part).__name__ in ENCODERS_OF_LABELS:
        return "labels"
    if callable(getattr(part, "predict", None)):
        return "model"
    if callable(getattr(part, "transform", None)) and hasattr(part, "fit"):
        return "transformer"
    if isinstance(part, dict):
        numbers = part and all(isinstance(key, int | np.integer) for key in part)
        return "labels" if numbers and all(isinstance(value, str) for value in part.values()) else "other"
    return "columns" if _names(part) else "other"


def _names(part: Any) -> tuple[str, ...]:
    """Return the texts in a list, an array or an index of texts; nothing for other objects."""
    if isinstance(part, str | bytes | dict) or not (isinstance(part, list | tuple) or hasattr(part, "tolist")):
        return ()
    values = part if isinstance(part, list | tuple) else part.tolist()
    return tuple(values) if isinstance(values, list | tuple) and all(isinstance(v, str) for v in values) else ()


def whole_of(parts: Mapping[str, Any], choice: Choice, *, several_files: bool, command: str) -> Whole:
    """Put the model together that the chosen parts make; refuse if that is not clear, listing the parts.

    For several files, given in the order of the pipeline, the choice may be left open if their roles are clear. An
    error proposes the command that was used, with a choice.
    """
    by_role: dict[str, list[str]] = {}
    for name, part in parts.items():
        by_role.setdefault(role_of(part), []).append(name)
    if several_files and choice.use is None:
        choice = _completed(parts, by_role, choice, command)
    rest = [name for name in parts if name not in (*choice.before, choice.columns, choice.labels)]
    use = choice.use or (rest[0] if len(rest) == 1 and choice.made else None)
    if use is None:
        raise PackingRefused(_proposal(parts, by_role, command))
    _part(parts, use, "--use")
    for name in choice.before:
        if name in parts and role_of(parts[name]) != "transformer":
            raise PackingRefused(f"--before {name}: it is a {_described(parts[name])}, and has no transform")
    columns = None if choice.columns is None else _names(_part(parts, choice.columns, "--columns"))
    if columns == ():
        raise PackingRefused(f"--columns {choice.columns}: it is a {_described(parts[str(choice.columns)])}, not names")
    return _assembled(parts, use, columns, choice)


def _assembled(parts: Mapping[str, Any], use: str, columns: tuple[str, ...] | None, choice: Choice) -> Whole:
    before = [name for name in choice.before if name in parts]
    for name in (use, *before):
        inspect.require_model(parts[name])
    estimator, notes = parts[use], [f"made of: {', '.join([*before, use])}"] if before else []
    if before:
        from sklearn.pipeline import Pipeline

        _require_chain([(name, parts[name]) for name in (*before, use)])
        named = [*((f"{place}-{name}", parts[name]) for place, name in enumerate(before, 1)), ("model", parts[use])]
        estimator = Pipeline([(name.replace("__", "_"), part) for name, part in named])
    if choice.labels is not None:
        estimator = _labelled(estimator, choice.labels, _part(parts, choice.labels, "--labels"))
        notes.append(f"its predictions are decoded by {choice.labels}: {', '.join(map(str, estimator.labels[:10]))}")
    width = inspect.width_of(estimator)
    if columns is not None and width is not None and len(columns) != width:
        raise PackingRefused(f"--columns {choice.columns}: it holds {len(columns)} names, and the model takes {width}")
    left = [name for name in parts if name not in (use, *before, choice.columns, choice.labels)]
    if left:
        notes.append(f"not used: {', '.join(left[:MAX_LISTED])}")
    return Whole(estimator, columns, tuple(name for name in choice.before if name not in parts), tuple(notes))


def _labelled(estimator: Any, name: str, part: Any) -> Any:
    """Return a classifier that decodes its predictions by labels; refuse labels of another classifier."""
    from app.runtime.decoded import Decoded

    labels: Any = getattr(part, "classes_", None)
    if labels is None and isinstance(part, dict):
        numbered = part if role_of(part) == "labels" else {number: label for label, number in part.items()}
        if sorted(numbered) == list(range(len(numbered))):
            labels = [numbered[number] for number in range(len(numbered))]
    if labels is None:
        labels = list(_names(part)) or None
    if labels is None:
        raise PackingRefused(
            f"--labels {name}: it is a {_described(part)}, neither a LabelEncoder nor a list of labels"
        )
    known = getattr(estimator, "classes_", None)
    if known is not None and not all(
        isinstance(k, int | float) and float(k).is_integer() and 0 <= k < len(labels)
        for k in np.asarray(known).tolist()
    ):
        raise PackingRefused(
            f"--labels {name}: the model predicts {', '.join(map(str, known[:10]))}, which are no positions in its "
            f"{len(labels)} labels"
        )
    return Decoded(estimator, np.asarray(labels))


def _require_chain(steps: Sequence[tuple[str, Any]]) -> None:
    """Refuse steps if one gives another number of columns than the next takes, as far as this is known."""
    for (name, part), (after, following) in pairwise(steps):
        given, taken = _output_width(part), inspect.width_of(following)
        if given is not None and taken is not None and given != taken:
            raise PackingRefused(f"{name} gives {given} columns, and {after} takes {taken}: are these the right parts?")


def _output_width(transformer: Any) -> int | None:
    try:
        return len(transformer.get_feature_names_out())
    except Exception:  # noqa: BLE001 (many transformers do not tell, and raise various errors)
        return None


def _completed(parts: Mapping[str, Any], by_role: Mapping[str, Sequence[str]], choice: Choice, command: str) -> Choice:
    """Complete a choice by the parts whose role is clear: the model, the transformers in order, columns and labels."""
    chosen = {"labels": choice.labels, "columns": choice.columns}
    unclear = [role for role, name in chosen.items() if name is None and len(by_role.get(role, ())) > 1]
    if len(by_role.get("model", ())) != 1 or unclear:
        raise PackingRefused(_proposal(parts, by_role, command))
    clear = _proposed(by_role)
    named = any(name in parts for name in choice.before)
    before = choice.before if named else (*choice.before, *clear.before)
    return Choice(clear.use, before, choice.columns or clear.columns, choice.labels or clear.labels)


def _proposed(by_role: Mapping[str, Sequence[str]]) -> Choice:
    first = {role: names[0] for role, names in by_role.items()}
    return Choice(first.get("model"), tuple(by_role.get("transformer", ())), first.get("columns"), first.get("labels"))


def _proposal(parts: Mapping[str, Any], by_role: Mapping[str, Sequence[str]], command: str) -> str:
    """Return the list of all parts, and the command that packs them."""
    listed = "; ".join(f"{name}: {_described(part)}" for name, part in list(parts.items())[:MAX_LISTED])
    more = f"; and {len(parts) - MAX_LISTED} more" if len(parts) > MAX_LISTED else ""
    if not by_role.get("model"):
        return f"none of its {len(parts)} parts is a model; they are: {listed}{more}"
    choice = _chained(parts, _proposed(by_role))
    asked = [("--use", choice.use), *(("--before", name) for name in choice.before)]
    asked += [("--columns", choice.columns), ("--labels", choice.labels)]
    options = " ".join(f"{option} {shlex.quote(name)}" for option, name in asked if name is not None)
    return f"it holds parts, not one model: {listed}{more}. To pack one: {command} {options}"


def _chained(parts: Mapping[str, Any], choice: Choice) -> Choice:
    """Remove columns and labels from a choice if they do not fit the model."""
    model, width = parts[str(choice.use)], inspect.width_of(parts[str(choice.use)])
    first = parts[choice.before[0]] if choice.before else model
    taken = inspect.width_of(first) or width
    columns = choice.columns
    if columns is not None and taken is not None and len(_names(parts[columns])) != taken:
        columns = next((n for n, p in parts.items() if role_of(p) == "columns" and len(_names(p)) == taken), None)
    known = np.asarray(getattr(model, "classes_", ()))
    labels = choice.labels if not known.size or known.dtype.kind in "iuf" else None
    return Choice(choice.use, choice.before, columns, labels)


def _part(parts: Mapping[str, Any], name: str, option: str) -> Any:
    if name not in parts:
        there = ", ".join(list(parts)[:MAX_LISTED])
        raise PackingRefused(f"{option} {name}: there is no such part; there are: {there}")
    return parts[name]


def _described(part: Any) -> str:
    """Return what a part is, in a few words."""
    names = _names(part)
    if names:
        return f"{len(names)} texts ({', '.join(names[:4])}{', …' if len(names) > 4 else ''})"
    if isinstance(part, dict | list | tuple):
        return f"{type(part).__name__} of {len(part)}"
    shape = getattr(part, "shape", None)
    return f"{type(part).__name__}{f' of shape {shape}' if isinstance(shape, tuple) else ''}"
