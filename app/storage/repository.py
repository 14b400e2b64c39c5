"""The repository: `models/<name>/<version>/` folders, and beside them which of the versions answers."""

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
from app.storage.choices import HISTORY, POINTERS, ROLLBACK, Change, Pointers
from app.storage.manifest import MANIFEST, Manifest
from app.storage.verification import sha256_of
from app.storage.writing import sync_folder

SLUG = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,62}[A-Za-z0-9])?")
ARTIFACT_SUFFIXES = (".joblib", ".pkl", ".pickle", ".skops")
STAGING_PREFIX = ".staging-"


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

    def digest(self, model: str, version: int) -> str:
        """The hash of a version's content; other content has another one, also under the same number.

        Raises:
            ModelNotFound, VersionNotFound, InvalidRepository: there is no such version, or no manifest of it.
        """
        return manifests.digest(self.folder(model, version))

    def pointers(self) -> Pointers:
        """The default model, the versions in use and the aliases.

        Raises:
            InvalidRepository: the file is there but is not what it should be.
        """
        return choices.read_pointers(self.root / POINTERS)

    def problems(self) -> list[str]:
        """A sentence for each thing that `repository.json` names and that is not there, or is not known.

        Raises:
            InvalidRepository: it cannot be read.
        """
        versions = {model: self.versions(model) for model in self.models()}
        path = self.root / POINTERS
        return [f"{path}: {said}" for said in (*choices.unknown_keys(path), *self.pointers().problems(versions))]

    def history(self, model: str) -> tuple[Change, ...]:
        """The changes of a model, the oldest first.

        Raises:
            ModelNotFound: it is neither there nor has a history.
        """
        changes = choices.read_history(self.root / HISTORY).changes.get(model, ())
        if not changes:
            self._require_model(model)
        return changes

    def use(self, model: str, version: int | None) -> None:
        """Have a version answer where none is named; None: the newest.

        Raises:
            ModelNotFound, VersionNotFound: naming those there are.
        """
        if version is None:
            self._require_model(model)
        else:
            self.folder(model, version)
        with self._alone():
            self._change(model, self.pointers().using(model, version), f"use {version or choices.NEWEST}")

    def roll_back(self, model: str) -> int:
        """Have the version answer that did before the one that answers now; return it.

        Raises:
            ModelNotFound: naming those there are.
            ChoiceRefused: no other version has answered, or is there.
        """
        self._require_model(model)
        with self._alone():
            pointers, versions = self.pointers(), self.versions(model)
            history = choices.read_history(self.root / HISTORY)
            unstaged = [v for v in versions if v not in pointers.staged.get(model, ())]
            version = history.before(model, pointers.chosen(model, versions), unstaged)
            if version is None:
                raise ChoiceRefused(f"{model} has nothing to roll back to: no other version has answered for it")
            self._change(model, pointers.using(model, version), f"{ROLLBACK} to {version}")
            return version

    def set_alias(self, model: str, alias: str, version: int | None) -> None:
        """Have an alias name a version; None takes the alias away.

        Raises:
            ModelNotFound, VersionNotFound: naming those there are.
            ChoiceRefused: it cannot be an alias, or there is none to take away.
        """
        if version is None:
            self._require_model(model)
        else:
            self.folder(model, version)
            if wrong := choices.wrong_alias(alias):
                raise ChoiceRefused(wrong)
        with self._alone():
            pointers = self.pointers()
            names = pointers.aliases.get(model, {})
            if version is None and alias not in names:
                raise ChoiceRefused(f"{model} has no alias {alias!r}; there are: {', '.join(names) or 'none'}")
            what = f"alias {alias} {'removed' if version is None else version}"
            self._change(model, pointers.with_alias(model, alias, version), what)

    def set_default(self, model: str) -> None:
        """Put the model behind `/predict`.

        Raises:
            ModelNotFound: naming those there are.
        """
        self._require_model(model)
        with self._alone():
            self._change(model, replace(self.pointers(), default=model), "default")

    @contextmanager
    def staging(self) -> Iterator[Path]:
        """A folder in which a version is put together, out of sight; removed at the end if it was not published."""
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
        """Removes what the processes of a group, which are no more, left half put together."""
        for folder in self.root.glob(f"{STAGING_PREFIX}{group}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def publish(self, staged: Path, manifest: Manifest, *, answers: bool = True) -> Manifest:
        """Moves a staged folder into its place as the next version, in one rename; returns the manifest it got.

        One that does not answer is asked for by its number until `use` chooses it.
        """
        model = manifest.model
        folder = self.root / model
        folder.mkdir(exist_ok=True)
        staged.chmod(0o755)
        try:
            with self._alone():
                return self._publish(staged, manifest, answers)
        except OSError:
            with suppress(OSError):  # it has other versions
                folder.rmdir()
            raise

    def _publish(self, staged: Path, manifest: Manifest, answers: bool) -> Manifest:
        model = manifest.model
        pointers, versions = self.pointers(), self.versions(model)
        history = choices.read_history(self.root / HISTORY)
        version = max(*self._numbers(model), history.highest.get(model, 0), 0) + 1
        numbered = replace(manifest, version=version)
        manifests.write(staged, numbered)
        # The number is given before anything has it. A version that comes to nothing leaves a gap.
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
        with suppress(OSError):  # it is published
            choices.write(self.root / HISTORY, changed)
        return numbered

    def remove(self, model: str, version: int) -> None:
        """Takes a version away, its aliases with it, and the model when it was the last one.

        Raises:
            ModelNotFound, VersionNotFound: naming those there are.
            ChoiceRefused: it was chosen to answer, and there are others to choose from.
        """
        folder = self.folder(model, version)
        with self._alone():
            pointers, versions = self.pointers(), self.versions(model)
            is_last = versions == [version]
            if pointers.use.get(model) == version and not is_last:
                raise ChoiceRefused(
                    f"{model} version {version} is the one in use; before you remove it, choose another: "
                    f"flask models use {model} VERSION|{choices.NEWEST}"
                )
            before = pointers.chosen(model, versions)
            hidden = self.root / f"{STAGING_PREFIX}removed-{model}-{version}-{os.getpid()}"
            history = choices.read_history(self.root / HISTORY).given(model, max(self._numbers(model)))
            kept = pointers.without(model, version, is_last)
            after = kept.chosen(model, [v for v in versions if v != version])
            choices.write(self.root / HISTORY, history.with_change(model, f"remove {version}", before, after))
            folder.rename(hidden)
            if kept != pointers:
                choices.write(self.root / POINTERS, kept)
        shutil.rmtree(hidden)
        if is_last:
            with suppress(OSError):  # not empty: what was never packed is nobody's to remove
                (self.root / model).rmdir()

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

    def _require_model(self, model: str) -> None:
        if not self.versions(model):
            raise ModelNotFound(model, self.models())

    def _change(self, model: str, pointers: Pointers, what: str) -> None:
        """Write new pointers, and who changed what; only inside of `_alone`."""
        path, versions = self.root / POINTERS, self.versions(model)
        if unknown := choices.unknown_keys(path):
            raise InvalidRepository(f"{path}: {unknown[0]}")  # to write would lose it
        history = choices.read_history(self.root / HISTORY)
        before = self.pointers().chosen(model, versions)
        choices.write(path, pointers)
        choices.write(self.root / HISTORY, history.with_change(model, what, before, pointers.chosen(model, versions)))

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Alone among the processes of this host that change the repository."""
        descriptor = os.open(self.root, os.O_RDONLY)
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def slug_of(text: str) -> str:
    """The nearest name that is a slug, for an artifact that was given none."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-_.")[:64].strip("-_.") or "model"
