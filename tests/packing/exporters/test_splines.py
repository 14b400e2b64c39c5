import numpy as np
import pytest
from sklearn.preprocessing import SplineTransformer

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.equal import differences

RNG = np.random.default_rng(6)
X = np.column_stack([RNG.normal(2, 3, 60), RNG.integers(0, 4, 60), RNG.exponential(4, 60)])


def rows_around_knots(transformer):
    knots = np.stack([spline.t for spline in transformer.bsplines_], axis=1)
    beyond = np.array([[0.0, -0.0, 1e-300], [50.0, -50.0, 80.0], [-1e4, 1e4, 1e4]])
    return np.concatenate([X, knots, np.nextafter(knots, np.inf), np.nextafter(knots, -np.inf), beyond])


@pytest.mark.parametrize("extrapolation", ["constant", "linear", "continue", "periodic"])
@pytest.mark.parametrize("degree", [1, 2, 3, 4])
@pytest.mark.parametrize(
    "options",
    [{}, {"include_bias": False}, {"knots": "quantile", "n_knots": 6}, {"n_knots": 8, "sparse_output": True}],
    ids=str,
)
def test_splines_equal_their_graph(extrapolation, degree, options):
    transformer = SplineTransformer(degree=degree, extrapolation=extrapolation, **options).fit(X)
    assert differences(transformer, rows_around_knots(transformer)) == []


def test_splines_of_one_row_equal_their_graph():
    transformer = SplineTransformer().fit(X)
    for row in range(3):
        assert differences(transformer, X[row : row + 1]) == []


@pytest.mark.parametrize("extrapolation", ["linear", "continue", "periodic"])
def test_splines_of_degree_0_equal_their_graph(extrapolation):
    transformer = SplineTransformer(degree=0, extrapolation=extrapolation).fit(X)
    assert differences(transformer, rows_around_knots(transformer)) == []


@pytest.mark.pinned
@pytest.mark.parametrize("extrapolation", ["constant", "linear", "continue", "periodic"])
def test_splines_of_missing_values_equal_their_graph(extrapolation):
    transformer = SplineTransformer(extrapolation=extrapolation, handle_missing="zeros").fit(X)
    rows = np.where(RNG.random(X.shape) < 0.2, np.nan, X)
    assert differences(transformer, rows) == []


def test_splines_without_a_graph_are_refused():
    with pytest.raises(NotExportable, match="refuses values beyond its knots"):
        differences(SplineTransformer(extrapolation="error").fit(X), X)
    with pytest.raises(NotExportable, match="its splines of degree 0"):
        differences(SplineTransformer(degree=0, sparse_output=True).fit(X), X)
    constant = np.column_stack([X[:, 0], np.ones(60)])
    with pytest.raises(NotExportable, match="only one value"):
        differences(SplineTransformer(extrapolation="periodic").fit(constant), constant)
