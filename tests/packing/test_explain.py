"""Explanations: exact if they must be, equal to shap, and with sums equal to the explained output."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from sklearn.compose import make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    ExtraTreesClassifier,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import Lasso, LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from app.packing.agreement import target_rows
from app.packing.assume import Notes
from app.packing.declared import Declared
from app.packing.explain import derive_explanation
from app.packing.infer import infer
from app.runtime.explanation import ExplainedServable, explained
from app.runtime.servable import ArtifactServable
from app.signature import EXPLANATION
from app.signature.validator import Validator
from app.storage.manifest import Explanation

RANDOM = np.random.default_rng(3)
NUMBERS = pd.DataFrame(RANDOM.normal(size=(200, 5)), columns=list("abcde"))
TARGET = 2 * NUMBERS.a + NUMBERS.b * NUMBERS.c + 0.1 * RANDOM.normal(size=200)
TWO = (TARGET > 0).astype(int)
THREE = pd.cut(TARGET, [-np.inf, -1, 1, np.inf], labels=["low", "middle", "high"]).astype(str)
HOLES = NUMBERS.mask(RANDOM.random(NUMBERS.shape) < 0.1)
ROWS = 20


class Explained:
    """A fitted estimator with its explainer, and its explanations of some rows of its training data."""

    def __init__(self, estimator: Any, features: pd.DataFrame, target: Any, folder: Path) -> None:
        self.estimator = estimator.fit(features, target)
        self.signature, self.records = infer(estimator, features, Declared(None, None, (), ()), set(), None, Notes())
        with_missing = [record for record in self.records if None in record.values()]
        self.explained_records = (with_missing or self.records)[:ROWS]
        self._validator = Validator(self.signature, 1000)
        servable = ArtifactServable(estimator, self.signature)
        found = derive_explanation(estimator, servable, self.signature, self.records, folder)
        assert found is not None
        self.found: Explanation = found
        with (folder / found.file).open("rb") as stream:
            self.servable: ExplainedServable = explained(
                stream, servable, found, self.signature, self._validator.validate
            )
        batch = self._validator.validate(self.explained_records)
        outputs = self.servable.run(batch, (found.output, EXPLANATION))
        self.output = np.asarray(outputs[found.output], dtype=float).reshape(
            len(batch.columns[self.signature.names[0]]), -1
        )
        self.explanations: list[dict[str, Any]] = outputs[EXPLANATION].tolist()

    def contributions(self) -> NDArray[np.float64]:
        """Return them in shape (rows, inputs, values)."""
        rows = [[np.ravel(value) for value in each["contributions"].values()] for each in self.explanations]
        return np.array(rows)

    def sums(self) -> NDArray[np.float64]:
        """Return base plus contributions, shape (rows, values)."""
        bases = np.array([np.ravel(each["base"]) for each in self.explanations])
        return bases + self.contributions().sum(axis=1)


def by_shap(model: Any, columns: Any) -> NDArray[np.float64]:
    """Return shap's values in shape (rows, columns, values)."""
    import shap  # importing it takes as long as several quick tests

    explainer = shap.TreeExplainer(model, feature_perturbation="tree_path_dependent")
    values = np.asarray(explainer.shap_values(np.asarray(columns)[:ROWS], check_additivity=False))
    return values if values.ndim == 3 else values[:, :, None]


TREES = [
    (DecisionTreeClassifier(max_depth=4, random_state=0), NUMBERS, THREE),
    (DecisionTreeRegressor(random_state=0), NUMBERS, TARGET),
    (RandomForestClassifier(10, random_state=0), NUMBERS, THREE),
    (RandomForestRegressor(10, random_state=0), NUMBERS, TARGET),
    (ExtraTreesClassifier(10, random_state=0), NUMBERS, TWO),
    (GradientBoostingClassifier(n_estimators=20, random_state=0), NUMBERS, TWO),
    (GradientBoostingRegressor(n_estimators=20, random_state=0), NUMBERS, TARGET),
    (HistGradientBoostingClassifier(max_iter=20, random_state=0), NUMBERS, TWO),
    (HistGradientBoostingRegressor(max_iter=20, random_state=0), NUMBERS, TARGET),
]


@pytest.mark.slow
@pytest.mark.parametrize(("estimator", "features", "target"), TREES, ids=lambda each: type(each).__name__)
def test_trees_are_explained_as_shap_explains_them(
    estimator: Any, features: pd.DataFrame, target: Any, tmp_path: Path
) -> None:
    case = Explained(estimator, features, target, tmp_path)
    assert case.found.method == "trees"
    assert case.explanations[0]["exact"] is True
    wanted = by_shap(estimator, features)
    got = case.contributions()
    assert got[..., -wanted.shape[2] :] == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert case.sums() == pytest.approx(case.output, abs=1e-6)


