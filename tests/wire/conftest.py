"""Fixtures: the application with the committed models, made once, and others, made for one test."""

from __future__ import annotations

import json
import shutil
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest

from app import create_app
from app.packing.spawn import PackRequest
from app.packing.write import pack
from app.settings import Settings
from app.storage.manifest import MANIFEST
from app.wire.application import Application

MODELS = Path(__file__).resolve().parents[2] / "examples" / "models"

MakeApp = Callable[..., Application]


@pytest.fixture(scope="session")
def app() -> Application:
    """Serve the repository's five models, all available."""
    made = create_app(Settings(models_dir=MODELS))
    assert made.test_client().get("/readyz").status_code == 200
    return made


@pytest.fixture(scope="session")
def manifests() -> dict[str, Any]:
    """Return the manifest of each committed model, by its name."""
    return {path.parts[-3]: json.loads(path.read_text("utf-8")) for path in sorted(MODELS.glob(f"*/*/{MANIFEST}"))}


@pytest.fixture(scope="session")
def iris_alone(tmp_path_factory: pytest.TempPathFactory) -> Application:
    """Return a service whose only model is iris-two. Tests share it: undo registrations."""
    models = tmp_path_factory.mktemp("iris-alone")
    shutil.copytree(MODELS / "iris-two", models / "iris-two")
    return create_app(Settings(models_dir=models))


@pytest.fixture
def iris_two(tmp_path: Path) -> MakeApp:
    """Make a service whose only model is iris-two, with other settings than the defaults."""

    def make(**settings: Any) -> Application:
        shutil.copytree(MODELS / "iris-two", tmp_path / "models" / "iris-two")
        return create_app(Settings(models_dir=tmp_path / "models", **settings))

    return make


@pytest.fixture
def served(tmp_path: Path) -> MakeApp:
    """Make a service with one more fitted estimator, packed in this process."""

    def make(
        estimator: Any, name: str = "model", sample: str | None = None, options: Any = None, **settings: Any
    ) -> Application:
        artifact, models = tmp_path / f"{name}.joblib", tmp_path / "models"
        joblib.dump(estimator, artifact)
        pack(PackRequest(str(artifact), name, str(models), sample, **(options or {})))
        return create_app(Settings(models_dir=models, **settings))

    return make


@pytest.fixture
def peak_bytes() -> Callable[[Callable[[], object]], int]:
    """Return the peak of Python's memory during a call, above the memory before it."""

    def measured(call: Callable[[], object]) -> int:
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            call()
            return tracemalloc.get_traced_memory()[1] - before
        finally:
            tracemalloc.stop()

    return measured
