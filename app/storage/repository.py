"""The repository: folders `models/<name>/<version>/`, and files beside them that choose which versions answer."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from app.errors import ChoiceRefused, InvalidRepository, ModelNotFound, VersionNotFound
from app.storage import choices
from app.storage import manifest as manifests
from app.storage.choices import HISTORY, POINTERS, ROLLBACK, Change, History, Pointers
from app.storage.manifest import MANIFEST, Manifest
from app.storage.verification import sha256_of
from app.storage.writing import sync_folder

SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
STAGING_PREFIX = ".staging-"
ARTIFACT_SUFFIXES = (".joblib", ".pkl", ".pickle", ".skops")


def is_slug(name: str) -> bool:
    """Return whether a text can be the name of a model. The name is part of URLs, and names a folder."""
    return SLUG.fullmatch(name) is not None


class Repository:
    """The folder of models. Nothing is kept in memory: every method reads the files as they are now.

    Methods raise `ModelNotFound` or `VersionNotFound`, with the existing names, for a model or version that does not
    exist, and `InvalidRepository` for a file that cannot be read.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def models(self) -> list[str]:
        """Return the names of the models that have at least one version, sorted."""
        return [name for name in sorted(self._folders(self.root)) if is_slug(name) and self.versions(name)]

    def versions(self, model: str) -> list[int]:
        """Return the versions of a model, ascending: the folders with a positive integer as name and a manifest."""
        return [number for number in self._numbers(model) if (self.root / model / str(number) / MANIFEST).is_file()]

    def folder(self, model: str, version: int) -> Path:
        """Return the folder of a version."""
        self._require(model, version)
        return self.root / model / str(version)

    def manifest(self, model: str, version: int) -> Manifest:
        """Return the manifest of a version, which must belong to the model and version of its folder."""
        manifest = manifests.read(self.folder(model, version))
        if (manifest.model, manifest.version) != (model, version):
            raise InvalidRepository(f"{MANIFEST} is that of {manifest.model} version {manifest.version}")
        return manifest

    def digest(self, model: str, version: int) -> str:
        """Return a hash of the content of a version; other content under the same number has another hash."""
        return manifests.digest(self.folder(model, version))

    def pointers(self) -> Pointers:
        """Return the default model, the versions in use and the aliases."""
        return choices.read(self.root / POINTERS, Pointers)

    def problems(self) -> list[str]:
        """Return a sentence for each unknown key in `repository.json`, and for each name that does not exist."""
        versions = {model: self.versions(model) for model in self.models()}
        path = self.root / POINTERS
        return [f"{path}: {problem}" for problem in (*choices.unknown_keys(path), *self.pointers().problems(versions))]

    def history(self, model: str) -> tuple[Change, ...]:
        """Return the changes of a model, which may be removed by now, the oldest first."""
        changes = self._history().changes.get(model, ())
        if not changes:
            self._require(model, None)
        return changes

    def use(self, model: str, version: int | None) -> None:
        """Let a version, or with None always the newest, answer requests that name no version."""
        self._require(model, version)
        with self._locked():
            self._change(model, self.pointers().using(model, version), f"use {version or choices.NEWEST}")

    def roll_back(self, model: str) -> int:
        """Use the version that answered before the current one, and return it.

        Raises:
            ChoiceRefused: No other version has answered, or none of them exists any more.
        """
        self._require(model, None)
        with self._locked():
            pointers, versions = self.pointers(), self.versions(model)
            unstaged = [v for v in versions if v not in pointers.staged.get(model, ())]
            version = self._history().before(model, pointers.chosen(model, versions), unstaged)
            if version is None:
                raise ChoiceRefused(f"{model} has nothing to roll back to: no other version has answered for it")
            self._change(model, pointers.using(model, version), f"{ROLLBACK} to {version}")
            return version

    def set_alias(self, model: str, alias: str, version: int | None) -> None:
        """Let an alias stand for a version; with None, remove the alias.

        Raises:
            ChoiceRefused: The text cannot be an alias, or there is no such alias to remove.
        """
        self._require(model, version)
        if version is not None and (wrong := choices.wrong_alias(alias)):
            raise ChoiceRefused(wrong)
        with self._locked():
            pointers = self.pointers()
            names = pointers.aliases.get(model, {})
            if version is None and alias not in names:
                raise ChoiceRefused(f"{model} has no alias {alias!r}; there are: {', '.join(names) or 'none'}")
            what = f"alias {alias} {'removed' if version is None else version}"
            self._change(model, pointers.with_alias(model, alias, version), what)

    def set_default(self, model: str) -> None:
        """Put the model behind `/predict`."""
        self._require(model, None)
        with self._locked():
            self._change(model, replace(self.pointers(), default=model), "default")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """Make a hidden folder for a version that is being packed; remove it at the end unless it was published."""
        self.root.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f"{STAGING_PREFIX}{os.getpgrp()}-", dir=self.root))
        try:
            yield folder
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise OSError(error.errno, error.strerror, str(self.root)) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def discard_staging(self, group: int) -> None:
        """Remove the hidden folders that the processes of a group left behind when they ended."""
        for folder in self.root.glob(f"{STAGING_PREFIX}{group}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, manifest: Manifest, *, answers: bool = True) -> Manifest:
        """Publish a staged folder as the next version, in one rename, and return its manifest.

        Without `answers`, the version is staged: it answers requests without a version only after `use` chooses it.
        """
        model = manifest.model
        folder = self.root / model
        folder.mkdir(exist_ok=True)
        staged.chmod(0o755)
        try:
            with self._locked():
                return self._publish(staged, manifest, answers)
        except OSError:
            with suppress(OSError):  # the model has other versions
                folder.rmdir()
            raise

    def _publish(self, staged: Path, manifest: Manifest, answers: bool) -> Manifest:
        model = manifest.model
        pointers, versions = self.pointers(), self.versions(model)
        history = self._history()
        version = max(*self._numbers(model), history.highest.get(model, 0), 0) + 1
        numbered = replace(manifest, version=version)
        manifests.write(staged, numbered)
        # The number is recorded first, so that it is never used twice. A version that fails leaves a gap.
        choices.write(self.root / HISTORY, history.given(model, version))
        before = pointers.chosen(model, versions)
        if not answers:
            pointers = pointers.with_staged(model, version)
            choices.write(self.root / POINTERS, pointers)
        staged.rename(self.root / model / str(version))
        sync_folder(self.root / model)
        what = f"add {version}" + ("" if answers else " --stage")
        changed = history.given(model, version).with_change(
            model, what, before, pointers.chosen(model, [*versions, version])
        )
        with suppress(OSError):  # the version is already published
            choices.write(self.root / HISTORY, changed)
        return numbered

    def remove(self, model: str, version: int) -> None:
        """Remove a version with its aliases, and the model if this was its last version.

        Raises:
            ChoiceRefused: The version is in use, and there are others to choose from.
        """
        folder = self.folder(model, version)
        with self._locked():
            pointers, versions = self.pointers(), self.versions(model)
            is_last = versions == [version]
            if pointers.use.get(model) == version and not is_last:
                raise ChoiceRefused(
                    f"{model} version {version} is the one in use; before you remove it, choose another: "
                    f"flask models use {model} VERSION|{choices.NEWEST}"
                )
            before = pointers.chosen(model, versions)
            hidden = self.root / f"{STAGING_PREFIX}removed-{model}-{version}-{os.getpid()}"
            history = self._history().given(model, max(self._numbers(model)))
            kept = pointers.without(model, version, is_last)
            after = kept.chosen(model, [v for v in versions if v != version])
            choices.write(self.root / HISTORY, history.with_change(model, f"remove {version}", before, after))
            folder.rename(hidden)
            if kept != pointers:
                choices.write(self.root / POINTERS, kept)
        shutil.rmtree(hidden)
        if is_last:
            with suppress(OSError):  # the folder has files that were never packed
                (self.root / model).rmdir()

    def shown(self, path: Path) -> str:
        """Return a path below the root for messages: without the folders above, but usable in a shell here."""
        return f"$RETORT_MODELS_DIR/{path.relative_to(self.root)}" if self.root.is_absolute() else str(path)

    def _numbers(self, model: str) -> list[int]:
        names = self._folders(self.root / model) if is_slug(model) else []
        return sorted(int(name) for name in names if re.fullmatch(r"[1-9][0-9]{0,8}", name))

    def _folders(self, parent: Path) -> list[str]:
        try:
            return [entry.name for entry in os.scandir(parent) if entry.is_dir(follow_symlinks=False)]
        except (FileNotFoundError, NotADirectoryError):
            return []

    def _require(self, model: str, version: int | None) -> None:
        versions = self.versions(model)
        if not versions:
            raise ModelNotFound(model, self.models())
        if version is not None and version not in versions:
            raise VersionNotFound(model, str(version), [str(v) for v in versions])

    def _history(self) -> History:
        return choices.read(self.root / HISTORY, History)

    def _change(self, model: str, pointers: Pointers, what: str) -> None:
        """Write new pointers and note the change in the history. The caller holds the lock."""
        path, versions = self.root / POINTERS, self.versions(model)
        if unknown := choices.unknown_keys(path):
            raise InvalidRepository(f"{path}: {unknown[0]}")  # writing would lose it
        history = self._history()
        before = self.pointers().chosen(model, versions)
        choices.write(path, pointers)
        choices.write(self.root / HISTORY, history.with_change(model, what, before, pointers.chosen(model, versions)))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Exclude the other processes of this host that change the repository."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def strays(repository: Repository) -> list[tuple[Path, str]]:
    """Return the artifacts that were not packed, each with the model name that it would get.

    The search covers the top of the repository, folders of models, and version folders without a manifest. It leaves
    out an artifact that is a copy of a version of its model.
    """
    root = repository.root
    stray_artifacts: list[tuple[Path, str]] = []
    for path in sorted(p for depth in ("*", "*/*", "*/*/*") for p in root.glob(depth)):
        below = path.relative_to(root)
        if path.suffix not in ARTIFACT_SUFFIXES or not path.is_file() or below.parts[0].startswith("."):
            continue
        if (path.parent / MANIFEST).exists():
            continue
        name = slug_of(path.stem if len(below.parts) == 1 else below.parts[0])
        if not _is_packed(repository, name, path):
            stray_artifacts.append((path, name))
    return stray_artifacts


def slug_of(text: str) -> str:
    """Return the name of a model, made from a file name."""
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
