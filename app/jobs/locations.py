"""Where files are: paths, globs, folders, and URLs of object storage (s3://, gs://, az://)."""

from __future__ import annotations

import fnmatch
import glob
import io
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

from app.errors import ScoringRefused
from app.jobs.formats import Format, format_of

URL = re.compile(r"(s3|gs|az)://([^/]+)/?(.*)", re.DOTALL)
GLOB = re.compile(r"[*?\[]")
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
BUFFER_BYTES = 4 * 2**20


def is_url(location: str) -> bool:
    """Return whether a location is in object storage."""
    return "://" in location


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the input.

    `stamp` changes with the content: the time of a change, or the object's tag. `partition` has the columns that its
    folders name, as Hive writes them (`year=2026/`).
    """

    name: str
    size_bytes: int
    stamp: str
    format: Format
    partition: Mapping[str, str] = field(default_factory=dict)

    def open(self) -> BinaryIO:
        """Open the file for reading and seeking. The caller closes it."""
        if is_url(self.name):
            store, path = store_of(self.name)
            return cast(BinaryIO, io.BufferedReader(_ObjectReader(store, path, self.size_bytes), BUFFER_BYTES))
        return Path(self.name).open("rb")


def sources_of(location: str) -> list[Source]:
    """Return the files of a path, a glob, a folder or a URL, sorted by name.

    Raises:
        ScoringRefused: There is none, or a file has an unknown format.
    """
    found = list(_objects(location) if is_url(location) else _files(location))
    if not found:
        raise ScoringRefused(f"{location}: there is no such file")
    root = _root_of(location)
    return [
        Source(name, size, stamp, format_of(name), _partition(name.removeprefix(root)))
        for name, size, stamp in sorted(found)
    ]


def _root_of(location: str) -> str:
    """Return the folder below which folders name columns: the location, or its part before the first wildcard."""
    fixed = GLOB.split(location, maxsplit=1)[0]
    return fixed if fixed == location else fixed[: fixed.replace(os.sep, "/").rfind("/") + 1]


def _partition(below: str) -> dict[str, str]:
    folders = below.replace(os.sep, "/").split("/")[:-1]
    pairs = [folder.partition("=") for folder in folders if "=" in folder]
    return {unquote(name): "" if value == NO_PARTITION else unquote(value) for name, _, value in pairs}


def _is_hidden(below: str) -> bool:
    """Return whether a folder's file is not a part of it: markers such as _SUCCESS, and files in the making."""
    return any(part.startswith((".", "_")) for part in below.replace(os.sep, "/").split("/") if part)


def _files(location: str) -> Iterator[tuple[str, int, str]]:
    path = Path(location)
    if path.is_dir():
        names = [
            str(each) for each in path.rglob("*") if each.is_file() and not _is_hidden(str(each.relative_to(path)))
        ]
    elif path.exists():
        names = [location]
    else:
        names = [name for name in glob.glob(location, recursive=True) if Path(name).is_file()]  # noqa: PTH207 - it may be absolute
    for name in names:
        status = Path(name).stat()
        yield name, status.st_size, str(status.st_mtime_ns)


def _objects(location: str) -> Iterator[tuple[str, int, str]]:
    import obstore

    store, path = store_of(location)
    base = location[: len(location) - len(path)] if path else location.rstrip("/") + "/"
    fixed = GLOB.split(path, maxsplit=1)[0]
    is_glob = fixed != path
    prefix = fixed.rpartition("/")[0] if is_glob else path.rstrip("/")
    with _storage_errors(location):
        for listed in obstore.list(store, prefix or None):
            for each in listed:
                name = each["path"]
                below = name.removeprefix(prefix).lstrip("/")
                if fnmatch.fnmatchcase(name, path) if is_glob else not _is_hidden(below):
                    yield base + name, each["size"], str(each["e_tag"] or each["last_modified"])
        if not is_glob and path and not path.endswith("/"):
            try:
                head = obstore.head(store, path)
            except FileNotFoundError:
                return
            yield location, head["size"], str(head["e_tag"] or head["last_modified"])


def store_of(location: str) -> tuple[Any, str]:
    """Return the store of a URL, and the path in it. Keys and endpoints come from the provider's own variables.

    Raises:
        ScoringRefused: The URL is of another kind, or obstore is not installed.
    """
    match = URL.fullmatch(location)
    if match is None:
        raise ScoringRefused(f"{location}: URLs begin with s3://, gs:// or az://")
    try:
        from obstore.store import from_url
    except ModuleNotFoundError:
        raise ScoringRefused(
            f"{location}: object storage needs obstore: pip install 'retort-serving[objects]'"
        ) from None
    scheme, bucket, path = match.groups()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    options: dict[str, Any] = {}
    if scheme == "s3" and endpoint:
        options["endpoint"] = endpoint
        if endpoint.startswith("http://"):  # named by its operator, so that it is meant
            options["client_options"] = {"allow_http": True}
    with _storage_errors(location):
        return from_url(f"{scheme}://{bucket}", **options), path


class _storage_errors:
    """Turns errors of obstore into ScoringRefused."""

    def __init__(self, location: str) -> None:
        self._location = location

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        import obstore.exceptions

        if isinstance(error, obstore.exceptions.BaseError):
            reason = " ".join(str(error).split())[:300]
            raise ScoringRefused(f"{self._location}: {reason}") from None


class _ObjectReader(io.RawIOBase):
    """Reads an object by ranges."""

    def __init__(self, store: Any, path: str, size_bytes: int) -> None:
        self._store = store
        self._path = path
        self._size_bytes = size_bytes
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size_bytes}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        import obstore

        length = min(len(buffer), self._size_bytes - self._at)
        if length <= 0:
            return 0
        with _storage_errors(self._path):
            content = obstore.get_range(self._store, self._path, start=self._at, length=length)
        buffer[:length] = memoryview(content)
        self._at += length
        return length


def put(location: str, path: Path) -> None:
    """Store a file under a URL. The object appears whole or not at all."""
    import obstore

    store, name = store_of(location)
    with _storage_errors(location), path.open("rb") as stream:
        obstore.put(store, name, stream)


def remove(location: str) -> None:
    """Remove a file or an object, if it is there."""
    if is_url(location):
        import obstore

        store, name = store_of(location)
        with _storage_errors(location):
            try:
                obstore.delete(store, name)
            except FileNotFoundError:
                return
    else:
        Path(location).unlink(missing_ok=True)
