"""Open an artifact: recognize each of its files by the first bytes, read them, and put one model together."""

from __future__ import annotations

import json
import shlex
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from app.errors import LoadingFailed, PackingRefused
from app.packing.artifacts import onnx_file
from app.packing.artifacts.boosters import estimator_of, read_catboost, read_lightgbm, read_xgboost
from app.packing.artifacts.folders import hub_example, located
from app.packing.artifacts.parts import Choice, Whole, is_container, parts_of, role_of, whole_of
from app.runtime.loaders import READERS
from app.signature.field_errors import some

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
"""The first bytes of files that are not models for this server, with a description of each."""

KERAS = "is a Keras file: convert it to ONNX (model.export with format='onnx', or tf2onnx) and add the .onnx file"


def kind_of(path: Path) -> str:
    """Return the kind of an artifact, a key of `READERS_OF_KIND`; refuse a file of another kind by its name."""
    try:
        if path.is_dir():
            names = sorted(entry.name for entry in path.iterdir())
            raise PackingRefused(f"{path} is a folder, not a model: it holds {some(names, 8) or 'nothing'}")
        size_bytes = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(HEAD_BYTES)
    except OSError as error:
        raise PackingRefused(f"{path} cannot be read: {error.strerror}") from None
    if not size_bytes:
        raise PackingRefused(f"{path} is empty")
    for magic, description in NO_MODELS.items():
        if head.startswith(magic):
            raise PackingRefused(f"{path} {description}")
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
    for description, is_one in (
        (TORCH, any(name.endswith(("/data.pkl", "data.pkl")) for name in names)),
        (KERAS, "model.weights.h5" in names),
        ("is an archive of NumPy arrays, not a model", names and all(name.endswith(".npy") for name in names)),
        ("is a workbook of Excel, not a model", "[Content_Types].xml" in names),
    ):
        if is_one:
            raise PackingRefused(f"{path} {description}")
    raise PackingRefused(f"{path} is a zip archive, not a model: unpack it; it holds {some(names, 8) or 'nothing'}")


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


