"""Kinds of files are recognized by their content."""

from __future__ import annotations

import bz2
import gzip
import importlib.util
import io
import lzma
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from app.errors import PackingRefused
from app.packing.sample import read
from app.packing.sample.expected import Expected
from tests.packing.sample.kinds import ROWS, TEXT, read_content, refusal, rows_of

FRAME = pd.DataFrame(ROWS).assign(kind=["a", "b", "a"])


def zipped(**files: str) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


def zstd(content: bytes) -> bytes:
    for module in ("backports.zstd", "zstandard"):
        try:
            library = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        compress = library.ZstdCompressor().compress if module == "zstandard" else library.compress
        return bytes(compress(content))
    pytest.skip("needs a library of zstd")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv.gz", gzip.compress(TEXT.encode())),
        ("rows.tsv.gz", gzip.compress(TEXT.replace(",", "\t").encode())),
        ("rows.csv", bz2.compress(TEXT.encode("utf-16"))),
        ("rows", lzma.compress(TEXT.encode())),
        ("rows.zip", zipped(**{"a/rows.csv": TEXT, "__MACOSX/rows.csv": "no rows"})),
        ("rows.csv.zst", zstd(TEXT.encode())),
        ("rows.jsonl.gz", gzip.compress(FRAME.to_json(orient="records", lines=True).encode())),
    ],
)
def test_the_compression_is_found_by_the_content(tmp_path: Path, name: str, content: bytes) -> None:
    assert rows_of(read_content(tmp_path, name, content)) == ROWS


def test_parquet_and_feather_are_read_under_any_name(tmp_path: Path) -> None:
    FRAME.to_feather(tmp_path / "feather")
    FRAME.set_index("price").to_parquet(tmp_path / "parquet")
    for name in ("feather", "parquet"):
        sample = read_content(tmp_path, "rows.bin", (tmp_path / name).read_bytes())
        assert rows_of(sample) == ROWS


def test_an_array_of_numpy_is_read(tmp_path: Path) -> None:
    content = io.BytesIO()
    np.save(content, np.array([[1.0, 2.0, 0.0], [3.0, 4.0, 1.0]]))
    sample = read_content(tmp_path, "rows.npy", content.getvalue(), Expected(width=2))
    assert rows_of(sample) == {"feature1": [1.0, 3.0], "feature2": [2.0, 4.0]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the file itself"),
        (b"<!DOCTYPE html>\n<html>", "is an HTML page, not a table"),
        (b" \n", "is empty"),
        (b"\xd0\xcf\x11\xe0", "is a workbook of Excel 97: save it as .xlsx or .csv"),
        (zipped(a="1", b="2"), "holds 2 files, not one: a, b"),
        (gzip.compress(b"", mtime=0), "is empty"),
    ],
)
def test_a_file_that_is_not_a_table_is_refused_by_its_kind(tmp_path: Path, content: bytes, message: str) -> None:
    assert refusal(tmp_path, "rows.csv", content).startswith(message)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PackingRefused) as caught:
        read(tmp_path, None)
    assert caught.value.detail == f"sample {tmp_path} is a folder, not a file of rows"


def test_a_workbook_is_read(tmp_path: Path) -> None:
    """Workbooks are read if openpyxl is installed; otherwise the refusal names it."""
    if importlib.util.find_spec("openpyxl") is None:
        message = refusal(tmp_path, "rows.xlsx", zipped(**{"[Content_Types].xml": "", "xl/workbook.xml": ""}))
        assert (
            message == "is a workbook of Excel, which needs openpyxl, and that is not installed: pip install openpyxl"
        )
        return
    book = importlib.import_module("openpyxl").Workbook()
    book.active.append(["", *FRAME.columns])
    for place, row in enumerate(FRAME.assign(zip=[501, "10115", "00502"]).values.tolist()):
        book.active.append([place, *(None if value != value else value for value in row)])
    content = io.BytesIO()
    book.save(content)
    assert rows_of(read_content(tmp_path, "rows.xlsx", content.getvalue())) == ROWS
