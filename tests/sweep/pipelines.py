"""Realistic pipelines, unfitted, each with the table to fit it on.

Each function is a case: its name is the case's name, its docstring says how the served answer could differ from the
notebook's. The held-out rows are difficult: they have missing values and unseen words wherever the pipeline accepts
them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.calibration import CalibratedClassifierCV
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
    StackingClassifier,
    StackingRegressor,
    VotingClassifier,
)
from sklearn.feature_extraction import DictVectorizer
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.feature_selection import SelectKBest
from sklearn.impute import KNNImputer, SimpleImputer
from sklearn.linear_model import ElasticNet, LogisticRegression, Ridge, SGDClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.multiclass import OneVsRestClassifier
from sklearn.naive_bayes import ComplementNB, GaussianNB
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline, make_union
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    SplineTransformer,
    StandardScaler,
)
from sklearn.svm import SVC, LinearSVC
from sklearn.tree import DecisionTreeClassifier

from . import tables
from .tables import HELD_OUT, Table

NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm"]
WORDS = ["island", "sex"]


@dataclass(frozen=True, slots=True)
class Recipe:
    """An unfitted pipeline, its training table, and the sample for packing, if it needs one."""

    pipeline: Any
    table: Table
    sample: pd.DataFrame | None = None


def with_unseen(table: Table, **unseen: Any) -> Table:
    """Return the table with unseen values of these columns in the first held-out row."""
    frame = table.features.copy()
    for column, value in unseen.items():
        frame.loc[len(frame) - HELD_OUT, column] = value
    return Table(frame, table.target)


def imputed_scaled() -> Pipeline:
    """Return the usual steps for numbers."""
    return make_pipeline(SimpleImputer(strategy="median"), StandardScaler())


# -- mixed columns


def penguins_one_hot_error() -> Recipe:
    """Imputing, scaling, one-hot with `error`, unscaled integers: words and missing values in one record."""
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = make_column_transformer((imputed_scaled(), [*NUMBERS, "body_mass_g", "year"]), (words, WORDS))
    return Recipe(make_pipeline(columns, RandomForestClassifier(20, random_state=0)), tables.penguins())


def penguins_one_hot_ignore() -> Recipe:
    """One-hot with `ignore`: an unseen island is accepted, and predicted as in the notebook."""
    words = make_pipeline(SimpleImputer(strategy="constant", fill_value="?"), OneHotEncoder(handle_unknown="ignore"))
    columns = make_column_transformer((imputed_scaled(), NUMBERS), (words, WORDS))
    table = with_unseen(tables.penguins(), island="Mars", sex="?!")
    return Recipe(make_pipeline(columns, LogisticRegression(max_iter=500)), table)


def penguins_one_hot_infrequent() -> Recipe:
    """Rare categories share a column with unseen ones; integer years are categories, and so are missing values."""
    encoder = OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=40, sparse_output=False)
    columns = make_column_transformer((encoder, [*WORDS, "year"]), (imputed_scaled(), NUMBERS))
    table = with_unseen(tables.penguins(), island="Mars", year=2031)
    return Recipe(make_pipeline(columns, LogisticRegression(max_iter=500)), table)


def penguins_one_hot_missing_category() -> Recipe:
    """One-hot without an imputer: None is a category; integer years with `error`."""
    columns = make_column_transformer((OneHotEncoder(drop="if_binary"), [*WORDS, "year"]), remainder="drop")
    return Recipe(make_pipeline(columns, DecisionTreeClassifier(random_state=0)), tables.penguins())


def penguins_ordinal_error() -> Recipe:
    """Ordinal categories in a given order; an unseen one is an error; the other columns pass through."""
    encoder = OrdinalEncoder(categories=[["Torgersen", "Biscoe", "Dream"]])
    columns = make_column_transformer((encoder, ["island"]), remainder="passthrough")
    complete = tables.penguins_complete()
    table = Table(complete.features.drop(columns=["sex", "species"]), complete.target)
    return Recipe(make_pipeline(columns, RandomForestRegressor(20, random_state=0)), table)


def penguins_ordinal_unknown_value() -> Recipe:
    """Ordinal with `use_encoded_value`: unseen words become -1, missing ones -2."""
    encoder = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2)
    columns = make_column_transformer((encoder, WORDS), (KNNImputer(), NUMBERS))
    table = with_unseen(tables.penguins(), island="Mars")
    return Recipe(make_pipeline(columns, ExtraTreesClassifier(20, random_state=0)), table)


def penguins_target_encoding() -> Recipe:
    """Target encoding: an unseen island gets the mean."""
    from sklearn.preprocessing import TargetEncoder  # since scikit-learn 1.3

    columns = make_column_transformer((TargetEncoder(random_state=0), WORDS), remainder=StandardScaler())
    complete = tables.penguins_complete()
    table = Table(complete.features.drop(columns="species"), complete.target)
    return Recipe(make_pipeline(columns, Ridge()), with_unseen(table, island="Mars"))


def penguins_selected_by_dtype() -> Recipe:
    """Columns chosen by their dtype in fit, DataFrames between all steps, wrapped in a search."""
    columns = make_column_transformer(
        (imputed_scaled(), make_column_selector(dtype_include=np.number)),
        (OneHotEncoder(sparse_output=False, handle_unknown="ignore"), make_column_selector(dtype_exclude=np.number)),
    )
    pipeline = make_pipeline(columns, KNeighborsClassifier()).set_output(transform="pandas")
    search = GridSearchCV(pipeline, {"kneighborsclassifier__n_neighbors": [3, 5]}, cv=3)
    return Recipe(search, tables.penguins())


def penguins_dropped_words() -> Recipe:
    """Columns of words that the model drops: nothing tells their kind, and no answer depends on them."""
    columns = make_column_transformer((imputed_scaled(), NUMBERS))
    return Recipe(make_pipeline(columns, LogisticRegression(max_iter=500)), tables.penguins())


def penguins_missing_is_none() -> Recipe:
    """Column of objects in which None is a category of its own, and NaN is not."""
    frame = tables.penguins().features.astype({"sex": object})
    frame["sex"] = frame["sex"].where(frame["sex"].notna(), None)
    columns = make_column_transformer((OneHotEncoder(), WORDS), (imputed_scaled(), NUMBERS))
    return Recipe(make_pipeline(columns, LogisticRegression(max_iter=500)), Table(frame, tables.penguins().target))


def penguins_nullable_dtypes() -> Recipe:
    """pandas' nullable dtypes: Int64, Float64 and string, with pd.NA for what is missing."""
    frame = tables.penguins().features.drop(columns="sex").convert_dtypes()
    words = OneHotEncoder(handle_unknown="ignore")
    columns = make_column_transformer((words, ["island"]), (imputed_scaled(), [*NUMBERS, "body_mass_g"]))
    return Recipe(make_pipeline(columns, LogisticRegression(max_iter=500)), Table(frame, tables.penguins().target))


