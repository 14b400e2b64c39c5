"""The rules of other releases of scikit-learn, tested with fakes that have the attributes of that release."""

from types import SimpleNamespace

import numpy as np
import pytest
import sklearn
from sklearn.cluster import KMeans
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, SGDClassifier
from sklearn.naive_bayes import GaussianNB

from app.packing import releases


@pytest.fixture
def release(monkeypatch):
    return lambda *numbers: monkeypatch.setattr(releases, "RELEASE", numbers)


def logistic(classes, **options):
    return SimpleNamespace(classes_=np.arange(classes), **options)


def test_the_release_is_the_version_of_the_installed_library():
    assert ".".join(map(str, releases.RELEASE)) == ".".join(sklearn.__version__.split(".")[:2])


@pytest.mark.parametrize(
    ("numbers", "estimator", "expected"),
    [
        ((1, 2), logistic(3, multi_class="auto", solver="lbfgs"), False),
        ((1, 2), logistic(3, multi_class="auto", solver="liblinear"), True),
        ((1, 2), logistic(3, multi_class="auto", solver="newton-cholesky"), True),
        ((1, 2), logistic(3, multi_class="ovr", solver="lbfgs"), True),
        ((1, 2), logistic(2, multi_class="multinomial", solver="lbfgs"), False),
        ((1, 6), logistic(3, multi_class="deprecated", solver="newton-cholesky"), False),
        ((1, 7), logistic(2, multi_class="deprecated", solver="lbfgs"), True),
        ((1, 8), logistic(3, multi_class="ovr", solver="lbfgs"), False),
        ((1, 9), logistic(2, solver="lbfgs"), True),
    ],
)
def test_a_logistic_regression_is_one_vs_rest_as_in_its_release(release, numbers, estimator, expected):
    release(*numbers)
    assert releases.is_one_vs_rest(estimator) is expected


@pytest.mark.parametrize(
    ("numbers", "estimator", "attribute", "expected"),
    [
        ((1, 2), SGDClassifier(), "coef_", False),
        ((1, 3), SGDClassifier(), "coef_", True),
        ((1, 7), GaussianNB(), "theta_", False),
        ((1, 8), GaussianNB(), "theta_", True),
        ((1, 8), LogisticRegression(), "coef_", False),
        ((1, 9), LogisticRegression(), "coef_", True),
        ((1, 9), LogisticRegression(solver="liblinear"), "coef_", False),
    ],
)
def test_an_attribute_has_the_width_of_training_only_if_the_release_keeps_it(
    release, numbers, estimator, attribute, expected
):
    release(*numbers)
    assert releases.tells_width(estimator, attribute) is expected


def test_the_coefficients_of_pls_are_for_centered_columns_in_every_release(release):
    coefficients, spread = np.array([[1.0, 2.0]]), np.array([2.0, 4.0])
    release(1, 5)
    assert releases.pls_coefficients(SimpleNamespace(coef_=coefficients, _x_std=spread)).tolist() == [[1.0, 2.0]]
    release(1, 4)
    assert releases.pls_coefficients(SimpleNamespace(coef_=coefficients, _x_std=spread)).tolist() == [[0.5, 0.5]]
    release(1, 2)
    turned = SimpleNamespace(coef_=coefficients.T, _coef_=coefficients, _x_std=spread)
    assert releases.pls_coefficients(turned).tolist() == [[0.5, 0.5]]


def test_the_values_of_a_classifiers_tree_become_probabilities(release):
    values = np.array([[3.0, 1.0], [0.0, 0.0]])
    release(1, 3)
    assert releases.class_probabilities(values).tolist() == [[0.75, 0.25], [0.0, 0.0]]
    release(1, 4)
    assert releases.class_probabilities(values) is values


def test_a_union_has_the_column_names_of_its_parts_before_1_3(release):
    part = SimpleNamespace(feature_names_in_=["a", "b"])
    union = SimpleNamespace(transformer_list=[("scaler", SimpleNamespace()), ("columns", part)])
    pipeline = SimpleNamespace(steps=[("union", union), ("last", SimpleNamespace(feature_names_in_=["c"]))])
    release(1, 2)
    assert releases.column_names(union) == releases.column_names(pipeline) == ["a", "b"]
    assert releases.column_names(SimpleNamespace()) is None
    release(1, 3)
    assert releases.column_names(union) is None


def lightgbm_before_4_7(*names):
    kind = type("LGBMRegressor", (), {"__module__": "lightgbm.sklearn"})
    model = kind()
    model.feature_name_ = list(names)
    return model


def test_a_model_of_an_older_lightgbm_has_the_column_names_of_its_booster():
    model = lightgbm_before_4_7("age", "income")
    assert releases.column_names(model) == ["age", "income"]
    assert releases.column_names(SimpleNamespace(steps=[("model", model)])) == ["age", "income"]
    assert releases.column_names(lightgbm_before_4_7("Column_0", "Column_1")) is None


def test_an_imputer_of_a_constant_keeps_empty_columns_until_1_7(release):
    imputer = SimpleImputer(strategy="constant", fill_value=0)
    release(1, 7)
    assert releases.keeps_empty_columns(imputer)
    release(1, 8)
    assert not releases.keeps_empty_columns(imputer)


def test_a_clusterer_is_recognized_by_its_type_before_1_6(release):
    release(1, 5)
    assert releases.is_clusterer(SimpleNamespace(_estimator_type="clusterer"))
    assert not releases.is_clusterer(SimpleNamespace())
    release(1, 9)
    assert releases.is_clusterer(KMeans())
    assert not releases.is_clusterer(LogisticRegression())