def reference(tree: Any, row: NDArray[np.float64], known: frozenset[int]) -> NDArray[np.float64]:
    """Return the mean value of a tree for a row of which only some columns are known (the definition, by recursion)."""

    def value(node: int) -> NDArray[np.float64]:
        if tree.children_left[node] < 0:
            return np.asarray(tree.value[node, 0] / tree.value[node, 0].sum())
        children = [int(tree.children_left[node]), int(tree.children_right[node])]
        column = int(tree.feature[node])
        if column in known:
            if np.isnan(row[column]):
                return value(children[0] if tree.missing_go_to_left[node] else children[1])
            return value(children[0] if np.float32(row[column]) <= tree.threshold[node] else children[1])
        weights = [tree.weighted_n_node_samples[child] for child in children]
        return (weights[0] * value(children[0]) + weights[1] * value(children[1])) / sum(weights)

    return value(0)


@pytest.mark.slow
def test_missing_values_are_explained_by_the_definition_of_shapley_values(tmp_path: Path) -> None:
    case = Explained(DecisionTreeClassifier(max_depth=5, random_state=0), HOLES, TWO, tmp_path)
    assert case.found.method == "trees"
    inputs = frozenset(range(5))
    factorial = np.cumprod([1, 1, 2, 3, 4, 5])
    rows = pd.DataFrame(case.explained_records)[[*HOLES]].to_numpy(dtype=float)
    assert np.isnan(rows).any()
    for row, got in zip(rows, case.contributions(), strict=True):
        for one in inputs:
            wanted = np.zeros(2)
            for size in range(5):
                weight = factorial[size] * factorial[4 - size] / factorial[5]
                for others in itertools.combinations(inputs - {one}, size):
                    known = frozenset(others)
                    gain = reference(case.estimator.tree_, row, known | {one}) - reference(
                        case.estimator.tree_, row, known
                    )
                    wanted += weight * gain
            assert got[one] == pytest.approx(wanted, abs=1e-12)


@pytest.mark.slow
def test_the_columns_of_an_input_are_added_up(tmp_path: Path) -> None:
    features = NUMBERS[["a", "b"]].assign(place=np.where(NUMBERS.c > 0, "north", "south"))
    encoder = make_column_transformer((OneHotEncoder(), ["place"]), (StandardScaler(), ["a", "b"]))
    pipeline = make_pipeline(encoder, RandomForestClassifier(10, random_state=0))
    case = Explained(pipeline, features, TWO, tmp_path)
    assert case.found.method == "trees"
    wanted = by_shap(pipeline[-1], encoder.transform(features).astype(np.float32))
    assert list(case.explanations[0]["contributions"]) == ["a", "b", "place"]
    by_input = np.stack([wanted[:, 2], wanted[:, 3], wanted[:, 0] + wanted[:, 1]], axis=1)
    assert case.contributions() == pytest.approx(by_input, rel=1e-9, abs=1e-9)


@pytest.mark.slow
def test_a_search_is_explained_by_its_best_model(tmp_path: Path) -> None:
    search = GridSearchCV(RandomForestRegressor(5, random_state=0), {"max_depth": [2, 3]}, cv=2)
    case = Explained(search, NUMBERS, TARGET, tmp_path)
    assert case.contributions() == pytest.approx(by_shap(search.best_estimator_, NUMBERS), rel=1e-9, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "target", "output"),
    [
        (LinearRegression(), TARGET, "prediction"),
        (make_pipeline(StandardScaler(), Lasso(0.1)), TARGET, "prediction"),
        (LogisticRegression(), TWO, "decision_scores"),
        (make_pipeline(StandardScaler(), LogisticRegression()), THREE, "decision_scores"),
    ],
    ids=["regression", "scaled", "two classes", "three classes"],
)
def test_linear_models_are_explained_in_closed_form(estimator: Any, target: Any, output: str, tmp_path: Path) -> None:
    case = Explained(estimator, NUMBERS, target, tmp_path)
    assert (case.found.method, case.found.output) == ("linear", output)
    last = case.estimator[-1] if hasattr(case.estimator, "steps") else case.estimator
    columns = case.estimator[0].transform(NUMBERS) if hasattr(case.estimator, "steps") else NUMBERS
    import shap

    masker = shap.maskers.Independent(np.asarray(columns), max_samples=10**6)
    wanted = np.asarray(shap.LinearExplainer(last, masker).shap_values(np.asarray(columns)[:ROWS]))
    got = case.contributions()
    assert got.reshape(wanted.shape) == pytest.approx(wanted, rel=1e-9, abs=1e-9)
    assert case.sums() == pytest.approx(case.output, abs=1e-6)