def penguins_categories_one_hot() -> Recipe:
    """pandas categoricals, one-hot encoded; NaN is encoded although it is not a category of the dtype."""
    frame = tables.penguins().features.astype({"island": "category", "sex": "category"})
    columns = make_column_transformer((OneHotEncoder(), WORDS), (imputed_scaled(), NUMBERS))
    return Recipe(make_pipeline(columns, LogisticRegression(max_iter=500)), Table(frame, tables.penguins().target))


def penguins_categorical_dtype() -> Recipe:
    """pandas categoricals: boosting learns from the dtype which columns are categories."""
    table = tables.penguins()
    frame = table.features.astype({"island": "category", "sex": "category"})
    pipeline = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=15, random_state=0)
    return Recipe(pipeline, Table(frame, table.target))


def penguins_categorical_pipeline() -> Recipe:
    """pandas categoricals after a step that passes the frame on unchanged; the target is a number."""
    table = tables.penguins_complete()
    frame = table.features.astype({"island": "category", "sex": "category", "species": "category"})
    boosting = HistGradientBoostingRegressor(categorical_features="from_dtype", max_iter=15, random_state=0)
    return Recipe(make_pipeline(FunctionTransformer(), boosting), Table(frame, table.target))


def mixed_array() -> Recipe:
    """Words and numbers in one array of objects, encoded by position."""
    table = tables.penguins_complete()
    matrix = table.features[["island", "bill_length_mm", "sex", "year"]].to_numpy(dtype=object)
    columns = ColumnTransformer([("words", OneHotEncoder(), [0, 2, 3]), ("numbers", StandardScaler(), [1])])
    return Recipe(make_pipeline(columns, Ridge()), Table(matrix, table.target))


