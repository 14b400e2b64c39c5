"""Differences between releases of scikit-learn: one function for each fitted attribute or rule that has changed.

Packing runs with the release that the artifact was saved with, from 1.1 on, so `RELEASE` is that of the estimator.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import sklearn
import sklearn.base
from numpy.typing import NDArray

RELEASE = tuple(int(number) for number in re.findall(r"\d+", sklearn.__version__)[:2])


def is_clusterer(estimator: Any) -> bool:
    """Return whether an estimator is a clusterer. `sklearn.base.is_clusterer` is new in 1.6."""
    if RELEASE >= (1, 6):
        return bool(sklearn.base.is_clusterer(estimator))
    return getattr(estimator, "_estimator_type", None) == "clusterer"


def column_names(estimator: Any) -> Any | None:
    """Return `feature_names_in_`, which `FeatureUnion`, and so a pipeline that begins with one, has since 1.3.

    LightGBM 4.7 does not find it in a model that an older LightGBM has pickled.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None and type(estimator).__module__.startswith("lightgbm."):
        names = list(getattr(estimator, "feature_name_", ()))
        return None if names == [f"Column_{position}" for position in range(len(names))] else names
    if names is None:
        parts = getattr(estimator, "transformer_list", None) if RELEASE < (1, 3) else None
        parts = parts or getattr(estimator, "steps", [])[:1]
        return next((found for _, part in parts if (found := column_names(part)) is not None), None)
    return names


ALWAYS_FLOAT64 = (
    ((1, 3), "means_", ("LinearDiscriminantAnalysis",)),
    ((1, 3), "lambdas_", ("PowerTransformer",)),
    (
        (1, 3),
        "coef_",
        (
            *("LinearDiscriminantAnalysis", "PassiveAggressiveClassifier", "PassiveAggressiveRegressor", "Perceptron"),
            *("SGDClassifier", "SGDOneClassSVM", "SGDRegressor"),
        ),
    ),
    ((1, 7), "means_", ("GaussianMixture",)),
    ((1, 8), "theta_", ("GaussianNB",)),
    ((1, 8), "coef_", ("RidgeCV", "RidgeClassifierCV")),
    ((1, 9), "coef_", ("GammaRegressor", "LogisticRegression", "PoissonRegressor", "TweedieRegressor")),
)
"""Before which release an attribute of these classes was float64 even if they were fitted on float32."""


def tells_width(estimator: Any, attribute: str) -> bool:
    """Return whether a fitted attribute is float64 only if the estimator was fitted on float64."""
    name = type(estimator).__name__
    if name == "LogisticRegression" and estimator.solver == "liblinear":
        return False
    return not any(
        release > RELEASE and attribute == wide and name in classes for release, wide, classes in ALWAYS_FLOAT64
    )


# -- linear models


def is_one_vs_rest(est: Any) -> bool:
    """Return whether `LogisticRegression.predict_proba` normalizes sigmoids, instead of taking the softmax of scores.

    Before 1.8, `multi_class` decides. Since 1.8, only a model of two classes takes a sigmoid.
    """
    if RELEASE >= (1, 8) or not hasattr(est, "multi_class"):
        return len(est.classes_) <= 2
    binary_only = ("liblinear",) if RELEASE >= (1, 6) else ("liblinear", "newton-cholesky")
    if est.multi_class in ("auto", "deprecated"):
        return len(est.classes_) <= 2 or est.solver in binary_only
    return bool(est.multi_class != "multinomial")


def zero_row_probability(classes: int) -> float:
    """Return the probability of each class by `LogisticRegression` if all sigmoids are 0: before 1.9, 0 / 0."""
    return 1.0 / classes if RELEASE >= (1, 9) else np.nan


ONE_VS_REST_TAKES_FIRST = RELEASE >= (1, 8)
"""Whether `OneVsRestClassifier` predicts the first of equally probable classes: since 1.8; before, the last."""


LEAVES_ZEROS = RELEASE >= (1, 7)
"""Whether `OneVsRestClassifier.predict_proba` keeps rows of zeros. Before 1.7 it divides them by 0."""


def pls_coefficients(est: Any) -> NDArray[np.float64]:
    """Return `coef_` of `_PLS` for centered columns, shape (targets, columns).

    Before 1.5 it was for scaled columns, and in 1.2 transposed.
    """
    coefficients = np.asarray(est.coef_ if RELEASE >= (1, 3) else est._coef_)
    return coefficients if RELEASE >= (1, 5) else coefficients / est._x_std


def pls_is_flat(est: Any) -> bool:
    """Return whether `_PLS.predict` has shape (rows,), as it never had before 1.3."""
    return RELEASE >= (1, 3) and bool(est._predict_1d)


# -- preparation


def imputed_values(est: Any) -> NDArray[Any]:
    """Return the values that `SimpleImputer` fills in, by column; since 1.8 in the type of the training columns."""
    statistics: NDArray[Any] = est.statistics_
    return statistics.astype(est._fill_dtype) if RELEASE >= (1, 8) else statistics


