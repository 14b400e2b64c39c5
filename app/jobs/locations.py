"""Find and open files by path, glob, folder or URL of object storage (s3://, gs://, az://)."""

from __future__ import annotations

import fnmatch
import glob
import io
import logging
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO, cast
from urllib.parse import unquote

from app.errors import ScoringRefused, one_line
from app.jobs.formats import Format, format_of

log = logging.getLogger(__name__)

URL = re.compile(r"(s3|gs|az)://([^/]+)/?(.*)", re.DOTALL)
GLOB = re.compile(r"[*?\[]")
NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
RETRY_S = 5.0
ONE_RETRY: Mapping[str, Any] = {"retry_config": {"max_retries": 1, "retry_timeout": timedelta(seconds=RETRY_S)}}
KEYS = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_SERVICE_ACCOUNT",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""The environment variables with the keys of each provider."""
METADATA = re.compile(r"169\.254\.169\.254|metadata\.google\.internal")
"""The metadata server of a cloud's virtual machine. obstore asks it for keys if no variables are set."""
BUFFER_BYTES = 2**20
"""Bytes of one read of an object. pyarrow reads columns in blocks of the same size."""
CHANGED = "changed while it was read: score it again from the beginning"


def is_url(location: str) -> bool:
    """Return whether a location is a URL, not a path."""
    return "://" in location


@dataclass(frozen=True, slots=True)
class Source:
    """One file of the input.

    `stamp` changes with the content: the modification time of a file, or the tag of an object. `partition` has the
    columns from the names of its folders, in Hive's notation (`year=2026/`).
    """

    name: str
    size_bytes: int
    stamp: str
    format: Format
    partition: Mapping[str, str] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, int, str]:
        """The name, size and stamp, which identify the content of the file."""
        return self.name, self.size_bytes, self.stamp

    def open(self) -> BinaryIO:
        """Open the file for reading and seeking. The caller closes it."""
        if is_url(self.name):
            store, path = store_of(self.name)
            reader = _ObjectReader(store, path, self.size_bytes, self.stamp)
            return cast(BinaryIO, io.BufferedReader(reader, BUFFER_BYTES))
        return Path(self.name).open("rb")

    def require_unchanged(self) -> None:
        """Check after reading that the file has not changed. For objects, each read checks it.

        Raises:
            ScoringRefused: The file has changed since the run began.
        """
        if is_url(self.name):
            return
        try:
            status = _status(self.name)
        except FileNotFoundError:
            status = None
        if status != (self.size_bytes, self.stamp):
            raise ScoringRefused(f"{self.name} {CHANGED}")


def sources_of(location: str) -> list[Source]:
    """Return the files of a path, a glob, a folder or a URL, sorted by name.

    Raises:
        ScoringRefused: There is no file, or a file has an unknown suffix.
    """
    files = list(_objects(location) if is_url(location) else _files(location))
    if not files:
        is_folder = bool(location) and not is_url(location) and Path(location).is_dir()
        raise ScoringRefused(f"{location}: there is no {'file in this folder' if is_folder else 'such file'}")
    return [Source(name, size, stamp, format_of(name), _partition(name)) for name, size, stamp in sorted(files)]


def _partition(name: str) -> dict[str, str]:
    folders = name.replace(os.sep, "/").split("/")[:-1]
    pairs = [folder.partition("=") for folder in folders if "=" in folder]
    return {unquote(name): "" if value == NO_PARTITION else unquote(value) for name, _, value in pairs}


def _is_hidden(relative_path: str) -> bool:
    """Return whether a path below a folder is hidden: markers such as _SUCCESS, and unfinished files."""
    return any(part.startswith((".", "_")) for part in relative_path.replace(os.sep, "/").split("/") if part)


def _files(location: str) -> Iterator[tuple[str, int, str]]:
    path = Path(location)
    if not location:
        names = []
    elif path.is_dir():
        names = _files_below(path)
    elif path.exists():
        if not path.is_file():
            raise ScoringRefused(f"{location} is neither a file nor a folder: it cannot be read twice")
        names = [location]
    else:
        paths = glob.glob(location, recursive=True)  # noqa: PTH207 - it may be absolute
        names = [name for name in paths if Path(name).is_file()]
        names = names or [name for folder in paths for name in _files_below(Path(folder))]
    for name in names:
        yield name, *_status(name)


def _files_below(folder: Path) -> list[str]:
    """Return the files below a folder. An unreadable subfolder is an error: its rows would be missing."""

    def fail(error: OSError) -> None:
        raise error

    paths = [os.path.join(parent, name) for parent, _, names in os.walk(folder, onerror=fail) for name in names]  # noqa: PTH118 - as the folder was written
    return [path for path in paths if not _is_hidden(str(Path(path).relative_to(folder))) and Path(path).is_file()]


