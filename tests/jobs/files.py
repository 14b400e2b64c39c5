"""Files to score, and the answers of the estimators for them."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd

from app.jobs.formats import compress, decompress
from app.jobs.job import Scored, ScoringJob
from app.settings import Settings
from tests.end_to_end.process import EXAMPLE_MODELS, ROOT

SETTINGS = Settings(models_dir=EXAMPLE_MODELS)


@cache
def estimator(model: str) -> Any:
    """Return the artifact of an example model, as it was saved. Tests share it."""
    return joblib.load(EXAMPLE_MODELS / model / "1" / "model.joblib")


def penguins(rows: int) -> pd.DataFrame:
    """Return penguins with an id: numbers and words, some missing."""
    sys.path.insert(0, str(ROOT / "examples"))
    try:
        train = importlib.import_module("train_penguins")
    finally:
        sys.path.remove(str(ROOT / "examples"))
    table = train.load().drop(columns=train.TARGET).sample(rows, replace=True, random_state=0).reset_index(drop=True)
    table.insert(0, "id", np.arange(rows))
    return table


def write(table: pd.DataFrame, path: Path) -> Path:
    """Write a table in the format of the file's name."""
    name = path.name
    if name.endswith(".zst"):  # pandas needs another library for it
        plain = write(table, path.with_suffix(""))
        path.write_bytes(compress(plain.read_bytes(), "zstd"))
        plain.unlink()
    elif ".csv" in name:
        table.to_csv(path, index=False)
    elif ".ndjson" in name or ".jsonl" in name:
        table.to_json(path, orient="records", lines=True, double_precision=15)
    elif name.endswith(".parquet"):
        table.to_parquet(path, index=False)
    elif name.endswith(".arrows"):
        import pyarrow as pa

        whole = pa.Table.from_pandas(table, preserve_index=False)
        with pa.ipc.new_stream(path, whole.schema) as writer:
            writer.write_table(whole, max_chunksize=100)
    else:
        table.to_feather(path)
    return path


def read(path: Path) -> pd.DataFrame:
    """Read a file, or the files of a folder, in the order of their names."""
    if path.is_dir():
        return pd.concat([read(each) for each in sorted(path.iterdir())], ignore_index=True)
    name = path.name
    if name.endswith(".zst"):
        with path.open("rb") as stream:
            path.with_suffix("").write_bytes(decompress(stream, "zstd").read())
        return read(path.with_suffix(""))
    if ".csv" in name:
        return pd.read_csv(path)
    if ".ndjson" in name:
        return pd.read_json(path, lines=True)
    if name.endswith(".parquet"):
        return pd.read_parquet(path)
    if name.endswith(".arrows"):
        import pyarrow as pa

        with pa.ipc.open_stream(path.read_bytes()) as reader:
            return reader.read_pandas()
    return pd.read_feather(path)


def score(model: str, source: object, output: object, **options: Any) -> Scored:
    """Score in this process."""
    settings = options.pop("settings", SETTINGS)
    return ScoringJob(model, None, str(source), str(output), settings=settings, processes=1, **options).run()


def answers_of(estimator: Any, features: Any) -> pd.DataFrame:
    """Return the estimator's own predictions, in the columns of a scored file."""
    answers = pd.DataFrame({"prediction": estimator.predict(features)})
    if answers["prediction"].dtype.kind == "f":
        return answers
    names = [f"probability_{label}" for label in estimator.classes_]
    return answers.join(pd.DataFrame(estimator.predict_proba(features), columns=names))


def same(answers: pd.DataFrame, scored: pd.DataFrame) -> None:
    """Compare a scored file with the answers of the estimator."""
    prediction, *probabilities = answers.columns
    if answers[prediction].dtype.kind == "f":
        np.testing.assert_allclose(scored[prediction], answers[prediction], rtol=1e-9, atol=1e-12)
    else:
        assert scored[prediction].tolist() == answers[prediction].tolist()
    np.testing.assert_allclose(scored[probabilities], answers[probabilities], rtol=1e-9, atol=1e-12)


def same_as(estimator: Any, features: Any, scored: pd.DataFrame) -> None:
    """Compare a scored file with the estimator's own predictions."""
    same(answers_of(estimator, features), scored)
