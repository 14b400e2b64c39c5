import numpy as np
import pytest
from sklearn.preprocessing import QuantileTransformer

from tests.packing.exporters.equal import differences

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(9)
X = np.column_stack([RNG.normal(2, 3, 300), RNG.integers(0, 5, 300), RNG.exponential(4, 300), np.ones(300)])


def rows_around_quantiles(transformer):
    knots = transformer.quantiles_
    around = [
        knots,
        np.nextafter(knots, np.inf),
        np.nextafter(knots, -np.inf),
        knots + 1e-7,
        knots - 1e-7,
        knots + 2e-7,
    ]
    far = np.array([0.0, -0.0, 1e-300, 1e9, -1e9, 1e-9, 1e100])[:, None] * np.ones(4)
    rows = np.concatenate([X, *around, far, RNG.uniform(-10, 30, (500, 4))])
    return np.where(RNG.random(rows.shape) < 0.05, np.nan, rows)


@pytest.mark.parametrize("distribution", ["uniform", "normal"])
@pytest.mark.parametrize("n_quantiles", [1, 2, 10, 100, 300])
def test_a_quantile_transformer_equals_its_graph(distribution, n_quantiles):
    transformer = QuantileTransformer(n_quantiles=n_quantiles, output_distribution=distribution).fit(X)
    rows = rows_around_quantiles(transformer)
    assert differences(transformer, rows) == []
    assert differences(transformer, X[:1]) == []


def test_normal_deviates_are_exact_in_the_middle_and_in_the_tails():
    column = np.linspace(0, 1, 1001)[:, None]
    transformer = QuantileTransformer(n_quantiles=1001, output_distribution="normal").fit(column)
    small = 10.0 ** -np.arange(1, 17)
    rows = np.concatenate([np.linspace(0, 1, 3001), 0.5 + small, 0.5 - small, small, 1 - small])[:, None]
    assert differences(transformer, rows) == []
