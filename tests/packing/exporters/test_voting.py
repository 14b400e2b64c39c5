import numpy as np
import pytest
from sklearn.datasets import load_iris, make_regression
from sklearn.ensemble import StackingClassifier, StackingRegressor, VotingClassifier, VotingRegressor
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge, RidgeClassifier
from sklearn.multioutput import MultiOutputClassifier
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor

from app.packing.exporters.graph import Graph, NotExportable
from tests.packing.exporters.batches import differences_in_batches
from tests.packing.exporters.equal import differences

X, SPECIES = (part[::3] for part in load_iris(return_X_y=True))
NAMES = np.array(["setosa", "versicolor", "virginica"])[SPECIES]
NUMBERS, TARGET = make_regression(60, 4, noise=5.0, random_state=0)
EXTREMES = np.array([0.0, -0.0, 1e-300, -1e-9, 1.0, 2.5, 1e6, -1e6, 1e12])[:, None] * [1.0, -1.0, 0.5, 3.0]
STRESS = np.concatenate([X, EXTREMES])

LOGISTIC = ("logistic", LogisticRegression(C=0.1, tol=0.01))
TREE = ("tree", DecisionTreeClassifier(max_depth=3, random_state=0))
DEEP = ("deep", DecisionTreeClassifier(random_state=1))
BAYES = ("bayes", GaussianNB())
SCORING = ("scoring", RidgeClassifier())
LINE = ("line", LinearRegression())
STEPS = ("steps", DecisionTreeRegressor(max_depth=3, random_state=0))

VOTES = [
    VotingClassifier([LOGISTIC, TREE, BAYES]),
    VotingClassifier([LOGISTIC, TREE, SCORING], weights=[0.1, 0.2, 0.3]),
    VotingClassifier([LOGISTIC, TREE, BAYES], voting="soft"),
    VotingClassifier([LOGISTIC, TREE], voting="soft", weights=[2, 0.5]),
    VotingClassifier([LOGISTIC, ("gone", "drop"), TREE], voting="soft", weights=[1, 7, 3]),
    VotingClassifier([TREE, DEEP], voting="soft"),
]
STACKS = [
    StackingClassifier([LOGISTIC, TREE], cv=2),
    StackingClassifier([LOGISTIC, SCORING], cv=2, passthrough=True),
    StackingClassifier([LOGISTIC, TREE], DecisionTreeClassifier(max_depth=4, random_state=0), cv=2),
    StackingClassifier([LOGISTIC, TREE], cv=2, stack_method="predict"),
    StackingClassifier([LOGISTIC, SCORING], RidgeClassifier(), cv=2, stack_method="decision_function"),
    StackingClassifier([LOGISTIC, ("gone", "drop")], cv=2),
]


@pytest.mark.parametrize(
    "labels", [NAMES, SPECIES, NAMES == "virginica", SPECIES + 0.5], ids=["str", "int", "bool", "f"]
)
@pytest.mark.parametrize("model", VOTES[1:4], ids=str)
def test_labels_of_every_type_equal_their_graph(model, labels):
    if labels.dtype == float:
        labels = labels - 0.5
    assert differences_in_batches(model.fit(X, labels), STRESS) == []


@pytest.mark.parametrize("model", VOTES + STACKS, ids=str)
def test_a_vote_or_a_stack_equals_its_graph(model):
    assert differences_in_batches(model.fit(X, NAMES), STRESS) == []


@pytest.mark.parametrize("model", STACKS[:4], ids=str)
def test_a_stack_of_two_classes_leaves_out_the_first_probability(model):
    assert differences_in_batches(model.fit(X, SPECIES == 1), STRESS) == []


def test_many_voters_for_many_classes_tie_as_numpy_does():
    rng = np.random.default_rng(0)
    rows, labels = rng.integers(0, 3, (100, 3)).astype(float), rng.integers(0, 9, 100)
    trees = [(str(n), DecisionTreeClassifier(max_features=1, max_depth=n % 4 + 1, random_state=n)) for n in range(9)]
    for options in ({}, {"weights": [0.1] * 9}, {"voting": "soft"}, {"voting": "soft", "weights": [0.1, 0.2, 0.3] * 3}):
        assert differences(VotingClassifier(trees, **options).fit(rows, labels), rows) == []


def test_a_stack_of_prefit_models_equals_its_graph():
    members = [("logistic", LogisticRegression(C=0.1, tol=0.01).fit(X, NAMES)), ("bayes", GaussianNB().fit(X, NAMES))]
    assert differences(StackingClassifier(members, cv="prefit").fit(X, NAMES), STRESS) == []


def test_a_stack_of_several_labels_equals_its_graph():
    labels = np.column_stack([SPECIES == 1, X[:, 0] > 5.8]).astype(int)
    members = [TREE, ("side_by_side", MultiOutputClassifier(LogisticRegression(C=0.1, tol=0.01)))]
    model = StackingClassifier(members, MultiOutputClassifier(LogisticRegression(C=0.1, tol=0.01)), cv=2)
    assert differences(model.fit(X, labels), STRESS) == []


@pytest.mark.parametrize(
    "model",
    [
        VotingRegressor([LINE, STEPS]),
        VotingRegressor([LINE, STEPS, ("gone", "drop"), ("ridge", Ridge())], weights=[1, 2.5, 9, 0.5]),
        StackingRegressor([LINE, STEPS], cv=2),
        StackingRegressor([LINE, STEPS], DecisionTreeRegressor(max_depth=5, random_state=0), cv=2, passthrough=True),
    ],
    ids=str,
)
def test_a_regressor_of_regressors_equals_its_graph(model):
    assert differences_in_batches(model.fit(NUMBERS, TARGET), np.concatenate([NUMBERS, EXTREMES])) == []


def test_negative_weights_of_votes_have_no_graph():
    model = VotingClassifier([LOGISTIC, TREE], weights=[1, -1]).fit(X, SPECIES)
    with pytest.raises(NotExportable, match=r"^it counts votes with negative weights$"):
        differences(model, X)


def test_the_outputs_of_the_members_as_a_step_equal_their_graph():
    for step in (VotingClassifier([LOGISTIC, TREE], voting="soft"), StackingClassifier([BAYES, TREE], cv=2)):
        model = make_pipeline(step, GaussianNB()).fit(X, NAMES)
        assert differences_in_batches(model, STRESS) == []
    deep = VotingClassifier([LOGISTIC, TREE], voting="soft", flatten_transform=False).fit(X, NAMES)
    g = Graph()
    with pytest.raises(NotExportable, match=r"^the graph of the VotingClassifier in it does not give transformed$"):
        g.transform(deep, (g.input("columns", "float64", 4),))