def test_a_model_of_text_is_explained_by_its_only_input(tmp_path: Path) -> None:
    texts = pd.DataFrame({"review": ["good movie", "bad film", "great good show", "awful bad thing"] * 20})
    pipeline = make_pipeline(make_column_transformer((TfidfVectorizer(), "review")), LogisticRegression())
    case = Explained(pipeline, texts, np.array([1, 0, 1, 0] * 20), tmp_path)
    assert case.found.method == "linear"
    assert case.sums() == pytest.approx(case.output, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("estimator", "target", "output"),
    [
        (KNeighborsClassifier(), TWO, "probabilities"),
        (KNeighborsRegressor(), TARGET, "prediction"),
        (make_pipeline(PCA(3), RandomForestClassifier(5, random_state=0)), TWO, "probabilities"),
    ],
    ids=["neighbors", "regressor", "columns of several inputs"],
)
def test_other_models_are_explained_from_samples_and_marked_as_approximate(
    estimator: Any, target: Any, output: str, tmp_path: Path
) -> None:
    case = Explained(estimator, NUMBERS, target, tmp_path)
    assert (case.found.method, case.found.output) == ("sampled", output)
    assert case.explanations[0]["exact"] is False
    assert case.sums() == pytest.approx(case.output, abs=1e-6)
    again = Explained(estimator, NUMBERS, target, tmp_path)
    assert again.explanations == case.explanations, "the same request has the same answer"


def test_samples_come_near_the_exact_contributions(tmp_path: Path) -> None:
    """For a sum of functions of single inputs, every order gives the same contribution."""

    class Additive:
        """A model without an exporter and without weights."""

        classes_ = None

        def fit(self, features: Any, target: Any) -> Additive:
            self.n_features_in_ = 5
            self.feature_names_in_ = np.array(list("abcde"), dtype=object)
            return self

        def predict(self, features: Any) -> Any:
            matrix = np.asarray(features)
            return matrix[:, 0] ** 2 + np.sin(matrix[:, 1]) - 3 * matrix[:, 2]

    case = Explained(Additive(), NUMBERS, TARGET, tmp_path)
    assert case.found.method == "sampled"
    got = case.contributions()[:, :, 0]
    assert got[:, 3:] == pytest.approx(0, abs=1e-12)
    assert np.ptp(got[:, 2] + 3 * NUMBERS.c.to_numpy()[:ROWS]) < 1e-12


@pytest.mark.slow
def test_a_missing_value_is_explained_against_rows_that_have_none(tmp_path: Path) -> None:
    features = pd.DataFrame({"count": RANDOM.integers(0, 9, 200), "size": NUMBERS.a})
    pipeline = make_pipeline(SimpleImputer(), KNeighborsRegressor())
    case = Explained(pipeline, features, TARGET, tmp_path)
    signature = case.signature
    inputs = tuple(replace(spec, nullable=True) for spec in signature.inputs)
    validator = Validator(replace(signature, inputs=inputs), 10)
    outputs = case.servable.run(validator.validate([{"count": None, "size": 1.5}]), ("prediction", EXPLANATION))
    [found] = outputs[EXPLANATION]
    assert found["base"] + sum(found["contributions"].values()) == pytest.approx(float(outputs["prediction"][0]))


def test_labels_without_scores_have_no_explanation(tmp_path: Path) -> None:
    class Labels(KNeighborsClassifier):
        """A classifier without probabilities."""

        predict_proba = None

    model = Labels().fit(NUMBERS, TWO)
    signature, records = infer(model, NUMBERS, Declared(None, None, (), ()), set(), None, Notes())
    assert derive_explanation(model, ArtifactServable(model, signature), signature, records, tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_importance_of_an_input_is_the_loss_of_score_without_it() -> None:
    model = LinearRegression().fit(NUMBERS[["a", "d"]], 3 * NUMBERS.a)
    signature, _ = infer(model, NUMBERS[["a", "d"]], Declared(None, None, (), ()), set(), None, Notes())
    rows = target_rows(model, signature, NUMBERS[["a", "d"]], pd.Series(3 * NUMBERS.a, name="target"))
    assert rows is not None
    found = rows.importance()
    assert (found["measure"], found["rows"]) == ("R²", len(NUMBERS))
    inputs: Any = found["inputs"]
    assert inputs["a"] > 1
    assert inputs["d"] == pytest.approx(0, abs=1e-9)
    assert rows.importance() == found, "the values are exchanged in the same way each time"


def test_the_importance_of_few_rows_is_left_out() -> None:
    few = NUMBERS[["a", "d"]][:5]
    model = LinearRegression().fit(few, few.a)
    signature, _ = infer(model, few, Declared(None, None, (), ()), set(), None, Notes())
    rows = target_rows(model, signature, few, few.a)
    assert rows is not None
    assert rows.importance() == {}
