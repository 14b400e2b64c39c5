"""Where scikit-learn's releases differ: one accessor for each fitted attribute that has had another name or form.

Packing runs with the release that the artifact was saved with, from 1.1 on. Everything else is alike in all of them.
"""

from __future__ import annotations

from typing import Any

import sklearn.base


def is_clusterer(estimator: Any) -> bool:
    """Whether it is a clusterer; scikit-learn's own function is new in 1.6."""
    own = getattr(sklearn.base, "is_clusterer", None)
    return bool(own(estimator)) if own else getattr(estimator, "_estimator_type", None) == "clusterer"
