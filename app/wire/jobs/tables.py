"""The media types of the files of jobs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from app.jobs.formats import CODINGS, SUFFIXES

TYPES: Final[Mapping[str, str]] = {
    "text/csv": "csv",
    "application/x-ndjson": "ndjson",
    "application/vnd.apache.parquet": "parquet",
    "application/vnd.apache.arrow.file": "arrow",
    "application/vnd.apache.arrow.stream": "arrows",
}
"""The format of a body by its media type."""
ALIASES: Final[Mapping[str, str]] = {
    "application/csv": "csv",
    "application/jsonl": "ndjson",
    "application/jsonlines": "ndjson",
    "application/ndjson": "ndjson",
    "application/x-jsonlines": "ndjson",
    "application/parquet": "parquet",
    "application/x-parquet": "parquet",
}
CODED: Final[Mapping[str, str]] = {"gz": "application/gzip", "zst": "application/zstd"}
OUTPUTS: Final = ("csv", "ndjson", "parquet", "arrow")
"""Formats that are named to clients; others of `app.jobs.formats` are accepted as well."""


def format_of_type(media_type: str) -> str | None:
    """Return the format of a media type; None if it is none of a table."""
    return TYPES.get(media_type) or ALIASES.get(media_type)


def media_type_of(name: str) -> str:
    """Return the media type of a file by its name."""
    last = name.rpartition(".")[2]
    if last in CODED:
        return CODED[last]
    form = SUFFIXES.get(last, "")
    return next((media_type for media_type, each in TYPES.items() if each == form), "application/octet-stream")


def is_format(text: str) -> bool:
    """Return whether a text is the name of a format, such as `csv` or `csv.gz`."""
    stem, _, coding = text.partition(".")
    return stem in SUFFIXES and (not coding or coding in CODINGS)
