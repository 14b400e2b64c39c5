import functools

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
)
from sklearn.tree import DecisionTreeRegressor

from app.packing.exporters.functions import normal_cdf
from app.packing.exporters.graph import Graph, NotExportable
from app.runtime.graph import session_of
from tests.packing.exporters.batches import differences_in_batches

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 2))
TARGET = np.exp(X[:, 0] + 0.3 * RNG.normal(size=80))
EXTREMES = np.array([0.0, -0.0, 1e-300, -1e-9, 0.1, -0.5, 2.5, -4.0, 7.0])[:, None] * [1.0, -1.0]
STRESS = np.concatenate([X, EXTREMES])
LINE = LinearRegression()

FUNCTIONS = [
    (None, None),
    (np.log, np.exp),
    (np.log1p, np.expm1),
    (np.expm1, np.log1p),
    (np.exp, np.log),
    (np.sqrt, np.square),
    (np.square, np.sqrt),
    (np.log2, np.exp2),
    (np.cbrt, np.positive),
    (np.positive, np.cbrt),
    (np.arcsinh, np.sinh),
    (np.negative, np.negative),
    (np.reciprocal, np.reciprocal),
    (np.arctanh, np.tanh),
]
TRANSFORMERS = [
    StandardScaler(),
    StandardScaler(with_mean=False),
    StandardScaler(with_std=False),
    MinMaxScaler((1, 3)),
    MaxAbsScaler(),
    RobustScaler(),
    RobustScaler(with_scaling=False),
    RobustScaler(with_centering=False),
    PowerTransformer(),
    PowerTransformer("box-cox", standardize=False),
    QuantileTransformer(n_quantiles=30),
    QuantileTransformer(n_quantiles=50, output_distribution="normal"),
    make_pipeline(FunctionTransformer(np.log, np.exp), "passthrough", StandardScaler()),
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_a_target_under_a_function_equals_its_graph(function):
    func, inverse_func = function
    target = TARGET / (TARGET.max() + 1) if func is np.arctanh else TARGET
    model = TransformedTargetRegressor(LINE, func=func, inverse_func=inverse_func, check_inverse=False)
    assert differences_in_batches(model.fit(X, target), STRESS) == []


@pytest.mark.parametrize("transformer", TRANSFORMERS, ids=str)
def test_a_target_under_a_transformer_equals_its_graph(transformer):
    model = TransformedTargetRegressor(LINE, transformer=transformer, check_inverse=False)
    assert differences_in_batches(model.fit(X, TARGET), STRESS) == []
    both = np.column_stack([TARGET, TARGET**2 + 1])
    assert differences_in_batches(model.fit(X, both), STRESS) == []


def test_a_target_with_ties_and_a_tree_equals_its_graph():
    model = TransformedTargetRegressor(
        DecisionTreeRegressor(max_depth=4, random_state=0),
        transformer=QuantileTransformer(n_quantiles=40, output_distribution="normal"),
        check_inverse=False,
    )
    assert differences_in_batches(model.fit(X, np.round(TARGET)), STRESS) == []


@pytest.mark.parametrize("power", [0.0, 2.0, 1e-20, 1.0, -3.0, 5.0])
def test_a_target_with_special_exponents_equals_its_graph(power):
    model = TransformedTargetRegressor(LINE, transformer=PowerTransformer(), check_inverse=False).fit(X, TARGET)
    model.transformer_.lambdas_ = np.array([power])
    assert differences_in_batches(model, STRESS) == []
    model = TransformedTargetRegressor(LINE, transformer=PowerTransformer("box-cox"), check_inverse=False).fit(
        X, TARGET
    )
    model.transformer_.lambdas_ = np.array([power])
    assert differences_in_batches(model, STRESS) == []


def test_the_normal_distribution_function_equals_that_of_scipy():
    graph = Graph()
    column = graph.input("x", "float64", 1)
    session = session_of(graph.model({"y": normal_cdf(graph, column)}).SerializeToString())
    x = np.concatenate([np.linspace(-12, 12, 5001), [0.0, -0.0, 1e-300, 1e200, -1e200, np.inf, -np.inf]])
    (found,) = session.run(None, {"x": x[:, None]})
    np.testing.assert_allclose(found[:, 0], norm.cdf(x), rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    ("inverse_func", "reason"),
    [
        (functools.partial(np.add, 1), r"^the inverse function of its target, partial, has no exporter$"),
        (abs, r"^the inverse function of its target, abs, has no exporter$"),
    ],
)
def test_an_unknown_function_is_named(inverse_func, reason):
    model = TransformedTargetRegressor(LINE, func=np.positive, inverse_func=inverse_func, check_inverse=False)
    with pytest.raises(NotExportable, match=reason):
        differences_in_batches(model.fit(X, TARGET), X)


@pytest.mark.parametrize(
    ("transformer", "reason"),
    [
        (KBinsDiscretizer(3, encode="ordinal"), r"^the inverse of KBinsDiscretizer has no exporter$"),
        (QuantileTransformer(n_quantiles=1), r"^it has a single quantile$"),
        (
            FunctionTransformer(np.log, np.exp, inv_kw_args={"where": True}),
            r"^the inverse function of its target takes arguments$",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_an_inverse_without_a_graph_is_named(transformer, reason):
    model = TransformedTargetRegressor(LINE, transformer=transformer, check_inverse=False)
    with pytest.raises(NotExportable, match=reason):
        differences_in_batches(model.fit(X, TARGET), X)
