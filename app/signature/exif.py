"""Find images whose EXIF, texts or profiles take far longer to read than their pixels. Pillow reads all in Python."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

MAX_ENTRIES = 64
"""Most entries in the first directory of EXIF, which has the orientation. Cameras write about 15."""
MAX_INFLATED_BYTES = 2**16
"""Most bytes of a compressed text or colour profile in a PNG, and of all texts together four times as many."""
MAX_COMPRESSED = 4
"""Most compressed texts and colour profiles in a PNG."""
COMPRESSED = (b"zTXt", b"iTXt", b"iCCP")
PREFIX = b"Exif\0\0"
IN_JPEG = re.compile(rb"\xff\xe1(..)Exif\0\0", re.DOTALL)
LITTLE_ENDIAN = b"II"
BIG_TIFF = (b"\0+", b"+\0")
RAW_PROFILE = "Raw profile type exif"
RAW_HEAD_LINES = 3


def compressed_parts(png: bytes) -> int:
    """Return how many compressed texts and profiles a PNG may have."""
    return sum(map(png.count, COMPRESSED))


def is_jpeg_laborious(content: bytes) -> bool:
    """Return whether the EXIF of a JPEG has too many entries, or begins them in another segment."""
    segments = ((found.start() + 4, int.from_bytes(found[1], "big") - 2) for found in IN_JPEG.finditer(content))
    return any(_has_many_entries(content[at : at + size_bytes], or_none=True) for at, size_bytes in segments)


def is_exif_laborious(read: Mapping[Any, Any]) -> bool:
    """Return whether the EXIF among what Pillow has read of an image has too many entries."""
    exif = read.get("exif")
    if exif is None and RAW_PROFILE in read:
        try:
            exif = bytes.fromhex("".join(read[RAW_PROFILE].split("\n")[RAW_HEAD_LINES:]))
        except ValueError:
            return True
    return isinstance(exif, bytes) and _has_many_entries(exif)


def _has_many_entries(exif: bytes, or_none: bool = False) -> bool:
    """Return whether a TIFF directory has too many entries, or, with `or_none`, does not stand in these bytes."""
    content = exif.removeprefix(PREFIX).removeprefix(PREFIX)
    if content[2:4] in BIG_TIFF:
        return True
    order = "little" if content[:2] == LITTLE_ENDIAN else "big"
    at = int.from_bytes(content[4:8], order)  # type: ignore[arg-type]
    entries = content[at : at + 2]
    return or_none if len(entries) < 2 else int.from_bytes(entries, order) > MAX_ENTRIES  # type: ignore[arg-type]
