"""A small table of flowers, and objects of many kinds that are saved as artifacts."""

from __future__ import annotations

import os
import pickle
import signal
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, ClassifierMixin

ROWS = 60


def flowers() -> pd.DataFrame:
    """Return measurements, whole numbers, words and booleans, some missing; and the species, which is the target."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "length": rng.uniform(1.0, 9.0, ROWS).round(2),
            "petals": rng.integers(3, 9, ROWS),
            "colour": rng.choice(["red", "green", "blue"], ROWS),
            "scented": rng.choice([True, False], ROWS),
        }
    )
    frame["species"] = np.where(frame["length"] + frame["petals"] > 10, "rose", "aster")
    frame.loc[3, "length"] = np.nan
    frame.loc[5, "colour"] = None
    return frame


def saved(model: object, path: Path) -> Path:
    """Save the model with `joblib.dump`, and return the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    joblib.dump(model, path)
    return path


class Reduced:
    """Call a function when it is unpickled."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> Any:
        return self.function, self.arguments


def aborts(path: Path) -> Path:
    """Write a pickle that ends the process that reads it, without an error."""
    path.write_bytes(pickle.dumps(Reduced(os.abort)))
    return path


def hangs(path: Path) -> Path:
    """Write a pickle that never finishes loading."""
    path.write_bytes(pickle.dumps(Reduced(signal.pause)))
    return path


class Picky(ClassifierMixin, BaseEstimator):
    """Predict "rose" for lengths up to 3, and fail on others. Fitted without names."""

    def fit(self, features: Any, target: Any) -> Picky:
        self.classes_ = np.unique(target)
        self.n_features_in_ = np.shape(features)[1]
        return self

    def predict(self, features: Any) -> Any:
        if np.max(features) > 3:
            raise ValueError("too long for me")
        return np.array(["rose"] * len(features))


class AlwaysFailing(ClassifierMixin, BaseEstimator):
    """Fail on every prediction."""

    def fit(self, features: Any, target: Any) -> AlwaysFailing:
        self.classes_ = np.unique(target)
        self.n_features_in_ = np.shape(features)[1]
        return self

    def predict(self, features: Any) -> Any:
        raise ValueError("not\ntoday")


class AbortsWhenStaged(ClassifierMixin, BaseEstimator):
    """End the process while a version is being put together in the repository."""

    def __init__(self, repository: str = "") -> None:
        self.repository = repository

    def fit(self, features: Any, target: Any) -> AbortsWhenStaged:
        self.classes_ = np.unique(target)
        self.n_features_in_ = np.shape(features)[1]
        return self

    def predict(self, features: Any) -> Any:
        if any(Path(self.repository).glob(".staging-*")):
            os.abort()
        return np.array(["rose"] * len(features))
