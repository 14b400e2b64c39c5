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
    """`sklearn.base.is_clusterer`, new in 1.6."""
    if RELEASE >= (1, 6):
        return bool(sklearn.base.is_clusterer(estimator))
    return getattr(estimator, "_estimator_type", None) == "clusterer"


def column_names(estimator: Any) -> Any | None:
    """`feature_names_in_`: `FeatureUnion`, and so a pipeline that begins with one, has it since 1.3.

    A model that LightGBM before 4.7 has pickled has it no longer in 4.7.
    """
    names = getattr(estimator, "feature_names_in_", None)
    if names is None and type(estimator).__module__.startswith("lightgbm."):
        names = list(getattr(estimator, "feature_name_", ()))
        return None if names == [f"Column_{position}" for position in range(len(names))] else names
    if names is None:
        parts = (getattr(estimator, "transformer_list", None) if RELEASE < (1, 3) else None) or _first_steps(estimator)
        return next((found for _, part in parts if (found := column_names(part)) is not None), None)
    return names


def _first_steps(estimator: Any) -> Any:
    return getattr(estimator, "steps", [])[:1]


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
"""Before which release an attribute of these classes was float64, also where they were fitted on float32."""


def tells_width(estimator: Any, attribute: str) -> bool:
    """Whether a fitted attribute is float64 only if the estimator was fitted on float64."""
    name = type(estimator).__name__
    if name == "LogisticRegression" and estimator.solver == "liblinear":
        return False
    return not any(
        release > RELEASE and attribute == wide and name in classes for release, wide, classes in ALWAYS_FLOAT64
    )


# -- linear models


def is_one_vs_rest(est: Any) -> bool:
    """Whether `LogisticRegression.predict_proba` normalizes sigmoids, not scores by softmax.

    Until 1.7 `multi_class` says so; since then only two classes have a sigmoid.
    """
    if RELEASE >= (1, 8) or not hasattr(est, "multi_class"):
        return len(est.classes_) <= 2
    binary_only = ("liblinear",) if RELEASE >= (1, 6) else ("liblinear", "newton-cholesky")
    if est.multi_class in ("auto", "deprecated"):
        return len(est.classes_) <= 2 or est.solver in binary_only
    return bool(est.multi_class != "multinomial")


def share_of_nothing(classes: int) -> float:
    """`LogisticRegression.predict_proba` if all sigmoids are 0: until 1.8 it divides by 0."""
    return 1.0 / classes if RELEASE >= (1, 9) else np.nan


def one_vs_rest_takes_first() -> bool:
    """Whether `OneVsRestClassifier` predicts the first of classes that are equally sure: until 1.7 the last."""
    return RELEASE >= (1, 8)


def leaves_zeros() -> bool:
    """Whether `OneVsRestClassifier.predict_proba` leaves rows of zeros as they are: until 1.6 it divides by 0."""
    return RELEASE >= (1, 7)


def pls_coefficients(est: Any) -> NDArray[np.float64]:
    """`coef_` of `_PLS`, (targets, columns), for centered columns: until 1.4 it was for scaled ones, in 1.2 turned."""
    coefficients = np.asarray(est.coef_ if RELEASE >= (1, 3) else est._coef_)
    return coefficients if RELEASE >= (1, 5) else coefficients / est._x_std


def pls_is_flat(est: Any) -> bool:
    """Whether `_PLS.predict` has shape (rows,): until 1.2 it never had."""
    return RELEASE >= (1, 3) and bool(est._predict_1d)


# -- preparation


def imputed_values(est: Any) -> NDArray[Any]:
    """The values that `SimpleImputer` fills in, by column: since 1.8 in the type of the training columns."""
    statistics: NDArray[Any] = est.statistics_
    return statistics.astype(est._fill_dtype) if RELEASE >= (1, 8) else statistics


def keeps_empty_columns(est: Any) -> bool:
    """Whether `SimpleImputer` keeps columns that were all missing: new in 1.2; until 1.7 a constant kept them too."""
    return bool(getattr(est, "keep_empty_features", False)) or (RELEASE < (1, 8) and est.strategy == "constant")


def knows_empty_columns() -> bool:
    """Whether `IterativeImputer` tells columns that were all missing from the others where it keeps them: since 1.6."""
    return RELEASE >= (1, 6)


