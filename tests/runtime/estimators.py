"""Small estimators, and a loader that reads their name instead of a pickle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from app.errors import LoadingFailed
from app.runtime.environment import environment
from app.runtime.registry import Registry
from app.runtime.servable import ArtifactServable, Servable
from app.runtime.version_loader import PackStray, VersionLoader
from app.signature import Input, Layout, Signature
from app.signature.validator import Validator
from app.storage.manifest import Example, Manifest
from app.storage.repository import Repository
from tests.storage import versions

SIGNATURE = Signature((Input("x", "number", "float64"),), ("prediction",), ("prediction",), Layout.MATRIX)
DOUBLED = (Example({"x": 1.5}, {"prediction": 3.0}), Example({"x": -2.0}, {"prediction": -4.0}))


class Doubles:
    """Predict twice the first column, and record the number of rows of each run."""

    def __init__(self) -> None:
        self.runs: list[int] = []

    def predict(self, features: Any) -> Any:
        self.runs.append(len(features))
        return np.asarray(features)[:, 0] * 2


class Triples(Doubles):
    """A fake of `Doubles` in another release of its library."""

    def predict(self, features: Any) -> Any:
        return super().predict(features) * 1.5


class Raises(Doubles):
    """Fail on every row."""

    def predict(self, features: Any) -> Any:
        super().predict(features)
        raise ValueError("this is not for clients")


class Exits(Doubles):
    """Raise SystemExit in every run."""

    def predict(self, features: Any) -> Any:
        raise SystemExit(3)


ESTIMATORS: dict[bytes, type[Doubles]] = {b"doubles": Doubles, b"triples": Triples, b"raises": Raises}


class WordLoader:
    """Make the estimator that the artifact names, and keep it."""

    def __init__(self) -> None:
        self.made: list[Doubles] = []

    def __call__(self, stream: BinaryIO, signature: Signature) -> Servable:
        word = stream.read()
        if word not in ESTIMATORS:
            raise LoadingFailed(f"there is no estimator {word.decode()}")
        self.made.append(ESTIMATORS[word]())
        return ArtifactServable(self.made[-1], signature)

    @property
    def runs(self) -> list[int]:
        return [rows for estimator in self.made for rows in estimator.runs]


def add(repository: Repository, model: str = "flowers", content: bytes = b"doubles", **facts: Any) -> Manifest:
    """Add the next version of a model of `Doubles`, or of another content."""
    usual = {"signature": SIGNATURE, "examples": DOUBLED, "environment": environment()}
    return versions.publish(repository, model, content, **{**usual, **facts})


def registry(
    repository: Repository,
    loader: WordLoader | None = None,
    default_model: str = "",
    pack_stray: PackStray | None = None,
) -> Registry:
    """Return a registry of a repository whose artifacts are names of estimators."""
    return Registry(repository, version_loader(repository, loader, pack_stray=pack_stray), default_model)


def version_loader(repository: Repository, loader: WordLoader | None = None, **named: Any) -> VersionLoader:
    """Return a loader of versions whose artifacts are names of estimators."""
    return VersionLoader(repository, {"joblib": loader or WordLoader()}, lambda sig: Validator(sig, 1000), **named)


class Packer:
    """Pack strays as models of `Doubles`, or raise `refusal`."""

    def __init__(self, repository: Repository, refusal: Exception | None = None) -> None:
        self.repository = repository
        self.refusal = refusal
        self.asked: list[tuple[Path, str]] = []

    def __call__(self, path: Path, name: str) -> None:
        self.asked.append((path, name))
        if self.refusal is not None:
            raise self.refusal
        add(self.repository, name, path.read_bytes())


def with_libraries(**changes: str) -> dict[str, str]:
    """Return this environment with other versions."""
    return {**environment(), **{name.replace("_", "-"): version for name, version in changes.items()}}


def manifest_of(*examples: Example, **facts: Any) -> Manifest:
    """Return a manifest with these recorded examples."""
    usual = {"signature": SIGNATURE, "examples": examples, "environment": environment()}
    return replace(versions.MANIFEST, **{**usual, **facts})
