"""Bagging and AdaBoost: several estimators of one kind, whose predictions are averaged or weighted.

Decision trees, the usual members, become one tree ensemble, because the contribution of each leaf is known. Other
members are exported one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from app.packing.exporters import tree_ensemble, trees
from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor
from app.packing.exporters.links import of, reduced, softmax, total
from app.packing.releases import other_vote, votes_by_shares

TREE_CLASSIFIERS = ("DecisionTreeClassifier", "ExtraTreeClassifier")
TREE_REGRESSORS = ("DecisionTreeRegressor", "ExtraTreeRegressor")

EPSILON = float(np.finfo(np.float64).eps)
"""`AdaBoostClassifier` takes the logarithm of probabilities of at least this."""


@predictor("BaggingClassifier")
def bagging_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`BaggingClassifier`: the mean of the members' probabilities, or the share of votes where they have none."""
    pairs = list(zip(est.estimators_, est.estimators_features_, strict=True))
    classes = len(est.classes_)
    if _are(est, TREE_CLASSIFIERS):
        members = [
            trees.fitted_tree(m, trees.probabilities_by_node(m) @ _places(m, classes), columns) for m, columns in pairs
        ]
        return _bagged(g, est, tree_ensemble.summed_rows(g, g.matrix(features), members))
    shares: list[Tensor] = []
    scores: list[Tensor] = []
    for member, columns in pairs:
        outputs = g.predict(member, g.select(features, columns))
        shares.append(_shares(g, member, outputs, classes))
        if hasattr(est, "decision_function"):
            scores.append(of(outputs, "decision_scores", member))
    bagged = _bagged(g, est, total(g, shares))
    if len({score.width for score in scores}) == 1:
        bagged["decision_scores"] = trees.mean(g, total(g, scores), est.n_estimators)
    return bagged


@predictor("BaggingRegressor")
def bagging_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`BaggingRegressor`: the mean of the members' predictions."""
    pairs = list(zip(est.estimators_, est.estimators_features_, strict=True))
    if _are(est, TREE_REGRESSORS):
        members = [trees.fitted_tree(member, member.tree_.value[:, :, 0], columns) for member, columns in pairs]
        values = tree_ensemble.summed_rows(g, g.matrix(features), members)
        values = g.pick(values, 0) if values.width == 1 else values
    else:
        answers = [of(g.predict(m, g.select(features, columns)), "prediction", m) for m, columns in pairs]
        values = total(g, [g.cast(answer, "float64") for answer in answers])
    return {"prediction": trees.mean(g, values, est.n_estimators)}


@predictor("AdaBoostClassifier")
def adaboost_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`AdaBoostClassifier`: the weighted votes of the members; a vote for one class counts against the others."""
    classes = est.n_classes_
    if classes == 1:
        raise NotExportable("it knows one class only")
    by_shares = votes_by_shares(est)
    weights = est.estimator_weights_[: len(est.estimators_)]
    votes = [_halved(np.where(np.eye(classes) == 1, weight, other_vote(est) * weight)) for weight in weights]
    if _are(est, TREE_CLASSIFIERS):
        ballots = [
            _vote_of(trees.probabilities_by_node(member)) if by_shares else vote[_class_by_node(member, est.classes_)]
            for vote, member in zip(votes, est.estimators_, strict=True)
        ]
        members = [trees.fitted_tree(m, ballot) for m, ballot in zip(est.estimators_, ballots, strict=True)]
        summed = tree_ensemble.summed_rows(g, g.matrix(features), members)
    else:
        named = "probabilities" if by_shares else "prediction"
        answers = [of(g.predict(member, features), named, member) for member in est.estimators_]
        summed = total(
            g,
            [
                _logs(g, answer) if by_shares else _ballot(g, answer, est.classes_, vote)
                for answer, vote in zip(answers, votes, strict=True)
            ],
        )
    scores = summed / est.estimator_weights_.sum()
    if classes > 2:
        shares = softmax(g, scores / (classes - 1.0))
        return {
            "prediction": g.labels(est.classes_, g.argmax(scores)),
            "probabilities": shares,
            "decision_scores": scores,
        }
    score = g.pick(scores + scores, 0)
    shares = softmax(g, g.concat([-scores, scores]))
    labels = g.labels(est.classes_, g.cast(score > 0.0, "int64"))
    return {"prediction": labels, "probabilities": shares, "decision_scores": score}


@predictor("AdaBoostRegressor")
def adaboost_regressor(g: Graph, est: Any, features: Features) -> Outputs:
    """`AdaBoostRegressor`: the weighted median of the members' predictions, which is the prediction of one of them."""
    count = len(est.estimators_)
    if _are(est, TREE_REGRESSORS):
        members = [trees.fitted_tree(member, member.tree_.value[:, 0, 0]) for member in est.estimators_]
        answers = tree_ensemble.each(g, g.matrix(features), members)
    else:
        outputs = [of(g.predict(member, features), "prediction", member) for member in est.estimators_]
        answers = g.concat([g.column(g.cast(output, "float64")) for output in outputs])
    kinds: list[tuple[str, int | None]] = [("float64", count), ("int64", count)]
    ordered, order = g.several("TopK", [answers, g.constant([count], "int64")], kinds, axis=1, largest=0, sorted=1)
    weights = g.take(est.estimator_weights_[:count], order)
    sums = g.node("CumSum", [weights, g.constant(1, "int64")], "float64", count)
    reached = g.cast(sums >= g.select((sums,), [count - 1])[0] * 0.5, "int64")
    median = g.node("GatherElements", [ordered, g.column(g.argmax(reached))], "float64", 1, axis=1)
    return {"prediction": g.pick(median, 0)}


