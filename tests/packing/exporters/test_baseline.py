import numpy as np
import pandas as pd
import pytest
from sklearn.dummy import DummyClassifier, DummyRegressor

from app.packing.exporters.graph import NotExportable
from tests.packing.exporters.equal import differences

FRAME = pd.DataFrame({"text": ["a", "b", "c", "d"] * 5, "number": np.arange(20.0)})
LABELS = ["no", "yes", "no", "maybe"] * 5


@pytest.mark.parametrize("strategy", ["prior", "most_frequent", "constant"])
def test_a_dummy_classifier_equals_its_graph(strategy):
    model = DummyClassifier(strategy=strategy, constant="yes" if strategy == "constant" else None)
    assert differences(model.fit(FRAME, LABELS), FRAME) == []


@pytest.mark.parametrize("strategy", ["stratified", "uniform"])
def test_a_random_classifier_is_refused(strategy):
    with pytest.raises(NotExportable, match=f"its strategy {strategy} is random"):
        differences(DummyClassifier(strategy=strategy, random_state=0).fit(FRAME, LABELS), FRAME)


@pytest.mark.parametrize("target", [np.arange(20.0), np.arange(20), np.ones((20, 2))], ids=["one", "integers", "two"])
def test_a_dummy_regressor_equals_its_graph(target):
    assert differences(DummyRegressor().fit(FRAME, target), FRAME) == []


def test_a_dummy_regressor_of_an_integer_equals_its_graph():
    assert differences(DummyRegressor(strategy="constant", constant=3).fit(FRAME, np.arange(20)), FRAME) == []
