"""Train the models that all sides serve, and write their requests with the notebook's predictions.

    python -m benchmarks.models OUT_DIR

For each model OUT_DIR gets `NAME.joblib` and `NAME.json`: the requests (each a list of rows) with the estimator's own
predictions. Seeds are fixed: the same libraries make the same files.
"""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.ensemble import ExtraTreesRegressor, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROOT = Path(__file__).resolve().parent.parent
SINGLE_QUESTIONS = 32
TABLE_QUESTIONS = 4
TABLE_ROWS = 1000
BIG_ROWS, BIG_FEATURES, BIG_TREES = 40_000, 10, 57  # about 320 MB of nodes

Model = tuple[Any, list[Any]]
"""A fitted estimator, and the rows of each request: lists or DataFrames."""


def singles(features: NDArray[np.float64]) -> list[NDArray[np.float64]]:
    """Return single rows for requests, spread over the whole table."""
    return [features[[row]] for row in np.linspace(0, len(features) - 1, SINGLE_QUESTIONS).astype(int)]


def linear() -> Model:
    """Return the model of every tutorial: two numbers, three classes."""
    features, species = load_iris(return_X_y=True)
    return LogisticRegression(max_iter=500).fit(features[:, :2], species), singles(features[:, :2])


def forest() -> Model:
    """Return a forest of 100 trees: 30 numbers, two classes."""
    features, diagnosis = load_breast_cancer(return_X_y=True)
    return RandomForestClassifier(n_estimators=100, random_state=0).fit(features, diagnosis), singles(features)


def table() -> Model:
    """Return the same forest with requests of 1,000 rows: real patients, each measurement up to 2 % off."""
    features, _ = load_breast_cancer(return_X_y=True)
    random = np.random.default_rng(0)
    questions = []
    for _ in range(TABLE_QUESTIONS):
        rows = features[random.integers(len(features), size=TABLE_ROWS)]
        questions.append(np.round(rows * random.uniform(0.98, 1.02, size=rows.shape), 4))
    return forest()[0], questions


def digits() -> Model:
    """Return a model of 64 pixels and ten classes, fitted on an array."""
    images, digit = load_digits(return_X_y=True)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.05, max_iter=500))
    return model.fit(images, digit), singles(images)


def penguins() -> Model:
    """Return the example's pipeline: numbers and text, some missing (two values in every fourth request)."""
    sys.path.insert(0, str(ROOT / "examples"))
    train_penguins = importlib.import_module("train_penguins")
    features = train_penguins.load()
    species = features.pop(train_penguins.TARGET)
    model = train_penguins.build().fit(features, species)
    questions = []
    for position, row in enumerate(np.linspace(0, len(features) - 1, SINGLE_QUESTIONS).astype(int)):
        question = features.iloc[[row]].reset_index(drop=True)
        if position % 4 == 0:
            question[["bill_depth_mm", "sex"]] = np.nan
        questions.append(question)
    return model, questions


def knn() -> Model:
    """Return a model without a graph: one row costs it nearly as much as 32."""
    features, diagnosis = load_breast_cancer(return_X_y=True)
    return KNeighborsClassifier().fit(features, diagnosis), singles(features)


def big() -> Model:
    """Return a forest of about 320 MB."""
    random = np.random.default_rng(0)
    features = random.normal(size=(BIG_ROWS, BIG_FEATURES)).round(4)
    response = features @ random.normal(size=BIG_FEATURES) + random.normal(size=BIG_ROWS)
    model = ExtraTreesRegressor(n_estimators=BIG_TREES, max_features=3, random_state=0, n_jobs=-1)
    model.fit(features, response)
    model.n_jobs = None  # one thread, as in production
    return model, singles(features)


MODELS: dict[str, Callable[[], Model]] = {
    "linear": linear,
    "forest": forest,
    "table": table,
    "digits": digits,
    "penguins": penguins,
    "knn": knn,
    "big": big,
}


def json_rows(question: Any) -> list[Any]:
    """Return the rows of a request as JSON values: records of a DataFrame (missing is null), rows of an array."""
    if isinstance(question, pd.DataFrame):
        records = json.loads(question.to_json(orient="records", double_precision=15))
        return list(records)
    rows: list[Any] = question.tolist()
    return rows


def main(out_dir: Path, only: list[str]) -> None:
    out_dir.mkdir(parents=True, exist_ok=True)
    for name in only or MODELS:
        model, questions = MODELS[name]()
        rows = [json_rows(question) for question in questions]
        predictions = [model.predict(question).tolist() for question in questions]
        joblib.dump(model, out_dir / f"{name}.joblib")
        written = json.dumps({"questions": rows, "predictions": predictions}, allow_nan=False)
        (out_dir / f"{name}.json").write_text(written)
        print(f"  {name}: {(out_dir / f'{name}.joblib').stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
