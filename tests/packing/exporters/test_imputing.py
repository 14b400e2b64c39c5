import numpy as np
import pandas as pd
import pytest
from sklearn.compose import make_column_transformer
from sklearn.experimental import enable_iterative_imputer  # noqa: F401 (what it says)
from sklearn.impute import IterativeImputer, MissingIndicator, SimpleImputer
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from app.packing.exporters.graph import Graph, NotExportable
from app.packing.infer import infer
from tests.packing.exporters.equal import compared, differences

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(3)
ROWS = 60
X = RNG.normal(2, 3, (ROWS, 4)).round(1)
X[RNG.random(X.shape) < 0.2] = np.nan
X[:, 2] = np.nan_to_num(X[:, 2])
EMPTY = np.column_stack([X, np.full(ROWS, np.nan)])
SOME = np.column_stack([X, RNG.normal(size=ROWS)])
STRESS = np.concatenate([X, np.full((2, 4), np.nan), np.array([[1e300, -1e-300, 0.0, -0.0]])])
STRATEGIES = [
    {"strategy": "mean"},
    {"strategy": "median"},
    {"strategy": "most_frequent"},
    {"strategy": "constant", "fill_value": -1.5},
    {"strategy": "constant"},
]
FRAME = pd.DataFrame(
    {
        "colour": RNG.choice(["red", "green", "blue"], ROWS),
        "size": RNG.choice(["s", "m"], ROWS),
        "age": RNG.integers(1, 5, ROWS),
        "height": X[:, 0],
    }
)
FRAME.loc[::7, "colour"] = None
TEXTS = FRAME[["colour", "size"]]


@pytest.mark.parametrize("options", STRATEGIES, ids=str)
@pytest.mark.parametrize("more", [{}, {"add_indicator": True}, {"keep_empty_features": True}], ids=str)
def test_an_imputer_of_numbers_equals_its_graph(options, more):
    assert differences(SimpleImputer(**options, **more).fit(X), STRESS) == []
    assert differences(SimpleImputer(**options, **more).fit(EMPTY), SOME) == []
    assert differences(SimpleImputer(**options, **more, missing_values=0).fit(np.nan_to_num(X)), np.nan_to_num(X)) == []


def test_an_imputer_equals_its_graph_for_every_batch_size():
    imputer = SimpleImputer(add_indicator=True).fit(X)
    for rows in (1, 2, 31, 1000):
        assert differences(imputer, np.resize(STRESS, (rows, 4))) == []


@pytest.mark.parametrize(
    "imputer",
    [
        SimpleImputer(strategy="most_frequent"),
        SimpleImputer(strategy="constant"),
        SimpleImputer(strategy="constant", fill_value="none", add_indicator=True),
        SimpleImputer(strategy="constant", fill_value="none", missing_values="red"),
    ],
    ids=str,
)
def test_an_imputer_of_texts_equals_its_graph(imputer):
    frame = TEXTS.fillna("red") if imputer.missing_values == "red" else TEXTS
    encoder = OneHotEncoder(handle_unknown="ignore")
    chain = make_pipeline(make_column_transformer((imputer, ["colour", "size"])), encoder).fit(frame)
    assert differences(chain, frame) == []
    as_matrix = make_pipeline(imputer, encoder).fit(frame.to_numpy(dtype=object))
    assert differences(as_matrix, frame.to_numpy(dtype=object)) == []


def test_an_imputer_of_texts_and_numbers_equals_its_graph():
    frame = FRAME[["colour", "age", "height"]]
    chain = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder(handle_unknown="ignore"))
    assert differences(chain.fit(frame), frame) == []


def test_missing_values_in_a_frame_of_integers_are_imputed():
    frame = FRAME[["age", "height"]]
    imputer = make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()).fit(frame)
    gaps = frame.astype(float).where(RNG.random(frame.shape) < 0.7)
    assert differences(imputer, gaps) == []


@pytest.mark.parametrize("options", [{}, {"features": "all"}, {"features": "all", "missing_values": 0.5}], ids=str)
def test_a_missing_indicator_equals_its_graph(options):
    rows = np.nan_to_num(X, nan=0.5) if "missing_values" in options else X
    assert differences(MissingIndicator(**options).fit(rows), rows) == []
    whole = make_column_transformer((MissingIndicator(**options), ["age"]), (StandardScaler(), ["height", "age"]))
    assert differences(whole.fit(FRAME), FRAME) == [] or options == {}
    assert differences(make_column_transformer((MissingIndicator(), ["colour"])).fit(FRAME), FRAME) == []


@pytest.mark.parametrize(
    "imputer",
    [
        IterativeImputer(max_iter=3, random_state=0),
        IterativeImputer(max_iter=2, random_state=0, estimator=Ridge(), n_nearest_features=2, min_value=0, max_value=3),
        IterativeImputer(max_iter=2, random_state=0, initial_strategy="median", add_indicator=True),
        IterativeImputer(max_iter=2, random_state=0, keep_empty_features=True),
        IterativeImputer(max_iter=0),
    ],
    ids=str,
)
def test_an_iterative_imputer_equals_its_graph(imputer):
    assert differences(imputer.fit(X), X) == []
    signature, _ = infer(imputer, pd.DataFrame(X))
    for rows in (np.full((3, 4), np.nan), X[:1], np.full((1, 4), np.nan)):
        assert compared(imputer, signature, pd.DataFrame(rows), ("prediction",)) == []
    assert differences(imputer.fit(EMPTY), SOME) == []


def test_random_imputation_has_no_graph():
    with pytest.raises(NotExportable, match="at random"):
        differences(IterativeImputer(sample_posterior=True, max_iter=2).fit(X), X)


def test_numbers_filled_with_text_have_no_graph():
    imputer = SimpleImputer(strategy="constant", fill_value="?").fit(FRAME[["colour", "height"]])
    g = Graph()
    with pytest.raises(NotExportable, match="values of another type"):
        g.transform(imputer, (g.input("colour", "string", 1), g.input("height", "float64", 1)))
