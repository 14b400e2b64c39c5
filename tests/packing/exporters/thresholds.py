"""Test rows for trees: at and next to their thresholds, where float32 rounds, far outside, and missing."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

LARGE = [0.0, -0.0, 1e-300, -1e-300, 1e-40, -1e-40, 1.0, -1.0, 0.5, 1e7, 1e12, -1e12]


def near(training: NDArray[np.float64], splits: Iterable[tuple[int, float]], missing: bool = False):
    """Return the training rows, mixed rows, rows near these (column, threshold) pairs, and rows with missing values."""
    rng = np.random.default_rng(0)
    pairs = [(column, threshold) for column, threshold in splits if np.isfinite(threshold)]
    chosen = rng.permutation(len(pairs))[:60]
    rows = [training, rng.permuted(training, axis=0), rng.choice(LARGE, (60, training.shape[1]))]
    for column, threshold in (pairs[place] for place in chosen):
        single = np.float32(threshold)
        after = np.nextafter(single, np.float32(np.inf))
        values = [threshold, np.nextafter(threshold, -np.inf), np.nextafter(threshold, np.inf)]
        values += [float(single), float(after), (float(single) + float(after)) / 2]
        block = rng.choice(training, len(values))
        block[:, column] = values
        rows.append(block)
    tried = np.concatenate(rows)
    if missing:
        tried = np.concatenate([tried, np.where(rng.random(tried.shape) < 0.3, np.nan, tried)])
    repeated = rng.choice(tried, max(0, 1000 - len(tried)))
    return np.concatenate([tried, repeated])
