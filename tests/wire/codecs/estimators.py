"""Models that together take every kind of input: a frame, a matrix that is an array and an image, whole records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
from flask import Flask
from sklearn.compose import make_column_transformer
from sklearn.feature_extraction import DictVectorizer
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from app import create_app
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.settings import Settings

ROWS = 48
WEATHER = [{"city": "Rome", "sun": 9.0}, {"city": "Oslo"}, {"city": "Rome", "wind": 3.0}, {"sun": 2.0, "wind": 1.0}]
GRID = [
    {"name": "array", "kind": "array", "shape": [4, 4], "dtype": "float64"},
    {"name": "image", "kind": "image", "mode": "L", "size": [4, 4]},
]


def frame() -> pd.DataFrame:
    """Return a frame with a column of each kind."""
    noise = np.random.default_rng(26)
    return pd.DataFrame(
        {
            "number": noise.normal(size=ROWS),
            "integer": noise.integers(0, 100, ROWS),
            "whole": pd.array(noise.integers(0, 100, ROWS), dtype="Int64"),
            "boolean": noise.integers(0, 2, ROWS) == 1,
            "category": noise.choice(["red", "green"], ROWS),
            "text": [f"words {number}" for number in range(ROWS)],
            "timestamp": pd.date_range("2024-01-01", periods=ROWS, freq="7h3min1s", unit="ns"),
            "size.width": noise.normal(size=ROWS),
        }
    )


def colour(name: str | float) -> float:
    """Return a colour's number; fail on unknown colours, as an encoder may."""
    return {"red": 1.0, "green": 2.0}[name] if isinstance(name, str) else -1.0


def seen(columns: pd.DataFrame) -> pd.DataFrame:
    """Return numbers of each column that keep the last digit and nanosecond; -1 for missing values."""
    when = columns["timestamp"]
    return (
        pd.DataFrame(
            {
                "number": columns["number"],
                "integer": columns["integer"],
                "whole": (columns["whole"] % 10).astype(float),
                "boolean": columns["boolean"].map({True: 1.0, False: 0.0}),
                "category": columns["category"].map(colour),
                "text": columns["text"].map(lambda text: float(sum(map(ord, text))) if isinstance(text, str) else None),
                "seconds": when.dt.hour * 3600 + when.dt.minute * 60 + when.dt.second,
                "nanoseconds": when.dt.nanosecond,
                "size.width": columns["size.width"],
            }
        )
        .astype(float)
        .fillna(-1.0)
    )


def served(folder: Path) -> Flask:
    """Return the service of the models `frame`, `grid`, `weather` and `drops`."""
    noise = np.random.default_rng(27)
    rows, matrix = frame(), noise.normal(size=(ROWS, 32))
    rows.to_parquet(folder / "frame.parquet")
    (folder / "grid.json").write_text(json.dumps(GRID))
    (folder / "weather.json").write_text(json.dumps(WEATHER))
    models: dict[str, tuple[Any, dict[str, str]]] = {
        "frame": (
            make_pipeline(FunctionTransformer(seen), LinearRegression()).fit(rows, noise.normal(size=ROWS)),
            {"sample": str(folder / "frame.parquet")},
        ),
        "grid": (LinearRegression().fit(matrix, noise.normal(size=ROWS)), {"inputs": str(folder / "grid.json")}),
        "weather": (
            make_pipeline(DictVectorizer(), LinearRegression()).fit(WEATHER, [1.0, 2.0, 3.0, 4.0]),
            {"sample": str(folder / "weather.json")},
        ),
        "drops": (
            make_pipeline(make_column_transformer(("passthrough", ["number"])), LinearRegression()).fit(
                rows[["number", "text"]], noise.normal(size=ROWS)
            ),
            {},
        ),
    }
    for name, (model, options) in models.items():
        joblib.dump(model, folder / f"{name}.joblib")
        pack(PackRequest(str(folder / f"{name}.joblib"), name, str(folder / "models"), **options))
    return create_app(Settings(models_dir=folder / "models", default_model="frame"))
