"""Find artifacts that lie in the repository and were not packed."""

from __future__ import annotations

import re
from pathlib import Path

from app.errors import InvalidRepository
from app.storage.manifest import MANIFEST
from app.storage.repository import Repository
from app.storage.verification import sha256_of

ARTIFACT_SUFFIXES = (".joblib", ".pkl", ".pickle", ".skops")


def strays(repository: Repository) -> list[tuple[Path, str]]:
    """Return the artifacts that were not packed, each with the model name that it would get.

    They are searched at the top of the repository, in folders of models and in version folders without a manifest. An
    artifact that is a copy of a version of its model is left out.
    """
    root = repository.root
    found: list[tuple[Path, str]] = []
    for path in sorted(p for depth in ("*", "*/*", "*/*/*") for p in root.glob(depth)):
        below = path.relative_to(root)
        if path.suffix not in ARTIFACT_SUFFIXES or not path.is_file() or below.parts[0].startswith("."):
            continue
        if (path.parent / MANIFEST).exists():
            continue
        name = slug_of(path.stem if len(below.parts) == 1 else below.parts[0])
        if not _is_packed(repository, name, path):
            found.append((path, name))
    return found


def slug_of(text: str) -> str:
    """Return a model name for an artifact, from the text of its file name."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:64].strip("-_.") or "model"


def _is_packed(repository: Repository, model: str, path: Path) -> bool:
    record = sha256_of(path)
    for version in repository.versions(model):
        try:
            if record in repository.manifest(model, version).files.values():
                return True
        except InvalidRepository:
            continue
    return False
