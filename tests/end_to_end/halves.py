"""A model of plain NumPy: its server need not import scikit-learn, which takes longer than the server's own start."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Halves:
    """Predict whether the first of two numbers is positive."""

    n_features_in_ = 2
    classes_ = np.array([False, True])
    _estimator_type = "classifier"

    def predict(self, rows: NDArray[np.float64]) -> NDArray[np.bool_]:
        return np.asarray(rows)[:, 0] > 0
