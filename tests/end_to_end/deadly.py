"""A model whose process ends when it gets one of some values, each in a different way."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import time
from typing import Any

import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin

EXITS, SEGFAULTS = 666.25, 666.75
FORKS, CHILD_LIVES_S = 777.25, 60
GROUP_DIES, LEAKS = 888.25, 999.25
LEAKED: list[int] = []
EXIT_STATUS = {EXITS: 7, 666.3: 3, 666.4: 4}
"""Gunicorn uses 3 and 4 for workers that cannot boot."""


class Deadly(RegressorMixin, BaseEstimator):
    """Predict twice the first input."""

    def fit(self, features: np.ndarray, target: Any = None) -> Deadly:
        self.n_features_in_ = features.shape[1]
        return self

    def predict(self, features: np.ndarray) -> np.ndarray:
        for value, status in EXIT_STATUS.items():
            if (features[:, 0] == value).any():
                os._exit(status)
        if (features[:, 0] == SEGFAULTS).any():
            ctypes.string_at(0)
        if (features[:, 0] == GROUP_DIES).any():
            os.killpg(0, signal.SIGKILL)
        if (features[:, 0] == LEAKS).any():
            with contextlib.suppress(OSError):
                while True:
                    LEAKED.append(os.open(os.devnull, os.O_RDONLY))
        if (features[:, 0] == FORKS).any():
            child = os.fork()
            if child == 0:
                time.sleep(CHILD_LIVES_S)
                os._exit(0)
            return np.full(len(features), float(child))
        return features[:, 0] * 2