def booleans_and_numbers() -> Recipe:
    """Booleans as inputs, one column of them with a category encoder."""
    frame = tables.iris().features.assign(
        wide=tables.iris().features["sepal width (cm)"] > 3, large=tables.iris().features["petal width (cm)"] > 1
    )
    columns = make_column_transformer((OneHotEncoder(), ["large"]), remainder="passthrough")
    pipeline = make_pipeline(columns, LogisticRegression(max_iter=500))
    return Recipe(pipeline, Table(frame, tables.iris().target), frame[:-HELD_OUT])


def columns_by_position() -> Recipe:
    """Plain array whose columns are chosen by number."""
    columns = ColumnTransformer(
        [("scaled", MinMaxScaler(), [0, 2]), ("binned", KBinsDiscretizer(3, random_state=0), [3]), ("out", "drop", [1])]
    )
    table = tables.iris_numbered().as_matrix()
    return Recipe(make_pipeline(columns, SVC(random_state=0)), table)


def frame_without_names() -> Recipe:
    """DataFrame with the columns 0 … 3, so without names."""
    table = tables.iris_numbered()
    frame = table.features.set_axis(range(4), axis=1)
    return Recipe(make_pipeline(StandardScaler(), GaussianNB()), Table(frame, table.target))


def awkward_column_names() -> Recipe:
    """Names that are not identifiers: spaces, slashes, dots, umlauts, a quote, `__proto__`."""
    names = ["Größe / cm", "a.b", 'say "hi"', "__proto__"]
    table = tables.iris()
    pipeline = make_pipeline(RobustScaler(), LogisticRegression(max_iter=500))
    return Recipe(pipeline, Table(table.features.set_axis(names, axis=1), table.target))


# -- numbers


def missing_numbers() -> Recipe:
    """Missing numbers, imputed with an indicator."""
    frame = tables.diabetes().features.mask(np.random.default_rng(3).random((tables.ROWS, 10)) < 0.1)
    pipeline = make_pipeline(SimpleImputer(add_indicator=True), StandardScaler(), Ridge())
    return Recipe(pipeline, Table(frame, tables.diabetes().target))


def missing_numbers_boosted() -> Recipe:
    """Boosting that accepts missing values, on a plain array."""
    table = missing_numbers().table.as_matrix()
    return Recipe(HistGradientBoostingRegressor(max_iter=15, random_state=0), table)


def feature_union() -> Recipe:
    """Two transformers of the same columns, side by side."""
    union = FeatureUnion([("pca", PCA(2)), ("best", SelectKBest(k=2))])
    pipeline = make_pipeline(StandardScaler(), union, SVC(random_state=0))
    return Recipe(pipeline, tables.iris())


def polynomial_features() -> Recipe:
    """Ten columns become sixty-five; small numbers, large sums."""
    pipeline = make_pipeline(PolynomialFeatures(2, include_bias=False), StandardScaler(), ElasticNet(max_iter=3000))
    return Recipe(pipeline, tables.diabetes())


def splines_and_quantiles() -> Recipe:
    """Splines and quantiles of numbers before a linear model."""
    union = make_union(SplineTransformer(n_knots=4), QuantileTransformer(n_quantiles=20))
    return Recipe(make_pipeline(union, PowerTransformer(), Ridge()), tables.diabetes())


def function_log1p() -> Recipe:
    """NumPy function as a step, and counts as its input."""
    table = tables.counts()
    return Recipe(make_pipeline(FunctionTransformer(np.log1p), LogisticRegression()), table)


def log_target() -> Recipe:
    """Regression of the logarithm that answers in the unit of the target."""
    inner = make_pipeline(StandardScaler(), GradientBoostingRegressor(n_estimators=15, random_state=0))
    return Recipe(
        TransformedTargetRegressor(inner, func=np.log1p, inverse_func=np.expm1),
        tables.diabetes(),
    )


def clusters_of_scaled() -> Recipe:
    """Pipeline that ends in a clusterer."""
    return Recipe(make_pipeline(StandardScaler(), KMeans(3, n_init=2, random_state=0)), tables.iris())


def outliers_of_scaled() -> Recipe:
    """Pipeline that ends in an outlier detector: 1 and -1."""
    return Recipe(
        make_pipeline(StandardScaler(), IsolationForest(n_estimators=20, random_state=0)), tables.iris_outliers()
    )


# -- text