def keeps_empty_columns(est: Any) -> bool:
    """Return whether `SimpleImputer` keeps columns that were all missing in training.

    The option is new in 1.2. Before 1.8, an imputer of constants kept such columns too.
    """
    return bool(getattr(est, "keep_empty_features", False)) or (RELEASE < (1, 8) and est.strategy == "constant")


KNOWS_EMPTY_COLUMNS = RELEASE >= (1, 6)
"""Whether `IterativeImputer` distinguishes columns that were all missing if it keeps them: since 1.6."""


def empty_columns(est: Any) -> NDArray[np.bool_]:
    """Return for each column of `IterativeImputer` whether it was all missing in training."""
    if KNOWS_EMPTY_COLUMNS:
        return np.asarray(est._is_empty_feature, dtype=bool)
    return np.asarray(np.isnan(est.initial_imputer_.statistics_), dtype=bool)


YEO_JOHNSON_BY_POWERS = RELEASE < (1, 9)
"""Whether `PowerTransformer` subtracts 1 from powers: before 1.9. Since then it calls SciPy, which is more precise."""


BOX_COX_BY_LOGARITHMS = RELEASE >= (1, 6)
"""Whether the inverse of `PowerTransformer(method="box-cox")` is that of SciPy: since 1.6."""


def kernel_gamma(est: Any) -> float:
    """Return `KernelPCA.gamma_`, which is new in 1.3."""
    if RELEASE >= (1, 3):
        return float(est.gamma_)
    return 1.0 / est.n_features_in_ if est.gamma is None else float(est.gamma)


def infrequent_mapping(est: Any, column: int) -> NDArray[np.int64] | None:
    """Return the group of each category of a column, or None; `OrdinalEncoder` groups infrequent ones since 1.3."""
    if not getattr(est, "_infrequent_enabled", False):
        return None
    mapping: NDArray[np.int64] | None = est._default_to_infrequent_mappings[column]
    return mapping


def dropped_groups(est: Any) -> Any | None:
    """Return the group that `OneHotEncoder` drops in each column, or None. Before 1.2 it was in `drop_idx_`."""
    return est._drop_idx_after_grouping if RELEASE >= (1, 2) else est.drop_idx_


def splines_are_sparse(est: Any) -> bool:
    """Return `SplineTransformer.sparse_output`, which is new in 1.2."""
    return bool(getattr(est, "sparse_output", False))


def splines_of_missing(est: Any) -> str:
    """Return `SplineTransformer.handle_missing`, which is new in 1.8."""
    return str(getattr(est, "handle_missing", "error"))


# -- trees and boosting


def missing_goes_left(tree: Any) -> NDArray[np.bool_]:
    """Return for each node of a `Tree` whether NaN goes left. Before 1.3 trees refuse NaN."""
    if RELEASE >= (1, 3):
        return np.asarray(tree.missing_go_to_left, dtype=bool)
    return np.zeros(tree.node_count, dtype=bool)


def class_probabilities(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the probabilities of a classifier's `Tree` from its values, shape (nodes, classes).

    Before 1.4 they have to be divided by their sums.
    """
    if RELEASE >= (1, 4):
        return values
    totals = values.sum(axis=1, keepdims=True)
    return values / np.where(totals == 0, 1.0, totals)


def other_vote(est: Any) -> float:
    """Return the vote of a member of `AdaBoostClassifier` for a class that it does not predict: 0 before 1.3."""
    return -1 / (est.n_classes_ - 1) if RELEASE >= (1, 3) else 0.0


def votes_by_probabilities(est: Any) -> bool:
    """Return whether members of `AdaBoostClassifier` vote by their probabilities: the default before 1.6."""
    return RELEASE < (1, 6) and est.algorithm == "SAMME.R"


LEAST_PROBABILITY = float(np.finfo(np.float64 if RELEASE >= (1, 8) else np.float32).eps)
"""The least probability: `GradientBoostingClassifier` clips the probabilities of `init` to it."""


INITS_CENTERED = RELEASE >= (1, 4)
"""Whether `GradientBoostingClassifier` subtracts their mean from the logarithms of `init`: since 1.4."""


def boosting_compares_probabilities(est: Any) -> bool:
    """Return whether `GradientBoostingClassifier` compares probabilities instead of raw scores: before 1.4."""
    return RELEASE < (1, 4) and est.loss != "exponential"


HISTOGRAMS_COMPARE_PROBABILITIES = RELEASE < (1, 5)
"""Whether `HistGradientBoostingClassifier` compares probabilities, not raw scores: before 1.5."""


def boosting_encoder(est: Any) -> Any | None:
    """Return the encoder of categorical columns in histogram boosting, which puts them first; it is new in 1.4."""
    preprocessor = getattr(est, "_preprocessor", None)
    return None if preprocessor is None else preprocessor.named_transformers_["encoder"]
