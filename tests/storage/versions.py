"""Publish test versions: an artifact of given bytes with a matching manifest."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from app.signature import Input, Layout, Signature
from app.storage.manifest import MANIFEST as FILE
from app.storage.manifest import Example, Manifest, write
from app.storage.repository import Repository
from app.storage.verification import sha256_of

ARTIFACT = "model.joblib"
SIGNATURE = Signature(
    (
        Input("length", "number", "float64", minimum=0.5, maximum=9.5, example=1.5),
        Input("colour", "category", "str", True, categories=("red", "grün"), unseen="reject"),
    ),
    ("prediction", "probabilities"),
    ("prediction", "probabilities"),
    Layout.FRAME,
    classes=("no", "yes"),
)
MANIFEST = Manifest(
    model="flowers",
    version=1,
    created="2026-01-02T03:04:05+00:00",
    task="classifier",
    estimator="Pipeline(StandardScaler, LogisticRegression)",
    format="joblib",
    artifact=ARTIFACT,
    files={},
    signature=SIGNATURE,
    examples=(
        Example({"length": 1.5, "colour": "red"}, {"prediction": "yes", "probabilities": [0.25, 0.75]}),
        Example({"length": 2, "colour": None}, {"prediction": "no", "probabilities": [1.0, 0.0]}),
    ),
    examples_made_up=True,
    environment={"python": "3.11.7", "scikit-learn": "1.9.1"},
)


def publish(repository: Repository, model: str = "flowers", content: bytes = b"artifact", **facts: Any) -> Manifest:
    """Publish the next version of a model with an artifact of these bytes; return its manifest."""
    with repository.staging() as folder:
        (folder / ARTIFACT).write_bytes(content)
        files = {ARTIFACT: sha256_of(folder / ARTIFACT)}
        return repository.publish(folder, replace(MANIFEST, **{"model": model, "files": files, **facts}))


def edit(folder: Path, **facts: Any) -> None:
    """Change facts in the manifest of the version in a folder."""
    document = json.loads((folder / FILE).read_text("utf-8"))
    write(folder, msgspec.convert({**document, **facts}, Manifest))
