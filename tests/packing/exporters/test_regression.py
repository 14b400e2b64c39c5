import numpy as np
import pytest
from onnxruntime.capi.onnxruntime_pybind11_state import InvalidArgument
from sklearn import cross_decomposition as c
from sklearn import linear_model as m
from sklearn.isotonic import IsotonicRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVR

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import answered, around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4)) * [1, 10, 0.1, 3] + [0, 5, 0, -3]
ONE = X[:, 0] * 2 + X[:, 1] / 5 + RNG.normal(size=80)
SEVERAL = np.column_stack([ONE, X[:, 1] + RNG.normal(size=80)])
POSITIVE = np.exp(ONE / 5)
KNOTS = np.sort(RNG.normal(size=60))
BESIDE = [KNOTS, (KNOTS[1:] + KNOTS[:-1]) / 2, np.nextafter(KNOTS, np.inf), np.nextafter(KNOTS, -np.inf)]
LINE = np.concatenate([*BESIDE, [0.0, -0.0, 1e9, -1e9]])[:, None]

REGRESSORS = [
    m.LinearRegression(),
    m.Ridge(),
    m.RidgeCV(),
    m.Lasso(),
    m.LassoCV(cv=2),
    m.ElasticNet(),
    m.ElasticNetCV(cv=2),
    m.Lars(),
    m.LarsCV(cv=2),
    m.LassoLars(),
    m.LassoLarsCV(cv=2),
    m.LassoLarsIC(),
    m.OrthogonalMatchingPursuit(),
    m.OrthogonalMatchingPursuitCV(cv=2),
    m.BayesianRidge(),
    m.ARDRegression(),
    m.HuberRegressor(max_iter=1000),
    m.QuantileRegressor(),
    m.TheilSenRegressor(random_state=0, max_subpopulation=50),
    m.RANSACRegressor(random_state=0),
    m.SGDRegressor(random_state=0),
    LinearSVR(random_state=0),
    c.PLSRegression(),
    c.CCA(1),
    c.PLSCanonical(1),
]
OF_SEVERAL = [
    m.LinearRegression(fit_intercept=False),
    m.Ridge(),
    m.MultiTaskLasso(),
    m.MultiTaskLassoCV(cv=2),
    m.MultiTaskElasticNet(),
    m.MultiTaskElasticNetCV(cv=2),
    m.OrthogonalMatchingPursuit(),
    m.RANSACRegressor(random_state=0),
    c.PLSRegression(),
    c.CCA(),
    c.PLSCanonical(),
]
WITH_LINKS = [
    m.PoissonRegressor(max_iter=300),
    m.GammaRegressor(max_iter=300),
    m.TweedieRegressor(power=1.5, max_iter=300),
    m.TweedieRegressor(),
    m.TweedieRegressor(link="log", max_iter=300),
]
ignoring = pytest.mark.filterwarnings("ignore")  # warnings about convergence and deprecation, in fit


@ignoring
@pytest.mark.parametrize("regressor", REGRESSORS, ids=str)
def test_a_regressor_of_one_target_equals_its_graph(regressor):
    assert differences_in_batches(regressor.fit(X, ONE), around(X)) == []


@ignoring
def test_a_passive_aggressive_regressor_equals_its_graph():
    assert differences_in_batches(m.PassiveAggressiveRegressor(random_state=0).fit(X, ONE), around(X)) == []


@pytest.mark.parametrize("regressor", OF_SEVERAL, ids=str)
def test_a_regressor_of_several_targets_equals_its_graph(regressor):
    assert differences_in_batches(regressor.fit(X, SEVERAL), around(X)) == []


def test_a_regressor_of_one_column_equals_its_graph():
    assert differences_in_batches(m.LinearRegression().fit(X, ONE[:, None]), around(X)) == []


@pytest.mark.parametrize("regressor", WITH_LINKS, ids=str)
def test_a_model_with_a_link_function_equals_its_graph(regressor):
    assert differences_in_batches(regressor.fit(X, POSITIVE), around(X)) == []


@pytest.mark.parametrize("projection", [c.PLSRegression(), c.CCA(), c.PLSCanonical(), c.PLSSVD()], ids=str)
def test_a_projection_equals_its_graph(projection):
    pipeline = make_pipeline(projection, m.Ridge())
    # A pipeline would fit the projection with one target, a projection needs several.
    pipeline.steps = [("a", projection.fit(X, SEVERAL)), ("b", m.Ridge().fit(projection.transform(X), ONE))]
    assert differences_in_batches(pipeline, around(X)) == []


@pytest.mark.parametrize("out_of_bounds", ["nan", "clip"])
@pytest.mark.parametrize("points", [60, 1])
def test_isotonic_regression_equals_its_graph(out_of_bounds, points):
    model = IsotonicRegression(out_of_bounds=out_of_bounds).fit(KNOTS[:points], KNOTS[:points] ** 3)
    assert differences_in_batches(model, LINE) == []


def test_isotonic_regression_fails_on_values_out_of_bounds():
    model = IsotonicRegression(out_of_bounds="raise").fit(KNOTS, RNG.normal(size=60))
    within = LINE[(LINE[:, 0] >= KNOTS[0]) & (LINE[:, 0] <= KNOTS[-1])]
    assert differences_in_batches(model, within) == []
    with pytest.raises(InvalidArgument):
        answered(model, KNOTS[:, None], KNOTS[-1:, None] + 1)


def test_isotonic_regression_of_float32_has_no_graph():
    model = IsotonicRegression().fit(KNOTS.astype(np.float32), KNOTS.astype(np.float32))
    with pytest.raises(NotExportable, match="numbers that are not float64"):
        differences_in_batches(model, LINE)
