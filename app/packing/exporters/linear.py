"""Linear classifiers: one score for each class, `x @ coef_.T + intercept_`."""

from __future__ import annotations

from typing import Any

import numpy as np

from app.packing.exporters.graph import Features, Graph, NotExportable, Outputs, Tensor, predictor, transformer
from app.packing.exporters.links import affine, classified, expit, mirrored, normalized, signs, softmax
from app.packing.releases import is_one_vs_rest, share_of_nothing


def _scores(g: Graph, est: Any, features: Features) -> Tensor:
    """`LinearClassifierMixin.decision_function`; for two classes both signs of it, shape (rows, 2)."""
    if len(est.classes_) == 2:
        return affine(g, features, mirrored(np.atleast_2d(est.coef_)), mirrored(np.broadcast_to(est.intercept_, 1)))
    return affine(g, features, est.coef_, est.intercept_)


@predictor("LinearSVC", "PassiveAggressiveClassifier", "Perceptron")
def linear_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """Export a classifier without probabilities: the class of the greatest score."""
    return classified(g, est.classes_, _scores(g, est, features))


@predictor("LogisticRegression", "LogisticRegressionCV")
def logistic_regression(g: Graph, est: Any, features: Features) -> Outputs:
    """`LogisticRegression.predict_proba`: sigmoids where it is one class against the rest, else softmax."""
    scores = _scores(g, est, features)
    of_zeros = share_of_nothing(len(est.classes_))
    shares = _sigmoids(g, est, scores, of_zeros) if is_one_vs_rest(est) else softmax(g, scores)
    return classified(g, est.classes_, scores) | {"probabilities": shares}


@predictor("SGDClassifier")
def sgd_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`SGDClassifier`: probabilities with the losses log_loss and modified_huber."""
    scores = _scores(g, est, features)
    outputs = classified(g, est.classes_, scores)
    if est.loss in ("log", "log_loss"):
        outputs["probabilities"] = _sigmoids(g, est, scores)
    elif est.loss == "modified_huber":
        halved = (scores.clip(-1.0, 1.0) + 1.0) / 2.0
        outputs["probabilities"] = halved if len(est.classes_) == 2 else normalized(g, halved)
    return outputs


@predictor("RidgeClassifier", "RidgeClassifierCV")
def ridge_classifier(g: Graph, est: Any, features: Features) -> Outputs:
    """`RidgeClassifier`: several labels at once are those whose score is above 0."""
    if not est._label_binarizer.y_type_.startswith("multilabel"):
        return linear_classifier(g, est, features)
    scores = affine(g, features, est.coef_, est.intercept_)
    return {"prediction": g.cast(scores > 0.0, "int64"), "decision_scores": scores}


@predictor("LinearDiscriminantAnalysis")
def linear_discriminant(g: Graph, est: Any, features: Features) -> Outputs:
    """`LinearDiscriminantAnalysis`: linear scores; `transform` projects, except for the solver lsqr."""
    outputs = logistic_regression(g, est, features)
    if est.solver != "lsqr":
        outputs["transformed"] = _projected(g, est, features)
    return outputs


@transformer("LinearDiscriminantAnalysis")
def discriminant_transform(g: Graph, est: Any, features: Features) -> Features:
    """`LinearDiscriminantAnalysis.transform`."""
    if est.solver == "lsqr":
        raise NotExportable("its solver lsqr has no transform")
    return (_projected(g, est, features),)


@predictor("SGDOneClassSVM")
def sgd_one_class(g: Graph, est: Any, features: Features) -> Outputs:
    """`SGDOneClassSVM`: an inlier where `x @ coef_ - offset_` is at least 0."""
    score = g.pick(affine(g, features, np.atleast_2d(est.coef_), -est.offset_), 0)
    return signs(g, score >= 0.0) | {"decision_scores": score}


def _sigmoids(g: Graph, est: Any, scores: Tensor, of_zeros: float | None = None) -> Tensor:
    """Return the sigmoids of both signs of a score, or the normalized sigmoids of all classes.

    For two classes the operator Sigmoid is precise enough, 1e-16 near 0, because nothing is divided by it.
    """
    if len(est.classes_) == 2:
        return scores.sigmoid()
    return normalized(g, expit(g, scores), of_zeros)


def _projected(g: Graph, est: Any, features: Features) -> Tensor:
    x = g.matrix(features)
    scalings = np.asarray(est.scalings_)[:, : est._max_components]
    if est.solver == "svd":
        x = x - est.xbar_
    return x @ scalings
