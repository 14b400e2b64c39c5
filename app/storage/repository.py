"""The repository: `models/<name>/<version>/` folders, and `repository.json` with the default model and the aliases."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from app.errors import InvalidRepository, ModelNotFound, VersionNotFound
from app.storage import manifest as manifests
from app.storage.manifest import MANIFEST, Manifest
from app.storage.verification import sha256_of

SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
ARTIFACT_SUFFIXES = (".joblib", ".pkl", ".pickle", ".skops")
POINTERS = "repository.json"
STAGING_PREFIX = ".staging-"


@dataclass(frozen=True, slots=True)
class Pointers:
    """The movable names: the model behind `/predict`, and each model's aliases (alias -> version)."""

    default: str | None = None
    aliases: dict[str, dict[str, int]] = field(default_factory=dict)


def is_slug(name: str) -> bool:
    """Whether a name can be a model's: it stands in URLs and is a folder's name."""
    return SLUG.fullmatch(name) is not None


class Repository:
    """The folder of models. Keeps nothing in memory: every question is answered from the files as they are now."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[str]:
        """The names of the models that have at least one version, sorted."""
        return [name for name in sorted(self._folders(self.root)) if is_slug(name) and self.versions(name)]

    def versions(self, model: str) -> list[int]:
        """The versions of a model, ascending: the folders that are named by a positive integer and hold a manifest."""
        return [number for number in self._numbers(model) if (self.root / model / str(number) / MANIFEST).is_file()]

    def folder(self, model: str, version: int) -> Path:
        """The folder of a version.

        Raises:
            ModelNotFound, VersionNotFound: naming those there are.
        """
        versions = self.versions(model)
        if not versions:
            raise ModelNotFound(model, self.models())
        if version not in versions:
            raise VersionNotFound(model, str(version), [str(v) for v in versions])
        return self.root / model / str(version)

    def manifest(self, model: str, version: int) -> Manifest:
        """The manifest of a version, which must be of the model and version that its folder says.

        Raises:
            InvalidRepository: it cannot be read, or is another version's.
        """
        found = manifests.read(self.folder(model, version))
        if (found.model, found.version) != (model, version):
            raise InvalidRepository(f"{MANIFEST} is that of {found.model} version {found.version}")
        return found

    def pointers(self) -> Pointers:
        """The default model and the aliases.

        Raises:
            InvalidRepository: the file is there but is not what it should be.
        """
        path = self.root / POINTERS
        try:
            return msgspec.json.decode(path.read_bytes(), type=Pointers)
        except FileNotFoundError:
            return Pointers()
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise InvalidRepository(f"{path} cannot be read: {error}") from None

    def set_default(self, model: str) -> None:
        """Puts the model behind `/predict`."""
        self._write_pointers(replace(self.pointers(), default=model))

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder in which a version is put together, out of sight; removed at the end if it was not published."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{STAGING_PREFIX}{os.getpid()}-", dir=self.root))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def discard_staging(self, pid: int) -> None:
        """Removes what a process that is no more left half put together."""
        for folder in self.root.glob(f"{STAGING_PREFIX}{pid}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, manifest: Manifest) -> Manifest:
        """Moves a staged folder into its place as the next version, in one rename; returns the manifest it got."""
        model_folder = self.root / manifest.model
        model_folder.mkdir(exist_ok=True)
        staged.chmod(0o755)
        while True:
            numbered = replace(manifest, version=max(self._numbers(manifest.model), default=0) + 1)
            _write_synced(staged / MANIFEST, manifests.encode(numbered))
            try:
                staged.rename(model_folder / str(numbered.version))
            except OSError:
                # Another packing took the number in between; any other cause leaves the number free, and is raised.
                if numbered.version not in self._numbers(manifest.model):
                    raise
                continue
            _sync_folder(model_folder)
            return numbered

    def remove(self, model: str, version: int) -> None:
        """Takes a version away, its aliases with it, and the model when it was the last one.

        Raises:
            ModelNotFound, VersionNotFound: naming those there are.
        """
        folder = self.folder(model, version)
        hidden = self.root / f"{STAGING_PREFIX}removed-{model}-{version}-{os.getpid()}"
        folder.rename(hidden)
        shutil.rmtree(hidden)
        pointers = self.pointers()
        kept = {alias: v for alias, v in pointers.aliases.get(model, {}).items() if v != version}
        aliases = {**pointers.aliases, model: kept}
        gone = not self.versions(model)
        if gone:
            with suppress(OSError):  # not empty: what was never packed is nobody's to remove
                (self.root / model).rmdir()
        wanted = Pointers(
            default=None if gone and pointers.default == model else pointers.default,
            aliases={name: names for name, names in aliases.items() if names},
        )
        if wanted != pointers:
            self._write_pointers(wanted)

    def strays(self) -> list[tuple[Path, str]]:
        """Artifacts that lie in the repository without having been packed, with the model name each would get.

        Looked for at the top, in a model's folder and in version folders without a manifest; an artifact whose bytes
        are already a version of that model is not a stray.
        """
        found: list[tuple[Path, str]] = []
        for path in sorted(p for depth in ("*", "*/*", "*/*/*") for p in self.root.glob(depth)):
            below = path.relative_to(self.root)
            if path.suffix not in ARTIFACT_SUFFIXES or not path.is_file() or below.parts[0].startswith("."):
                continue
            if (path.parent / MANIFEST).exists():
                continue
            name = slug_of(path.stem if len(below.parts) == 1 else below.parts[0])
            if not self._packed(name, path):
                found.append((path, name))
        return found

    def shown(self, path: Path) -> str:
        """A path below the root as it may be shown to clients, and still works in a shell where this service runs."""
        return f"$RETORT_MODELS_DIR/{path.relative_to(self.root)}" if self.root.is_absolute() else str(path)

    def _numbers(self, model: str) -> list[int]:
        names = self._folders(self.root / model) if is_slug(model) else []
        return sorted(int(name) for name in names if re.fullmatch(r"[1-9][0-9]{0,8}", name))

    def _packed(self, model: str, path: Path) -> bool:
        record = sha256_of(path)
        for version in self.versions(model):
            try:
                if record in self.manifest(model, version).files.values():
                    return True
            except InvalidRepository:
                continue
        return False

    def _folders(self, parent: Path) -> list[str]:
        try:
            return [entry.name for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _write_pointers(self, pointers: Pointers) -> None:
        path = self.root / POINTERS
        beside = path.with_name(f".{POINTERS}.{os.getpid()}")
        _write_synced(beside, msgspec.json.format(msgspec.json.encode(pointers), indent=1) + b"\n")
        beside.replace(path)


def slug_of(text: str) -> str:
    """The nearest name that is a slug, for an artifact that was given none."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:64].strip("-_.") or "model"


def _write_synced(path: Path, content: bytes) -> None:
    with path.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
