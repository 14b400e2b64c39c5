"""Random pipelines of supported parts, fitted on random frames, equal their graphs.

`DRAWS=2000 pytest tests/packing/test_random_pipelines.py` is the long form.
"""

import os
import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.feature_selection import SelectKBest
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.naive_bayes import GaussianNB
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    KBinsDiscretizer,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PolynomialFeatures,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.tree import DecisionTreeRegressor

from app.packing.graph import compile_graph
from app.packing.infer import infer
from app.packing.prove import prove
from app.runtime.graph import GraphServable, session_of
from app.runtime.servable import ArtifactServable

pytestmark = pytest.mark.slow

DRAWS = int(os.environ.get("DRAWS", "6"))
ROWS = 60

IMPUTERS = [
    SimpleImputer,
    lambda: SimpleImputer(strategy="median", add_indicator=True),
    lambda: SimpleImputer(strategy="constant", fill_value=-1),
]
NUMBERS = [
    lambda: "passthrough",
    StandardScaler,
    lambda: MinMaxScaler(clip=True),
    RobustScaler,
    lambda: PolynomialFeatures(2, include_bias=False),
    lambda: KBinsDiscretizer(3, encode="onehot-dense", quantile_method="averaged_inverted_cdf"),
]
WORDS = [
    lambda: OneHotEncoder(handle_unknown="ignore"),
    lambda: OneHotEncoder(drop="if_binary", sparse_output=False, handle_unknown="ignore"),
    lambda: OneHotEncoder(handle_unknown="infrequent_if_exist", min_frequency=0.2),
    lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2),
    lambda: TargetEncoder(random_state=0),
]
MIDDLES = [lambda: "passthrough", lambda: PCA(2, random_state=0), lambda: SelectKBest(k=2)]
MODELS = [
    lambda: LogisticRegression(max_iter=50),
    Ridge,
    lambda: DecisionTreeRegressor(max_depth=4, random_state=0),
    lambda: RandomForestClassifier(5, random_state=0),
    lambda: ExtraTreesRegressor(5, random_state=0),
    lambda: GradientBoostingClassifier(n_estimators=5, random_state=0),
    lambda: HistGradientBoostingClassifier(max_iter=5),
    GaussianNB,
    lambda: MLPClassifier((4,), max_iter=20, random_state=0),
]


def frame(seed: int, holes: float) -> tuple[pd.DataFrame, Any]:
    """Return random columns of numbers and words, some of them missing, and labels that depend on them a little."""
    random = np.random.default_rng(seed)
    columns = pd.DataFrame(
        {
            "a": random.normal(0, 10 ** random.uniform(-3, 3), ROWS),
            "b": random.integers(0, 5, ROWS).astype(float),
            "c": random.exponential(1, ROWS),
            "word": random.choice(["red", "green", "blue", ""], ROWS),
            "other": random.choice(["x", "ÿ"], ROWS),
        }
    )
    labels = (columns["a"].rank(pct=True) + random.uniform(0, 1, ROWS) > 1).astype(int)
    for name in columns:
        columns.loc[random.uniform(0, 1, ROWS) < holes, name] = np.nan
    return columns, labels


@given(
    st.integers(0, 10**6),
    st.sampled_from([0.0, 0.2]),
    st.tuples(*(st.sampled_from(parts) for parts in (IMPUTERS, NUMBERS, WORDS, MIDDLES, MODELS))),
)
@settings(max_examples=DRAWS)
@pytest.mark.graphs
def test_a_graph_equals_its_estimator(seed: int, holes: float, parts: tuple[Any, ...]) -> None:
    imputer, numbers, words, middle, model = (make() for make in parts)
    columns, labels = frame(seed, holes)
    by_kind = make_column_transformer(
        (make_pipeline(imputer, numbers), ["a", "b", "c"]),
        (make_pipeline(SimpleImputer(strategy="most_frequent"), words), ["word", "other"]),
        sparse_threshold=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimator = make_pipeline(by_kind, middle, model).fit(columns, labels)
        signature, records = infer(estimator, columns)
        graph = GraphServable(session_of(compile_graph(estimator, signature).SerializeToString()), signature)
        artifact = ArtifactServable(estimator, signature)
        proof = prove(estimator, artifact, graph, artifact, signature, records)
    rows = proof["rows"]
    assert isinstance(rows, int)
    assert rows > 1000
