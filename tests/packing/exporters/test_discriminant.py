import numpy as np
import pytest
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis

from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.rows import around

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)) * [1, 10, 0.1, 3] + [0, 5, 0, -3]
TARGETS = [np.array(["no", "yes"])[(X[:, 0] > 0.5).astype(int)], np.digitize(X[:, 0], [0, 1])]


@pytest.mark.parametrize("target", TARGETS, ids=["two", "three"])
@pytest.mark.parametrize("reg_param", [0.0, 0.3])
def test_quadratic_discriminant_analysis_equals_its_graph(reg_param, target):
    model = QuadraticDiscriminantAnalysis(reg_param=reg_param).fit(X, target)
    assert differences_in_batches(model, around(X)) == []
