"""File formats by suffix: CSV, NDJSON, Parquet and Arrow. CSV and NDJSON may be compressed with gzip or zstd."""

from __future__ import annotations

import contextlib
import gzip
import importlib
import io
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, BinaryIO, cast

from app.errors import ScoringRefused

SUFFIXES: Mapping[str, str] = {
    "csv": "csv",
    "ndjson": "ndjson",
    "jsonl": "ndjson",
    "parquet": "parquet",
    "pq": "parquet",
    "arrow": "arrow",
    "feather": "arrow",
    "arrows": "arrows",
}
"""The format for each suffix. `arrow` is Arrow's file format, `arrows` its stream format."""
CODINGS: Mapping[str, str] = {"gz": "gzip", "zst": "zstd"}
TEXT = ("csv", "ndjson")
CONTENTS: Mapping[bytes, str] = {
    b"PAR1\x15": "Parquet",
    b"ARROW1\0\0": "Arrow",
    b"\x1f\x8b": "gzip",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"PK\x03\x04": "a zip file, as .xlsx is",
    b"\xff\xfe": "text in UTF-16, not in UTF-8",
    b"\xfe\xff": "text in UTF-16, not in UTF-8",
}
"""The format for the first bytes of a file. No text in UTF-8 begins with these bytes."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of `SUFFIXES`, and its compression: "gzip", "zstd" or an empty string."""

    name: str
    coding: str = ""

    @property
    def is_text(self) -> bool:
        """Whether values are untyped text and concatenated parts make a valid file."""
        return self.name in TEXT

    @property
    def suffix(self) -> str:
        """The suffix of files of this format."""
        coding = next((f".{suffix}" for suffix, coding in CODINGS.items() if coding == self.coding), "")
        return f".{self.name}{coding}"


def format_of(name: str) -> Format:
    """Return the format for the suffix of a file name.

    Raises:
        ScoringRefused: The suffix is unknown, or the library for the format is not installed.
    """
    stem, _, last = name.lower().rpartition(".")
    coding = CODINGS.get(last, "")
    if coding:
        last = stem.rpartition(".")[2]
    name_of_format = SUFFIXES.get(last) if stem else None
    if name_of_format is None or (coding and name_of_format not in TEXT):
        suffixes = ", ".join(f".{suffix}" for suffix in SUFFIXES)
        raise ScoringRefused(
            f"{name}: its name must end in one of {suffixes}; .csv and .ndjson may be followed by .gz, .zst"
        )
    if name_of_format not in TEXT and not has_pyarrow():
        raise ScoringRefused(f"{name}: Parquet and Arrow need pyarrow: pip install pyarrow")
    if coding == "zstd" and zstd_library() is None:
        raise ScoringRefused(f"{name}: zstd needs backports-zstd: pip install backports-zstd")
    return Format(name_of_format, coding)


def require_content(name: str, begin: bytes, form: Format) -> None:
    """Check that the first bytes of a file do not belong to another format than `form`.

    Raises:
        ScoringRefused: The first bytes belong to another format.
    """
    content = next((description for magic, description in CONTENTS.items() if begin.startswith(magic)), "")
    if content and not form.name.startswith(content.lower()):
        raise ScoringRefused(f"{name}: the name says {form.suffix}, but the content is {content}")


def has_pyarrow() -> bool:
    """Return whether pyarrow is installed."""
    try:
        return find_spec("pyarrow") is not None
    except ValueError:  # sys.modules blocks the import
        return False


def zstd_library() -> Any:
    """Return Python's zstd module, or its backport; None if neither is installed."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    return None


def decompress(stream: BinaryIO, coding: str) -> BinaryIO:
    """Return a stream of the decompressed content. `coding` is "gzip", "zstd" or an empty string."""
    if coding == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
    if coding == "zstd":
        return cast(BinaryIO, io.BufferedReader(zstd_library().ZstdFile(stream)))
    return stream


def read_errors() -> tuple[type[Exception], ...]:
    """Return the errors of reading a damaged compressed file, except those of the file system."""
    library = zstd_library()
    return (EOFError, zlib.error, gzip.BadGzipFile, *([library.ZstdError] if library else []))


def compress(content: bytes, coding: str) -> bytes:
    """Compress content into one member of a gzip or zstd file. Concatenated members make a valid file."""
    if coding == "gzip":
        return gzip.compress(content, 4, mtime=0)
    if coding == "zstd":
        return cast(bytes, zstd_library().compress(content))
    return content
