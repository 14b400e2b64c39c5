"""Every estimator that can predict, fitted, with rows that it has not seen.

`RECIPES` has one entry for each classifier, regressor, clusterer and outlier detector of scikit-learn, for the searches
and mixtures that predict without belonging to those families, and for the pipelines of `pipelines.py`. A case is fitted
when it is first used. An estimator of a later scikit-learn gets a case automatically: it is built with its defaults on
the table of its family, and fails here, by name, if it needs more.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from inspect import signature
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import OutlierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.gaussian_process.kernels import RBF
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.multioutput import RegressorChain
from sklearn.naive_bayes import GaussianNB
from sklearn.svm import LinearSVC
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor
from sklearn.utils import all_estimators

from . import pipelines, tables
from .tables import Table

FAMILIES = {
    "classifier": tables.iris,
    "regressor": tables.diabetes,
    "cluster": tables.iris,
    "outlier": tables.iris_outliers,
}


@dataclass(frozen=True, slots=True, eq=False)
class Case:
    """A fitted estimator, rows to predict, and the options for packing it.

    `frame` is the input of `predict` in the notebook: a DataFrame, an array, or a list of documents. `sample` is the
    table for `--sample`, or None if the estimator itself has the facts of its inputs. `unservable` is the reason why it
    cannot be served, or None. `table` is the training data.
    """

    name: str
    family: str
    estimator: Any
    frame: pd.DataFrame | np.ndarray | list[str]
    sample: pd.DataFrame | None = None
    unservable: str | None = None
    table: Table | None = None


# -- arguments that each estimator needs beside its defaults; the base estimators are plain and quick to fit

SMALL_FOREST = {"n_estimators": 8, "random_state": 0}
VOTERS = [("linear", LogisticRegression(max_iter=500)), ("tree", DecisionTreeClassifier(max_depth=3, random_state=0))]
REGRESSORS = [("linear", LinearRegression()), ("tree", DecisionTreeRegressor(max_depth=3, random_state=0))]
BINARY = {"estimator": LogisticRegression(max_iter=500)}
CHAINED = "estimator" if "estimator" in signature(RegressorChain).parameters else "base_estimator"
"""Name of the parameter of chains for the chained estimator, renamed in scikit-learn 1.7."""

ARGUMENTS: dict[str, dict[str, Any]] = {
    "AdaBoostClassifier": SMALL_FOREST,
    "AdaBoostRegressor": SMALL_FOREST,
    "BaggingClassifier": SMALL_FOREST,
    "BaggingRegressor": SMALL_FOREST,
    "BayesianGaussianMixture": {"n_components": 3, "random_state": 0},
    "BisectingKMeans": {"n_clusters": 3, "random_state": 0},
    "CalibratedClassifierCV": {"estimator": LinearSVC(random_state=0), "cv": 3},
    "CategoricalNB": {"min_categories": 4},
    "ClassifierChain": {CHAINED: LogisticRegression(max_iter=500)},
    "DummyClassifier": {"strategy": "prior"},
    "ExtraTreesClassifier": SMALL_FOREST,
    "ExtraTreesRegressor": SMALL_FOREST,
    "FixedThresholdClassifier": BINARY | {"threshold": 0.3},
    "GaussianMixture": {"n_components": 3, "random_state": 0},
    "GradientBoostingClassifier": SMALL_FOREST,
    "GradientBoostingRegressor": SMALL_FOREST,
    "GaussianProcessRegressor": {"kernel": RBF(0.1), "alpha": 1.0, "normalize_y": True, "optimizer": None},
    "GridSearchCV": {"estimator": LogisticRegression(max_iter=500), "param_grid": {"C": [0.1, 1]}, "cv": 3},
    "HistGradientBoostingClassifier": {"max_iter": 10, "random_state": 0},
    "HistGradientBoostingRegressor": {"max_iter": 10, "random_state": 0},
    "IsolationForest": SMALL_FOREST,
    "KMeans": {"n_clusters": 3, "random_state": 0},
    "LocalOutlierFactor": {"novelty": True},
    "LogisticRegression": {"max_iter": 500},
    "LogisticRegressionCV": {"Cs": 3, "cv": 3, "max_iter": 200},
    "MLPClassifier": {"hidden_layer_sizes": (8,), "max_iter": 60, "random_state": 0},
    "MLPRegressor": {"hidden_layer_sizes": (8,), "max_iter": 60, "random_state": 0},
    "MiniBatchKMeans": {"n_clusters": 3, "random_state": 0},
    "MultiOutputClassifier": BINARY,
    "MultiOutputRegressor": {"estimator": Ridge()},
    "NuSVC": {"nu": 0.3},
    "OneVsOneClassifier": {"estimator": LinearSVC(random_state=0)},
    "OneVsRestClassifier": BINARY,
    "OutputCodeClassifier": {"estimator": LinearSVC(random_state=0), "random_state": 0},
    "QuantileRegressor": {"alpha": 0.01, "solver": "highs"},
    "RANSACRegressor": {"random_state": 0},
    "RFE": {"estimator": LogisticRegression(max_iter=500), "n_features_to_select": 2},
    "RFECV": {"estimator": LogisticRegression(max_iter=500), "cv": 3},
    "RadiusNeighborsClassifier": {"radius": 2.0, "outlier_label": "most_frequent"},
    "RadiusNeighborsRegressor": {"radius": 0.09},  # some rows have no neighbour, and so get NaN
    "RandomForestClassifier": SMALL_FOREST,
    "RandomForestRegressor": SMALL_FOREST,
    "RandomizedSearchCV": {
        "estimator": RandomForestClassifier(**SMALL_FOREST),
        "param_distributions": {"max_depth": [2, 3, 4]},
        "n_iter": 2,
        "cv": 3,
        "random_state": 0,
    },
    "RegressorChain": {CHAINED: Ridge()},
    "SelfTrainingClassifier": {"estimator": GaussianNB()},
    "SpectralClustering": {"n_clusters": 3, "random_state": 0},
    "StackingClassifier": {"estimators": VOTERS, "cv": 3},
    "StackingRegressor": {"estimators": REGRESSORS, "cv": 3},
    "TheilSenRegressor": {"max_subpopulation": 200, "random_state": 0},
    "TransformedTargetRegressor": {"regressor": Ridge(), "func": np.log1p, "inverse_func": np.expm1},
    "TunedThresholdClassifierCV": BINARY | {"cv": 3},
    "VotingClassifier": {"estimators": VOTERS, "voting": "soft"},
    "VotingRegressor": {"estimators": REGRESSORS},
}

TABLES: dict[str, Callable[[], Table]] = {
    "BernoulliNB": tables.codes,
    "CCA": tables.diabetes_outputs,
    "CategoricalNB": tables.codes,
    "ClassifierChain": tables.iris_labels,
    "ComplementNB": tables.counts,
    "FixedThresholdClassifier": tables.iris_binary,
    "IsotonicRegression": tables.diabetes_one_column,
    "LabelPropagation": tables.iris_half_labelled,
    "LabelSpreading": tables.iris_half_labelled,
    "MultiOutputClassifier": tables.iris_labels,
    "MultiOutputRegressor": tables.diabetes_outputs,
    "MultiTaskElasticNet": tables.diabetes_outputs,
    "MultiTaskElasticNetCV": tables.diabetes_outputs,
    "MultiTaskLasso": tables.diabetes_outputs,
    "MultiTaskLassoCV": tables.diabetes_outputs,
    "MultinomialNB": tables.counts,
    "PLSCanonical": tables.diabetes_outputs,
    "PLSRegression": tables.diabetes_outputs,
    "RegressorChain": tables.diabetes_outputs,
    "SelfTrainingClassifier": tables.iris_half_labelled,
    "TunedThresholdClassifierCV": tables.iris_binary,
}

# Fitted on plain arrays, so without feature names, and with numbered classes.
NAMELESS = {
    "AffinityPropagation",
    "BaggingRegressor",
    "DecisionTreeClassifier",
    "ExtraTreesRegressor",
    "GaussianNB",
    "GradientBoostingClassifier",
    "IsolationForest",
    "IsotonicRegression",
    "KMeans",
    "KNeighborsClassifier",
    "KernelRidge",
    "Lasso",
    "LinearSVR",
    "LogisticRegressionCV",
    "MLPRegressor",
    "MultiTaskLasso",
    "NearestCentroid",
    "OneClassSVM",
    "OneVsRestClassifier",
    "PLSRegression",
    "Ridge",
    "SVC",
    "StackingRegressor",
}

NO_PREDICT = "labels only the rows it was fitted on: has no predict for new rows"
UNSERVABLE = {
    "AgglomerativeClustering": NO_PREDICT,
    "DBSCAN": NO_PREDICT,
    "HDBSCAN": NO_PREDICT,
    "OPTICS": NO_PREDICT,
    "SpectralClustering": NO_PREDICT,
}

OTHERS = {
    "search": ["GridSearchCV", "RFE", "RFECV", "RandomizedSearchCV"],
    "mixture": ["BayesianGaussianMixture", "GaussianMixture"],
}


def fit(estimator: Any, features: Any, target: Any) -> Any:
    """Fit the estimator. Ignore warnings: so few rows are too few for convergence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return estimator.fit(features, target)