def status_of(name: str) -> tuple[int, str]:
    """Return the size and the stamp of a file or an object. For an object, retry only briefly.

    Raises:
        OSError, ScoringRefused: It does not exist or cannot be read.
    """
    if not is_url(name):
        return _status(name)
    store, path = store_of(name, **ONE_RETRY)
    with _storage_errors(name):
        return _head(store, path)


def require_answer(location: str) -> None:
    """Check that object storage answers and that there are keys for it. Permission to write is not checked.

    Raises:
        ScoringRefused: The storage does not answer, or there are no keys.
    """
    store, path = store_of(location, **ONE_RETRY)
    from obstore.exceptions import PermissionDeniedError

    with _storage_errors(location), suppress(FileNotFoundError, PermissionDeniedError):
        _head(store, path)


def _status(name: str) -> tuple[int, str]:
    status = Path(name).stat()
    return status.st_size, str(status.st_mtime_ns)


def _head(store: Any, path: str) -> tuple[int, str]:
    import obstore

    head = obstore.head(store, path)
    return head["size"], str(head["e_tag"] or head["last_modified"])


def _objects(location: str) -> Iterator[tuple[str, int, str]]:
    store, path = store_of(location)  # its error names the missing library
    import obstore

    base = location[: len(location) - len(path)] if path else location.rstrip("/") + "/"
    fixed = GLOB.split(path, maxsplit=1)[0]
    is_glob = fixed != path
    prefix = fixed.rpartition("/")[0] if is_glob else path.rstrip("/")
    with _storage_errors(location):
        for listed in obstore.list(store, prefix or None):
            for entry in listed:
                name = entry["path"]
                below = name.removeprefix(prefix).lstrip("/")
                if fnmatch.fnmatchcase(name, path) if is_glob else not _is_hidden(below):
                    yield base + name, entry["size"], str(entry["e_tag"] or entry["last_modified"])
        if not is_glob and path and not path.endswith("/"):
            with suppress(FileNotFoundError):
                yield location, *_head(store, path)


def store_of(location: str, **options: Any) -> tuple[Any, str]:
    """Return obstore's store for a URL, and the path in it. Keys and endpoints come from the provider's variables.

    Raises:
        ScoringRefused: The URL has another scheme, or obstore is not installed.
    """
    match = URL.fullmatch(location)
    if match is None:
        raise ScoringRefused(f"{location}: URLs begin with s3://, gs:// or az:// and the name of a bucket")
    try:
        from obstore.store import from_url
    except ModuleNotFoundError:
        raise ScoringRefused(f"{location}: object storage needs obstore: pip install obstore") from None
    scheme, bucket, path = match.groups()
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or ""
    if scheme == "s3" and endpoint:
        options["endpoint"] = endpoint
        if endpoint.startswith("http://"):  # the operator chose plain HTTP explicitly
            options["client_options"] = {"allow_http": True}
    with _storage_errors(location):
        return from_url(f"{scheme}://{bucket}", **options), path


class _storage_errors:
    """Context that turns errors of obstore into ScoringRefused."""

    def __init__(self, location: str) -> None:
        self._location = location

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        import obstore.exceptions

        if isinstance(error, obstore.exceptions.PreconditionError):
            raise ScoringRefused(f"{self._location} {CHANGED}") from None
        if isinstance(error, obstore.exceptions.BaseError):
            if METADATA.search(str(error)):
                keys = KEYS.get(self._location.partition(":")[0], "those of the provider")
                raise ScoringRefused(f"{self._location}: there are no keys for it: set {keys}") from None
            reason = one_line(str(error).partition("Debug source:")[0], 300)
            raise ScoringRefused(f"{self._location}: {reason}") from None


class _ObjectReader(io.RawIOBase):
    """Reader of an object by ranges. If `stamp` is the object's tag, each read checks it; a time is not checked."""

    def __init__(self, store: Any, path: str, size_bytes: int, stamp: str) -> None:
        self._store = store
        self._path = path
        self._size_bytes = size_bytes
        self._condition = {"if_match": stamp} if stamp.startswith('"') else {}
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
        options: Any = {"range": (self._at, self._at + length), **self._condition}
        with _storage_errors(self._path):
            content = obstore.get(self._store, self._path, options=options).bytes()
        buffer[:length] = memoryview(content)
        self._at += length
        return length


def put(location: str, path: Path) -> None:
    """Upload a file to a URL. The object appears when it is complete."""
    store, name = store_of(location)
    import obstore

    with _storage_errors(location), path.open("rb") as stream:
        obstore.put(store, name, stream)


def remove(location: str) -> None:
    """Remove a file or an object if it exists."""
    if is_url(location):
        store, name = store_of(location)
        import obstore
        import obstore.exceptions

        with _storage_errors(location):
            try:
                obstore.delete(store, name)
            except FileNotFoundError:
                return
            except obstore.exceptions.PermissionDeniedError:
                log.warning("%s may not be removed here; if it is there, it belongs to an earlier run", location)
    else:
        Path(location).unlink(missing_ok=True)
