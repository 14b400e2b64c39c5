"""The version that a run uses. It is chosen once, and loaded and proven once in each worker process."""

from __future__ import annotations

import shutil
import tempfile
import threading
import weakref
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path

from app.errors import ModelNotFound, ScoringRefused, VersionNotFound
from app.runtime.entry import Lease
from app.runtime.loaders import LOADERS
from app.runtime.policy import State, default_model, named_version
from app.runtime.version_loader import VersionLoader
from app.settings import Settings
from app.signature.validator import Validator
from app.storage.manifest import MANIFEST as MANIFEST_FILE
from app.storage.manifest import MANIFEST_SHA256, Manifest
from app.storage.repository import Repository

MOST_LOADED = 4
NO_LIMIT = 2**31

_loaded: OrderedDict[VersionFiles, _Loaded] = OrderedDict()
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """The files of a version and the settings for its validation, for a worker process.

    Two objects are equal if `digest`, the hash of the version, and the settings are equal. `folder` is the repository.
    `files` are the names and contents of the version's files, for workers that cannot read the repository.
    """

    model: str
    version: int
    digest: str
    graphs: bool
    out_of_range: str
    pixel_limit: int
    folder: str = ""
    files: tuple[tuple[str, bytes], ...] = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, VersionFiles) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[object, ...]:
        return self.model, self.version, self.digest, self.graphs, self.out_of_range, self.pixel_limit

    def with_files(self) -> VersionFiles:
        """Return the version with the contents of its files, for other hosts."""
        folder = Repository(Path(self.folder)).folder(self.model, self.version)
        repository = Repository(Path(self.folder))
        names = [MANIFEST_FILE, MANIFEST_SHA256, *repository.manifest(self.model, self.version).files]
        contents = tuple((name, (folder / name).read_bytes()) for name in names if (folder / name).exists())
        return replace(self, folder="", files=contents)

    def lease(self) -> Lease:
        """Return the loaded version. Each process loads and proves it once.

        Raises:
            ScoringRefused: It cannot be loaded here, or its predictions differ from those recorded at packing.
        """
        with _lock:
            loaded = _loaded.get(self)
            if loaded is None:
                loaded = _loaded[self] = self._load()
                while len(_loaded) > MOST_LOADED:
                    _loaded.popitem(last=False)
            _loaded.move_to_end(self)
            return loaded.lease

    def _load(self) -> _Loaded:
        if not self.files:
            return _Loaded(self._load_from(Path(self.folder)))
        folder = Path(tempfile.mkdtemp(prefix="retort-"))
        try:
            place = folder / self.model / str(self.version)
            place.mkdir(parents=True)
            for name, content in self.files:
                (place / name).write_bytes(content)
            return _Loaded(self._load_from(folder), folder)
        except BaseException:
            shutil.rmtree(folder)
            raise

    def _load_from(self, folder: Path) -> Lease:
        repository = Repository(folder)
        if repository.digest(self.model, self.version) != self.digest:
            raise ScoringRefused(f"{self.model} version {self.version} was replaced while it was used")
        limits = (NO_LIMIT, self.out_of_range, self.pixel_limit, NO_LIMIT, NO_LIMIT)
        loader = VersionLoader(repository, LOADERS, lambda signature: Validator(signature, *limits), self.graphs)
        entry = loader.tried(self.model, self.version)
        if entry.state is not State.AVAILABLE:
            raise ScoringRefused(f"{self.model} version {self.version} cannot be used: {entry.reason}")
        lease = entry.required_lease()
        lease.acquire()
        return lease


class _Loaded:
    """A loaded version. Its temporary folder exists as long as the version, because graphs are read again."""

    def __init__(self, lease: Lease, folder: Path | None = None) -> None:
        self.lease = lease
        if folder is not None:
            weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)


def choose(settings: Settings, model: str, version: str | None) -> tuple[VersionFiles, Manifest]:
    """Return the version for a model name and a number or an alias.

    By default, these are the default model and the version that serves requests.

    Raises:
        ModelNotFound, VersionNotFound: The model or the version does not exist.
        ScoringRefused: The model has steps, which bulk scoring does not run.
    """
    repository = Repository(settings.models_dir)
    pointers, models = repository.pointers(), repository.models()
    model = model or default_model(settings.default_model, pointers.default, models) or ""
    if not model:
        raise ModelNotFound(model, models)
    versions = repository.versions(model)
    aliases = pointers.aliases.get(model, {})
    if version is None:
        number = pointers.chosen(model, versions) or max(versions, default=0)
    else:
        named_number = named_version(version, dict.fromkeys(versions, State.FOUND), aliases)
        if named_number is None and versions:
            raise VersionNotFound(model, version, [*map(str, versions), *aliases])
        number = named_number or 0
    manifest = repository.manifest(model, number)
    if manifest.before or manifest.after:
        raise ScoringRefused(f"model {model} has steps, which take whole requests and are not run in bulk")
    files = VersionFiles(
        model,
        number,
        repository.digest(model, number),
        settings.runtime == "auto",
        settings.out_of_range,
        settings.image_pixel_limit,
        str(settings.models_dir.resolve()),
    )
    return files, manifest