def _are(est: Any, names: tuple[str, ...]) -> bool:
    """Whether all members are of these classes of scikit-learn, not of classes derived from them."""
    kinds = {type(member) for member in est.estimators_}
    return all(kind.__name__ in names and kind.__module__ == "sklearn.tree._classes" for kind in kinds)


def _bagged(g: Graph, est: Any, shares: Tensor) -> Outputs:
    probabilities = trees.mean(g, shares, est.n_estimators)
    return {"prediction": g.labels(est.classes_, g.argmax(probabilities)), "probabilities": probabilities}


def _places(member: Any, classes: int) -> NDArray[np.float64]:
    """Return the matrix that maps the classes of a member, which may be some of them only, to all classes.

    Members are trained on the numbers of the classes.
    """
    known: NDArray[np.int64] = np.asarray(member.classes_).astype(np.int64)
    return np.eye(classes)[known]


def _shares(g: Graph, member: Any, outputs: Outputs, classes: int) -> Tensor:
    """Return the probabilities, or the vote, of a member, shape (rows, classes)."""
    if not hasattr(member, "predict_proba"):
        return g.take(np.eye(classes), g.cast(of(outputs, "prediction", member), "int64"))
    shares = g.cast(of(outputs, "probabilities", member), "float64")
    if len(member.classes_) == classes:
        return shares
    return shares @ _places(member, classes)


def _class_by_node(member: Any, classes: NDArray[Any]) -> NDArray[np.int64]:
    """Return the number of the class that a tree predicts at each of its nodes."""
    best = trees.probabilities_by_node(member).argmax(axis=1)
    numbers: NDArray[np.int64] = np.searchsorted(classes, member.classes_)
    found: NDArray[np.int64] = numbers[best]
    return found


def _vote_of(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """`_samme_proba`: the logarithms of the probabilities, less their mean; (nodes, classes)."""
    logs = np.log(np.maximum(shares, EPSILON))
    classes = shares.shape[1]
    return _halved((classes - 1) * (logs - (1.0 / classes) * logs.sum(axis=1, keepdims=True)))


def _logs(g: Graph, shares: Tensor) -> Tensor:
    """`_vote_of` as graph nodes with the same rounding, because members with probabilities of 0 or 1 often tie."""
    classes = shares.width or 0
    logs = shares.maximum(EPSILON).log()
    votes = logs - reduced(g, "ReduceSum", logs) * (1.0 / classes)
    if classes > 2:
        return votes * (classes - 1.0)
    return votes @ [[-0.5], [0.5]]


def _halved(votes: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keep half the difference of the votes for two classes: the other column would be its negative."""
    return (votes[:, 1:] - votes[:, :1]) / 2 if votes.shape[1] == 2 else votes


def _ballot(g: Graph, answer: Tensor, classes: NDArray[Any], vote: NDArray[np.float64]) -> Tensor:
    """Return what the label of a member adds to the scores; `vote` has a row for each label."""
    return g.take(vote, g.argmax(g.cast(g.column(answer).equal(classes), "int64")))
