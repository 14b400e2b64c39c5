"""A model that answers well until it is asked about one of two values: then its process ends, each time otherwise."""

from __future__ import annotations

import ctypes
import os
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

EXITS, SEGFAULTS = 666.25, 666.75


class Deadly(RegressorMixin, BaseEstimator):
    """Predicts twice the first input."""

    def fit(self, features: np.ndarray, target: Any = None) -> Deadly:
        self.n_features_in_ = features.shape[1]
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        if (features[:, 0] == EXITS).any():
            os._exit(7)
        if (features[:, 0] == SEGFAULTS).any():
            ctypes.string_at(0)
        return features[:, 0] * 2
