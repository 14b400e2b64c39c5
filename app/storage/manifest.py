"""The manifest beside an artifact: everything that is known of a version without unpickling anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from app.errors import InvalidRepository
from app.signature import Signature

MANIFEST = "manifest.json"
FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class FileRecord:
    """What a file of a version must be: its SHA-256 in hexadecimal and its size."""

    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Example:
    """One instance, and for each output name the value that the estimator gave for it at packing time (JSON values)."""

    instance: dict[str, object]
    outputs: dict[str, object]


@dataclass(frozen=True, slots=True)
class Manifest:
    """The facts of one version. `created` is ISO 8601 in UTC; `environment` maps a library to its version.

    `proof` is what was measured when the graph was proven, and `reason` says in one sentence why there is none.
    """

    model: str
    version: int
    created: str
    task: str
    estimator: str
    format: str
    artifact: str
    files: dict[str, FileRecord]
    signature: Signature
    examples: tuple[Example, ...]
    examples_made_up: bool
    environment: dict[str, str]
    runtime: str = "artifact"
    proof: dict[str, object] | None = None
    reason: str | None = None
    manifest_version: int = field(default=FORMAT_VERSION)


def encode(manifest: Manifest) -> bytes:
    """The manifest as indented JSON, for people and for version control."""
    return msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"


def read(folder: Path) -> Manifest:
    """The manifest in a version's folder.

    Raises:
        InvalidRepository: it is missing, is not JSON, or lacks what a manifest has.
    """
    path = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except FileNotFoundError:
        raise InvalidRepository(f"there is no {MANIFEST}") from None
    except (OSError, msgspec.DecodeError, RecursionError) as error:
        raise InvalidRepository(f"{MANIFEST} cannot be read: {error}") from None
    if manifest.manifest_version != FORMAT_VERSION:
        detail = f"{MANIFEST} has form {manifest.manifest_version}; this release of Retort reads form {FORMAT_VERSION}"
        raise InvalidRepository(detail)
    return manifest
