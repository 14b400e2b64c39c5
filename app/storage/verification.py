"""Check that the files of a version are unchanged since packing, before any byte is unpickled."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import BinaryIO

from app.errors import InvalidRepository
from app.storage.manifest import MANIFEST, MANIFEST_SHA256, FileRecord, Manifest
from app.telemetry import mark_progress


def sha256_of(path: Path) -> FileRecord:
    """Return the hash and the size of a file as it is now."""
    with path.open("rb") as stream:
        return FileRecord(hashlib.file_digest(stream, "sha256").hexdigest(), path.stat().st_size)


def open_verified(folder: Path, name: str, expected: FileRecord) -> BinaryIO:
    """Open a file, check its size and its hash, and return it at its start. The caller closes it.

    The caller reads the content from the same descriptor, so a file that replaces it in between has no effect.

    Raises:
        InvalidRepository: The file is missing, is a link, lies outside the folder, or is not the one that was packed.
    """
    if Path(name).name != name or name in ("", ".", "..") or "\0" in name:
        raise InvalidRepository(f"{name!r} is not a plain file name: a version's files lie in its own folder")
    path = folder / name
    try:
        # O_NONBLOCK: otherwise opening a pipe would wait for its writer.
        stream = open(path, "rb", opener=lambda p, _: os.open(p, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK))  # noqa: SIM115
    except IsADirectoryError:
        raise InvalidRepository(f"{name} is not a regular file") from None
    except OSError as error:
        raise InvalidRepository(f"{name} cannot be read: {os.strerror(error.errno or 0)}") from None
    try:
        status = os.fstat(stream.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise InvalidRepository(f"{name} is not a regular file")
        if status.st_size != expected.size_bytes:
            raise InvalidRepository(
                f"{name} has {status.st_size} bytes, not {expected.size_bytes} as when it was packed"
            )
        actual = hashlib.file_digest(stream, "sha256").hexdigest()
        if actual != expected.sha256:
            raise InvalidRepository(
                f"{name} is damaged or was replaced: its SHA-256 is {actual[:12]}…, not {expected.sha256[:12]}…"
            )
        stream.seek(0)
    except BaseException:
        stream.close()
        raise
    return stream


def verify_files(folder: Path, manifest: Manifest) -> None:
    """Check every file that the manifest lists, that the artifact is listed, and that there is no other file.

    Unlisted files are refused because a graph could read its weights from one.

    Raises:
        InvalidRepository: A file is not the one that was packed, or is not listed.
    """
    for name in filter(None, (manifest.artifact, manifest.graph, manifest.recorded)):
        if name not in manifest.files:
            raise InvalidRepository(f"the manifest lists no hash for {name!r}")
    for name, expected in manifest.files.items():
        open_verified(folder, name, expected).close()
        mark_progress()
    others = sorted({entry.name for entry in os.scandir(folder)} - {MANIFEST, MANIFEST_SHA256, *manifest.files})
    if others:
        raise InvalidRepository(
            f"{others[0]} lies in the folder of the version, but the manifest does not list it: remove it"
        )
