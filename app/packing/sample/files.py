"""Open a sample by its content: find its compression and its kind."""

from __future__ import annotations

import bz2
import gzip
import importlib
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePath

import pandas as pd

from app.errors import PackingRefused
from app.packing.sample import columns, delimited, documents, learned
from app.packing.sample.expected import Expected

SUFFIXES = ".csv, .tsv, .txt, .json, .jsonl, .ndjson, .parquet, .feather, .arrow, .xlsx, .npy"
COMPRESSED = ".gz, .bz2, .xz, .zst, .zip"
ZSTD_MODULES = ("compression.zstd", "backports.zstd", "zstandard")
LINES = (".jsonl", ".ndjson")


def read(path: Path, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """Read the rows of a file, including a target column. The reader of its kind may raise any exception."""
    if path.is_dir():
        raise PackingRefused("is a folder, not a file of rows")
    content, name = _decompressed(path.read_bytes(), path.name)
    for magic, reader in BY_CONTENT:
        if content.startswith(magic):
            return learned.with_learned_kinds(reader(content, expected, notes), expected, notes)
    if content.startswith(b"version https://git-lfs.github.com/spec/"):
        raise PackingRefused("is a Git LFS pointer, not the file itself: run git lfs pull")
    text, encoding = delimited.decoded(content)
    if not text.strip():
        raise PackingRefused("is empty")
    start = text.lstrip()[:200].lower()
    if start.startswith(("<!doctype html", "<html")):
        raise PackingRefused("is an HTML page, not a table: download the file itself")
    suffix = PurePath(name).suffix.lower()
    if suffix in (*LINES, ".json") or (start.startswith(("{", "[{", "[[")) and suffix not in (".csv", ".tsv")):
        frame = documents.read(text, expected, notes, lines=suffix in LINES)
        return learned.with_learned_kinds(frame, expected, notes)
    if "\0" in text:
        raise PackingRefused(f"is of no kind that is known here; the kinds are: {SUFFIXES}, and these in {COMPRESSED}")
    return delimited.read(text, encoding, expected, notes)


def unpickled(path: Path, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """Read a frame that this Python has pickled. Samples that users name are never unpickled."""
    frame = _with_named_index(pd.read_pickle(path), expected)  # noqa: S301 - `pack` wrote it a moment ago
    return learned.with_learned_kinds(frame.set_axis([*map(str, frame.columns)], axis=1), expected, notes)


def _decompressed(content: bytes, name: str) -> tuple[bytes, str]:
    """Return the content without its compression, and the file name without the suffix of the compression."""
    inner = name.rpartition(".")[0] if PurePath(name).suffix.lower() in COMPRESSED.split(", ") else name
    if content.startswith(b"\x1f\x8b"):
        return gzip.decompress(content), inner
    if content.startswith(b"BZh"):
        return bz2.decompress(content), inner
    if content.startswith(b"\xfd7zXZ\x00"):
        return lzma.decompress(content), inner
    if content.startswith(b"\x28\xb5\x2f\xfd"):
        return _zstd(content), inner
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            files = [n for n in archive.namelist() if not n.endswith("/") and not n.startswith("__MACOSX/")]
            if "[Content_Types].xml" in files:
                return content, name  # a workbook
            if len(files) != 1:
                raise PackingRefused(f"holds {len(files)} files, not one: {', '.join(files[:10])}")
            return _decompressed(archive.read(files[0]), PurePath(files[0]).name)
    return content, name


def _zstd(content: bytes) -> bytes:
    for module in ZSTD_MODULES:
        try:
            zstd = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        if module == "zstandard":
            with zstd.ZstdDecompressor().stream_reader(content, read_across_frames=True) as stream:
                return bytes(stream.read())
        return bytes(zstd.decompress(content))
    raise PackingRefused("is compressed with zstd, which needs a library: pip install backports-zstd")


def _parquet(content: bytes, expected: Expected, notes: list[str]) -> pd.DataFrame:
    _require("pyarrow", "Parquet")
    return _with_named_index(pd.read_parquet(io.BytesIO(content)), expected)


def _arrow(content: bytes, expected: Expected, notes: list[str]) -> pd.DataFrame:
    _require("pyarrow", "Arrow")
    if content.startswith(b"FEA1"):
        return pd.read_feather(io.BytesIO(content))
    ipc = importlib.import_module("pyarrow.ipc")
    opened = ipc.open_file if content.startswith(b"ARROW1") else ipc.open_stream
    return _with_named_index(opened(io.BytesIO(content)).read_pandas(), expected)


def _workbook(content: bytes, expected: Expected, notes: list[str]) -> pd.DataFrame:
    """Read the first sheet of a workbook: cells keep their types, columns with text are read like delimited text."""
    _require("openpyxl", "a workbook of Excel")
    with pd.ExcelFile(io.BytesIO(content)) as workbook:
        sheets = workbook.sheet_names
        cells = pd.read_excel(workbook, sheet_name=0, dtype=object, keep_default_na=False)
    if len(sheets) > 1:
        notes.append(f"sample: the sheet {sheets[0]!r} of {len(sheets)} is read: {', '.join(map(str, sheets[:10]))}")
    cells = cells.set_axis([str(name) for name in cells.columns], axis=1)
    cells = cells.where(cells.notna(), "")
    texts = [name for name in cells if any(isinstance(cell, str) and cell for cell in cells[name])]
    typed = cells.drop(columns=texts)
    typed = typed.mask(typed == "", None).infer_objects()
    read = columns.typed(cells[texts].astype(str), expected, notes, commas=False)
    return pd.concat([typed, read], axis=1)[list(cells.columns)]


def _old_workbook(content: bytes, expected: Expected, notes: list[str]) -> pd.DataFrame:
    raise PackingRefused("is a workbook of Excel 97: save it as .xlsx or .csv")


def _array(content: bytes, expected: Expected, notes: list[str]) -> pd.DataFrame:
    import numpy as np

    matrix = np.load(io.BytesIO(content), allow_pickle=False)
    frame = pd.DataFrame(matrix.reshape(len(matrix), -1))
    return frame.set_axis(documents.made_up_names(frame.shape[1], expected), axis=1)


def _with_named_index(frame: pd.DataFrame, expected: Expected) -> pd.DataFrame:
    """Turn the levels of the index that the model or its user names into columns.

    Another index is kept: if the model uses it, the comparison with rows sent as JSON fails.
    """
    levels = [name for name in frame.index.names if isinstance(name, str) and expected.named(name)]
    return frame.reset_index(level=levels).reset_index(drop=True) if levels else frame


def _require(library: str, kind: str) -> None:
    """Refuse a file if the library that reads it is not installed."""
    try:
        importlib.import_module(library)
    except ModuleNotFoundError:
        refusal = f"is {kind}, which needs {library}, and that is not installed: pip install {library}"
        raise PackingRefused(refusal) from None


BY_CONTENT: tuple[tuple[bytes, Callable[[bytes, Expected, list[str]], pd.DataFrame]], ...] = (
    (b"PAR1", _parquet),
    (b"ARROW1", _arrow),
    (b"FEA1", _arrow),
    (b"\xff\xff\xff\xff", _arrow),
    (b"PK\x03\x04", _workbook),
    (b"\xd0\xcf\x11\xe0", _old_workbook),
    (b"\x93NUMPY", _array),
)
"""The first bytes of each kind of binary file, and its reader."""