def text_tfidf() -> Recipe:
    """List of documents: each instance is one text."""
    return Recipe(make_pipeline(TfidfVectorizer(), LogisticRegression()), tables.reviews())


def text_characters() -> Recipe:
    """Characters in several scripts, reduced to a few dimensions."""
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 3))
    return Recipe(make_pipeline(letters, TruncatedSVD(5, random_state=0), LinearSVC(random_state=0)), tables.reviews())


def text_hashed() -> Recipe:
    """Vectorizer without a vocabulary: no fitted attribute tells that it takes text."""
    hashing = HashingVectorizer(n_features=64, alternate_sign=False)
    return Recipe(make_pipeline(hashing, ComplementNB()), tables.reviews())


def text_search() -> Recipe:
    """Search over a text pipeline with two vectorizers, three levels deep."""
    views = make_union(TfidfVectorizer(), make_pipeline(CountVectorizer(analyzer="char"), TfidfTransformer()))
    pipeline = make_pipeline(views, LogisticRegression())
    return Recipe(GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1]}, cv=3), tables.reviews())


def text_calibrated() -> Recipe:
    """Text pipeline in a wrapper that does not inspect its input."""
    machine = make_pipeline(TfidfVectorizer(), LinearSVC(random_state=0))
    return Recipe(CalibratedClassifierCV(machine, cv=3), tables.reviews())


def records_vectorized() -> Recipe:
    """List of dicts, whose keys may differ from row to row."""
    table = tables.iris()
    pipeline = make_pipeline(DictVectorizer(), LogisticRegression(max_iter=500))
    return Recipe(pipeline, Table(table.features.to_dict("records"), table.target))


def text_and_numbers() -> Recipe:
    """Text, number and word in one record; the vectorizer takes its column as one dimension."""
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(
        {
            "review": tables.reviews().features,
            "nights": rng.integers(1, 14, tables.ROWS),
            "price": rng.normal(100, 20, tables.ROWS).round(2),
            "board": rng.choice(["none", "half", "full"], tables.ROWS),
        }
    )
    columns = make_column_transformer(
        (CountVectorizer(), "review"), (MaxAbsScaler(), ["nights", "price"]), (OneHotEncoder(), ["board"])
    )
    pipeline = make_pipeline(columns, SGDClassifier(loss="log_loss", random_state=0))
    return Recipe(pipeline, Table(frame, tables.reviews().target))


# -- labels and outputs


def labels_words() -> Recipe:
    """Classes are words, some of them not ASCII."""
    table = tables.iris().with_target(np.where(tables.iris().target == "setosa", "Borsten-Schwertlilie ✿ ä", "other"))
    return Recipe(make_pipeline(StandardScaler(), LogisticRegression()), table)


def labels_integers() -> Recipe:
    """Classes are integers, but not indices: some negative, some beyond 32 bits."""
    table = tables.iris().with_target(np.array([-7, 10, 2**40])[tables.iris_numbered().target])
    return Recipe(make_pipeline(StandardScaler(), LogisticRegression()), table)


def labels_beyond_floats() -> Recipe:
    """Classes are integers beyond the precision of floats."""
    table = tables.iris().with_target(np.array([2**53 + 1, 2**62, -(2**63)])[tables.iris_numbered().target])
    return Recipe(GaussianNB(), table)


def labels_floats() -> Recipe:
    """Classes are floats, as they are if the target column had missing values."""
    table = tables.iris().with_target(tables.iris_numbered().target.astype(float))
    return Recipe(make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)), table)


def labels_booleans() -> Recipe:
    """Classes are booleans."""
    return Recipe(make_pipeline(StandardScaler(), LogisticRegression()), tables.iris_binary())


def multilabel_forest() -> Recipe:
    """Two labels at once from one forest: a list of probabilities for each label."""
    return Recipe(make_pipeline(StandardScaler(), RandomForestClassifier(10, random_state=0)), tables.iris_labels())


def multilabel_one_vs_rest() -> Recipe:
    """Two labels at once, one classifier each: one matrix of probabilities, whose rows need not sum to 1."""
    return Recipe(OneVsRestClassifier(LogisticRegression(max_iter=500)), tables.iris_labels())


