import numpy as np
import pandas as pd
import pytest
from sklearn import feature_selection as fs
from sklearn.compose import make_column_transformer
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.equal import differences

RNG = np.random.default_rng(2)
X = RNG.normal(size=(60, 6))
X[:, 4] = 0
Y = (X[:, 1] - X[:, 3] + RNG.normal(size=60) > 0).astype(int)

SELECTORS = [
    fs.GenericUnivariateSelect(mode="k_best", param=3),
    fs.SelectFdr(alpha=0.5),
    fs.SelectFpr(alpha=0.5),
    fs.SelectFwe(alpha=0.5),
    fs.SelectKBest(k=2),
    fs.SelectPercentile(percentile=40),
    fs.SelectFromModel(Lasso(alpha=0.05)),
    fs.SequentialFeatureSelector(LinearRegression(), n_features_to_select=2, cv=2),
    fs.VarianceThreshold(),
    fs.RFE(LogisticRegression(), n_features_to_select=3),
    fs.RFECV(LogisticRegression(), cv=2, min_features_to_select=2),
]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("selector", SELECTORS, ids=lambda selector: type(selector).__name__)
def test_a_selector_equals_its_graph(selector):
    names = [f"f{i}" for i in range(6)]
    frame = pd.DataFrame(X, columns=names)
    scaled = make_column_transformer((StandardScaler(), names[3:]), remainder="passthrough")
    assert differences(make_pipeline(selector).fit(X, Y), X) == []
    assert differences(make_pipeline(scaled, selector, StandardScaler()).fit(frame, Y), frame[:3]) == []
    if not hasattr(selector, "predict"):
        assert differences(selector.fit(X, Y), X * 1e9) == []


@pytest.mark.filterwarnings("ignore")
def test_a_selector_of_no_columns_has_no_graph():
    selector = fs.SelectFromModel(LinearRegression(), threshold=1e9).fit(X, Y)
    with pytest.raises(NotExportable, match="it takes no columns"):
        differences(selector, X)