CUT_OFF = (
    "EOFError", "truncated", "exhausted", "Ran out of input", "Compressed file ended", "incomplete", "unexpected end",
    "EOF",
)  # fmt: skip
SUFFIXES = {"joblib": (".joblib", ".pkl", ".pickle", ".sav"), "skops": (".skops",), "onnx": (".onnx",)}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A model that is ready to be packed, and notes for the user.

    `file` is stored unchanged; it is None if the estimator was put together here and is saved anew. `columns` are the
    names of its inputs, from the artifact or its folder. `steps` are the names in `--before` that are not parts of the
    artifact. `parts` are the names of the parts, if there are several. `example` are example rows, or a file with them.
    """

    estimator: Any
    format: str
    file: Path | None
    columns: tuple[str, ...] | None = None
    steps: tuple[str, ...] = ()
    parts: tuple[str, ...] = ()
    example: Path | pd.DataFrame | None = None
    notes: tuple[str, ...] = ()

    @property
    def stored_name(self) -> str:
        """The name of the file in the folder of the version."""
        suffix = "" if self.file is None else self.file.suffix.lower()
        allowed = SUFFIXES[self.format]
        return f"model{suffix if suffix in allowed else allowed[0]}"


def open_artifact(
    given: Sequence[str], choice: Choice, name: str, *, trust: bool = False, options: Sequence[str] = ()
) -> Artifact:
    """Open the model in these files, folders or URIs; several make one pipeline in this order.

    Refuse them if it is not clear which parts make the model. Then the error proposes a command with the name of the
    model and the other options of the user. With `trust`, load all types in a skops file.
    """
    places = [located(each) for each in given]
    several_files = len(places) > 1
    parts: dict[str, Any] = {}
    contained = False
    content: Any = None
    trust_notes: list[str] = []
    kinds = [kind_of(place.file) for place in places]
    for place, kind in zip(places, kinds, strict=True):
        content, types = read_trusting(place.file) if trust and kind == "skops" else (read(place.file, kind), ())
        trust_notes += [f"trusted, as asked: {', '.join(types)}"] * bool(types)
        contained = contained or is_container(content)
        stem = place.file.name.split(".")[0] or place.file.name
        prefix = f"{stem}." if several_files and is_container(content) else ""
        for key, part in parts_of(content, stem if several_files else "model").items():
            parts[f"{prefix}{key}"] = estimator_of(part)
    beside = _named_files(choice, parts)
    if len(parts) == 1 and not contained and not beside:
        whole = Whole(next(iter(parts.values())), steps=choice.before)
    else:
        command = shlex.join(["flask", "models", "add", *given, "--name", name, *options])
        whole = whole_of(parts | beside, choice, several_files=several_files, command=command)
    # A model that was read with --trust is saved as a pickle, because a server has nobody to ask.
    changed = contained or several_files or bool(beside or trust_notes) or kinds[0] not in SUFFIXES
    changed = changed or whole.estimator is not content
    first = places[0]
    rows = hub_example(first.file.parent) if first.example is None else None
    return Artifact(
        whole.estimator,
        "joblib" if changed else kinds[0],
        None if changed else first.file,
        whole.columns or next((place.columns for place in places if place.columns), None),
        whole.steps,
        tuple(parts) if contained or several_files else (),
        first.example if rows is None else pd.DataFrame(rows),
        (*(note for place in places for note in place.notes), *whole.notes, *trust_notes),
    )


def read(path: Path, kind: str) -> Any:
    """Read the object in a file of this kind."""
    try:
        return READERS_OF_KIND[kind](path)
    except OSError as error:
        raise PackingRefused(f"{path} cannot be read: {error.strerror}") from None
    except LoadingFailed as error:
        if any(text in error.detail for text in CUT_OFF):
            raise PackingRefused(f"{path} is cut off: its {path.stat().st_size} bytes end too early") from None
        hint = "; if you trust whoever made it: --trust" if "not trusted" in error.detail else ""
        raise PackingRefused(f"{path} cannot be loaded: {error.detail}{hint}") from None


def read_trusting(path: Path) -> tuple[Any, tuple[str, ...]]:
    """Read a skops file, trusting all types in it.

    Returns:
        The object, and the types that skops does not trust by itself.
    """
    try:
        import skops.io
    except ModuleNotFoundError:
        return read(path, "skops"), ()
    content = path.read_bytes()
    try:
        types = skops.io.get_untrusted_types(data=content)
        return skops.io.loads(content, trusted=types), tuple(types)
    except Exception as error:
        raise PackingRefused(f"{path} cannot be loaded ({type(error).__name__}: {error})") from error


def _named_files(choice: Choice, parts: dict[str, Any]) -> dict[str, Any]:
    """Read the labels and the column names that are in files of their own, as parts."""
    names = [name for name in (choice.labels, choice.columns) if name is not None and name not in parts]
    files = {name: Path(name) for name in names if Path(name).is_file()}
    return {name: read(path, kind_of(path)) for name, path in files.items()}


def _loaded(name: str, path: Path) -> Any:
    with path.open("rb") as stream:
        return READERS[name](stream)


def _json(path: Path) -> Any:
    """Read column names or labels in JSON, which are parts of a model."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise PackingRefused(f"{path} is no JSON that can be read ({error}), and no model") from None
    if isinstance(content, dict) and content and all(key.isdigit() for key in content):
        content = {int(key): label for key, label in content.items()}
    if role_of(content) == "other":
        raise PackingRefused(f"{path} is JSON, not a model")
    return content


READERS_OF_KIND: dict[str, Callable[[Path], Any]] = {
    "joblib": partial(_loaded, "joblib"),
    "skops": partial(_loaded, "skops"),
    "json": _json,
    "onnx": onnx_file.read,
    "xgboost": read_xgboost,
    "lightgbm": read_lightgbm,
    "catboost": read_catboost,
}