def multioutput_words() -> Recipe:
    """Two targets of words."""
    wide = np.where(tables.iris().features["sepal width (cm)"] > 3, "wide", "narrow")
    table = tables.iris().with_target(np.column_stack([tables.iris().target, wide.astype(object)]))
    return Recipe(make_pipeline(StandardScaler(), DecisionTreeClassifier(max_depth=4, random_state=0)), table)


def multioutput_numbers() -> Recipe:
    """Three numbers for each row."""
    network = MLPRegressor(hidden_layer_sizes=(8,), max_iter=100, random_state=0)
    return Recipe(make_pipeline(StandardScaler(), network), tables.diabetes_outputs())


def multioutput_neighbours() -> Recipe:
    """Three numbers for each row, from a plain array."""
    return Recipe(make_pipeline(MinMaxScaler(), KNeighborsRegressor()), tables.diabetes_outputs().as_matrix())


# -- ensembles


def calibrated() -> Recipe:
    """Probabilities for a classifier that has none of its own."""
    machine = make_pipeline(StandardScaler(), LinearSVC(random_state=0))
    return Recipe(CalibratedClassifierCV(machine, cv=3, method="isotonic"), tables.iris())


def calibrated_mixed_columns() -> Recipe:
    """Calibration around a pipeline for mixed columns."""
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    columns = make_column_transformer((imputed_scaled(), NUMBERS), (words, WORDS))
    return Recipe(CalibratedClassifierCV(make_pipeline(columns, LinearSVC(random_state=0)), cv=3), tables.penguins())


def union_mixed_columns() -> Recipe:
    """Column transformers inside a union."""
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    union = make_union(make_column_transformer((words, WORDS)), make_column_transformer((imputed_scaled(), NUMBERS)))
    return Recipe(make_pipeline(union, LogisticRegression(max_iter=500)), tables.penguins())


def voting_hard() -> Recipe:
    """Majority of three classifiers, without probabilities."""
    voters = [("linear", LogisticRegression(max_iter=500)), ("bayes", GaussianNB()), ("near", KNeighborsClassifier())]
    return Recipe(make_pipeline(StandardScaler(), VotingClassifier(voters)), tables.iris())


def stacking_mixed_columns() -> Recipe:
    """Stacking of pipelines that each prepare the mixed columns differently."""
    words = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    linear = make_pipeline(
        make_column_transformer((imputed_scaled(), NUMBERS), (words, WORDS)), LogisticRegression(max_iter=500)
    )
    trees = make_pipeline(
        make_column_transformer((SimpleImputer(), [*NUMBERS, "body_mass_g"])),
        RandomForestClassifier(10, random_state=0),
    )
    return Recipe(StackingClassifier([("linear", linear), ("trees", trees)], cv=3), tables.penguins())


def stacking_regression() -> Recipe:
    """Stacking that passes the features to the final estimator too."""
    first = [("near", KNeighborsRegressor()), ("forest", RandomForestRegressor(10, random_state=0))]
    return Recipe(StackingRegressor(first, Ridge(), cv=3, passthrough=True), tables.diabetes())


RECIPES: tuple[Callable[[], Recipe], ...] = (
    penguins_one_hot_error,
    penguins_one_hot_ignore,
    penguins_one_hot_infrequent,
    penguins_one_hot_missing_category,
    penguins_ordinal_error,
    penguins_ordinal_unknown_value,
    penguins_target_encoding,
    penguins_selected_by_dtype,
    penguins_dropped_words,
    penguins_missing_is_none,
    penguins_nullable_dtypes,
    penguins_categories_one_hot,
    penguins_categorical_dtype,
    penguins_categorical_pipeline,
    mixed_array,
    booleans_and_numbers,
    columns_by_position,
    frame_without_names,
    awkward_column_names,
    missing_numbers,
    missing_numbers_boosted,
    feature_union,
    polynomial_features,
    splines_and_quantiles,
    function_log1p,
    log_target,
    clusters_of_scaled,
    outliers_of_scaled,
    text_tfidf,
    text_characters,
    text_hashed,
    text_search,
    text_calibrated,
    records_vectorized,
    text_and_numbers,
    labels_words,
    labels_integers,
    labels_beyond_floats,
    labels_floats,
    labels_booleans,
    multilabel_forest,
    multilabel_one_vs_rest,
    multioutput_words,
    multioutput_numbers,
    multioutput_neighbours,
    calibrated,
    calibrated_mixed_columns,
    union_mixed_columns,
    voting_hard,
    stacking_mixed_columns,
    stacking_regression,
)