def members() -> Iterator[tuple[str, str, type]]:
    """Yield family, name and class of each estimator that must have a case."""
    for family in ("classifier", "regressor", "cluster"):
        for name, kind in all_estimators(type_filter=family):
            yield family, name, kind
    everything = dict(all_estimators())
    for name, kind in everything.items():
        if issubclass(kind, OutlierMixin):
            yield "outlier", name, kind
    for family, names in OTHERS.items():
        for name in names:
            yield family, name, everything[name]


def build(family: str, name: str, kind: type) -> Case:
    """Return the case of one estimator of scikit-learn."""
    table = TABLES.get(name, FAMILIES.get(family, tables.iris))()
    if name in NAMELESS:
        table = (tables.iris_numbered() if table is tables.iris() else table).as_matrix()
    estimator = fit(kind(**ARGUMENTS.get(name, {})), *table.seen)
    return Case(name, family, estimator, table.held_out, unservable=UNSERVABLE.get(name), table=table)


def build_pipeline(recipe: Callable[[], pipelines.Recipe]) -> Case:
    """Return the case of one pipeline."""
    made, name = recipe(), recipe.__name__
    estimator = fit(made.pipeline, *made.table.seen)
    return Case(name, "pipeline", estimator, made.table.held_out, made.sample, UNSERVABLE.get(name), made.table)


RECIPES: dict[str, Callable[[], Case]] = {
    **{name: partial(build, family, name, kind) for family, name, kind in members()},
    **{recipe.__name__: partial(build_pipeline, recipe) for recipe in pipelines.RECIPES},
}


@cache
def case(name: str) -> Case:
    """Return the case of this name, fitted once."""
    return RECIPES[name]()
