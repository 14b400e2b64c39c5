"""Small tables to fit on: features and a target. Some are real, the others are made up with fixed seeds."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.datasets import load_diabetes, load_iris

ROWS = 150
HELD_OUT = 24
PENGUINS_CSV = Path(__file__).parents[2] / "examples" / "penguins.csv"


@dataclass(frozen=True, slots=True)
class Table:
    """Features and target of at most ROWS rows, shuffled; the last HELD_OUT rows are kept from the estimator."""

    features: Any
    target: Any

    @property
    def seen(self) -> tuple[Any, Any]:
        """Features and target to fit on."""
        return self.features[:-HELD_OUT], self.target[:-HELD_OUT]

    @property
    def held_out(self) -> Any:
        """Features to predict."""
        return self.features[-HELD_OUT:]

    def with_target(self, target: Any) -> "Table":
        """Return the same features with another target."""
        return replace(self, target=target)

    def as_matrix(self) -> "Table":
        """Return the same table as plain arrays, without names."""
        return Table(np.asarray(self.features), np.asarray(self.target))


@cache
def iris() -> Table:
    """Four lengths in cm, three species as words."""
    bunch = load_iris(as_frame=True)
    frame = bunch.frame.sample(frac=1, random_state=0).reset_index(drop=True)
    species = np.asarray(bunch.target_names, dtype=object)[frame.pop("target").to_numpy()]
    return Table(frame, species)


@cache
def iris_numbered() -> Table:
    """Iris with the species as 0, 1, 2."""
    return iris().with_target(pd.factorize(iris().target, sort=True)[0])


@cache
def iris_binary() -> Table:
    """Iris with one question: virginica or not."""
    return iris().with_target(iris().target == "virginica")


@cache
def iris_labels() -> Table:
    """Iris with two yes/no labels for each flower: virginica, and long petals."""
    frame = iris().features
    return iris().with_target(
        np.column_stack([iris().target == "virginica", frame["petal length (cm)"] > 4]).astype(int)
    )


@cache
def iris_half_labelled() -> Table:
    """Iris where every third species is unknown (-1), for semi-supervised classifiers."""
    known = iris_numbered().target.copy()
    known[::3] = -1
    return iris().with_target(known)


@cache
def iris_outliers() -> Table:
    """Iris with two flowers to predict that are far too large."""
    frame = iris().features.copy()
    frame.iloc[[-1, -HELD_OUT]] *= 3
    return Table(frame, iris().target)


@cache
def diabetes() -> Table:
    """Ten measurements, scaled as in scikit-learn, and a positive number to predict."""
    frame = load_diabetes(as_frame=True).frame.sample(ROWS, random_state=0).reset_index(drop=True)
    target = frame.pop("target").to_numpy()
    return Table(frame, target)


@cache
def diabetes_outputs() -> Table:
    """Diabetes with three numbers to predict for each patient."""
    frame, target = diabetes().features, diabetes().target
    return diabetes().with_target(np.column_stack([target, 100 * frame["bmi"] + target / 10, 5 - 20 * frame["s5"]]))


@cache
def diabetes_one_column() -> Table:
    """Single feature: one-dimensional to fit, as IsotonicRegression requires, two-dimensional to predict."""
    return Table(diabetes().features[["bmi"]].to_numpy(), diabetes().target)


@cache
def counts() -> Table:
    """Word counts of two kinds of document: small non-negative integers."""
    rng = np.random.default_rng(0)
    sport = rng.integers(0, 2, ROWS)
    rates = np.where(sport[:, None] == 1, [4.0, 0.5, 2.0, 1.0, 0.2], [0.5, 3.0, 2.0, 0.2, 1.0])
    frame = pd.DataFrame(rng.poisson(rates), columns=["goal", "vote", "the", "ball", "law"])
    return Table(frame, np.where(sport == 1, "sport", "politics").astype(object))


@cache
def codes() -> Table:
    """Integer codes 0 to 3 of three questions, and a class that depends on them."""
    rng = np.random.default_rng(1)
    answers = rng.integers(0, 4, (ROWS, 3))
    return Table(pd.DataFrame(answers, columns=["colour", "shape", "size"]), (answers.sum(axis=1) > 4).astype(int))


@cache
def penguins() -> Table:
    """Palmer penguins: numbers, words, missing values; the species as the target."""
    frame = pd.read_csv(PENGUINS_CSV).sample(ROWS, random_state=1).reset_index(drop=True)
    frame.loc[[ROWS - 1, ROWS - 5, 0], "sex"] = np.nan
    frame.loc[[ROWS - 2, ROWS - 6, 1], "bill_length_mm"] = np.nan
    species = frame.pop("species").to_numpy(dtype=object)
    return Table(frame, species)


@cache
def penguins_complete() -> Table:
    """Penguins without missing values; the body mass in g as the target."""
    frame = pd.read_csv(PENGUINS_CSV).dropna().sample(ROWS, random_state=2).reset_index(drop=True)
    mass_g = frame.pop("body_mass_g").to_numpy(dtype=float)
    return Table(frame, mass_g)


@cache
def reviews() -> Table:
    """One-line reviews in a few languages and scripts, and whether the guest was happy."""
    rng = np.random.default_rng(2)
    good = ["wonderful", "très bon", "schön", "loved it", "おいしい", "5 stars", "Café!"]
    bad = ["terrible", "mauvais", "häßlich", "never again", "まずい", "1 star", "cold soup"]
    neutral = ["the room", "the staff,", 'a "view"', "food\tand wine", "\n", "📷", "it's"]
    happy = rng.integers(0, 2, ROWS).astype(bool)
    texts = [" ".join([*rng.choice(neutral, 3), *rng.choice(good if yes else bad, 2)]) for yes in happy]
    return Table(texts, np.where(happy, "happy", "unhappy").astype(object))
