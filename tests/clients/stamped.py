"""A model with a timestamp; either of its two inputs may be missing."""

from __future__ import annotations

from pathlib import Path

import joblib
import pandas as pd
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from app.packing.spawn import PackRequest
from app.packing.write import pack


def visits() -> pd.DataFrame:
    """Return times and numbers of visitors; one of each is missing."""
    times = pd.Series(pd.date_range("2024-03-01T08:15", periods=24, freq="7h"))
    people = pd.Series(range(24), dtype=float)
    return pd.DataFrame({"when": times.where(times.index != 5), "people": people.where(people.index != 6)})


def seen(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers that the model computes with; -1 for missing values."""
    return pd.DataFrame(
        {"hour": frame["when"].dt.hour, "minute": frame["when"].dt.minute, "people": frame["people"]}
    ).fillna(-1.0)


def packed(folder: Path) -> Path:
    """Return a repository with this model, which adds up 10,000 for an hour, 100 for a minute, and 1 for a person."""
    frame = visits()
    model = make_pipeline(FunctionTransformer(seen), LinearRegression()).fit(
        frame, seen(frame) @ pd.Series({"hour": 10_000.0, "minute": 100.0, "people": 1.0})
    )
    joblib.dump(model, folder / "visits.joblib")
    frame.to_parquet(folder / "visits.parquet")
    pack(PackRequest(str(folder / "visits.joblib"), "visits", str(folder / "models"), str(folder / "visits.parquet")))
    return folder / "models"