def empty_columns(est: Any) -> NDArray[np.bool_]:
    """For each column of `IterativeImputer` whether it was all missing in training."""
    if knows_empty_columns():
        return np.asarray(est._is_empty_feature, dtype=bool)
    return np.asarray(np.isnan(est.initial_imputer_.statistics_), dtype=bool)


def yeo_johnson_by_powers() -> bool:
    """Whether `PowerTransformer` takes powers and subtracts 1: until 1.8. SciPy, asked since, is more precise."""
    return RELEASE < (1, 9)


def box_cox_by_logarithms() -> bool:
    """Whether the inverse of `PowerTransformer(method="box-cox")` is SciPy's: since 1.6."""
    return RELEASE >= (1, 6)


def kernel_gamma(est: Any) -> float:
    """`KernelPCA.gamma_`, new in 1.3."""
    if RELEASE >= (1, 3):
        return float(est.gamma_)
    return 1.0 / est.n_features_in_ if est.gamma is None else float(est.gamma)


def infrequent_mapping(est: Any, column: int) -> NDArray[np.int64] | None:
    """The groups of the categories of an encoder, if some are infrequent: in `OrdinalEncoder` since 1.3."""
    if not getattr(est, "_infrequent_enabled", False):
        return None
    mapping: NDArray[np.int64] | None = est._default_to_infrequent_mappings[column]
    return mapping


def dropped_groups(est: Any) -> Any | None:
    """The group that `OneHotEncoder` drops in each column, or None: until 1.1 it was `drop_idx_`."""
    return est._drop_idx_after_grouping if RELEASE >= (1, 2) else est.drop_idx_


def splines_are_sparse(est: Any) -> bool:
    """`SplineTransformer.sparse_output`, new in 1.2."""
    return bool(getattr(est, "sparse_output", False))


def splines_of_missing(est: Any) -> str:
    """`SplineTransformer.handle_missing`, new in 1.8."""
    return str(getattr(est, "handle_missing", "error"))


# -- trees and boosting


def missing_goes_left(tree: Any) -> NDArray[np.bool_]:
    """For each node of a `Tree` whether NaN goes left: until 1.2 trees refuse it."""
    if RELEASE >= (1, 3):
        return np.asarray(tree.missing_go_to_left, dtype=bool)
    return np.zeros(tree.node_count, dtype=bool)


def class_shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probabilities, (nodes, classes), from the values of a classifier's `Tree`: until 1.3 they are divided by sums."""
    if RELEASE >= (1, 4):
        return values
    totals = values.sum(axis=1, keepdims=True)
    return values / np.where(totals == 0, 1.0, totals)


def other_vote(est: Any) -> float:
    """The vote of a member of `AdaBoostClassifier` for classes that it does not predict: until 1.2 it is 0."""
    return -1 / (est.n_classes_ - 1) if RELEASE >= (1, 3) else 0.0


def votes_by_shares(est: Any) -> bool:
    """Whether members of `AdaBoostClassifier` vote by their probabilities: the default until 1.5, and gone in 1.6."""
    return RELEASE < (1, 6) and est.algorithm == "SAMME.R"


def least_share(est: Any) -> float:
    """`GradientBoostingClassifier` clips the probabilities of `init` to this and 1 less this."""
    return float(np.finfo(np.float64 if RELEASE >= (1, 8) else np.float32).eps)


def starts_centered() -> bool:
    """Whether the raw scores of `init` of `GradientBoostingClassifier` are logarithms less their mean: since 1.4."""
    return RELEASE >= (1, 4)


def boosting_compares_shares(est: Any) -> bool:
    """Whether `GradientBoostingClassifier` predicts by comparing probabilities, not raw scores: until 1.3."""
    return RELEASE < (1, 4) and est.loss != "exponential"


def histograms_compare_shares() -> bool:
    """Whether `HistGradientBoostingClassifier` predicts by comparing probabilities, not raw scores: until 1.4."""
    return RELEASE < (1, 5)


def boosting_encoder(est: Any) -> Any | None:
    """The encoder of categorical columns in histogram boosting, which puts them first: new in 1.4."""
    preprocessor = getattr(est, "_preprocessor", None)
    return None if preprocessor is None else preprocessor.named_transformers_["encoder"]
