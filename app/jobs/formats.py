"""The formats of files, by their names: CSV, NDJSON, Parquet, Arrow; text also as gzip or zstd."""

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
"""The format of a file by the last part of its name. `arrow` is Arrow's file format, `arrows` its stream format."""
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
"""The form of a file by its first bytes. No text in UTF-8 begins with them."""


@dataclass(frozen=True, slots=True)
class Format:
    """A format of `SUFFIXES`, and the coding around it: "gzip", "zstd" or none."""

    name: str
    coding: str = ""

    @property
    def is_text(self) -> bool:
        """Whether the values have no types of their own, and a file is the sum of its parts."""
        return self.name in TEXT

    @property
    def suffix(self) -> str:
        """The suffix of files of this format."""
        coding = next((f".{suffix}" for suffix, coding in CODINGS.items() if coding == self.coding), "")
        return f".{self.name}{coding}"


def format_of(name: str) -> Format:
    """Return the format that the name of a file tells.

    Raises:
        ScoringRefused: It tells none, or this installation lacks the library.
    """
    stem, _, last = name.lower().rpartition(".")
    coding = CODINGS.get(last, "")
    if coding:
        last = stem.rpartition(".")[2]
    found = SUFFIXES.get(last) if stem else None
    if found is None or (coding and found not in TEXT):
        known = ", ".join(f".{suffix}" for suffix in SUFFIXES)
        raise ScoringRefused(
            f"{name}: its name must end in one of {known}; .csv and .ndjson may be followed by .gz, .zst"
        )
    if found not in TEXT and not has_pyarrow():
        raise ScoringRefused(f"{name}: Parquet and Arrow need pyarrow: pip install pyarrow")
    if coding == "zstd" and zstd_library() is None:
        raise ScoringRefused(f"{name}: zstd needs backports-zstd: pip install backports-zstd")
    return Format(found, coding)


def require_content(name: str, begin: bytes, form: Format) -> None:
    """Refuse a file whose first bytes are those of another format than its name tells.

    Raises:
        ScoringRefused: They are.
    """
    found = next((each for magic, each in CONTENTS.items() if begin.startswith(magic)), "")
    if found and not form.name.startswith(found.lower()):
        raise ScoringRefused(f"{name}: the name says {form.suffix}, but the content is {found}")


def has_pyarrow() -> bool:
    """Return whether pyarrow is installed."""
    try:
        return find_spec("pyarrow") is not None
    except ValueError:  # sys.modules blocks the import
        return False


def zstd_library() -> Any:
    """Return Python's module for zstd, else its backport, else None."""
    for name in ("compression.zstd", "backports.zstd"):
        with contextlib.suppress(ModuleNotFoundError):
            return importlib.import_module(name)
    return None


def decompressed(stream: BinaryIO, coding: str) -> BinaryIO:
    """Return the content of a compressed stream as a stream."""
    if coding == "gzip":
        return cast(BinaryIO, gzip.GzipFile(fileobj=stream, mode="rb"))
    if coding == "zstd":
        return cast(BinaryIO, io.BufferedReader(zstd_library().ZstdFile(stream)))
    return stream


def damages() -> tuple[type[Exception], ...]:
    """Return the errors that reading a damaged compressed file raises, beside those of the file system."""
    library = zstd_library()
    return (EOFError, zlib.error, gzip.BadGzipFile, *([library.ZstdError] if library else []))


def compressed(content: bytes, coding: str) -> bytes:
    """Return content as one member of a compressed file: members behind each other are a file again."""
    if coding == "gzip":
        return gzip.compress(content, 4, mtime=0)
    if coding == "zstd":
        return cast(bytes, zstd_library().compress(content))
    return content
