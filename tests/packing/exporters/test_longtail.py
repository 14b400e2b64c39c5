from typing import Any

import numpy as np
import pandas as pd
import pytest
from onnx import checker
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.cluster import DBSCAN
from sklearn.datasets import load_iris
from sklearn.impute import KNNImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, NeighborhoodComponentsAnalysis
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeClassifier

from app.packing.exporters import PREDICTORS, TRANSFORMERS, longtail
from app.packing.exporters.graph import Graph, NotExportable
from app.runtime.graph import session_of

X, SPECIES = load_iris(return_X_y=True)
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]


def answers(estimator: Any, transformers: Any = None, predictors: Any = None) -> dict[str, Any]:
    """What skl2onnx's graph, inside ours, gives for the flowers."""
    g = Graph(transformers or {}, predictors or {}, (longtail.transform, longtail.predict))
    features = (g.input("first", "float64", 1), g.input("others", "float64", 3))
    if hasattr(estimator, "predict"):
        outputs = g.predict(estimator, features)
    else:
        outputs = {"prediction": g.matrix(g.transform(estimator, features))}
    model = g.model(outputs)
    checker.check_model(model)
    session = session_of(model.SerializeToString())
    return dict(zip(outputs, session.run(list(outputs), {"first": X[:, :1], "others": X[:, 1:]}), strict=True))


@pytest.mark.parametrize("labels", [NAMES, SPECIES, SPECIES + 5, SPECIES > 1], ids=["text", "numbers", "more", "bool"])
def test_a_classifier_gives_labels_of_its_type_and_probabilities(labels):
    for model in (GaussianNB(), LogisticRegression(C=0.1, tol=0.01), KNeighborsClassifier(3)):
        found = answers(model.fit(X, labels))
        assert found["prediction"].dtype.kind == {"U": "O"}.get(labels.dtype.kind, labels.dtype.kind)
        np.testing.assert_array_equal(found["prediction"], model.predict(X))
        assert found["probabilities"].dtype == np.float64
        np.testing.assert_allclose(found["probabilities"], model.predict_proba(X), atol=1e-6)


def test_a_regressor_keeps_the_shape_of_its_prediction():
    for target in (X[:, 0] * X[:, 1], np.column_stack([X[:, 0] ** 2, X[:, 1]])):
        model = LinearRegression().fit(X, target)
        np.testing.assert_allclose(answers(model)["prediction"], model.predict(X), rtol=1e-9)


def test_a_transformer_between_steps_that_have_exporters():
    pipeline = make_pipeline(
        StandardScaler(), NeighborhoodComponentsAnalysis(2, max_iter=3), LogisticRegression(C=0.1, tol=0.01)
    )
    pipeline.fit(X, NAMES)
    transformers = {name: f for name, f in TRANSFORMERS.items() if "Components" not in name}
    found = answers(pipeline, transformers, PREDICTORS)
    np.testing.assert_allclose(found["probabilities"], pipeline.predict_proba(X), rtol=1e-9)


def test_two_graphs_do_not_collide():
    twice = make_pipeline(StandardScaler(), StandardScaler(), GaussianNB()).fit(X, SPECIES)
    pipeline = {name: PREDICTORS[name] for name in ("sklearn.Pipeline",)}
    np.testing.assert_allclose(answers(twice, {}, pipeline)["probabilities"], twice.predict_proba(X), rtol=1e-6)


class Own(TransformerMixin, BaseEstimator):
    def fit(self, columns, _=None):
        return self

    def transform(self, columns):
        return columns


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        (DBSCAN(), r"^there is no exporter for DBSCAN$"),
        (Own(), r"^there is no exporter for Own$"),
        (DecisionTreeClassifier(), r"^skl2onnx's graph of it has trees in float32$"),
        (KNNImputer(), r"^skl2onnx cannot convert KNNImputer \(InvalidInputTypeException: "),
    ],
    ids=str,
)
def test_what_it_cannot_convert_is_named(estimator, reason):
    g = Graph({}, {}, (longtail.transform, longtail.predict))
    features = (g.input("columns", "float64", 4),)
    estimator.fit(X, SPECIES)
    with pytest.raises(NotExportable, match=reason):
        longtail._adopted(g, estimator, features[0])


def test_strings_have_no_graph():
    g = Graph({}, {}, (longtail.transform, longtail.predict))
    with pytest.raises(NotExportable, match=r"^there is no exporter for GaussianNB$"):
        g.predict(GaussianNB().fit(pd.DataFrame(X), SPECIES), (g.input("text", "string", 4),))


def test_without_a_fallback_the_class_is_named():
    g = Graph({}, {})
    with pytest.raises(NotExportable, match=r"^there is no exporter for GaussianNB$"):
        g.predict(GaussianNB().fit(X, SPECIES), (g.input("columns", "float64", 4),))
