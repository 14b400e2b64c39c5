import functools

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.feature_selection import RFE, SelectKBest, f_regression
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, MinMaxScaler, OneHotEncoder, StandardScaler

from app.packing.exporters.functions import FUNCTIONS
from app.packing.exporters.graph import Graph, NotExportable
from app.runtime.graph import session_of
from tests.packing.exporters.equal import differences

RNG = np.random.default_rng(1)
ROWS = 50
FRAME = pd.DataFrame(
    {
        "age": RNG.integers(1, 80, ROWS),
        "with.dot": RNG.normal(0, 3, ROWS),
        "colour": RNG.choice(["red", "green", "blue"], ROWS),
        "income": RNG.exponential(5, ROWS),
        "member": RNG.random(ROWS) < 0.5,
    }
)
NUMBERS = FRAME[["age", "with.dot", "income"]]
ONE_HOT = OneHotEncoder(sparse_output=False)

COLUMN_TRANSFORMERS = [
    ColumnTransformer([("n", StandardScaler(), ["income", "age"]), ("c", ONE_HOT, ["colour"])]),
    ColumnTransformer([("n", StandardScaler(), [3, 0]), ("c", OneHotEncoder(), [2])], remainder="passthrough"),
    ColumnTransformer([("n", StandardScaler(), make_column_selector(dtype_include="number"))]),
    ColumnTransformer([("n", MinMaxScaler(), np.array([True, True, False, False, False])), ("d", "drop", ["colour"])]),
    ColumnTransformer([("n", "passthrough", slice("age", "with.dot"))]),
    ColumnTransformer([("n", StandardScaler(), ["age"]), ("c", ONE_HOT, ["colour"])], remainder=MinMaxScaler()),
    ColumnTransformer(
        [("n", StandardScaler(), ["age"]), ("none", StandardScaler(), []), ("same", "passthrough", ["age"])],
        transformer_weights={"n": 2.5},
        verbose_feature_names_out=False,
    ),
    ColumnTransformer([("n", StandardScaler(), ["age"]), ("c", ONE_HOT, ["colour"])]).set_output(transform="pandas"),
    FeatureUnion([("c", ColumnTransformer([("n", "passthrough", ["age", "member"])])), ("x", "drop")]),
]


@pytest.mark.parametrize("transformer", COLUMN_TRANSFORMERS)
def test_a_column_transformer_equals_its_graph(transformer):
    assert differences(transformer.fit(FRAME), FRAME) == []
    assert differences(transformer, FRAME[:1]) == []


def test_a_union_equals_its_graph():
    union = FeatureUnion(
        [("a", StandardScaler()), ("b", MinMaxScaler()), ("c", "passthrough"), ("d", "drop")],
        transformer_weights={"a": 3, "c": 0.5},
    )
    assert differences(union.fit(NUMBERS), NUMBERS) == []
    assert differences(union.fit(NUMBERS.to_numpy()), NUMBERS.to_numpy()) == []


def test_a_pipeline_equals_its_graph():
    y = RNG.normal(size=ROWS)
    chain = Pipeline([("a", StandardScaler()), ("b", "passthrough"), ("c", None), ("d", MinMaxScaler())])
    assert differences(chain.fit(NUMBERS), NUMBERS) == []
    nested = make_pipeline(chain, SelectKBest(f_regression, k=2), RFE(LinearRegression(), n_features_to_select=1))
    assert differences(nested.fit(NUMBERS, y), NUMBERS) == []


def test_a_frozen_estimator_equals_its_graph():
    scaler = FrozenEstimator(StandardScaler().fit(NUMBERS))
    assert differences(scaler, NUMBERS) == []
    model = make_pipeline(scaler, FrozenEstimator(LinearRegression().fit(NUMBERS, FRAME["income"])))
    assert differences(model.fit(NUMBERS, FRAME["income"]), NUMBERS) == []


VALUES = np.concatenate(
    [
        [
            0.0,
            -0.0,
            1.0,
            -1.0,
            0.5,
            -0.5,
            2.5,
            3.5,
            np.nan,
            709.0,
            -709.0,
            -745.0,
            1e3,
            -1e3,
            1e10,
            -1e10,
            1e100,
            -1e300,
        ],
        [5e-324, -5e-324, 1e-310, 1e-300, -1e-300, 1e-20, -1e-20, 1e-16, 1e-15, -1e-15, 1e-9, -1e-9, 1e-5, -1e-5],
        [np.nextafter(-1.0, 0), np.nextafter(-1.0, -2), np.nextafter(1.0, 2), np.nextafter(1.0, 0)],
        RNG.normal(0, 1, 200),
        np.exp(RNG.normal(0, 20, 200)),
        -np.exp(RNG.normal(0, 20, 200)),
    ]
).reshape(-1, 1)


@pytest.mark.parametrize(
    "function",
    # ONNX Runtime 1.23 has no cosine of doubles.
    [pytest.param(each, marks=[pytest.mark.pinned] if each is np.cos else []) for each in FUNCTIONS],
    ids=lambda function: function.__name__,
)
def test_a_function_of_numpy_equals_its_graph(function):
    with np.errstate(all="ignore"):
        assert differences(FunctionTransformer(function).fit(VALUES), VALUES) == []


@pytest.mark.parametrize(("function", "precision"), [(np.log1p, 1e-15), (np.expm1, 1e-15), (np.cbrt, 1e-13)], ids=str)
def test_the_composed_functions_are_accurate_near_zero(function, precision):
    g = Graph()
    session = session_of(g.model({"y": FUNCTIONS[function](g, g.input("x", "float64", 1))}).SerializeToString())
    with np.errstate(all="ignore"):
        wanted = function(VALUES)
    np.testing.assert_allclose(session.run(None, {"x": VALUES})[0], wanted, rtol=precision, atol=1e-307)


def test_a_transformer_without_a_function_passes_text_on():
    identity = ColumnTransformer([("i", FunctionTransformer(), ["colour", "age"])])
    assert differences(make_pipeline(identity, OneHotEncoder()).fit(FRAME), FRAME) == []


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (FunctionTransformer(np.cumsum), "it applies the function cumsum"),
        (FunctionTransformer(lambda x: x), "it applies the function .*<lambda>"),
        (FunctionTransformer(functools.partial(np.clip, a_min=0, a_max=1)), "it applies the function clip"),
        (FunctionTransformer(np.round, kw_args={"decimals": 1}), "it applies the function round with arguments"),
    ],
)
def test_another_function_is_named(function, reason):
    with pytest.raises(NotExportable, match=reason):
        differences(function.fit(VALUES), VALUES)
