"""Servers that several tests share, and a repository with versions in different states."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import joblib
import pytest
from sklearn.datasets import load_iris
from sklearn.ensemble import HistGradientBoostingClassifier

from app.packing.spawn import PackRequest
from app.packing.write import pack
from tests.end_to_end.process import EXAMPLE_MODELS, Server, serving

BODY_LIMIT_BYTES = 1_000_000


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Serve the committed models with two workers, as a platform does."""
    folder = tmp_path_factory.mktemp("server")
    with serving(folder, WEB_CONCURRENCY=2, RETORT_BODY_LIMIT_BYTES=BODY_LIMIT_BYTES) as started:
        yield started


@pytest.fixture(scope="session")
def boosted() -> HistGradientBoostingClassifier:
    """Return an estimator that hangs in a child process if its parent has run it before the fork."""
    return HistGradientBoostingClassifier(max_iter=20, random_state=0).fit(*load_iris(return_X_y=True))


@pytest.fixture(scope="session")
def mixed_models(tmp_path_factory: pytest.TempPathFactory, boosted: HistGradientBoostingClassifier) -> Path:
    """Return a repository: `boosted` 1 serves and 2 is damaged, `iris-two` serves, `churn` was never packed."""
    folder = tmp_path_factory.mktemp("mixed")
    models = folder / "models"
    shutil.copytree(EXAMPLE_MODELS / "iris-two", models / "iris-two")
    artifact = folder / "boosted.joblib"
    joblib.dump(boosted, artifact)
    for _ in range(2):
        pack(PackRequest(str(artifact), "boosted", str(models)))
    damaged = models / "boosted" / "2" / "model.joblib"
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    (models / "churn").mkdir()
    shutil.copyfile(EXAMPLE_MODELS / "iris-two" / "1" / "model.joblib", models / "churn" / "model.joblib")
    return models


@pytest.fixture(scope="session")
def mixed(tmp_path_factory: pytest.TempPathFactory, mixed_models: Path) -> Iterator[Server]:
    """Serve this repository in production, with two workers."""
    folder = tmp_path_factory.mktemp("mixed-server")
    with serving(folder, WEB_CONCURRENCY=2, RETORT_MODELS_DIR=mixed_models) as started:
        yield started
