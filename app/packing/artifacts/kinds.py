"""Recognize a file by its first bytes, not by its name; refuse files that are not models, naming their kind."""

from __future__ import annotations

import zipfile
from pathlib import Path

from app.errors import PackingRefused

HEAD_BYTES = 4096
COMPRESSED = (
    b"\x1f\x8b",  # gzip
    b"BZh",  # bz2
    b"\xfd7zXZ\x00",  # xz
    b"\x5d\x00\x00\x80\x00",  # lzma
    *(b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"),  # zlib
    b"\x04\x22\x4d\x18",  # lz4
)
"""The first bytes of compressed files that joblib writes and reads."""

TORCH = "is a PyTorch file: write it with torch.onnx.export and add the .onnx file"

NO_MODELS = {
    b"version https://git-lfs.github.com/spec/": "is a Git LFS pointer, not the file itself: run git lfs pull",
    b"\x89HDF": "is an HDF5 file, as Keras writes it: convert it to ONNX (with tf2onnx) and add the .onnx file",
    b"PAR1": "is a Parquet file of rows, not a model",
    b"ARROW1": "is an Arrow file of rows, not a model",
    b"\x93NUMPY": "is an array of NumPy, not a model",
    b"\x7fELF": "is a program, not a model",
    b"%PDF": "is a PDF document, not a model",
    b"\x89PNG": "is an image, not a model",
    b"\x28\xb5\x2f\xfd": "is compressed with zstd: unpack it (unzstd) and add what is in it",
    b"7z\xbc\xaf": "is a 7z archive: unpack it and add what is in it",
    b"Rar!": "is a RAR archive: unpack it and add what is in it",
    b"RDX": "is a file of R, not of Python",
    b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.": TORCH,
}
"""The first bytes of files that are not models for this server, and what these files are."""

KERAS = "is a Keras file: convert it to ONNX (model.export with format='onnx', or tf2onnx) and add the .onnx file"


def kind_of(path: Path) -> str:
    """Return the kind of an artifact, a key of `opening.READERS_OF_KIND`; refuse what is not a model, naming it."""
    try:
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir())
            raise PackingRefused(f"{path} is a folder, not a model: it holds {_listed(names)}")
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise PackingRefused(f"{path} cannot be read: {error.strerror}") from None
    if not size_bytes:
        raise PackingRefused(f"{path} is empty")
    for magic, what in NO_MODELS.items():
        if head.startswith(magic):
            raise PackingRefused(f"{path} {what}")
    if head.startswith(COMPRESSED):
        return "joblib"
    if head.startswith(b"PK"):
        return _kind_of_zip(path)
    return _kind_of_head(path, head)


def _kind_of_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except zipfile.BadZipFile:
        raise PackingRefused(f"{path} is cut off: it begins like a zip archive and has no end") from None
    if "schema.json" in names:
        return "skops"
    for what, is_one in (
        (TORCH, any(name.endswith(("/data.pkl", "data.pkl")) for name in names)),
        (KERAS, "model.weights.h5" in names),
        ("is an archive of NumPy arrays, not a model", names and all(name.endswith(".npy") for name in names)),
        ("is a workbook of Excel, not a model", "[Content_Types].xml" in names),
    ):
        if is_one:
            raise PackingRefused(f"{path} {what}")
    raise PackingRefused(f"{path} is a zip archive, not a model: unpack it; it holds {_listed(names)}")


def _kind_of_head(path: Path, head: bytes) -> str:
    start = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    lower = start[:200].lower()
    if lower.startswith((b"<!doctype html", b"<html", b"<head")):
        raise PackingRefused(f"{path} is an HTML page, not a model: download the file itself")
    if b"<PMML" in start:
        raise PackingRefused(f"{path} is PMML, which is not served: add the pickle that it was made from")
    if head.startswith(b"\x80"):
        return "joblib"
    if head.startswith(b"CBM1"):
        return "catboost"
    if head[4:8] == b"TFL3":
        raise PackingRefused(f"{path} is a TensorFlow Lite file: convert it to ONNX (with tf2onnx) and add that")
    if head.startswith(b"tree\nversion="):
        return "lightgbm"
    if start.startswith(b"{") and b'"learner"' in head:
        return "xgboost"
    if head.startswith(b"{L") and b"learner" in head[:64]:
        return "xgboost"
    if start.startswith((b"{", b"[")) and start[1:2] != b"L":
        return "json"
    if head[:1] == b"\x08" and head[1:2] in _ONNX_VERSIONS:
        return "onnx"
    if path.suffix.lower() == ".onnx":
        raise PackingRefused(f"{path} is no ONNX model: its first bytes are {head[:8]!r}")
    if _is_text(head) and not head.startswith((b"(", b"c")):
        first = head.decode("utf-8", "replace").strip().splitlines()[0][:60]
        raise PackingRefused(f"{path} is a text file, not a model; its first line is {first!r}")
    return "joblib"


_ONNX_VERSIONS = tuple(bytes([version]) for version in range(3, 32))


def _is_text(head: bytes) -> bool:
    return b"\0" not in head and all(byte >= 32 or byte in b"\t\r\n\f\x1b" for byte in head)


def _listed(names: list[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if names else "nothing"
