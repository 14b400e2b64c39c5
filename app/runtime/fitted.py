"""Changes to a fitted estimator that the server owns: remove its threads and the names of its columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

PLAIN = (str, bytes, int, float, type(None), np.generic)


def parts_of(estimator: Any) -> Iterator[Any]:
    """Yield the estimator and every estimator inside it once: steps, ensemble members, results of a search."""
    seen: set[int] = set()
    waiting = [estimator]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        # Some classes of scikit-learn hold an estimator but are none, such as members of a calibrated classifier.
        ours = hasattr(type(part), "get_params") or type(part).__module__.startswith("sklearn.")
        if ours and hasattr(part, "__dict__") and not isinstance(part, type):
            yield part
            waiting.extend(vars(part).values())
        else:
            waiting.extend(_inside(part))


def single_threaded(estimator: Any) -> None:
    """Set every `n_jobs` to 1: the server decides about threads and starts no processes.

    Results do not depend on it, except for the order in which a forest's threads add up. None already means 1.
    """
    for part in parts_of(estimator):
        if vars(part).get("n_jobs") is not None:
            part.n_jobs = 1


def without_names(estimator: Any) -> None:
    """Make an estimator that was fitted on a frame like one that was fitted on the frame's values.

    Columns that were selected by name are then selected by position.
    """
    for part in list(parts_of(estimator)):
        names = vars(part).get("feature_names_in_")
        if names is None:
            continue
        if "transformers_" in vars(part):
            position = {name: place for place, name in enumerate(names)}
            part.transformers_ = [(label, inner, _placed(of, position)) for label, inner, of in part.transformers_]
        del part.feature_names_in_


def _placed(columns: Any, position: dict[str, int]) -> Any:
    if isinstance(columns, str):
        return position[columns]
    names = list(columns) if isinstance(columns, list | tuple | np.ndarray) or hasattr(columns, "tolist") else []
    return [position[name] for name in names] if names and all(isinstance(name, str) for name in names) else columns


def _inside(container: Any) -> list[Any]:
    """Return the members of a container of estimators. Large vocabularies are not searched."""
    if isinstance(container, tuple):
        return list(container)
    if isinstance(container, dict):
        container = list(container.values()) if not isinstance(next(iter(container.values()), None), PLAIN) else []
    if isinstance(container, np.ndarray):
        container = container.ravel().tolist() if container.dtype == object else []
    return container if isinstance(container, list) and not isinstance(next(iter(container), None), PLAIN) else []
