"""A model that works until it gets a value above 1000. Then it does its entry in `MISDEEDS`."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

SECRET = "/srv/models/secret.joblib"


def fail(error: BaseException) -> Any:
    raise error


def deeper(depth: int = 0) -> int:
    return deeper(depth + 1) + 1


MISDEEDS: dict[int, tuple[str, Callable[[np.ndarray], Any]]] = {
    1001: ("raises", lambda rows: fail(RuntimeError(f"cannot open {SECRET}"))),
    1002: ("exits", lambda rows: fail(SystemExit(f"bye {SECRET}"))),
    1003: ("recurses", lambda rows: deeper()),
    1004: ("a row too few", lambda rows: np.zeros(len(rows) - 1)),
    1005: ("a row too many", lambda rows: np.zeros(len(rows) + 1)),
    1006: ("None", lambda rows: None),
    1007: ("a generator", lambda rows: (row for row in rows)),
    1008: ("a scalar", lambda rows: 1.0),
    1009: ("ragged rows", lambda rows: [[1.0]] + [[1.0, 2.0]] * (len(rows) - 1)),
    1010: ("half a surrogate pair", lambda rows: np.array(["\ud800"] * len(rows), dtype=object)),
    1012: ("out of memory", lambda rows: fail(MemoryError(SECRET))),
    1013: ("a missing key", lambda rows: fail(KeyError(SECRET))),
    1014: ("an error without a message", lambda rows: fail(AssertionError())),
    1015: ("a warning", lambda rows: fail(UserWarning(SECRET))),
    1016: ("the error of another room", lambda rows: fail(StopIteration(SECRET))),
}

ODDITIES: dict[int, tuple[Any, Any]] = {
    2001: (np.nan, None),
    2002: (np.inf, None),
    2003: (-np.inf, None),
    2004: (np.float32(0.1), np.float64(np.float32(0.1))),
    2005: (np.int8(-3), -3),
    2006: (np.bool_(True), True),
    2007: (np.datetime64("2026-01-02"), "2026-01-02"),
    2008: (Decimal("1.50"), "1.50"),
    2009: ("größer 😀", "größer 😀"),
    2010: (b"Adelie", "Adelie"),
    2011: (None, None),
    2012: ("", ""),
    2013: (1e308, 1e308),
    2014: (5e-324, 5e-324),
    2015: (2**63, 2**63),
    2016: (2**100, 2**100),
}


class Troublesome(RegressorMixin, BaseEstimator):
    """Predict the first input. The first row decides whether it misbehaves."""

    def fit(self, features: Any, target: Any = None) -> Troublesome:
        self.n_features_in_ = 2
        return self

    def predict(self, rows: np.ndarray) -> Any:
        wish = int(rows[0, 0])
        if wish in MISDEEDS:
            return MISDEEDS[wish][1](rows)
        if wish in ODDITIES:
            wanted = ODDITIES[wish][0]
            answers = np.empty(len(rows), dtype=object)
            answers[:] = [wanted] * len(rows)
            return answers if isinstance(wanted, str | Decimal | int | None) else np.array([wanted] * len(rows))
        return rows[:, 0]


def raise_near_1001(rows: np.ndarray) -> np.ndarray:
    """Raise an error near 1001, as a function of a FunctionTransformer. Packing finds limits, but not such a gap."""
    if (np.abs(rows - 1001) < 0.5).any():
        raise ValueError(f"near 1001: see {SECRET}")
    return rows
