"""A file that differs from the packed one is refused before any byte of it is read as a model."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from app.errors import InvalidRepository
from app.storage.manifest import FileRecord, write
from app.storage.verification import open_verified, sha256_of, verify_files
from tests.storage.versions import ARTIFACT, MANIFEST

CONTENT = bytes(range(256)) * 40
RECORD = FileRecord(hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "flowers" / "1"
    folder.mkdir(parents=True)
    (folder / ARTIFACT).write_bytes(CONTENT)
    return folder


def refusal(folder: Path, name: str = ARTIFACT) -> str:
    with pytest.raises(InvalidRepository) as caught:
        open_verified(folder, name, RECORD)
    return caught.value.detail


def flip_a_byte(path: Path) -> None:
    path.write_bytes(CONTENT[:5000] + bytes([CONTENT[5000] ^ 1]) + CONTENT[5001:])


def truncate(path: Path) -> None:
    path.write_bytes(CONTENT[:-1])


def lengthen(path: Path) -> None:
    path.write_bytes(CONTENT + b"\0")


def take_away(path: Path) -> None:
    path.unlink()


def link_to_the_same_bytes(path: Path) -> None:
    elsewhere = path.with_name("elsewhere")
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def make_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: list[tuple[Callable[[Path], None], str]] = [
    (flip_a_byte, "is damaged or was replaced: its SHA-256 is "),
    (truncate, "has 10239 bytes, not 10240 as when it was packed"),
    (lengthen, "has 10241 bytes, not 10240 as when it was packed"),
    (take_away, "cannot be read: No such file or directory"),
    (link_to_the_same_bytes, "cannot be read: Too many levels of symbolic links"),
    (make_a_folder, "is not a regular file"),
]


def test_a_file_record_has_hash_and_size(folder: Path) -> None:
    assert sha256_of(folder / ARTIFACT) == RECORD


def test_a_verified_file_is_open_at_its_start(folder: Path) -> None:
    with open_verified(folder, ARTIFACT, RECORD) as stream:
        assert stream.read() == CONTENT


@pytest.mark.fault("M09")
def test_the_content_read_is_the_content_checked(folder: Path) -> None:
    with open_verified(folder, ARTIFACT, RECORD) as stream:
        (folder / "other").write_bytes(b"\x80 moved into its place")
        (folder / "other").replace(folder / ARTIFACT)
        assert stream.read() == CONTENT


@pytest.mark.parametrize(("damage", "message"), DAMAGE, ids=[damage.__name__ for damage, _ in DAMAGE])
def test_another_file_is_refused(folder: Path, damage: Callable[[Path], None], message: str) -> None:
    damage(folder / ARTIFACT)
    open_before = len(list(Path("/dev/fd").iterdir()))
    assert refusal(folder).startswith(f"{ARTIFACT} {message}")
    assert len(list(Path("/dev/fd").iterdir())) == open_before


@pytest.mark.fault("M08")
def test_a_pipe_is_refused_without_waiting(folder: Path) -> None:
    (folder / ARTIFACT).unlink()
    os.mkfifo(folder / ARTIFACT)
    refusals: list[str] = []
    reader = threading.Thread(target=lambda: refusals.append(refusal(folder)))
    reader.start()
    reader.join(1.0)
    waited = reader.is_alive()
    if waited:  # release the reader
        os.close(os.open(folder / ARTIFACT, os.O_WRONLY))
        reader.join()
    assert refusals == [f"{ARTIFACT} is not a regular file"]
    assert not waited


@pytest.mark.parametrize("name", ["../model.joblib", "/etc/hostname", "a/b", "", ".", "..", "./model.joblib"])
@pytest.mark.fault("M06", "M08")
def test_a_file_outside_the_folder_is_refused(folder: Path, name: str) -> None:
    (folder.parent / ARTIFACT).write_bytes(CONTENT)
    assert refusal(folder, name) == f"{name!r} is not a plain file name: a version's files lie in its own folder"


def test_every_file_of_a_version_is_verified(folder: Path) -> None:
    (folder / "model.onnx").write_bytes(CONTENT)
    manifest = replace(MANIFEST, files={ARTIFACT: RECORD, "model.onnx": RECORD})
    verify_files(folder, manifest)
    truncate(folder / "model.onnx")
    with pytest.raises(InvalidRepository, match=r"^model.onnx has 10239 bytes"):
        verify_files(folder, manifest)


def test_an_artifact_without_a_hash_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidRepository, match=r"lists no hash for .*'model.joblib'"):
        verify_files(folder, replace(MANIFEST, files={"model.onnx": RECORD}))


@pytest.mark.parametrize("name", ["a name\x00with a null", "x" * 300])
def test_a_name_that_no_file_can_have_is_refused(folder: Path, name: str) -> None:
    refusal(folder, name)


@pytest.mark.parametrize("name", ["model.onnx.data", ".hidden", "a folder"])
@pytest.mark.fault("M08")
def test_a_file_that_the_manifest_does_not_list_is_refused(folder: Path, name: str) -> None:
    manifest = replace(MANIFEST, files={ARTIFACT: RECORD})
    write(folder, manifest)
    verify_files(folder, manifest)
    (folder / name).mkdir() if name == "a folder" else (folder / name).write_bytes(CONTENT)
    with pytest.raises(
        InvalidRepository, match=f"^{name} lies in the folder of the version, but the manifest does not"
    ):
        verify_files(folder, manifest)
